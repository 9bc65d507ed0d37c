"""``python -m tests.binding``: the binding's unit tests on Pythons that the toolchain does not run on.

Each in an environment of its own, with what the tests need and nothing of the toolchain: those that
compare the binding with the toolchain's knowledge are run by the session ``tests`` alone.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

from ci.errors import ToolchainError
from ci.interpreters import Interpreter, choose_interpreters
from ci.paths import BUILD, ROOT
from ci.process import ProcessError, run
from ci.table import load_table

_GROUP = "binding-tests"
_TESTS = "tests/unit/llama_cpp"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them on each Python; 0 where every one passed."""
    table = load_table()
    parser = argparse.ArgumentParser(
        prog="python -m tests.binding",
        description="The binding's unit tests on the oldest, the newest and a free-threaded Python.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PYTHON",
        help="a version or a path (can be repeated; default: those that the table requires:"
        f" {' '.join(table.interpreters.required)})",
    )
    parser.add_argument("rest", nargs="*", metavar="-- PYTEST", help="arguments for pytest")
    options = parser.parse_args(arguments)
    try:
        chosen = choose_interpreters(
            options.python or table.interpreters.required, table.interpreters.all
        )
        failed = [each.series for each in chosen if not _passes(each, options.rest)]
    except ToolchainError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for each in chosen:
        word = "FAILED" if each.series in failed else "passed"
        print(f"the binding's unit tests on Python {each.version}: {word}")
    return 1 if failed else 0


def environment(interpreter: Interpreter, folder: Path) -> Path:
    """Make an environment with what the tests need, anew; return its program.

    Raises:
        ProcessError: uv could not.
    """
    uv = (sys.executable, "-m", "uv")
    run([*uv, "venv", "--quiet", "--clear", "--python", interpreter.path, folder])
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    wanted = nox.project.dependency_groups(project, _GROUP)
    run([*uv, "pip", "install", "--quiet", "--python", python, *wanted])
    return python


def _passes(interpreter: Interpreter, rest: Sequence[str]) -> bool:
    python = environment(interpreter, BUILD / "binding" / interpreter.series)
    print(f"the binding's unit tests on Python {interpreter.version}", flush=True)
    results = BUILD / f"binding-{interpreter.series}.xml"
    command: list[str | Path] = [python, "-m", "pytest", _TESTS, "--quiet"]
    command += ["--numprocesses", "auto", "--dist", "worksteal", f"--junitxml={results}", *rest]
    try:
        run(command, cwd=ROOT, on_line=print)
    except ProcessError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
