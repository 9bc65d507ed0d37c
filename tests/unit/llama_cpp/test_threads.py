"""Thread counts from the affinity mask, the topology and the cgroup quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from llama_cpp._threads import cgroup_cpus, default_threads, physical_cores


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        pytest.param({}, math.inf, id="no cgroup"),
        pytest.param({"proc/self/cgroup": "0::/a\n"}, math.inf, id="v2 no limit file"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"},
            math.inf,
            id="v2 unlimited",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"},
            2.5,
            id="v2 root of a container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
            },
            1.5,
            id="v2 the parent is stricter",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "5:memory:/x\n3:cpu,cpuacct:/job\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "400000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "200000\n",
            },
            2.0,
            id="v1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "3:cpu:/job\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            math.inf,
            id="v1 unlimited",
        ),
    ],
)
def test_cgroup_quota(tmp_path: Path, files: dict[str, str], cpus: float) -> None:
    assert cgroup_cpus(write(tmp_path, files)) == cpus


def test_siblings_count_as_one_core(tmp_path: Path) -> None:
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    root = write(
        tmp_path,
        {topology.format(cpu): text for cpu, text in ((0, "0,4"), (4, "0,4"), (1, "1,5"))},
    )
    assert physical_cores(frozenset({0, 4, 1}), root) == 2
    assert physical_cores(frozenset({0, 4, 1, 9}), root) == 3


def test_counts_never_exceed_the_affinity_mask() -> None:
    counts = default_threads()
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert allowed is not None
    assert 1 <= counts.generation <= counts.batch <= allowed
