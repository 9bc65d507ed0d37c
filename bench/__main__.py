"""``python -m bench WHAT``: measure, or write the table; ``nox -s bench -- WHAT`` calls it."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench import binding, builds, imports, machine, rebuild, results, speed, tables
from bench.models import Shape, model_files
from bench.worker import Libraries
from ci import paths
from ci.errors import ToolchainError, UsageError
from ci.host import host_platform
from ci.interpreters import find_interpreters
from ci.process import run
from ci.progress import Progress
from ci.table import load_table
from ci.vendor import load_pin, pinned_tree
from ci.wheel import Wheel, read_wheel

if TYPE_CHECKING:
    from bench import parallel, pool

_INTERRUPTED = 130
_LEAST_ROUNDS = 5


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark and return the exit code; errors are printed, with their cure."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    try:
        {
            "speed": _speed,
            "import": _import,
            "binding": _binding,
            "gpu-import": _gpu_import,
            "rebuild": _rebuild,
            "release": _release,
            "requests": _requests,
            "pool": _pool,
            "parallel": _parallel,
            "catalogue": _catalogue,
            "cuda": _cuda,
            "table": _table,
        }[options.what](options, progress)
    except ToolchainError as error:
        progress.fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        progress.fail("stopped; no result was written\n  -> run the command again")
        return _INTERRUPTED
    return 0


def _speed(options: argparse.Namespace, progress: Progress) -> None:
    plan = speed.Plan(threads=options.threads, rounds=options.rounds)
    cpus = machine.cpu_count()
    if not 1 <= plan.threads <= cpus:
        raise UsageError(
            f"--threads {plan.threads}: this machine has {cpus} CPUs",
            cure=f"choose 1 to {cpus}; one or two less than all leaves room for the system",
        )
    _check_rounds(plan.rounds)
    wheel = read_wheel(_wheel(options.wheel))
    pin = load_pin()
    compiler = builds.gnu_compiler()
    tree = pinned_tree(progress, pin=pin)
    compiled = [
        builds.build(recipe, tree, cpu=machine.cpu_name(), jobs=options.jobs, progress=progress)
        for recipe in (builds.NATIVE, builds.BASELINE)
    ]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        package = _unpacked(wheel, Path(scratch))
        contenders = [
            Libraries(
                name=speed.WHEEL,
                title=f"wheel {wheel.version}",
                folder=package / "llama_cpp" / "lib",
                package=package,
            ),
            *(
                Libraries(
                    name=build.recipe.name,
                    title=build.recipe.title,
                    folder=build.folder,
                    package=package,
                )
                for build in compiled
            ),
        ]
        shape = Shape()
        models = model_files(shape, contenders[0], commit=pin.commit, progress=progress)
        date, load = datetime.now(UTC), machine.load_average()
        measured = speed.measure(contenders, models, plan, progress)
    content = speed.report(
        measured,
        contenders,
        plan,
        date=date,
        circumstances={
            **_circumstances(wheel, compiler, pin.commit),
            "model": {"architecture": "llama", "parameters": shape.parameters, "weights": "random"},
            "load_average": {"before": load, "after": machine.load_average()},
        },
    )
    _finish("speed", content, options, progress)
    rows = [
        (f"{verdict.goal.text} ≥ {verdict.goal.least}", _verdict(verdict.ratio, verdict.met))
        for verdict in measured.verdicts(avx512=machine.has_avx512())
    ]
    progress.summary(f"{wheel.path.name}, {plan.rounds} rounds", rows)


def _import(options: argparse.Namespace, progress: Progress) -> None:
    wheel = read_wheel(_wheel(options.wheel))
    pin = load_pin()
    if not pin.mirror:
        raise UsageError("the pin names no sdist to compare with", cure="name one as its mirror")
    mirror = pin.mirror[0]
    other = imports.sdist_wheel(mirror, jobs=options.jobs, progress=progress)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        progress.step("installing both wheels")
        packages = [
            imports.install(
                imports.OURS, f"this wheel, {wheel.version}", wheel.path, Path(scratch, "a")
            ),
            imports.install(
                imports.THEIRS,
                f"sdist {mirror.project_version}, built with its defaults",
                other,
                Path(scratch, "b"),
            ),
        ]
        date, load = datetime.now(UTC), machine.load_average()
        timed = imports.measure(packages, rounds=options.rounds, progress=progress)
        content = imports.report(
            timed,
            packages,
            date=date,
            circumstances={
                **_circumstances(wheel, builds.gnu_compiler(), pin.commit),
                "python": platform.python_version(),
                "load_average": {"before": load, "after": machine.load_average()},
            },
        )
    _finish("import", content, options, progress)
    rows: list[tuple[str, str]] = []
    for moment in imports.MOMENTS:
        ours, theirs = (
            timed.spread(name, moment).median for name in (imports.OURS, imports.THEIRS)
        )
        rows.append((moment, f"{ours * 1000:.0f} ms against {theirs * 1000:.0f} ms"))
    progress.summary("import and size", rows)


def _binding(options: argparse.Namespace, progress: Progress) -> None:
    # need what Windows does not have, which the other benchmarks do without
    from bench import parallel, pool  # noqa: PLC0415

    _check_rounds(options.rounds)
    wheel = read_wheel(_wheel(options.wheel))
    pin = load_pin()
    if not pin.mirror:
        raise UsageError("the pin names no sdist to compare with", cure="name one as its mirror")
    pythons = parallel.choose_pythons(find_interpreters(parallel.SERIES))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        progress.step("installing both packages")
        libraries = _unpacked(wheel, scratch / "unpacked") / "llama_cpp" / "lib"
        ours = _installed(wheel, scratch / "a")
        theirs = binding.other_package(pin.mirror[0], libraries, scratch / "b", progress)
        date, load = datetime.now(UTC), machine.load_average()
        packages = {package.name: package for package in (ours, theirs)}
        rounds = options.rounds
        measured = binding.measure(packages, rounds=rounds, progress=progress)
        timed = imports.measure([ours, theirs], rounds=rounds, progress=progress)
        shared = pool.measure(
            ours, scratch, rounds=rounds, threads=options.threads, progress=progress
        )
        side_by_side = parallel.measure(
            wheel.path, pythons, scratch, rounds=rounds, progress=progress
        )
    circumstances = {
        **_circumstances(wheel, "none: the sdist's Python files alone", pin.commit),
        "python": platform.python_version(),
        "load_average": {"before": load, "after": machine.load_average()},
    }
    content = binding.report(
        measured, packages, timed, rounds=rounds, date=date, circumstances=circumstances
    )
    _finish("binding", content, options, progress)
    content = pool.report(shared, threads=options.threads, date=date, circumstances=circumstances)
    _finish("pool", content, options, progress)
    content = parallel.report(side_by_side, date=date, circumstances=circumstances)
    _finish("parallel", content, options, progress)
    goals = binding.goals(measured, timed)
    rows = [
        (goal.text, f"{goal.measured:.2f} {'met' if goal.met else 'NOT met'}") for goal in goals
    ]
    rows += _pool_rows(shared) + _parallel_rows(side_by_side)
    progress.summary(f"{wheel.path.name}, {rounds} rounds", rows)


def _pool(options: argparse.Namespace, progress: Progress) -> None:
    from bench import pool  # noqa: PLC0415 - reads /proc, as the others do not

    _check_rounds(options.rounds)
    wheel = read_wheel(_wheel(options.wheel))
    date, load = datetime.now(UTC), machine.load_average()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measured = pool.measure(
            _installed(wheel, Path(folder, "a")),
            Path(folder),
            rounds=options.rounds,
            threads=options.threads,
            progress=progress,
        )
    circumstances = {**_taken_on(wheel), "load_average": _since(load)}
    content = pool.report(measured, threads=options.threads, date=date, circumstances=circumstances)
    _finish("pool", content, options, progress)
    progress.summary(f"a pool of {pool.REQUESTS}", _pool_rows(measured))


def _pool_rows(measured: pool.Measured) -> list[tuple[str, str]]:
    memory = measured.memory("pool") / measured.memory("one")
    return [
        ("a pool over one after another", f"{measured.gain('one').median:.2f} times the tokens"),
        ("a pool over as many objects", f"{measured.gain('objects').median:.2f} times the tokens"),
        ("a pool's memory", f"{memory:.2f} times one object's"),
    ]


def _parallel(options: argparse.Namespace, progress: Progress) -> None:
    from bench import parallel  # noqa: PLC0415 - pins processes to CPUs, as the others do not

    _check_rounds(options.rounds)
    wheel = read_wheel(_wheel(options.wheel))
    pythons = parallel.choose_pythons(find_interpreters(parallel.SERIES))
    date, load = datetime.now(UTC), machine.load_average()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measured = parallel.measure(
            wheel.path, pythons, Path(folder), rounds=options.rounds, progress=progress
        )
    circumstances = {**_taken_on(wheel), "load_average": _since(load)}
    content = parallel.report(measured, date=date, circumstances=circumstances)
    _finish("parallel", content, options, progress)
    progress.summary("two objects", _parallel_rows(measured))


def _parallel_rows(measured: Sequence[parallel.Measured]) -> list[tuple[str, str]]:
    return [
        (
            f"Python {each.python.series}, {work}",
            f"{each.gain(work, 'two threads').median:.2f} times as fast on two threads",
        )
        for each in measured
        for work in each.seconds
    ]


def _check_rounds(rounds: int) -> None:
    if rounds < _LEAST_ROUNDS:
        raise UsageError(
            f"--rounds {rounds} are too few for a median", cure=f"choose {_LEAST_ROUNDS} or more"
        )


def _installed(wheel: Wheel, folder: Path) -> imports.Installed:
    return imports.install(imports.OURS, f"this wheel, {wheel.version}", wheel.path, folder)


def _taken_on(wheel: Wheel) -> dict[str, object]:
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "wheel": {"file": wheel.path.name, "sha256": wheel.sha256, "bytes": wheel.size},
    }


def _since(load: float | None) -> dict[str, float | None]:
    return {"before": load, "after": machine.load_average()}


def _gpu_import(options: argparse.Namespace, progress: Progress) -> None:
    # needs what Windows does not have, which the other benchmarks do without
    from bench import gpu_imports  # noqa: PLC0415

    cpu = read_wheel(_wheel(options.wheel))
    wheels = [read_wheel(path) for path in options.gpu_wheels or _gpu_wheels(cpu.path)]
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        progress.step(f"installing {len(wheels) + 1} wheels and what they require")
        packages = [
            imports.install(name, str(wheel.version), wheel.path, Path(scratch, name))
            for wheel in (cpu, *wheels)
            for name in [wheel.version.local or wheel.path.name]
        ]
        date, load = datetime.now(UTC), machine.load_average()
        timed = imports.measure(
            packages,
            rounds=options.rounds,
            progress=progress,
            clock=gpu_imports.children_cpu_s,
        )
        content = gpu_imports.report(
            timed,
            packages,
            date=date,
            circumstances={
                "system": platform.platform(),
                "python": platform.python_version(),
                "load_average": {"before": load, "after": machine.load_average()},
            },
        )
    _finish("gpu-import", content, options, progress)
    base, *others = (package.name for package in packages)
    rows = []
    for name in others:
        ratio = timed.ratio("import", name, base)
        met = ratio <= gpu_imports.GOAL_RATIO
        rows.append((f"import, {name} : {base} ≤ {gpu_imports.GOAL_RATIO}", _verdict(ratio, met)))
        rows.append((f"load, {name} : {base}", f"{timed.ratio('libraries', name, base):.3f}"))
    progress.summary("import of a GPU wheel", rows)


def _gpu_wheels(cpu: Path) -> list[Path]:
    tag = cpu.name.partition("-py3-")[2]
    found = sorted(set(cpu.parent.glob(f"llama_cpp_python-*-py3-{tag}")) - {cpu})
    if not found:
        raise UsageError(
            f"{cpu.parent} holds no GPU wheel for the platform of {cpu.name}",
            cure="run `nox -s build -- --backend vulkan`, or name one with --gpu-wheel",
        )
    return found


def _rebuild(options: argparse.Namespace, progress: Progress) -> None:
    pin = load_pin()
    pinned_tree(progress, pin=pin)
    date, load = datetime.now(UTC), machine.load_average()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        timed = rebuild.measure(Path(scratch), progress)
    warm = statistics.median(timed.warm_s)
    content: dict[str, object] = {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        "cpus": machine.cpu_count(),
        "commit": pin.commit,
        "load_average": {"before": load, "after": machine.load_average()},
        "cold_s": round(timed.cold_s, 1),
        "warm_s": [round(seconds, 1) for seconds in timed.warm_s],
        "ratio": round(timed.cold_s / warm, 1),
    }
    _finish("rebuild", content, options, progress)
    progress.summary("build", [("cold", f"{timed.cold_s:.0f} s"), ("warm", f"{warm:.0f} s")])


def _release(options: argparse.Namespace, progress: Progress) -> None:
    # waits for processes as Linux alone can
    from bench import release  # noqa: PLC0415

    pin, table = load_pin(), load_table()
    pinned_tree(progress, pin=pin)
    date, load = datetime.now(UTC), machine.load_average()
    reference = f"cpu-{host_platform(table).name}"
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        measured = release.measure(Path(scratch), options.target, progress)
    if reference not in {record.target for record in measured.records}:
        raise UsageError(
            f"{reference} was not built, which is what is multiplied",
            cure=f"name it with --target {reference}, or name none",
        )
    content = release.report(
        measured,
        pythons=len(table.interpreters.all),
        reference=reference,
        date=date,
        circumstances={
            "commit": pin.commit,
            "load_average": {"before": load, "after": machine.load_average()},
        },
    )
    _finish("release", content, options, progress)
    progress.summary(
        f"a dry run of {len(measured.records)} targets",
        [
            (name, f"{each.seconds:.0f} s, {each.cpu_seconds:.0f} CPU s")
            for name, each in (("cold", measured.cold), ("warm", measured.warm))
        ],
    )


def _requests(options: argparse.Namespace, progress: Progress) -> None:
    # needs the installers, which the other benchmarks do without
    from bench import requests  # noqa: PLC0415

    wheel = read_wheel(_wheel(options.wheel))
    date = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        locks = requests.measure(wheel, Path(scratch), progress)
    content = requests.report(
        locks,
        date=date,
        circumstances={
            "system": platform.platform(),
            "wheel": {"file": wheel.path.name, "sha256": wheel.sha256, "bytes": wheel.size},
        },
    )
    _finish("requests", content, options, progress)
    most = max(lock.cost.bytes for lock in locks if lock.style == "ours")
    goal = f"under {requests.GOAL_BYTES:,} bytes"
    met = "met" if most < requests.GOAL_BYTES else "NOT met"
    progress.summary("a lock against this index", [(goal, f"at most {most:,} bytes, {met}")])


def _catalogue(options: argparse.Namespace, progress: Progress) -> None:
    # needs what the index needs, which the other benchmarks do without
    from bench import catalogue  # noqa: PLC0415

    date, load = datetime.now(UTC), machine.load_average()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        measured = catalogue.measure(Path(scratch), progress)
    content = catalogue.report(
        measured,
        date=date,
        circumstances={
            "system": platform.platform(),
            "python": platform.python_version(),
            "load_average": {"before": load, "after": machine.load_average()},
        },
    )
    _finish("catalogue", content, options, progress)
    ratio = f"time per wheel, {max(catalogue.SIZES):,} : {min(catalogue.SIZES):,} wheels"
    verdict = _verdict(measured.ratio, measured.ratio <= catalogue.GOAL_RATIO)
    changed = f"{len(measured.step.changed)} of {measured.step.files} files"
    progress.summary(
        "building the index",
        [(f"{ratio} ≤ {catalogue.GOAL_RATIO}", verdict), ("changed by one wheel more", changed)],
    )


def _cuda(options: argparse.Namespace, progress: Progress) -> None:
    # reads the clock of child processes, which Windows has not
    from bench import cuda  # noqa: PLC0415

    table, pin = load_table(), load_pin()
    units = cuda.read_units(options.commands)
    if options.again:
        before = results.read("cuda", results.CudaResult, options.out)
        costs, hits = cuda.read_sample(before["sample"]), before["cache"]
        circumstances: dict[str, object] = {
            name: before[name] for name in ("date", "cpu", "commit", "compiler")
        }
    else:
        load = machine.load_average()
        compiler = run([units[0].command[0], "--version"]).splitlines()[-2]
        circumstances = {
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "cpu": machine.cpu_name(),
            "commit": pin.commit,
            "compiler": f"nvcc {compiler.rpartition(' ')[2]}",
        }
        kept = paths.cache_folder() / "bench" / "cuda"
        costs = cuda.measure(units, options.budget, progress, kept=kept, compiler=compiler)
        fastest = sorted(costs, key=lambda cost: cost.seconds[cuda.REFERENCE])[: cuda.TRIED]
        tried = [unit for unit in units if unit.name in {cost.name for cost in fastest}]
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            missed, hit = cuda.measure_hits(tried, Path(scratch))
        hits = {"units": len(tried), "missed_s": round(missed, 2), "hit_s": round(hit, 2)}
        circumstances["load_average"] = {"before": load, "after": machine.load_average()}
    whole = cuda.find_whole(paths.cache_folder() / "modules", costs, len(units), commit=pin.commit)
    planned = cuda.plan(costs, whole, table)
    content = cuda.report(
        costs,
        whole,
        planned,
        table,
        units=len(units),
        hits=hits,
        cpu_part_s=options.cpu_part,
        circumstances=circumstances,
    )
    _finish("cuda", content, options, progress)
    progress.summary(
        f"{planned.count} CUDA modules",
        [
            ("empty cache", f"{planned.cold_s / 3600:.1f} processor hours"),
            ("warm cache", f"{planned.count * len(units) * hits['hit_s'] / 3600:.1f}"),
        ],
    )


def _table(options: argparse.Namespace, progress: Progress) -> None:
    before = tables.README.read_text(encoding="utf-8")
    after = tables.render_readme(before)
    if before == after:
        progress.step("bench/README.md is as it must be")
    elif options.check:
        raise UsageError(
            "bench/README.md is not what bench/results says",
            cure="run `nox -s bench -- table` and commit the result",
        )
    else:
        tables.README.write_text(after, encoding="utf-8")
        progress.step("wrote bench/README.md")


def _finish(
    name: str, content: dict[str, object], options: argparse.Namespace, progress: Progress
) -> None:
    path = results.write(name, content, options.out)
    progress.step(f"wrote {path}")


def _wheel(chosen: Path | None) -> Path:
    if chosen is not None:
        return chosen
    found = sorted(paths.DIST.glob("llama_cpp_python-*+cpu-*.whl"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise UsageError(
            f"dist/ must hold one CPU wheel, and holds {names}",
            cure="run `nox -s build -- --backend cpu`, or name a wheel with --wheel",
        )
    return found[0]


def _unpacked(wheel: Wheel, folder: Path) -> Path:
    with zipfile.ZipFile(wheel.path) as archive:
        archive.extractall(folder)
    return folder


def _circumstances(wheel: Wheel, compiler: str, commit: str) -> dict[str, object]:
    return {
        "system": platform.platform(),
        "wheel": {"file": wheel.path.name, "sha256": wheel.sha256, "bytes": wheel.size},
        "commit": commit,
        "compiler": compiler,
    }


def _verdict(ratio: float, met: bool) -> str:
    return f"{ratio:.3f} {'met' if met else 'NOT met'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the finished wheel. Every figure is a ratio taken side by side in one run.",
    )
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    about = {
        "speed": "tokens per second against g++ -march=native and against the AVX2 build",
        "import": "import time and wheel size beside the sdist's, built with its own defaults",
        "binding": "what the Python side of a token costs, beside the sdist's on the same libraries; "
        "then what `pool` and `parallel` measure, in the same run",
    }
    for name, text in about.items():
        verb = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("--wheel", type=Path, help="the wheel (default: the CPU wheel in dist/)")
        verb.add_argument(
            "--rounds", type=int, default=9 if name == "speed" else 15, help="default %(default)s"
        )
        verb.add_argument(
            "--jobs",
            type=int,
            default=machine.cpu_count(),
            help="compilers at once, where something is not in the cache yet (default: all CPUs)",
        )
        verb.add_argument(
            "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
        )
        if name in {"speed", "binding"}:
            what = "contender" if name == "speed" else "side of the pool's figures"
            verb.add_argument(
                "--threads", type=int, default=2, help=f"threads of each {what} (default 2)"
            )
    text = "import and load time of GPU wheels beside the CPU wheel, where there is no GPU"
    several = verbs.add_parser("gpu-import", help=text, description=text)
    several.add_argument("--wheel", type=Path, help="the CPU wheel (default: the one in dist/)")
    several.add_argument(
        "--gpu-wheel",
        dest="gpu_wheels",
        type=Path,
        action="append",
        help="a GPU wheel; may be repeated (default: all of the platform beside the CPU wheel)",
    )
    several.add_argument("--rounds", type=int, default=25, help="default %(default)s")
    several.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    again = verbs.add_parser("rebuild", help="a build with an empty compiler cache, then warm ones")
    again.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    whole = verbs.add_parser(
        "release", help="a dry run of a release with an empty compiler cache, then with a full one"
    )
    whole.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="PATTERN",
        help="a part of the targets (can be repeated; default: all that this machine makes)",
    )
    whole.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    wire = verbs.add_parser(
        "requests", help="requests and bytes of a lock, beside an index of bare links"
    )
    wire.add_argument("--wheel", type=Path, help="the wheel (default: the CPU wheel in dist/)")
    wire.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    text = "requests at once in a pool, beside one after another and beside as many objects"
    shared = verbs.add_parser("pool", help=text, description=text)
    shared.add_argument("--wheel", type=Path, help="the wheel (default: the CPU wheel in dist/)")
    shared.add_argument("--rounds", type=int, default=9, help="default %(default)s")
    shared.add_argument(
        "--threads", type=int, default=1, help="threads of each contender (default 1)"
    )
    shared.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    text = "two objects on two threads, with a GIL and without, beside one after the other"
    threaded = verbs.add_parser("parallel", help=text, description=text)
    threaded.add_argument("--wheel", type=Path, help="the wheel (default: the CPU wheel in dist/)")
    threaded.add_argument("--rounds", type=int, default=15, help="default %(default)s")
    threaded.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    many = verbs.add_parser(
        "catalogue", help="time and memory of building the index of 10,000 wheels, and of one more"
    )
    many.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    compiled = verbs.add_parser(
        "cuda", help="compile time and size of the CUDA module by architecture, and of the matrix"
    )
    compiled.add_argument(
        "--commands",
        type=Path,
        default=paths.BUILD / "cu130-manylinux_x86_64" / "cmake" / "compile_commands.json",
        help="of a build of the module, whose flags are taken (default: cu130's in build/)",
    )
    compiled.add_argument(
        "--budget", type=float, default=800, help="processor seconds of the sample (default 800)"
    )
    compiled.add_argument(
        "--cpu-part",
        type=float,
        default=660,
        help="processor seconds of compiling what is in the plain wheel (default %(default)s)",
    )
    compiled.add_argument(
        "--again",
        action="store_true",
        help="compile nothing: extrapolate the last sample to the table and the modules of today",
    )
    compiled.add_argument(
        "--out", type=Path, default=results.FOLDER, help="folder of the result (bench/results)"
    )
    table = verbs.add_parser("table", help="write the tables of bench/README.md from bench/results")
    table.add_argument(
        "--check", action="store_true", help="change nothing; fail where it is stale"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
