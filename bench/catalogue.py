"""Building the index from a catalogue of thousands of wheels: time, memory, and what one more costs.

Each build is `python -m index build` in a process of its own, so that its peak memory is its own; the
sizes take turns. ``python -m bench.catalogue`` is that process.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench import machine
from ci import paths
from ci.errors import BuildError
from ci.progress import Progress
from ci.table import Table, Target, load_table
from index import catalogue
from index.__main__ import main as index_main
from index.report import Host, Interpreter, Proof
from tests.wheels import write_report, write_wheel

SIZES = (1_000, 3_000, 10_000)
# wheels with files beside the pages
BESIDE = 1_000
ROUNDS = 5
# time per wheel at the largest size against the smallest: no more than noise above one
GOAL_RATIO = 1.25

_TIME = "2026-11-21T12:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build: wall-clock seconds without the start of Python, peak memory in bytes."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One wheel more: the build, how many files the site has, and which of them are others."""

    build: Build
    files: int
    changed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Builds of a new site by the number of wheels; one wheel more; and with files beside."""

    fresh: Mapping[int, tuple[Build, ...]]
    step: Step
    beside_wheels: int
    beside: Build
    beside_step: Step

    def per_wheel(self, wheels: int) -> float:
        """Seconds per wheel, the median of the rounds."""
        return statistics.median(build.seconds for build in self.fresh[wheels]) / wheels

    @property
    def ratio(self) -> float:
        """Time per wheel of the largest catalogue against the smallest."""
        return self.per_wheel(max(self.fresh)) / self.per_wheel(min(self.fresh))


def measure(
    scratch: Path,
    progress: Progress,
    *,
    sizes: tuple[int, ...] = SIZES,
    beside: int = BESIDE,
    rounds: int = ROUNDS,
) -> Measured:
    """Build sites of made-up catalogues in ``scratch``; the last of each size gets one wheel more.

    Raises:
        BuildError: a build failed.
    """
    table = load_table()
    files = {size: scratch / f"{size}.jsonl" for size in sizes}
    for size, file in files.items():
        file.write_bytes(b"".join(itertools.islice(lines(table), size)))
    fresh: dict[int, list[Build]] = {size: [] for size in sizes}
    for number in range(rounds):
        for size, file in files.items():
            progress.step(f"building with {size:,} wheels, round {number + 1} of {rounds}")
            fresh[size].append(_build(file, scratch / f"{size}-{number}"))
    largest = max(sizes)
    progress.step(f"building again with one wheel more than {largest:,}")
    site = scratch / f"{largest}-{rounds - 1}"
    more = next(itertools.islice(lines(table), largest, None))
    files[largest].write_bytes(files[largest].read_bytes() + more)
    step = _step(files[largest], site)

    progress.step(f"making {beside:,} small wheels")
    dist, file = scratch / "dist", scratch / "beside.jsonl"
    _write_wheels(table, dist, range(beside))
    catalogue.add(file, sorted(dist.glob("*.whl")), table=table, upload_time=_TIME)
    progress.step(f"building with {beside:,} wheels beside the pages")
    built = _build(file, scratch / "beside", wheels=dist)
    _write_wheels(table, dist, range(beside, beside + 1))
    catalogue.add(file, sorted(dist.glob("*.whl")), table=table, upload_time=_TIME)
    return Measured(
        fresh={size: tuple(builds) for size, builds in fresh.items()},
        step=step,
        beside_wheels=beside,
        beside=built,
        beside_step=_step(file, scratch / "beside", wheels=dist),
    )


def _write_wheels(table: Table, folder: Path, numbers: range) -> None:
    made = itertools.islice(targets(table), numbers.start, numbers.stop)
    for target, version in made:
        wheel = write_wheel(
            folder,
            version=f"{version}+{target.backend.name}",
            platform=target.wheel_tag,
        )
        write_report(wheel, backend=target.backend.name, platform=target.platform.name)


def targets(table: Table) -> Iterator[tuple[Target, str]]:
    """Yield every wheel of release after release, without end: its target, its version."""
    for number in itertools.count(100):
        for target in table.targets:
            yield target, f"0.3.{number}"


def lines(table: Table) -> Iterator[bytes]:
    """Yield the lines of a catalogue of such releases, whose wheels lie somewhere else."""
    proof = Proof(
        sha256=hashlib.sha256(b"report").hexdigest(),
        source=None,
        date=_TIME,
        host=Host(system="Linux", machine="x86_64", libc="glibc 2.36", cpu="stand-in"),
        interpreters=tuple(
            Interpreter(
                version=f"{version}.1",
                tag=f"cp{version.replace('.', '')}",
                implementation="CPython",
                free_threaded=False,
                device="CPU",
                cpu_variant="libggml-cpu-haswell.so",
                checks=("import", "devices", "tokens"),
            )
            for version in table.interpreters.cpython
        ),
    )
    for target, version in targets(table):
        backend = target.backend.name
        tag = target.wheel_tag
        name = f"llama_cpp_python-{version}+{backend}-py3-none-{tag}.whl"
        yield catalogue.line_of(
            catalogue.Entry(
                name=name,
                project="llama-cpp-python",
                version=f"{version}+{backend}",
                backend=backend,
                platform=target.platform.name,
                sha256=hashlib.sha256(name.encode()).hexdigest(),
                size=10_000_000,
                upload_time=_TIME,
                requires_python=">=3.9",
                requires=(),
                metadata_sha256=hashlib.sha256(f"{name}.metadata".encode()).hexdigest(),
                report=proof,
                variant=None,
                yanked=None,
                url=f"https://wheels.example/{version}/{name}",
            )
        )


def _build(file: Path, site: Path, *, wheels: Path | None = None) -> Build:
    options = ["--catalogue", str(file), "--out", str(site)]
    if wheels is not None:
        options += ["--wheels", str(wheels)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.catalogue", "build", *options],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        cure = "run `python -m index build` by itself to see more"
        raise BuildError(f"the index was not built: {done.stderr.strip()}", cure=cure)
    said = json.loads(done.stdout)
    return Build(seconds=said["seconds"], peak_bytes=said["peak_bytes"])


def _step(file: Path, site: Path, *, wheels: Path | None = None) -> Step:
    before = _tree(site)
    build = _build(file, site, wheels=wheels)
    after = _tree(site)
    changed = sorted(name for name, found in after.items() if before.get(name) != found)
    return Step(build=build, files=len(after), changed=tuple(changed))


def _tree(site: Path) -> dict[str, tuple[int, int, str]]:
    """Return the inode, the time and the hash of every file of a site."""
    found = {}
    for path in site.rglob("*"):
        if path.is_file():
            stat = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[path.relative_to(site).as_posix()] = (stat.st_ino, stat.st_mtime_ns, digest)
    return found


def report(
    measured: Measured, *, date: datetime, circumstances: Mapping[str, object]
) -> dict[str, object]:
    """Return the content of ``catalogue.json``."""
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        **circumstances,
        "rounds": len(measured.fresh[min(measured.fresh)]),
        "sizes": [
            {
                "wheels": size,
                "seconds": [round(build.seconds, 3) for build in builds],
                "microseconds_per_wheel": round(measured.per_wheel(size) * 1e6, 1),
                "peak_bytes": max(build.peak_bytes for build in builds),
            }
            for size, builds in sorted(measured.fresh.items())
        ],
        "ratio": round(measured.ratio, 3),
        "goal_ratio": GOAL_RATIO,
        "met": measured.ratio <= GOAL_RATIO,
        "one_more": _said(measured.step, wheels=max(measured.fresh) + 1),
        "beside": {
            "wheels": measured.beside_wheels,
            "seconds": round(measured.beside.seconds, 3),
            "peak_bytes": measured.beside.peak_bytes,
        },
        "beside_one_more": _said(measured.beside_step, wheels=measured.beside_wheels + 1),
    }


def _said(step: Step, *, wheels: int) -> dict[str, object]:
    return {
        "wheels": wheels,
        "seconds": round(step.build.seconds, 3),
        "files": step.files,
        "changed": list(step.changed),
    }


def main(arguments: list[str]) -> int:
    """Run one command of the index in this process; print its time and peak memory as JSON."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        status = index_main(arguments)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}))
    return status


def peak_bytes() -> int:
    """Return the most memory that this process has had in use."""
    # A process inherits getrusage's figure from the one that started it; Linux has another.
    with contextlib.suppress(OSError):
        text = Path("/proc/self/status").read_text(encoding="ascii")
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
