"""The workflows as data: jobs, steps, and what each `run:` line would execute with real values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from ci.matrix import GpuRunners, gpu_jobs, platform_jobs, wheel_jobs
from ci.table import load_table

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / ".github" / "workflows"
ACTION: Final = ROOT / ".github" / "actions" / "toolchain" / "action.yml"
FILES: Final = sorted(FOLDER.glob("*.yml"))

TABLE: Final = load_table()
TARGETS: Final = TABLE.targets
RUNNERS: Final = GpuRunners(labels={"*": ["self-hosted", "gpu"]})
# what `plan` gives to the other jobs: the rows of each matrix
MATRICES: Final[Mapping[str, list[dict[str, object]]]] = {
    "cpu": wheel_jobs(TABLE, [t for t in TARGETS if t.family.toolkit == "none"]),
    "modules": wheel_jobs(TABLE, [t for t in TARGETS if t.family.toolkit != "none"]),
    "platforms": platform_jobs(TABLE, TARGETS),
    "gpu": gpu_jobs(TABLE, TARGETS, RUNNERS),
}
# what an expression is in one run or another; the empty text is a variable that nobody has set
VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "inputs.subset": ("release", "pr", "monthly"),
    "inputs.targets": ("", "cpu-* vulkan-manylinux_x86_64"),
    "inputs.prove-on-gpus && (vars.GPU_RUNNERS || '{}') || 'none'": (
        "none", "{}", '{"cu1*": ["self-hosted", "nvidia"]}',
    ),
    "inputs.tag": ("v0.3.100",),
    "inputs.yank": ("0.3.100+cu128 0.3.100+cpu",),
    "inputs.unyank": ("0.3.100+cu128",),
    "inputs.reason": ("it's broken; $(do not run this)",),
    "inputs.packages": ("libvulkan1 mesa-vulkan-drivers",),
    "inputs.pythons": ("3.9 3.15t",),
    "github.ref_name": ("v0.3.100",),
    "github.token": ("token",),
    "github.server_url": ("https://github.example",),
    "github.repository": ("owner/repository",),
    "vars.RELEASE_TARGETS": ("", "cpu-* metal-*"),
    "steps.table.outputs.index": (TABLE.index.url,),
    "needs.branch.outputs.index": (TABLE.index.url,),
}  # fmt: skip
EXPRESSION: Final = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, and where it is: ``release.yml: set: 3``."""

    where: str
    content: Mapping[str, Any]

    @property
    def run(self) -> str | None:
        return self.content.get("run")

    @property
    def uses(self) -> str | None:
        return self.content.get("uses")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of one workflow."""

    file: str
    name: str
    content: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}: {self.name}"

    @property
    def needs(self) -> list[str]:
        needs = self.content.get("needs", [])
        return [needs] if isinstance(needs, str) else list(needs)

    @property
    def steps(self) -> list[Step]:
        steps = self.content.get("steps", [])
        return [
            Step(where=f"{self.where}: {number}", content=step)
            for number, step in enumerate(steps, start=1)
        ]

    @property
    def matrix(self) -> list[Mapping[str, object]]:
        """The rows of its matrix: the table's, or those that the workflow itself says."""
        matrix = self.content.get("strategy", {}).get("matrix")
        if matrix is None:
            return [{}]
        if isinstance(matrix, str):
            if matrix == "${{ fromJSON(inputs.jobs) }}":
                return list(MATRICES["gpu"])
            found = re.fullmatch(
                r"\$\{\{ fromJSON\(needs\.(?:plan|wheels)\.outputs\.(\w+)\) \}\}", matrix
            )
            assert found is not None, f"{self.where}: {matrix}"
            return list(MATRICES[found[1]])
        ((key, values),) = matrix.items()
        return [{key: value} for value in values]


@cache
def load(path: Path) -> Mapping[str, Any]:
    """Read a file of GitHub's; YAML 1.2, so that `on` is a word."""
    content: Mapping[str, Any] = YAML(typ="safe").load(path)
    return content


def jobs(*files: str) -> Iterator[Job]:
    """Yield the jobs of all workflows, or of those named."""
    for path in FILES:
        if not files or path.name in files:
            for name, content in load(path)["jobs"].items():
                yield Job(file=path.name, name=name, content=content)


def steps() -> Iterator[Step]:
    """Yield every step of the workflows and of our own action."""
    for job in jobs():
        yield from job.steps
    for number, content in enumerate(load(ACTION)["runs"]["steps"], start=1):
        yield Step(where=f"toolchain: {number}", content=content)


def environments(
    env: Mapping[str, str], row: Mapping[str, object], where: str
) -> Iterator[dict[str, str]]:
    """Yield an environment with a value in place of each expression: each in turn takes all it can."""
    texts = {name: str(text) for name, text in env.items()}
    expressions = dict.fromkeys(
        found for text in texts.values() for found in EXPRESSION.findall(text)
    )
    choices = {expression: _values(expression, row, where) for expression in expressions}
    for turn in range(max((len(values) for values in choices.values()), default=1)):
        chosen = {each: values[min(turn, len(values) - 1)] for each, values in choices.items()}
        yield {
            name: EXPRESSION.sub(lambda found: chosen[found[1]], text)  # noqa: B023 - used at once
            for name, text in texts.items()
        }


def _values(expression: str, row: Mapping[str, object], where: str) -> tuple[str, ...]:
    scope, _, name = expression.partition(".")
    if scope == "matrix":
        value = row[name]
        return (value if isinstance(value, str) else json.dumps(value),)
    assert expression in VALUES, f"{where}: what is {expression} like? Say it in tests/workflows.py"
    return VALUES[expression]
