"""What a GPU wheel's import and first load cost beside the CPU wheel's, on a machine without a GPU."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from datetime import datetime

from bench import machine
from bench.imports import MOMENTS, Installed, Timed, devices

# the most that the import of a GPU wheel may cost, by the medians
GOAL_RATIO = 1.2


def children_cpu_s() -> float:
    """Return the CPU seconds of the processes that ended: two wheels' ratio outlasts a busy machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def report(
    timed: Timed,
    packages: Sequence[Installed],
    *,
    date: datetime,
    circumstances: Mapping[str, object],
) -> dict[str, object]:
    """Return the content of ``results/gpu-import.json``; the first package is the CPU wheel.

    Raises:
        BuildError: a package cannot be imported.
    """
    base, *others = packages
    ratio = {
        package.name: {
            moment: round(timed.ratio(moment, package.name, base.name), 3) for moment in MOMENTS
        }
        for package in others
    }
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        "cpus": machine.cpu_count(),
        **circumstances,
        "rounds": len(timed.extra_s[base.name]["import"]),
        "base": base.name,
        "packages": {
            package.name: {
                "version": package.title,
                "wheel": package.wheel.name,
                "wheel_bytes": package.wheel.stat().st_size,
                "devices": list(devices(package)),
                "seconds": {
                    moment: timed.spread(package.name, moment).rounded(5) for moment in MOMENTS
                },
            }
            for package in packages
        },
        "ratio": ratio,
        "goal_ratio": GOAL_RATIO,
        "met": all(each["import"] <= GOAL_RATIO for each in ratio.values()),
    }
