"""The matrix: jobs of the workflows, from the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ci.errors import UsageError
from ci.matrix import (
    GpuRunners,
    gpu_jobs,
    needs_gpu_runner,
    parse_gpu_runners,
    platform_jobs,
    render_matrix,
    select_targets,
    wheel_jobs,
    write_outputs,
)
from ci.schedule import SUBSETS, Subset
from ci.table import Target, load_table

TABLE = load_table()


def names(targets: list[Target]) -> list[str]:
    return [target.name for target in targets]


def test_a_release_is_every_target() -> None:
    assert select_targets(TABLE, [], subset="release") == list(TABLE.targets)


def test_a_pull_request_builds_each_platform_and_no_long_compile() -> None:
    chosen = select_targets(TABLE, [], subset="pr")
    assert {target.platform.name for target in chosen} == set(TABLE.platforms)
    assert {target.family.name for target in chosen} == {"cpu", "metal", "vulkan"}


def test_patterns_choose_within_a_subset() -> None:
    chosen = select_targets(TABLE, ["cpu-win_*  metal-*", "vulkan-*"], subset="pr")
    assert names(chosen) == [
        "cpu-win_amd64", "cpu-win_arm64", "metal-macosx_arm64", "vulkan-manylinux_x86_64",
    ]  # fmt: skip


@pytest.mark.parametrize("patterns", [[], [""], ["  "]])
def test_no_patterns_are_all_targets(patterns: list[str]) -> None:
    assert select_targets(TABLE, patterns) == list(TABLE.targets)


@pytest.mark.parametrize(("subset", "pattern"), [(None, "amiga-*"), ("pr", "cu128-*")])
def test_a_pattern_that_matches_nothing_is_refused(subset: Subset | None, pattern: str) -> None:
    with pytest.raises(UsageError) as caught:
        select_targets(TABLE, [f"cpu-* {pattern}"], subset=subset)
    assert caught.value.what == f"no target matches '{pattern}'"


def test_a_job_of_a_wheel() -> None:
    assert wheel_jobs(TABLE, [TABLE.target("vulkan", "manylinux_aarch64")]) == [
        {
            "target": "vulkan-manylinux_aarch64",
            "backend": "vulkan",
            "platform": "manylinux_aarch64",
            "runner": "ubuntu-24.04-arm",
            "cibuildwheel": "cp311-manylinux_aarch64",
            "smoke": "gpu",
            "gpu": "runner",
            "minutes": 120,
            "pythons": "3.9 3.10 3.11 3.12 3.13 3.14 3.15 3.13t 3.14t 3.15t",
            "packages": "libvulkan1 mesa-vulkan-drivers",
        }
    ]


def test_a_crossed_job_has_another_platform_s_runner_and_what_proves_it_there() -> None:
    target = TABLE.target("vulkan", "win_amd64")
    (job,) = wheel_jobs(TABLE, [target])
    assert (job["runner"], job["packages"], job["gpu"]) == (
        "ubuntu-24.04",
        "libvulkan1 mesa-vulkan-drivers wine64 xvfb",
        "own",
    )
    assert "ubuntu-24.04" in render_matrix(TABLE, [target], "text")
    # it is installed on a Windows
    (there,) = platform_jobs(TABLE, [target])
    assert (there["runner"], there["packages"]) == ("windows-2025", "")


def test_pythons_that_a_platform_has_not_are_left_out() -> None:
    (job,) = wheel_jobs(TABLE, [TABLE.target("cpu", "win_arm64")])
    assert job["pythons"] == "3.11 3.12 3.13 3.14 3.15 3.13t 3.14t 3.15t"


def test_a_job_per_platform_has_all_its_targets() -> None:
    jobs = platform_jobs(TABLE, select_targets(TABLE, ["metal-*", "cpu-mac*", "vulkan-many*x86*"]))
    assert [(job["platform"], job["targets"], job["packages"]) for job in jobs] == [
        ("manylinux_x86_64", "vulkan-manylinux_x86_64", "libvulkan1 mesa-vulkan-drivers"),
        ("macosx_arm64", "cpu-macosx_arm64 metal-macosx_arm64", ""),
        ("macosx_x86_64", "cpu-macosx_x86_64", ""),
    ]


def test_every_free_threaded_python_is_in_every_job_that_installs() -> None:
    for job in [*wheel_jobs(TABLE, TABLE.targets), *platform_jobs(TABLE, TABLE.targets)]:
        # its proof brings a Python of its own
        musl = str(job["platform"]).startswith("musllinux")
        assert musl or {"3.14t", "3.15t"} < set(str(job["pythons"]).split()), job


def test_a_gpu_of_ones_own_is_needed_where_the_runner_has_none() -> None:
    needing = {target.family.name for target in TABLE.targets if needs_gpu_runner(target)}
    assert needing == {"cuda", "hip", "vulkan"}
    assert not needs_gpu_runner(TABLE.target("vulkan", "manylinux_x86_64"))
    assert not needs_gpu_runner(TABLE.target("metal", "macosx_arm64"))
    assert not needs_gpu_runner(TABLE.target("cpu", "win_amd64"))


def runners_of(text: str) -> GpuRunners:
    runners = parse_gpu_runners(text, TABLE)
    assert runners is not None
    return runners


def test_the_first_pattern_names_the_runner() -> None:
    runners = runners_of('{"cu130-manylinux_x*": "h100", "cu1*": ["own", "gpu"]}')
    jobs = gpu_jobs(TABLE, select_targets(TABLE, ["cu130-*", "cu128-win*"]), runners)
    assert [(job["target"], job["runner"]) for job in jobs] == [
        ("cu128-win_amd64", ["own", "gpu"]),
        ("cu130-manylinux_x86_64", "h100"),
        ("cu130-manylinux_aarch64", ["own", "gpu"]),
        ("cu130-win_amd64", ["own", "gpu"]),
    ]


def test_cuda_is_proven_in_a_container_on_linux_and_rocm_on_the_runner() -> None:
    rows = gpu_jobs(TABLE, TABLE.targets, runners_of('{"*": "gpu"}'))
    jobs = {str(job["target"]): job["container"] for job in rows}
    container = TABLE.families["cuda"].gpu_container
    assert container is not None
    assert jobs["cu121-manylinux_x86_64"] == {"image": container.image, "options": "--gpus all"}
    assert (jobs["cu121-win_amd64"], jobs["rocm7x-manylinux_x86_64"]) == ("", "")


def test_targets_without_a_runner_stop_the_plan() -> None:
    runners = runners_of('{"cu130-*": "gpu"}')
    chosen = select_targets(TABLE, ["cpu-*", "cu130-*", "vulkan-*", "rocm7x-*"])
    with pytest.raises(UsageError) as caught:
        gpu_jobs(TABLE, chosen, runners)
    assert caught.value.what == (
        "there is no runner with a GPU for rocm7x-manylinux_x86_64, vulkan-win_amd64"
    )
    assert "GPU_RUNNERS" in caught.value.cure
    assert "RELEASE_TARGETS" in caught.value.cure


def test_no_runners_and_nothing_to_prove_are_two_things() -> None:
    assert parse_gpu_runners("{}", TABLE) == GpuRunners()
    assert parse_gpu_runners("none", TABLE) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("cuda", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ('{"cu130-*": 1}', "cu130-*.str: Input should be a valid string"),
        ('{"cpu-*": "gpu"}', "'cpu-*' matches no target that needs one"),
        ('{"vulkan-manylinux_x86_64": "gpu"}', "matches no target that needs one"),
    ],
)
def test_what_is_no_table_of_runners(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_gpu_runners(text, TABLE)
    assert message in caught.value.what


def test_the_outputs_of_a_job(tmp_path: Path) -> None:
    place = tmp_path / "outputs"
    place.write_text("before=1\n")
    targets = select_targets(TABLE, ["cpu-win_amd64", "cu130-win_amd64"])
    write_outputs(place, TABLE, targets, GpuRunners(labels={"cu130-*": "gpu"}))
    before, *lines, last = place.read_text().splitlines()
    outputs = {name: json.loads(text) for name, _, text in (line.partition("=") for line in lines)}
    assert before == "before=1"
    assert outputs == {
        "cpu": {"include": wheel_jobs(TABLE, targets[:1])},
        "modules": {"include": wheel_jobs(TABLE, targets[1:])},
        "platforms": {"include": platform_jobs(TABLE, targets)},
        "gpu": {"include": [
            {
                "target": "cu130-win_amd64",
                "backend": "cu130",
                "platform": "win_amd64",
                "runner": "gpu",
                "container": "",
                "pythons": "3.9 3.10 3.11 3.12 3.13 3.14 3.15 3.13t 3.14t 3.15t",
            }
        ]},
    }  # fmt: skip
    assert last == f"index={TABLE.index.url}"


def test_nothing_is_written_where_a_runner_is_missing(tmp_path: Path) -> None:
    place = tmp_path / "outputs"
    with pytest.raises(UsageError):
        write_outputs(place, TABLE, TABLE.targets, GpuRunners())
    assert not place.exists()


def test_without_a_word_on_runners_there_are_no_gpu_jobs(tmp_path: Path) -> None:
    place = tmp_path / "outputs"
    write_outputs(place, TABLE, TABLE.targets, None)
    assert 'gpu={"include":[]}' in place.read_text().splitlines()


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_workflow_takes_the_matrix(subset: Subset) -> None:
    chosen = select_targets(TABLE, [], subset=subset)
    text = render_matrix(TABLE, chosen, "github")
    assert "\n" not in text
    # "A matrix will generate a maximum of 256 jobs per workflow run."
    assert len(json.loads(text)["include"]) == len(chosen) <= 256
    # an output of a job may have 1 MB
    assert len(text) < 1_000_000


def test_people_read_a_line_per_target() -> None:
    text = render_matrix(TABLE, select_targets(TABLE, ["cpu-win_*"]), "text")
    assert text.splitlines() == [
        "cpu-win_amd64  windows-2025      win_amd64",
        "cpu-win_arm64  windows-11-arm    win_arm64",
    ]
