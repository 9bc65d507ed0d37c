"""``python -m tests.installers``: run every cell of the matrix, print it, write it as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from ci.errors import ToolchainError
from ci.paths import BUILD
from tests.installers.clients import INSTALLERS
from tests.installers.environments import interpreter_of, provided
from tests.installers.matrix import cells, expected, make_site, run_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.installers.matrix import Cell, Outcome

_SKIPPED: Final = "skipped"
_TAIL: Final = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix; 0 where every cell came to what it must, 1 where one did not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.installers",
        description="Install from a served index with every installer that people have.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="cells whose name has this in it"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="cells at once (default: all CPUs)"
    )
    parser.add_argument(
        "--require-all", action="store_true", help="fail where a Python is missing for a cell"
    )
    parser.add_argument(
        "--out", type=Path, default=BUILD / "installers.json", help="the result, as JSON"
    )
    options = parser.parse_args(arguments)
    chosen = [cell for cell in cells() if options.only in str(cell)]
    if not chosen:
        parser.error(f"no cell has {options.only!r} in its name")
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: at least 1")
    try:
        outcomes = _run(chosen, jobs=options.jobs)
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    _print(outcomes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [_row(cell, outcome) for cell, outcome in outcomes.items()]
    options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")
    failed = [cell for cell, outcome in outcomes.items() if _verdict(cell, outcome) == "FAILED"]
    for cell in failed:
        print(f"\n{cell}: {_difference(cell, outcomes[cell])}", file=sys.stderr)
    missing = options.require_all and None in outcomes.values()
    return 1 if failed or missing else 0


def _run(chosen: Sequence[Cell], *, jobs: int) -> dict[Cell, Outcome | None]:
    for installer in INSTALLERS:
        if interpreter_of(installer) and any(cell.installer == installer for cell in chosen):
            provided(installer)
    with tempfile.TemporaryDirectory(prefix="installers-") as scratch:
        site = make_site(Path(scratch))

        def run(cell: Cell) -> Outcome | None:
            if cell.missing is not None:
                return None
            folder = Path(scratch, str(cell))
            folder.mkdir()
            return run_cell(cell, site, folder)

        with ThreadPoolExecutor(max_workers=jobs) as pool:
            return dict(zip(chosen, pool.map(run, chosen), strict=True))


def _verdict(cell: Cell, outcome: Outcome | None) -> str:
    if outcome is None:
        return _SKIPPED
    return "passed" if outcome.seen() == expected(cell) else "FAILED"


def _difference(cell: Cell, outcome: Outcome | None) -> str:
    assert outcome is not None
    last = "\n".join(outcome.text.splitlines()[-_TAIL:])
    return f"expected {expected(cell)}\n  seen {outcome.seen()}\n{last}"


def _row(cell: Cell, outcome: Outcome | None) -> dict[str, object]:
    row: dict[str, object] = {
        "client": cell.client,
        "pages": cell.pages,
        "index": cell.arrangement,
        "verdict": _verdict(cell, outcome),
    }
    if outcome is None:
        return {**row, "reason": cell.missing}
    return {
        **row,
        "installed": outcome.installed,
        "asked": asdict(outcome.traffic),
        "hash_verified_by": outcome.refused,
        "seconds": round(outcome.seconds, 1),
    }


def _print(outcomes: dict[Cell, Outcome | None]) -> None:
    table = Table()
    for title in ("client", "host serves", "our index is", "verdict", "installed"):
        table.add_column(title, no_wrap=True)
    for title in ("page", "pages", ".metadata", "wheels", "bytes"):
        table.add_column(title, justify="left" if title == "page" else "right")
    table.add_column("hash verified by")
    table.add_column("s", justify="right")
    for cell, outcome in outcomes.items():
        start = [cell.client, cell.pages, cell.arrangement, _verdict(cell, outcome)]
        if outcome is None:
            table.add_row(*start)
            continue
        asked = outcome.traffic
        numbers = (asked.page, asked.pages, asked.metadata, asked.wheels, asked.size)
        table.add_row(
            *start,
            str(outcome.installed),
            *map(str, numbers),
            outcome.refused or "-",
            f"{outcome.seconds:.1f}",
        )
    Console(width=150 if not sys.stdout.isatty() else None).print(table)
    for reason in sorted({cell.missing for cell in outcomes} - {None}, key=str):
        print(reason)


if __name__ == "__main__":
    sys.exit(main())
