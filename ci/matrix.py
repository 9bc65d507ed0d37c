"""The matrix: every target as a job of the workflows, from the table alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from ci.errors import UsageError
from ci.table import Table, Target

Format: TypeAlias = Literal["github", "text"]


def select_targets(table: Table, patterns: Sequence[str]) -> list[Target]:
    """Return the targets whose names match one of the patterns; all where there are none.

    Raises:
        UsageError: a pattern matches nothing.
    """
    for pattern in patterns:
        if not any(fnmatchcase(target.name, pattern) for target in table.targets):
            raise UsageError(
                f"no target matches {pattern!r}",
                cure="run `nox -s matrix` for the list; patterns look like 'cpu-*' or '*-win_amd64'",
            )
    return [
        target
        for target in table.targets
        if not patterns or any(fnmatchcase(target.name, pattern) for pattern in patterns)
    ]


def render_matrix(targets: Sequence[Target], style: Format) -> str:
    """Return the matrix as text for a person, or as one line of JSON for a workflow."""
    if style == "text":
        width = max(len(target.name) for target in targets)
        return "\n".join(
            f"{target.name:{width}}  {target.platform.runner:16}  {target.wheel_tag}"
            for target in targets
        )
    include = [
        {
            "target": target.name,
            "backend": target.backend.name,
            "platform": target.platform.name,
            "runner": target.platform.runner,
            "cibuildwheel": target.platform.cibuildwheel,
            "smoke": target.family.smoke,
        }
        for target in targets
    ]
    return json.dumps({"include": include}, separators=(",", ":"))
