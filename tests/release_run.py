"""A dry run of a release whose wheels are stand-ins: what a test kills, and runs again.

``python -m tests.release_run FOLDER``: all but compiling is the toolchain's own. Each step is a line on
standard error. In the environment: FAIL names a target whose build fails, TAKE a folder to take wheels
from, HALT a part of a line after which it waits for a signal.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

from ci.errors import ToolchainError
from ci.interpreters import probe
from ci.process import ProcessError
from ci.progress import Progress
from ci.release import Commit, Makers, Plan, dry_run
from ci.table import Target, load_table
from ci.vendor import load_pin
from tests.releases import VERSION, write_bare_wheel, write_smoke
from tests.reports import CHECKOUT, write_build

TARGETS = ("cpu-manylinux_aarch64", "cpu-musllinux_aarch64", "cpu-macosx_x86_64")
# 2026-11-21T12:00:00Z
EPOCH = 1795262400


class Halting(Progress):
    """Says its steps, and waits for a signal after the one that HALT names."""

    def step(self, text: str) -> None:
        super().step(text)
        if "HALT" in os.environ and os.environ["HALT"] in text:
            signal.pause()


def main(folder: Path) -> int:
    """Run it; return the exit code of what stopped it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Halting()
    table = load_table()

    def wheel(target: Target, out: Path) -> None:
        if os.environ.get("FAIL") == target.name:
            raise ProcessError(["build", target.name], 7, ["error: no compiler likes this"])
        path = write_bare_wheel(out, target)
        progress.step(f"a wheel without a record: {target.name}")
        write_build(path, target)
        progress.step(f"a wheel without a report: {target.name}")
        write_smoke(path, target)

    def sdist(out: Path) -> None:
        progress.step("making the sdist")
        content = hashlib.sha256(VERSION.encode()).digest() * 100_000
        (out / f"llama_cpp_python-{VERSION}.tar.gz").write_bytes(content)

    interpreter = probe(Path(sys.executable))
    assert interpreter is not None
    targets = tuple(target for target in table.targets if target.name in TARGETS)
    others = {target.name: "not asked for" for target in table.targets if target not in targets}
    try:
        dry_run(
            Plan(targets=targets, left_out=others),
            folder,
            commit=Commit(name=CHECKOUT, epoch=EPOCH),
            interpreters=[interpreter],
            taken=[Path(os.environ["TAKE"])] if "TAKE" in os.environ else [],
            table=table,
            pin=load_pin(),
            progress=progress,
            makers=Makers(wheel=wheel, sdist=sdist),
        )
    except ToolchainError as error:
        progress.fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    progress.step("released")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
