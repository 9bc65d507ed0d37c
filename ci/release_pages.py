"""The pages of a release: what was proven of it, and what is new in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from ci.errors import ReleaseError
from ci.evidence import LEVELS
from ci.proof import cells_of, matrix_cells
from ci.release_set import ReleaseSet
from ci.table import Table
from ci.vendor import Pin

_PROOF = """\
# What was proven of {version}

Commit `{commit}`, llama.cpp {llama_cpp} (`{llama_cpp_commit}`). A row per wheel; what the levels mean is in
docs/proof.md. Each cell follows from the build record and the smoke report beside the wheel, which are about
its very bytes.

{table}

How far each wheel came on each Python (`t`: free-threaded; C: a C program with the wheel's libraries where no
Python runs), and under which emulator where it was not at home:

{pythons}
"""
_LEFT_OUT = """\

Not in this folder, so not a complete release:

{rows}
"""


def proof_page(found: ReleaseSet, table: Table, pin: Pin, left_out: Mapping[str, str]) -> str:
    """Return how far each wheel of a set has come, and which targets it lacks and why.

    Args:
        found: the set.
        table: the table, whose Pythons are the columns.
        pin: of llama.cpp.
        left_out: reasons by the name of a target.
    """
    rows = [["wheel", *LEVELS], ["---"] * (len(LEVELS) + 1)]
    for member in found.members:
        cells = cells_of(member.target, member.proofs, pin)
        rows.append(
            [f"`{member.target.name}`", *("<br>".join(map(_escaped, cell)) for cell in cells)]
        )
    page = _PROOF.format(
        version=found.version,
        commit=found.commit,
        llama_cpp=pin.version,
        llama_cpp_commit=pin.commit,
        table=_table(rows),
        pythons=_table(_by_python(found, table)),
    )
    if left_out:
        names = "\n".join(f"- `{name}`: {reason}" for name, reason in left_out.items())
        page += _LEFT_OUT.format(rows=names)
    return page


def _by_python(found: ReleaseSet, table: Table) -> list[list[str]]:
    names = [*table.interpreters.all, "C"]
    rows = [["wheel", "wheel itself", *names], ["---"] * (len(names) + 2)]
    rows += [
        [f"`{member.target.name}`", *matrix_cells(table, member.proofs)] for member in found.members
    ]
    return rows


def _table(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _escaped(text: str) -> str:
    return escape(text, quote=False).replace("|", "\\|")


def notes_page(changelog: str, version: str) -> str:
    """Return the changelog's section of a version, without its heading.

    Raises:
        ReleaseError: it has none, or one that says nothing.
    """
    sections = re.split(r"(?m)^## ", changelog)
    for section in sections[1:]:
        heading, _, body = section.partition("\n")
        if heading.split(" ")[0] == version and body.strip():
            return f"{body.strip()}\n"
    raise ReleaseError(
        f"CHANGELOG.md says nothing of {version}",
        cure=f"write a section `## {version}` that says what has changed for a user",
    )
