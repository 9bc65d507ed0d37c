"""The committed figures, ``results/*.json``: their shapes, reading and writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypeVar

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ci.errors import ToolchainError

FOLDER = Path(__file__).with_name("results")

Result = TypeVar("Result")


class Numbers(TypedDict):
    """A spread as it is in the file."""

    median: float
    low_quartile: float
    high_quartile: float
    lowest: float
    highest: float


class SeriesResult(TypedDict):
    """One task on one quantisation."""

    quantisation: str
    task: str
    tokens_per_second: dict[str, Numbers]
    ratio: dict[str, Numbers]


class Contender(TypedDict):
    """Who took part."""

    title: str
    cpu_variant: str | None


class GoalResult(TypedDict):
    """A goal and what was measured."""

    goal: str
    least: float
    measured: float
    met: bool


class SpeedResult(TypedDict):
    """What the table shows of ``speed.json``."""

    date: str
    cpu: str
    commit: str
    compiler: str
    threads: int
    rounds: int
    prompt_tokens: int
    generated_tokens: int
    contenders: dict[str, Contender]
    series: list[SeriesResult]
    overall: dict[str, dict[str, float]]
    goals: list[GoalResult]
    load_average: NotRequired[dict[str, float | None]]


class PackageResult(TypedDict):
    """One package in ``import.json``."""

    title: str
    wheel_bytes: int
    unpacked_bytes: int
    library_files: int
    seconds: dict[str, Numbers]


class ImportResult(TypedDict):
    """What the table shows of ``import.json``."""

    date: str
    cpu: str
    python: str
    rounds: int
    packages: dict[str, PackageResult]
    ratio: dict[str, float]


class GpuPackageResult(TypedDict):
    """One wheel in ``gpu-import.json``."""

    version: str
    wheel_bytes: int
    devices: list[str]
    seconds: dict[str, Numbers]


class GpuImportResult(TypedDict):
    """What the table shows of ``gpu-import.json``."""

    date: str
    cpu: str
    python: str
    rounds: int
    base: str
    packages: dict[str, GpuPackageResult]
    ratio: dict[str, dict[str, float]]
    goal_ratio: float
    met: bool


class CompletionResult(TypedDict):
    """Completions of one length in ``binding.json``."""

    tokens: int
    microseconds: dict[str, Numbers]
    to_raw: dict[str, float]


class OptionResult(TypedDict):
    """Completions with one option at a large vocabulary, in ``binding.json``."""

    option: str
    microseconds: dict[str, Numbers]
    extra: dict[str, float]
    ratio: float


class StateResult(TypedDict):
    """A saved state in ``binding.json``."""

    tokens: int
    bytes: dict[str, int]


class BindingGoalResult(TypedDict):
    """A goal of ``binding.json`` and what was measured."""

    goal: str
    measured: float
    met: bool


class BindingResult(TypedDict):
    """What the table shows of ``binding.json``."""

    date: str
    cpu: str
    python: str
    rounds: int
    packages: dict[str, str]
    completion: list[CompletionResult]
    vocabulary: int
    options: list[OptionResult]
    state: StateResult
    import_ms: dict[str, float]
    goals: list[BindingGoalResult]


class RebuildResult(TypedDict):
    """What the table shows of ``rebuild.json``."""

    date: str
    cpu: str
    cpus: int
    cold_s: float
    warm_s: list[float]
    ratio: float


class DryRunResult(TypedDict):
    """One dry run in ``release.json``."""

    seconds: float
    cpu_seconds: float


class TargetCostResult(TypedDict):
    """What compiling one target took in the cold run."""

    seconds: float
    cpu_seconds: float | None
    objects: int | None


class EachPythonResult(TypedDict):
    """What it would take to compile for each Python, by multiplication."""

    reference_cpu_seconds: float | None
    all_cpu_seconds: float
    compiled_once_cpu_seconds: float


class ReleaseResult(TypedDict):
    """What the table shows of ``release.json``."""

    date: str
    cpu: str
    cpus: int
    cold: DryRunResult
    warm: DryRunResult
    targets: dict[str, TargetCostResult]
    pythons: int
    reference: str
    each_python: EachPythonResult


class LockResult(TypedDict):
    """One lock in ``requests.json``."""

    client: str
    client_version: str
    index: str
    versions: int
    requests: int
    bytes: int
    page_bytes: int
    metadata_bytes: int
    wheel_bytes: int


class RequestsResult(TypedDict):
    """What the table shows of ``requests.json``."""

    date: str
    platforms: int
    goal_bytes: int
    most_bytes: int
    met: bool
    locks: list[LockResult]


class PoolResult(TypedDict):
    """What the table shows of ``pool.json``; the keys are "one", "pool" and "objects"."""

    date: str
    cpu: str
    requests: int
    tokens: int
    threads: int
    parameters: int
    rounds: int
    tokens_per_cpu_second: dict[str, Numbers]
    gain: dict[str, Numbers]
    bytes: dict[str, int]


class WorkResult(TypedDict):
    """What one Python did in every way, in ``parallel.json``."""

    work: str
    seconds: dict[str, Numbers]
    gain: dict[str, Numbers]


class PythonResult(TypedDict):
    """One Python in ``parallel.json``."""

    version: str
    free_threaded: bool
    works: list[WorkResult]


class ParallelResult(TypedDict):
    """What the table shows of ``parallel.json``."""

    date: str
    cpu: str
    rounds: int
    tokens: dict[str, int]
    pythons: list[PythonResult]


class SizeResult(TypedDict):
    """One size in ``catalogue.json``."""

    wheels: int
    seconds: list[float]
    microseconds_per_wheel: float
    peak_bytes: int


class BesideResult(TypedDict):
    """A site whose wheels are files beside the pages, in ``catalogue.json``."""

    wheels: int
    seconds: float
    peak_bytes: int


class StepResult(TypedDict):
    """One wheel more, in ``catalogue.json``."""

    wheels: int
    seconds: float
    files: int
    changed: list[str]


class CatalogueResult(TypedDict):
    """What the table shows of ``catalogue.json``."""

    date: str
    cpu: str
    python: str
    rounds: int
    sizes: list[SizeResult]
    ratio: float
    goal_ratio: float
    met: bool
    one_more: StepResult
    beside: BesideResult
    beside_one_more: StepResult


class UnitResult(TypedDict):
    """One translation unit of the sample in ``cuda.json``."""

    name: str
    common_s: float
    seconds: dict[str, float]
    bytes: dict[str, int]


class WholeResult(TypedDict):
    """What the sample was extrapolated to, in ``cuda.json``."""

    seconds: float
    bytes: int
    source: str


class HitsResult(TypedDict):
    """Processor seconds of one unit that goes through the compiler cache, in ``cuda.json``."""

    units: int
    missed_s: float
    hit_s: float


class ArchitectureResult(TypedDict):
    """One architecture of a whole module, in ``cuda.json``."""

    name: str
    seconds: float
    bytes: int


class BackendResult(TypedDict):
    """One backend of the matrix, in ``cuda.json``: its modules, and what one of them costs."""

    name: str
    modules: int
    seconds: float
    bytes: int


class CudaResult(TypedDict):
    """What the table shows of ``cuda.json``."""

    date: str
    cpu: str
    commit: str
    compiler: str
    units: int
    sample: list[UnitResult]
    whole: WholeResult
    cache: HitsResult
    common_s: float
    architectures: list[ArchitectureResult]
    stand_ins: dict[str, str]
    backends: list[BackendResult]
    modules: int
    cold_s: float
    warm_s: float
    cpu_part_s: float
    gpu_wheels: int
    saved_s: float


def write(name: str, content: dict[str, object], folder: Path = FOLDER) -> Path:
    """Write one result file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(name: str, kind: type[Result], folder: Path = FOLDER) -> Result:
    """Return ``<name>.json``, whose shape is ``kind``.

    Raises:
        ToolchainError: it is missing, no JSON, or of another shape.
    """
    path = folder / f"{name}.json"
    cure = f"run `nox -s bench -- {name}`"
    if not path.is_file():
        raise ToolchainError(f"there is no {path}", cure=cure)
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise ToolchainError(f"{path}: {error}", cure=cure) from error
