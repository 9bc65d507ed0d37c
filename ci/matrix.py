"""The matrix: every target as a job of the workflows, from the table alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from ci.errors import UsageError
from ci.schedule import Subset
from ci.table import Platform, Table, Target

Format: TypeAlias = Literal["github", "text"]
Labels: TypeAlias = str | list[str]
Row: TypeAlias = dict[str, object]

_GPU_CURE = (
    "say in the variable GPU_RUNNERS which runners have one, such as"
    ' {"cu1*-manylinux_x86_64": ["self-hosted", "nvidia"]}, or name the targets of your releases in'
    " the variable RELEASE_TARGETS"
)


@dataclass(frozen=True, kw_only=True)
class GpuRunners:
    """Runners with a GPU: labels by a pattern of the targets that they prove; the first one counts."""

    labels: Mapping[str, Labels] = field(default_factory=dict)

    def of(self, target: Target) -> Labels | None:
        """Return the labels of the runner that proves a target; None where there is none."""
        matching = (
            labels for pattern, labels in self.labels.items() if fnmatchcase(target.name, pattern)
        )
        return next(matching, None)


def parse_gpu_runners(text: str, table: Table) -> GpuRunners | None:
    """Read ``{"cu1*-manylinux_x86_64": ["self-hosted", "nvidia"]}``.

    ``none`` is None: nothing is to be proven on a GPU.

    Raises:
        UsageError: it is no such JSON, or a pattern matches no target that needs a GPU.
    """
    cure = 'write {"PATTERN OF TARGETS": "LABEL" or ["LABEL", …], …}'
    if text == "none":
        return None
    try:
        labels = TypeAdapter(dict[str, Labels]).validate_json(text, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"GPU runners: {where}: {problem['msg']}", cure=cure) from error
    needing = [target.name for target in table.targets if needs_gpu_runner(target)]
    for pattern in labels:
        if not any(fnmatchcase(name, pattern) for name in needing):
            raise UsageError(
                f"GPU runners: {pattern!r} matches no target that needs one",
                cure=f"choose from {', '.join(needing)}",
            )
    return GpuRunners(labels=labels)


def needs_gpu_runner(target: Target) -> bool:
    """Say whether a target can only be proven on a runner with a GPU of its own."""
    family = target.family
    return family.smoke == "gpu" and target.platform.name not in family.gpu_on_runner


def select_targets(
    table: Table, patterns: Sequence[str], *, subset: Subset | None = None
) -> list[Target]:
    """Return the targets whose names match one of the patterns; all where there are none.

    Args:
        table: whose targets they are.
        patterns: such as ``cpu-*``; one text may hold several, with spaces between.
        subset: only those of it.

    Raises:
        UsageError: a pattern matches nothing.
    """
    within = list(table.targets)
    if subset is not None:
        within = _matching(within, table.subsets.patterns(subset))
    wanted = [pattern for text in patterns for pattern in text.split()]
    for pattern in wanted:
        if not _matching(within, [pattern]):
            raise UsageError(
                f"no target matches {pattern!r}",
                cure="run `nox -s matrix` for the list; patterns look like 'cpu-*' or '*-win_amd64'",
            )
    return _matching(within, wanted) if wanted else within


def _matching(targets: Sequence[Target], patterns: Sequence[str]) -> list[Target]:
    return [
        target
        for target in targets
        if any(fnmatchcase(target.name, pattern) for pattern in patterns)
    ]


def wheel_jobs(table: Table, targets: Sequence[Target]) -> list[Row]:
    """Return one job per target: it builds the wheel, and proves what its runner can prove."""
    return [
        {
            "target": target.name,
            "backend": target.backend.name,
            "platform": target.platform.name,
            "runner": _runner(target),
            "cibuildwheel": target.platform.cibuildwheel,
            "smoke": target.family.smoke,
            "gpu": _gpu(target),
            "minutes": target.family.minutes,
            "pythons": _pythons(table, target.platform),
            "packages": _build_packages(target),
        }
        for target in targets
    ]


def platform_jobs(table: Table, targets: Sequence[Target]) -> list[Row]:
    """Return one job per platform: it installs what users there get, on every interpreter."""
    jobs: list[Row] = []
    for platform in table.platforms.values():
        there = [target for target in targets if target.platform == platform]
        if there:
            jobs.append({
                "platform": platform.name,
                "runner": platform.runner,
                "targets": " ".join(target.name for target in there),
                "pythons": _pythons(table, platform),
                "packages": _packages(there),
            })  # fmt: skip
    return jobs


def gpu_jobs(table: Table, targets: Sequence[Target], runners: GpuRunners) -> list[Row]:
    """Return one job per target that is proven on a runner with a GPU of its own.

    Raises:
        UsageError: for some there is no such runner; the message names them all.
    """
    needing = [target for target in targets if needs_gpu_runner(target)]
    missing = [target.name for target in needing if runners.of(target) is None]
    if missing:
        raise UsageError(f"there is no runner with a GPU for {', '.join(missing)}", cure=_GPU_CURE)
    return [
        {
            "target": target.name,
            "backend": target.backend.name,
            "platform": target.platform.name,
            "runner": runners.of(target),
            "container": _container(target),
            "pythons": _pythons(table, target.platform),
        }
        for target in needing
    ]


def render_matrix(table: Table, targets: Sequence[Target], style: Format) -> str:
    """Return the matrix as text for a person, or as one line of JSON for a workflow."""
    if style == "github":
        return _json(wheel_jobs(table, targets))
    width = max(len(target.name) for target in targets)
    return "\n".join(
        f"{target.name:{width}}  {_runner(target):16}  {target.wheel_tag}" for target in targets
    )


def write_outputs(
    place: Path, table: Table, targets: Sequence[Target], runners: GpuRunners | None
) -> None:
    """Append what the workflows need of the table to the file in which a job says its outputs.

    ``cpu`` and ``modules`` are the jobs that build, the second ones from the wheels of the first;
    ``platforms`` those that install, ``gpu`` those that prove on a GPU (none without ``runners``);
    ``index`` is the address of the published index.

    Raises:
        UsageError: a target has no runner with a GPU.
    """
    plain = [target for target in targets if target.family.toolkit == "none"]
    modules = [target for target in targets if target.family.toolkit != "none"]
    outputs = {
        "cpu": _json(wheel_jobs(table, plain)),
        "modules": _json(wheel_jobs(table, modules)),
        "platforms": _json(platform_jobs(table, targets)),
        "gpu": _json([] if runners is None else gpu_jobs(table, targets, runners)),
        "index": table.index.url,
    }
    with place.open("a", encoding="utf-8") as file:
        file.writelines(f"{name}={text}\n" for name, text in outputs.items())


def _json(jobs: Sequence[Row]) -> str:
    return json.dumps({"include": jobs}, separators=(",", ":"))


def _gpu(target: Target) -> str:
    if target.family.smoke != "gpu":
        return "none"
    return "own" if needs_gpu_runner(target) else "runner"


def _container(target: Target) -> Row | str:
    """Return what a job says under ``container``; an empty text is none."""
    container = target.family.gpu_container
    if container is None or target.platform.system != "linux":
        return ""
    return {"image": container.image, "options": container.options}


def _pythons(table: Table, platform: Platform) -> str:
    """Return the interpreters to bring to a platform's runner; one for musl is none of the runner's."""
    return "" if platform.libc == "musl" else " ".join(table.pythons(platform))


def _runner(target: Target) -> str:
    """Return the runner that compiles a target."""
    crossed = target.family.crossed.get(target.platform.name)
    return target.platform.runner if crossed is None else crossed.runner


def _build_packages(target: Target) -> str:
    """Return the packages that the runner which compiles a target proves it with, sorted."""
    crossed = target.family.crossed.get(target.platform.name)
    return _packages([target]) if crossed is None else " ".join(sorted(crossed.packages))


def _packages(targets: Sequence[Target]) -> str:
    """Return the packages of the platform's system that the proof of these targets needs, sorted."""
    packages = {
        package
        for target in targets
        if target.platform.system == "linux"
        for package in (*target.platform.proof_packages, *target.family.proof_packages)
    }
    return " ".join(sorted(packages))
