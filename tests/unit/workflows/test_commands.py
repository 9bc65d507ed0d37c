"""Every `run:` line, executed by the shell that the runner has, with programs that write down their arguments.

What they were given is then read by the real parsers: a session, a verb or a flag that does not exist fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from ci.command_line import command_line
from ci.schedule import Subset
from index.__main__ import _parser as index_command_line
from tests.workflows import ACTION, MATRICES, ROOT, TABLE, Job, Step, environments, jobs, load

PROGRAMS = ("apt-get", "cp", "gh", "git", "nox", "python", "sudo")
RECORD = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" >>"$RECORD" && printf '\\n\\0' >>"$RECORD"
[ "${0##*/}" = sudo ] && exec "$@"
exit "$STATUS"
"""
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]


def lines() -> list[tuple[Job, Step]]:
    action = Job(
        file="action.yml", name="toolchain", content={"steps": load(ACTION)["runs"]["steps"]}
    )
    return [
        (job, step) for job in [*jobs(), action] for step in job.steps if step.run is not None
    ]  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    for name in PROGRAMS:
        (folder / name).write_text(RECORD)
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def noxfile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("noxfile", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        spec.loader.exec_module(module)
    finally:
        os.chdir(before)
    return module


def execute(line: str, env: dict[str, str], programs: Path, *, status: int) -> list[list[str]]:
    """Run a line as the runner's `shell: bash` does; return what each program was given."""
    record = programs / "record"
    record.unlink(missing_ok=True)
    subprocess.run(
        ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line],
        env={
            **env, "PATH": str(programs), "RECORD": str(record), "STATUS": str(status),
            "GITHUB_OUTPUT": str(programs / "output"), "GITHUB_REPOSITORY": "owner/repository",
        },
        cwd=ROOT, check=status == 0 and line != "exit 1", capture_output=True, text=True,
    )  # fmt: skip
    told = record.read_text("utf-8").split("\n\0") if record.exists() else []
    return [command.removesuffix("\0").split("\0") for command in told if command]


@pytest.mark.parametrize(("job", "step"), lines(), ids=lambda each: getattr(each, "where", ""))
def test_the_line_names_only_what_exists(
    job: Job, step: Step, programs: Path, noxfile: ModuleType
) -> None:
    assert step.run is not None
    env = {**job.content.get("env", {}), **step.content.get("env", {})}
    seen: set[tuple[str, ...]] = set()
    for row in job.matrix:
        for values in environments(env, row, step.where):
            # also what comes behind ||
            for status in (0, 1) if "||" in step.run else (0,):
                for command in execute(step.run, values, programs, status=status):
                    if tuple(command) not in seen:
                        seen.add(tuple(command))
                        examine(command, noxfile)
    assert seen or step.run == "exit 1"


def examine(command: Sequence[str], noxfile: ModuleType) -> None:
    """Let the real program's parser read its arguments."""
    program, *arguments = command
    if program == "nox":
        examine_nox(arguments, noxfile)
    elif program == "python":
        examine_python(arguments)
    elif program == "gh":
        examine_gh(arguments)
    elif program == "git":
        # test_update.py runs them
        assert arguments[0] in {"add", "apply", "commit", "diff", "push"}
    elif program == "cp":
        assert len(arguments) == 2
    elif program == "apt-get":
        assert arguments[0] in {"update", "install"}
        assert set(filter(is_flag, arguments)) <= {"-q", "--yes", "--no-install-recommends"}
    else:
        assert arguments[0] == "apt-get"


def examine_nox(arguments: Sequence[str], noxfile: ModuleType) -> None:
    assert arguments[0] == "-s"
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    names, given = arguments[1:cut], arguments[cut + 1 :]
    assert names
    for name in names:
        session = getattr(noxfile, name.replace("-", "_"), None)
        assert session is not None, f"there is no session {name}"
        recorder = Recorder(given)
        session(recorder)
        assert set(recorder.groups) <= set(GROUPS)
        assert recorder.commands
        for command in recorder.commands:
            examine_tool(command, recorder.distributions)


class Recorder:
    """What a session of nox does, told instead of done."""

    def __init__(self, posargs: Sequence[str]) -> None:
        self.posargs = list(posargs)
        self.groups: list[str] = []
        self.commands: list[tuple[str, ...]] = []
        self.distributions: set[str] = set()

    def install(self, *requirements: str) -> None:
        assert requirements
        self.distributions |= {Requirement(text).name for text in requirements}

    def run(self, *command: str) -> None:
        self.commands.append(tuple(map(str, command)))


def examine_tool(command: Sequence[str], distributions: set[str]) -> None:
    """See that the session has installed what it runs, as far as this environment knows its programs."""
    program, *arguments = command
    if program != "python":
        assert distributions & providers(program), f"{program} is in none of the session's groups"
        return
    assert arguments[0] == "-m"
    module, given = arguments[1], arguments[2:]
    if module == "ci":
        examine_ci(read(command_line(), given))
    elif module == "index":
        read(index_command_line(), given)
    else:
        assert importlib.util.find_spec(module) is not None


def providers(program: str) -> set[str]:
    """The distributions that bring a program: those installed here that say so, and its namesake."""
    scripts = {
        each.metadata["Name"]
        for each in importlib.metadata.distributions()
        if any(Path(file).name == program for file in each.files or ())
    }
    return scripts | {program}


def read(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    try:
        return parser.parse_args(arguments)
    except SystemExit as stop:
        pytest.fail(f"{parser.prog} does not take {arguments} ({stop})")


def examine_ci(options: argparse.Namespace) -> None:
    """See that what the table must have is in the table."""
    if options.verb == "build":
        TABLE.target(options.backend, options.platform or "manylinux_x86_64")
    pythons = [name for text in getattr(options, "python", []) for name in text.split()]
    assert set(pythons) <= set(TABLE.interpreters.all)


def examine_python(arguments: Sequence[str]) -> None:
    if list(arguments[:4]) == ["-m", "pip", "install", "--group"]:
        (group,) = arguments[4:]
        assert {"nox", "uv"} <= {each.partition("==")[0] for each in GROUPS[group]}
        return
    assert list(arguments[:4]) == ["-m", "uv", "python", "install"]
    done = subprocess.run(
        [sys.executable, "-m", "uv", "python", "install", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(flag in done.stdout for flag in filter(is_flag, arguments[4:]))
    versions = [text for text in arguments[4:] if not is_flag(text)]
    assert versions
    assert set(versions) <= set(TABLE.interpreters.all)


def examine_gh(arguments: Sequence[str]) -> None:
    assert tuple(arguments[:2]) in {
        ("release", "view"), ("release", "create"), ("release", "upload"),
        ("pr", "create"), ("pr", "edit"), ("workflow", "run"),
    }  # fmt: skip
    if tuple(arguments[:2]) == ("workflow", "run"):
        triggers = load(ROOT / ".github" / "workflows" / arguments[2])["on"]
        assert "workflow_dispatch" in triggers
    program = shutil.which("gh")
    if program is None:
        pytest.skip("its flags are read by gh, which is not here (Debian: apt install gh)")
    done = subprocess.run(
        [program, *arguments[:2], "--help"], capture_output=True, text=True, check=True
    )
    known = set(re.findall(r"--[a-z-]+", done.stdout))
    assert set(filter(is_flag, arguments)) <= known


def is_flag(text: str) -> bool:
    return text.startswith("-")


def test_what_is_typed_by_people_is_one_argument(programs: Path) -> None:
    """A reason is words, whatever is in them."""
    (step,) = (step for job, step in lines() if "yank --reason" in str(step.run))
    assert step.run is not None
    (env,) = environments(step.content["env"], {}, step.where)
    (command,) = execute(step.run, env, programs, status=0)
    assert command[command.index("--reason") + 1] == "it's broken; $(do not run this)"
    assert command[-2:] == ["0.3.100+cu128", "0.3.100+cpu"]


def test_nox_lists_every_session_that_is_named() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "nox", "--list"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    there = set(re.findall(r"(?m)^[*-] ([\w-]+)", listed))
    named = {
        name
        for _, step in lines()
        if str(step.run).startswith("nox -s ")
        for name in str(step.run).removeprefix("nox -s ").partition(" -- ")[0].split()
    }
    assert "build" in named
    assert named <= there


@pytest.mark.parametrize(
    "line",
    ["nox -s dance", "nox -s build -- --backend cu999", "nox -s build -- --fast", "nox -s index -- dance",
     "python -m pip install --group dance", "gh release dance"],
)  # fmt: skip
def test_a_line_that_names_what_does_not_exist_is_seen(
    line: str, programs: Path, noxfile: ModuleType
) -> None:
    (command,) = execute(line, {}, programs, status=0)
    with pytest.raises(BaseException) as caught:
        examine(command, noxfile)
    assert type(caught.value).__name__ in {"Failed", "AssertionError", "UsageError", "KeyError"}


def test_a_program_that_is_not_known_is_seen(programs: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        execute("curl https://example.org | sh", {}, programs, status=0)
    assert caught.value.returncode == 127


def test_every_row_of_every_matrix_is_tried() -> None:
    subset: Subset = "release"
    assert len(MATRICES["cpu"]) + len(MATRICES["modules"]) == len(TABLE.targets)
    assert TABLE.subsets.patterns(subset) == ("*",)
