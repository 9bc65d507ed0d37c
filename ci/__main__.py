"""``python -m ci VERB``: the toolchain's command line; nox and the workflows call nothing else."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from ci import emulation, fresh_root, paths, reproduction
from ci.architectures import parse_architectures
from ci.build import build_and_prove
from ci.bump import PARTS, bump
from ci.check import check, target_of
from ci.command_line import command_line
from ci.docs import derived_files, stale_files, write_files
from ci.engine import Engine, Options
from ci.errors import NO_ROOM, ToolchainError, ToolMissingError, UsageError, disk_error
from ci.evidence import load_evidence
from ci.fresh_root import readme_commands
from ci.host import host_platform
from ci.installation import backend_index, fetch
from ci.interpreters import (
    Interpreter,
    choose_interpreters,
    find_interpreters,
    require_interpreters,
)
from ci.matrix import parse_gpu_runners, render_matrix, select_targets, write_outputs
from ci.pins import PINS_PATH, load_pins
from ci.progress import Progress
from ci.proof import interpreter_table, proof_table
from ci.proving import not_provable, prove
from ci.redistributable import pin_redistributable
from ci.registry import parse_reference
from ci.relabel import AUTO, make, plan
from ci.release_verb import run_release
from ci.repair import repair
from ci.reports import BUILD_SUFFIX, SMOKE_SUFFIX, add_reports
from ci.reproduce import reproduce_all
from ci.smoke_report import require_gpu, require_passed, write_report
from ci.table import Table, load_table
from ci.upload import choose_repository, upload
from ci.vendor import Pin, Tree, foreign_tree, load_pin, pinned_tree, place_tree
from ci.wheel import read_wheel

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return the exit code; errors are printed, with their cure."""
    options = command_line().parse_args(arguments)
    progress = Progress()
    # a cancelled job ends like Ctrl-C: what was started is stopped, nothing is left half-written
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        table = load_table()
        verb = {
            "vendor": _vendor,
            "build": _build,
            "repair": _repair,
            "check": _check,
            "smoke": _smoke,
            "auto": _auto,
            "matrix": _matrix,
            "generate": _generate,
            "pin": _pin,
            "bump": _bump,
            "reproduce": _reproduce,
            "emulate": _emulate,
            "fresh-root": _fresh_root,
            "proof": _proof,
            "upload": _upload,
            "release": _release,
        }[options.verb]
        verb(options, table, progress)
    except ToolchainError as error:
        progress.fail(str(error))
        return error.exit_code
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        stop = disk_error(error, Path(error.filename or paths.BUILD))
        progress.fail(str(stop))
        return stop.exit_code
    except KeyboardInterrupt:
        progress.fail("stopped; nothing was left half-written\n  -> run the command again")
        return _INTERRUPTED
    return 0


def _vendor(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    del table
    pin = load_pin()
    if options.source is not None:
        place_tree(progress, options.source, pin=pin)
        progress.step(f"{paths.TREE} is a copy of {options.source}")
        return
    tree = pinned_tree(progress, pin=pin)
    progress.step(f"{tree.path} is llama.cpp {pin.version} at {pin.commit}")


def _build(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    platform = options.platform or host_platform(table).name
    target = table.target(options.backend, platform)
    if target.family.toolkit == "none" and (options.toolkit or options.toolkit_image):
        raise UsageError(
            f"{target.name} is compiled without a toolkit",
            cure="leave --toolkit and --toolkit-image away, or name a GPU backend with --backend",
        )
    defines = dict(_define(text) for text in options.define)
    pin = load_pin()
    interpreters = _interpreters(options, table)
    build_and_prove(
        target,
        Options(
            engine=_engine(options.engine),
            compiler=options.compiler,
            tree=_tree(options.source, progress, pin),
            interpreters=interpreters,
            defines=defines,
            # what is for somebody's own GPUs is no part of a release
            out=options.out or (paths.DIST if options.archs is None else paths.OWN),
            toolkit=options.toolkit,
            toolkit_image=(
                None if options.toolkit_image is None else parse_reference(options.toolkit_image)
            ),
            compatible_toolkit=options.compatible_toolkit,
            clang=options.clang,
            runtime=options.runtime,
            architectures=(
                None if options.archs is None else parse_architectures(options.archs, target)
            ),
        ),
        table,
        progress,
        pin=pin,
    )


def _repair(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    target = table.target(options.backend, options.platform or host_platform(table).name)
    for wheel in options.wheels:
        progress.step(f"wrote {repair(wheel, target, options.out)}")


def _check(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    for wheel in options.wheels or _dist_wheels():
        target = check(wheel, table, own_paths=(paths.ROOT,))
        progress.step(f"{wheel.name} is what the table says of {target.name}")


def _smoke(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    interpreters = _interpreters(options, table)
    if options.all_pythons or options.require:
        named = [series for each in options.require for series in each]
        required = named or table.interpreters.required
        missing = require_interpreters(interpreters, required, table.interpreters.all)
        if missing:
            progress.warn(f"not on this machine, so not proven here: Python {', '.join(missing)}")
    index = None
    if options.index is None:
        wheels = options.wheels or _dist_wheels()
    else:
        wheels = [_staged_wheel(options, table, interpreters[0], progress)]
        index = backend_index(options.index, options.backend)
    for wheel in wheels:
        target = check(wheel, table)
        report = prove(
            wheel,
            target,
            interpreters,
            progress,
            now=datetime.now(UTC),
            index=index,
            runtime=options.runtime,
        )
        if report is None:
            if wheel in options.wheels:
                raise ToolMissingError(
                    not_provable(wheel, target), cure="run the same command on such a machine"
                )
            progress.warn(not_provable(wheel, target))
            continue
        progress.step(f"wrote {write_report(wheel, report)}")
        require_passed(report)
        if options.gpu:
            require_gpu(report)


def _staged_wheel(
    options: argparse.Namespace, table: Table, interpreter: Interpreter, progress: Progress
) -> Path:
    """Return the wheel that an installer gets from ``--index``: it is this file that is proven."""
    if options.wheels or options.backend is None:
        raise UsageError(
            "--index takes a wheel from an index, so it needs its backend and no wheel's path",
            cure="write nox -s smoke -- --gpu --index URL --backend vulkan",
        )
    table.target(options.backend, host_platform(table).name)
    wheel = fetch(options.index, options.backend, interpreter, options.out, version=options.version)
    progress.step(f"{options.index} gives {wheel.name}, sha256 {read_wheel(wheel).sha256}")
    return wheel


def _auto(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    copies, unused = plan(options.wheels or _dist_wheels(), table, label=options.label)
    for name in unused:
        progress.step(f"{name} has no place in {AUTO}: see [auto] in ci/targets.toml")
    if not copies:
        raise UsageError(
            f"none of the wheels has a place in {AUTO}", cure="run `nox -s build -- --backend cpu`"
        )
    now = datetime.now(UTC)
    made = make(copies, options.out, table, _interpreters(options, table), progress, now=now)
    rows = [
        (one.path.name, f"{'new' if one.new else 'there already'}, of {one.source}") for one in made
    ]
    if rows:
        progress.summary(str(options.out), rows)


def _matrix(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    del progress
    targets = select_targets(table, options.target, subset=options.subset)
    if options.outputs is not None:
        runners = parse_gpu_runners(options.gpu_runners, table)
        write_outputs(options.outputs, table, targets, runners)
    print(render_matrix(table, targets, options.format))


def _generate(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    pin = load_pin()
    files = derived_files(table, pinned_tree(progress, pin=pin))
    if options.check:
        stale = stale_files(files)
        if stale:
            raise UsageError(
                f"stale: {', '.join(stale)}", cure="run `nox -s generate` and commit the result"
            )
        progress.step("every derived file is as it must be")
        return
    written = write_files(files)
    progress.step(f"wrote {', '.join(written)}" if written else "nothing was stale")


def _pin(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    del table
    load_pins()
    pin_redistributable(progress, options.version, PINS_PATH)


def _bump(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    parts = options.parts or PARTS
    bump(progress, table, parts, now=datetime.now(UTC), cool_down=options.cool_down)


def _reproduce(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    reproduce_all(options.wheels or _dist_wheels(), table, progress, cached=options.cached)


def _emulate(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    for wheel in options.wheels or _dist_wheels():
        target = target_of(read_wheel(wheel), table)
        if target.platform.libc != "glibc" and not options.wheels:
            progress.step(f"{wheel.name} is left out: only manylinux wheels are emulated")
            continue
        report = emulation.emulate(wheel, target, options.cpu, progress)
        progress.summary(f"{report.wheel} under {report.emulator}", emulation.rows(report))
        progress.step(f"wrote {emulation.write_report(report)}")
        emulation.require_passed(report)


def _fresh_root(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    del table
    commands = readme_commands((paths.ROOT / "README.md").read_text(encoding="utf-8"))
    unknown = [name for name in options.command if name not in commands]
    if unknown:
        raise UsageError(
            f"the README has no command {unknown[0]!r}", cure=f"choose from {', '.join(commands)}"
        )
    report = fresh_root.fresh_root(
        progress,
        commands=[commands[name] for name in options.command or commands],
        folder=options.folder,
        keep=options.keep,
        mirror=options.mirror,
    )
    fresh_root.require_passed(report)


def _proof(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    pin = load_pin()
    if options.action == "add":
        changed = list(add_reports(options.files or _dist_reports(), table, pin))
        for target, levels in changed:
            progress.step(f"{target.name}: {', '.join(levels)}")
        progress.step(
            "now run `nox -s generate` and commit docs/ and README.md"
            if changed
            else "nothing that was not known, or that is stronger than what was"
        )
        return
    evidence = load_evidence(table)
    console = Console(soft_wrap=False)
    console.print(proof_table(table.targets, evidence, pin))
    console.print(interpreter_table(table, evidence))


def _upload(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    repository = choose_repository(options.repository, options.repository_url, options.index_url)
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        given = options.files or [paths.DIST]
        upload(given, repository, Path(folder), table, progress, dry_run=options.dry_run)


def _release(options: argparse.Namespace, table: Table, progress: Progress) -> None:
    run_release(options, table, progress, lambda: _interpreters(options, table))


def _tree(source: Path | None, progress: Progress, pin: Pin) -> Tree:
    if source is None:
        return pinned_tree(progress, pin=pin)
    return foreign_tree(progress, source, pin=pin)


def _interpreters(options: argparse.Namespace, table: Table) -> list[Interpreter]:
    supported = table.interpreters.all
    # a workflow says "" where a platform has none of its own
    if any(options.python):
        return choose_interpreters(options.python, supported)
    found = find_interpreters(supported)
    if not found:
        raise UsageError(
            f"there is none of Python {', '.join(supported)} with venv on this machine",
            cure="install one (Debian: apt install python3-venv), or name it with --python PATH",
        )
    return found


def _engine(name: str) -> Engine:
    engines: dict[str, Engine] = {"auto": "auto", "host": "host", "cibuildwheel": "cibuildwheel"}
    return engines[name]


def _define(text: str) -> tuple[str, str]:
    name, equals, value = text.removeprefix("-D").partition("=")
    if not name or not equals:
        raise UsageError(f"--define {text} is not NAME=VALUE", cure="write --define GGML_RPC=ON")
    return name, value


def _dist_wheels() -> list[Path]:
    wheels = sorted(paths.DIST.glob("*.whl"))
    if not wheels:
        raise UsageError("there is no wheel in dist/", cure="run `nox -s build` or name a wheel")
    return wheels


def _dist_reports() -> list[Path]:
    reports = sorted(
        path
        for folder in (paths.DIST, paths.OWN)
        for suffix in (BUILD_SUFFIX, SMOKE_SUFFIX)
        for path in folder.glob(f"*{suffix}")
    )
    reports += sorted(reproduction.FOLDER.glob(f"*{reproduction.SUFFIX}"))
    if not reports:
        raise UsageError(
            "there is no report in dist/ or dist/own/",
            cure="run `nox -s build` or name a report beside its wheel",
        )
    return reports


if __name__ == "__main__":
    sys.exit(main())
