"""What compiling the CUDA module costs by architecture, and from that what the whole matrix costs.

A sample of the translation units is compiled step by step, as ``nvcc --dryrun`` says, for all
architectures side by side; the ratio to one architecture carries over to a build that was whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.results import HitsResult, UnitResult
from ci.errors import ToolMissingError, UsageError
from ci.fatbin import architecture_order, read_device_code
from ci.library import read_library
from ci.process import run
from ci.progress import Progress
from ci.table import Table

# what nvcc 13.0 makes of the table's, machine code and PTX in one run
ARCHITECTURES = ("75", "80", "86", "89", "90", "90-virtual", "120a")
REFERENCE = "90"
# units that are compiled through the cache as well
TRIED = 2


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One translation unit: its name below ggml-cuda, its source, and nvcc without architectures."""

    name: str
    source: Path
    folder: Path
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UnitCost:
    """Processor seconds and bytes of device code of one unit.

    ``common_s`` is for the host's code. PTX beside machine code of its architecture costs next to
    nothing: it is a step on the way there.
    """

    name: str
    common_s: float
    seconds: Mapping[str, float]
    sizes: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A whole build for ``REFERENCE`` alone: processor seconds, bytes of device code, which it was."""

    seconds: float
    size: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the CUDA wheels of the table cost, in processor seconds, and how large the code gets.

    Attributes:
        common_s: the host's code of one module.
        seconds: by architecture, one module.
        sizes: bytes of device code by architecture, one module.
        modules: by backend: how many platforms, seconds of one module, bytes of its device code.
        stand_ins: architectures of the table that were not measured, by what stands for them.
    """

    common_s: float
    seconds: Mapping[str, float]
    sizes: Mapping[str, float]
    modules: Mapping[str, tuple[int, float, float]]
    stand_ins: Mapping[str, str]

    @property
    def cold_s(self) -> float:
        """Seconds of all CUDA modules with an empty compiler cache."""
        return sum(count * seconds for count, seconds, _ in self.modules.values())

    @property
    def count(self) -> int:
        """How many CUDA modules there are."""
        return sum(count for count, _, _ in self.modules.values())


def read_units(path: Path) -> list[Unit]:
    """Return the CUDA units of a build's ``compile_commands.json``, sorted by name.

    Raises:
        UsageError: there is no such file, or no CUDA in it.
    """
    cure = "build the module first (nox -s build -- --backend cu130 --archs 90), or give --commands"
    if not path.is_file():
        raise UsageError(f"there is no {path}", cure=cure)
    units: list[Unit] = []
    for entry in json.loads(path.read_bytes()):
        source = Path(entry["file"])
        if source.suffix != ".cu":
            continue
        words = shlex.split(entry["command"])
        start = next(number for number, word in enumerate(words) if word.endswith("nvcc"))
        words = [word for word in words[start:] if not word.startswith("--generate-code")]
        del words[words.index("-o") : words.index("-o") + 2]
        units.append(
            Unit(
                name=source.as_posix().rpartition("/ggml-cuda/")[2],
                source=source,
                folder=Path(entry["directory"]),
                command=tuple(words),
            )
        )
    if not units:
        raise UsageError(f"{path} has no CUDA units", cure=cure)
    return sorted(units, key=lambda unit: unit.name)


def sample_order(units: Sequence[Unit]) -> Iterator[Unit]:
    """Yield every unit once, so that each beginning of the order is a sample spread evenly.

    First the one with the largest source, then the middle of the sorted list, of its halves, of its
    quarters and so on.
    """
    seen: set[str] = set()
    largest = max(units, key=lambda unit: unit.source.stat().st_size)
    order = [largest]
    parts = 2
    while parts <= 2 * len(units):
        order += [units[len(units) * odd // parts] for odd in range(1, parts, 2)]
        parts *= 2
    for unit in [*order, *units]:
        if unit.name not in seen:
            seen.add(unit.name)
            yield unit


def measure(
    units: Sequence[Unit], budget_s: float, progress: Progress, *, kept: Path, compiler: str
) -> list[UnitCost]:
    """Compile units in the order of the sample until the budget of processor seconds is spent.

    Each unit's cost is kept, and a later run with the same compiler and flags goes on from there.

    Args:
        units: all of the module.
        budget_s: processor seconds; what was kept counts.
        progress: told what is done.
        kept: folder of what earlier runs have measured.
        compiler: the version of nvcc.
    """
    kept.mkdir(parents=True, exist_ok=True)
    costs: list[UnitCost] = []
    spent = 0.0
    for unit in sample_order(units):
        if spent >= budget_s and costs:
            break
        facts = [compiler, unit.command, ARCHITECTURES]
        path = kept / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.json"
        if path.is_file():
            cost = UnitCost(**json.loads(path.read_bytes()))
        else:
            with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
                cost = measure_unit(unit, ARCHITECTURES, Path(scratch))
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_text(json.dumps(asdict(cost)), encoding="utf-8")
            partial.replace(path)
        costs.append(cost)
        spent += cost.common_s + sum(cost.seconds.values())
        progress.step(f"{unit.name}: {spent:.0f} of {budget_s:.0f} s")
    return costs


def measure_unit(unit: Unit, architectures: Sequence[str], scratch: Path) -> UnitCost:
    """Run the steps of one unit one by one and book each to its architecture.

    Raises:
        ProcessError: a step failed.
    """
    product = scratch / "unit.o"
    command = [
        *(*unit.command, *generate_code(architectures), "-o", str(product)),
        *("--dryrun", "--keep", "--keep-dir", str(scratch)),
    ]
    env, steps = parse_dryrun(run(command, cwd=unit.folder))
    common = packing = 0.0
    seconds = dict.fromkeys(architectures, 0.0)
    for step in steps:
        before = _children_s()
        run(["sh", "-c", step], cwd=unit.folder, env=env)
        spent = _children_s() - before
        owner = owner_of(step)
        if owner is not None:
            seconds[owner] += spent
        elif step.startswith("fatbinary "):
            packing = spent
        else:
            common += spent
    sizes = device_code_of(product.read_bytes())
    total = sum(sizes.values())
    for name, size in sizes.items():
        seconds[name] += packing * size / total
    return UnitCost(name=unit.name, common_s=common, seconds=seconds, sizes=sizes)


def generate_code(architectures: Sequence[str]) -> list[str]:
    """Return nvcc's options for architectures in the table's words."""
    numbers = dict.fromkeys(name.removesuffix("-virtual") for name in architectures)
    options: list[str] = []
    for number in numbers:
        codes = [f"sm_{number}"] if number in architectures else []
        codes += [f"compute_{number}"] if f"{number}-virtual" in architectures else []
        options.append(f"--generate-code=arch=compute_{number},code=[{','.join(codes)}]")
    return options


def parse_dryrun(printed: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables and the shell commands that ``nvcc --dryrun`` prints."""
    env: dict[str, str] = {}
    steps: list[str] = []
    for line in printed.splitlines():
        if not line.startswith("#$ "):
            continue
        text = line.removeprefix("#$ ")
        if match := re.match(r"(\w+)=(.*)", text):
            # lists for the steps, in which they are written out
            if not match[2].lstrip().startswith('"'):
                env[match[1]] = match[2].strip()
        else:
            steps.append(text)
    return env, steps


def owner_of(step: str) -> str | None:
    """Return the architecture that a step of nvcc's is for; None for what is done once."""
    program = Path(shlex.split(step.replace("$CICC_PATH", "."))[0]).name
    match = re.search(r"[.]compute_(\d+[af]?)[.](?:cpp1[.]ii|ptx|cubin)", step)
    device = program in {"cicc", "ptxas"} or ".cpp1.ii" in step
    return match[1] if match and device else None


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_hits(units: Sequence[Unit], scratch: Path) -> tuple[float, float]:
    """Compile units through sccache with an empty and then with a warm cache, each one after the other.

    Returns:
        Processor seconds of one unit, missed and hit, the cache's server among them.

    Raises:
        ToolMissingError: there is no sccache.
    """
    program = Path(sys.executable).with_name("sccache")
    if not program.is_file():
        raise ToolMissingError("there is no sccache beside Python", cure="run it through nox")
    env = {
        "SCCACHE_DIR": str(scratch / "cache"),
        "SCCACHE_SERVER_UDS": str(scratch / "socket"),
        "SCCACHE_IDLE_TIMEOUT": "0",
    }
    seconds: list[float] = []
    for _ in range(2):
        before = _children_s()
        with _serving(program, env):
            for unit in units:
                product = ["-o", str(scratch / "unit.o")]
                options = [*unit.command, *generate_code([REFERENCE]), *product]
                run([program, *options], cwd=unit.folder, env=env)
        seconds.append((_children_s() - before) / len(units))
    return seconds[0], seconds[1]


@contextmanager
def _serving(program: Path, env: Mapping[str, str]) -> Iterator[None]:
    """Run sccache's server as a child of ours, so that its time is counted with its end."""
    own = {**os.environ, **env, "SCCACHE_START_SERVER": "1", "SCCACHE_NO_DAEMON": "1"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen([program], env=own, stdin=quiet, stdout=quiet, stderr=quiet) as server:
        try:
            socket = Path(env["SCCACHE_SERVER_UDS"])
            while not socket.exists() and server.poll() is None:
                time.sleep(0.05)
            yield
            run([program, "--stop-server"], env=env)
        finally:
            if server.poll() is None:
                server.terminate()


def find_whole(folder: Path, costs: Sequence[UnitCost], units: int, *, commit: str) -> Whole:
    """Return the newest module in ``folder`` that was compiled whole for ``REFERENCE`` alone.

    Args:
        folder: of compiled modules, where builds keep them.
        costs: the sample, of which it is told by the number of units where there is no such module.
        units: how many units the module has.
        commit: llama.cpp's that it must be of.
    """
    found: list[tuple[float, Whole]] = []
    for path in sorted(folder.glob("*/module.json")):
        record = json.loads(path.read_bytes())
        info, cost = record["build_info"], record["cost"]
        library = next(path.parent.glob("*ggml-cuda*"), None)
        if (
            info["gpu_architectures"] == [REFERENCE]
            and info["llama_cpp_commit"] == commit
            # one in a hundred, as CMake's tries of the compiler are, changes nothing
            and cost["cached"] * 100 <= cost["objects"]
            and cost["seconds"]
            and library is not None
        ):
            size = device_code_of(library.read_bytes())[REFERENCE]
            source = (
                f"{info['toolkit']}, {cost['objects']} objects, {cost['cached']} of them cached"
            )
            whole = Whole(seconds=cost["seconds"], size=size, source=source)
            found.append((path.stat().st_mtime, whole))
    if found:
        return max(found, key=lambda pair: pair[0])[1]
    share = units / len(costs)
    return Whole(
        seconds=share * sum(cost.common_s + cost.seconds[REFERENCE] for cost in costs),
        size=round(share * sum(cost.sizes.get(REFERENCE, 0) for cost in costs)),
        source="the sample, by the number of units",
    )


def device_code_of(data: bytes) -> dict[str, int]:
    """Return the bytes of device code in an object or a library by architecture."""
    library = read_library(data)
    assert library is not None
    view = memoryview(data)
    return read_device_code([view[at : at + size] for at, size in library.device_code]).sizes


def plan(costs: Sequence[UnitCost], whole: Whole, table: Table) -> Plan:
    """Extrapolate a sample by its ratio to a whole build, and that to all CUDA wheels of the table.

    What was not measured is taken to cost what the nearest measured one does, machine code or PTX.
    """
    measured = costs[0].seconds.keys()
    seconds = {name: sum(cost.seconds[name] for cost in costs) for name in measured}
    sizes = {name: sum(cost.sizes.get(name, 0) for cost in costs) for name in measured}
    common = sum(cost.common_s for cost in costs)
    by_time = whole.seconds / (common + seconds[REFERENCE])
    by_size = whole.size / sizes[REFERENCE]
    modules: dict[str, tuple[int, float, float]] = {}
    stand_ins: dict[str, str] = {}
    for backend in table.backends.values():
        if table.families[backend.family].toolkit != "CUDA":
            continue
        for name in backend.gpu_architectures or ():
            if name not in measured:
                stand_ins[name] = nearest(name, measured)
        names = [stand_ins.get(name, name) for name in backend.gpu_architectures or ()]
        modules[backend.name] = (
            sum(target.backend.name == backend.name for target in table.targets),
            by_time * (common + sum(seconds[name] for name in names)),
            by_size * sum(sizes[name] for name in names),
        )
    return Plan(
        common_s=by_time * common,
        seconds={name: by_time * value for name, value in seconds.items()},
        sizes={name: by_size * value for name, value in sizes.items()},
        modules=modules,
        stand_ins=dict(sorted(stand_ins.items(), key=lambda item: architecture_order(item[0]))),
    )


def nearest(name: str, measured: Iterable[str]) -> str:
    """Return the measured architecture next to one by number, of machine code or of PTX as it is."""
    virtual = name.endswith("-virtual")
    number = architecture_order(name)[0]
    return min(
        (other for other in measured if other.endswith("-virtual") == virtual),
        key=lambda other: (abs(architecture_order(other)[0] - number), architecture_order(other)),
    )


def report(
    costs: Sequence[UnitCost],
    whole: Whole,
    planned: Plan,
    table: Table,
    *,
    units: int,
    hits: HitsResult,
    cpu_part_s: float,
    circumstances: Mapping[str, object],
) -> dict[str, object]:
    """Return what ``cuda.json`` holds.

    Args:
        costs: the sample.
        whole: what it was extrapolated to.
        planned: the extrapolation.
        table: how many wheels there are.
        units: how many units a module has.
        hits: of the compiler cache: ``units`` tried, ``missed_s`` and ``hit_s`` of one.
        cpu_part_s: processor seconds of all that is in the plain wheel.
        circumstances: date, processor, compiler, load.
    """
    gpu_wheels = sum(bool(target.family.modules) for target in table.targets)
    return {
        "schema": 1,
        **circumstances,
        "units": units,
        "sample": [
            {
                "name": cost.name,
                "common_s": round(cost.common_s, 2),
                "seconds": {name: round(value, 2) for name, value in cost.seconds.items()},
                "bytes": dict(cost.sizes),
            }
            for cost in costs
        ],
        "whole": {"seconds": round(whole.seconds), "bytes": whole.size, "source": whole.source},
        "cache": dict(hits),
        "common_s": round(planned.common_s),
        "architectures": [
            {"name": name, "seconds": round(value), "bytes": round(planned.sizes[name])}
            for name, value in planned.seconds.items()
        ],
        "stand_ins": dict(planned.stand_ins),
        "backends": [
            {"name": name, "modules": count, "seconds": round(seconds), "bytes": round(size)}
            for name, (count, seconds, size) in planned.modules.items()
        ],
        "modules": planned.count,
        "cold_s": round(planned.cold_s),
        "warm_s": round(planned.count * units * hits["hit_s"]),
        "cpu_part_s": cpu_part_s,
        "gpu_wheels": gpu_wheels,
        "saved_s": round(gpu_wheels * cpu_part_s),
    }


def read_sample(content: Sequence[UnitResult]) -> list[UnitCost]:
    """Return the sample that an earlier run has written."""
    return [
        UnitCost(
            name=unit["name"],
            common_s=unit["common_s"],
            seconds=unit["seconds"],
            sizes=unit["bytes"],
        )
        for unit in content
    ]
