"""Staging: the index of a set of wheels as it would be published, on this machine alone."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ci import paths
from ci.attached import attached
from ci.errors import ReleaseError
from ci.interpreters import Interpreter
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.relabel import AUTO, make, plan
from ci.release_set import ReleaseSet, require_whole
from ci.smoke_report import report_path
from ci.table import Table

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")
_TOLD = "dependencies.jsonl"


def stage(
    found: ReleaseSet,
    site: Path,
    *,
    catalogue: Path,
    interpreters: Sequence[Interpreter],
    table: Table,
    progress: Progress,
    epoch: int,
) -> Path:
    """Make the site of a whole set with a catalogue of its own, and return it.

    The relabelled wheels of ``auto`` go into ``auto/`` in the set's folder; those that lie there, proven
    and of the same bytes, are kept.

    Args:
        found: the set.
        site: what is replaced.
        catalogue: its file, begun anew; what an index has told of the dependencies is kept beside it.
        interpreters: for the wheels of ``auto`` that leave something out.
        table: the table.
        progress: where steps are told.
        epoch: seconds since 1970 that are the upload time of every wheel: the commit's.

    Raises:
        ReleaseError: the set is not whole, or the index refuses a wheel; its words are in the message.
    """
    require_whole(found)
    auto = _relabelled(found, interpreters, table, progress)
    catalogue.parent.mkdir(parents=True, exist_ok=True)
    told = catalogue.with_name(_TOLD)
    earlier = paths.BUILD / _TOLD
    if earlier.is_file() and not told.exists():
        # some hundred requests that an earlier try has made
        shutil.copyfile(earlier, told.with_name(f".{_TOLD}"))
        told.with_name(f".{_TOLD}").replace(told)
    command = attached("index", "update", "--anew")
    command += ["--catalogue", str(catalogue), "--out", str(site)]
    for folder in (found.folder, *([auto] if auto is not None else [])):
        command += ["--wheels", str(folder.resolve())]
    progress.step(f"staging the index in {site}")
    try:
        run(command, cwd=paths.ROOT, env={"SOURCE_DATE_EPOCH": str(epoch)})
    except ProcessError as error:
        last = "\n".join(f"  | {line}" for line in error.tail[-5:])
        raise ReleaseError(
            f"the index was not staged:\n{last}", cure="read the last lines above"
        ) from error
    return site


@contextmanager
def serving(site: Path) -> Iterator[str]:
    """Serve a site on loopback by the index's own server while inside; yield its address.

    The server ends with this process, however that ends.

    Raises:
        ReleaseError: it does not start.
    """
    command = attached("index", "serve", "--root", str(site.resolve()), "--port", "0")
    # not by ci.process.run, which waits for the end
    with subprocess.Popen(
        command,
        cwd=paths.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            first = server.stdout.readline()
            address = _ADDRESS.search(first)
            if address is None:
                raise ReleaseError(
                    f"the index's server said {first.strip()!r} and no address",
                    cure=f"try it by hand: python -m index serve --root {site}",
                )
            yield address[0]
        finally:
            server.terminate()


def _relabelled(
    found: ReleaseSet, interpreters: Sequence[Interpreter], table: Table, progress: Progress
) -> Path | None:
    """Make the wheels of ``auto``; return their folder, None where no wheel has a place there."""
    folder = found.folder / AUTO
    wheels = [found.folder / member.file.name for member in found.members]
    copies, _ = plan(wheels, table)
    planned = {copy.name for copy in copies}
    planned |= {report_path(folder / name).name for name in planned}
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name not in planned:
                # of an earlier set, or left by a run that was killed
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not copies:
        return None
    progress.step(f"relabelling {len(copies)} wheels for {AUTO}")
    make(copies, folder, table, interpreters, progress, now=datetime.now(UTC))
    return folder if any(folder.glob("*.whl")) else None
