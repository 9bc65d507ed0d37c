"""``python -m tests.killed_release``: a real dry run of a release, killed and run again at every step.

It compiles, repairs, proves, stages and installs; tests/integration/test_release.py does the same with
stand-ins of the wheels, in seconds. Needs a clean checkout, and the better part of ten minutes where the
compiler cache is warm.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ci.errors import ReleaseError, ToolchainError
from ci.paths import BUILD, ROOT
from ci.process import run
from ci.progress import Progress
from ci.release import work_folder
from ci.release_folder import verify
from ci.table import load_table
from ci.vendor import load_pin

# a part of the line at which it is killed, and seconds that it goes on: within a build, between targets,
# and in each step after them
MOMENTS = (
    ("  building ", 0),
    ("  building ", 6),
    ("  repairing ", 0),
    ("  checking ", 0),
    ("  checking ", 3),
    ("  smoke test on ", 0),
    ("the set is whole", 0),
    ("relabelling ", 0),
    ("relabelling ", 4),
    ("staging the index", 1),
    ("installing from the index", 1),
    ("installing from the index", 8),
    ("assembling ", 0),
)
# what follows from what was measured, when and on which machine: docs/release.md
MEASURED = (
    "*.build.json", "*.smoke.json", "installed.json", "costs.*", "proof.md", "release.json", "SHA256SUMS",
    "index.html", "catalogue.jsonl",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 where the bytes are the same."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.killed_release", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--target", action="append", default=[], help="as of nox -s release")
    parser.add_argument("--python", default="3.13", help="that it proves on (default: 3.13)")
    options = parser.parse_args(arguments)
    progress = Progress()
    chosen = options.target or ["cpu-manylinux_x86_64", "cpu-musllinux_x86_64"]
    command = [sys.executable, "-m", "ci", "release", "--dry-run", "--python", options.python]
    for pattern in chosen:
        command += ["--target", pattern]
    folders = [BUILD / "killed" / name / "release" for name in ("disturbed", "undisturbed")]
    shutil.rmtree(BUILD / "killed", ignore_errors=True)
    try:
        with_folder = [[*command, "--folder", str(folder)] for folder in folders]
        for line, seconds in MOMENTS:
            _kill(with_folder[0], line, seconds, folders[0], progress)
        for each in with_folder:
            progress.step("running it to its end")
            run(each, cwd=ROOT, on_line=lambda line: progress.console.print(line, markup=False))
        for folder in folders:
            verify(folder, load_table(), load_pin())
        same, other = _compare(*folders)
    except ToolchainError as error:
        progress.fail(str(error))
        return error.exit_code
    progress.step(
        f"killed {len(MOMENTS)} times and run again: {len(same)} files have the same bytes"
    )
    unexpected = [name for name in other if not _is_measured(name)]
    for name in other:
        word = "DIFFERS" if name in unexpected else "differs, for it says what was measured"
        progress.step(f"  {name}: {word}")
    return 1 if unexpected else 0


def _kill(
    command: Sequence[str], moment: str, seconds: float, folder: Path, progress: Progress
) -> None:
    """Start it, kill it some seconds after a line, and see that nothing can be taken for a release.

    Raises:
        ReleaseError: it ended without saying it, or left a release folder.
    """
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if moment in line:
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
                progress.step(f"killed {seconds} s after {line.strip()!r}")
                break
        # what it has started ends with it, and then the pipe
        process.stdout.read()
    if process.returncode != -signal.SIGKILL:
        raise ReleaseError(
            f"it ended with exit code {process.returncode} and did not say {moment.strip()!r}:\n"
            + "".join(said[-5:]),
            cure="mend that, or the list of moments",
        )
    if folder.exists():
        raise ReleaseError(f"killed at {moment!r} it has left {folder}", cure="mend ci/release.py")


def _compare(disturbed: Path, undisturbed: Path) -> tuple[list[str], list[str]]:
    """Return the names of the files that are the same in folder and index, and of the others."""
    one, two = (
        {**_files(each), **_files(work_folder(each) / "site")} for each in (disturbed, undisturbed)
    )
    same = [name for name in one if one[name] == two.get(name)]
    return same, sorted({*one, *two} - set(same))


def _files(folder: Path) -> dict[str, str]:
    return {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }  # fmt: skip


def _is_measured(name: str) -> bool:
    inner = name.partition("/")[2]
    # pages that installers read lie deeper than the front page, and follow from the commit alone
    return "/whl/" not in name and any(
        fnmatch.fnmatchcase(inner.rpartition("/")[2], pattern) for pattern in MEASURED
    )


if __name__ == "__main__":
    sys.exit(main())
