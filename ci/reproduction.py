"""The report of a wheel that was built a second time and came out as the same bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci import paths
from ci.errors import WheelError
from ci.host import cpu_name
from ci.problems import told
from ci.record import STRICT, Date, File, record_path
from ci.wheel import Wheel

SUFFIX = ".reproduced.json"
FOLDER = paths.BUILD / "reproduced"
"""Where second builds are kept, with a report of those that are the same bytes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Reproduction:
    """Two builds of one commit in two folders, without the compiler cache, of the same bytes.

    Attributes:
        wheel: either.
        date: when the second was finished, UTC.
        cpu: of the machine that built the second.
    """

    schema: Literal[1] = 1
    wheel: File
    date: Date
    cpu: str


_PARSER = TypeAdapter(Reproduction)


def write_reproduction(first: Wheel, *, now: datetime, folder: Path = FOLDER) -> Path:
    """Write the report into ``folder``, with the wheel and its build record; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    report = Reproduction(
        wheel=File(name=first.path.name, sha256=first.sha256, size=first.size),
        date=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        cpu=cpu_name(),
    )
    place = folder / f"{first.path.name}{SUFFIX}"
    record, kept = record_path(first.path), record_path(folder / first.path.name)
    if record.resolve() != kept.resolve():
        # of another wheel of the same name
        for stale in (place, kept):
            stale.unlink(missing_ok=True)
        shutil.copy2(first.path, folder)
        if record.is_file():
            shutil.copy2(record, folder)
    partial = place.with_name(f".{place.name}.part")
    partial.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return partial.replace(place)


def read_reproduction(path: Path) -> Reproduction:
    """Read a report.

    Raises:
        WheelError: it is not one.
    """
    try:
        return _PARSER.validate_json(path.read_bytes())
    except ValidationError as error:
        raise WheelError(
            f"{path.name} is no report of a second build:\n{told(error, whole='report')}",
            cure="build it a second time: nox -s reproduce",
        ) from error
