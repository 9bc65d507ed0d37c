"""Installed: what pip and uv got from a served index, on every interpreter, and whether it computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, field
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci.errors import ReleaseError, SmokeError
from ci.interpreters import Interpreter
from ci.problems import told
from ci.record import STRICT, Sha256
from ci.release_set import ReleaseSet

Installer: TypeAlias = Literal["pip", "uv"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Run:
    """One installation of a wheel from the index.

    Attributes:
        installer: ``pip`` or ``uv``.
        version: the installer's.
        tag: of the Python it was installed for.
        python: its version.
        computed: whether the known tokens came out; False where the wheel is for another machine and
            was downloaded alone.
        passed: whether all of it went well.
        detail: the checks that were made, or what failed.
    """

    installer: Installer
    version: str
    tag: str
    python: str
    computed: bool
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Wheel:
    """One wheel of the index and its installations; ``sha256`` is of the wheel that was staged."""

    wheel: str
    sha256: Sha256
    runs: list[Run]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Installed:
    """What came of a staged index: no dates and no times, so that one machine says it once."""

    schema: Literal[1] = 1
    passed: bool
    wheels: list[Wheel] = field(default_factory=list)


def read_installed(path: Path) -> Installed:
    """Read what was installed.

    Raises:
        ReleaseError: the file is not that.
    """
    try:
        return TypeAdapter(Installed).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        why = told(error) if isinstance(error, ValidationError) else f"  {error.strerror}"
        raise ReleaseError(
            f"{path} does not say what was installed:\n{why}",
            cure="delete it, and run `nox -s release -- prove FOLDER`",
        ) from error


def write_installed(path: Path, installed: Installed) -> None:
    """Write what was installed, whole or not at all."""
    staged = path.with_name(f".{path.name}.part")
    staged.write_text(json.dumps(asdict(installed), indent=2) + "\n", encoding="utf-8")
    staged.replace(path)


def is_about(installed: Installed, found: ReleaseSet, interpreters: Sequence[Interpreter]) -> bool:
    """Say whether it is about this very set, on these very interpreters, and all of it went well."""
    tags = {interpreter.tag for interpreter in interpreters}
    there = {(each.wheel, each.sha256) for each in installed.wheels}
    return (
        installed.passed
        and there == {(member.file.name, member.file.sha256) for member in found.members}
        and all(
            {run.tag for run in each.runs}
            == (tags if any(run.computed for run in each.runs) else {interpreters[0].tag})
            for each in installed.wheels
        )
    )


def require_installed(installed: Installed) -> None:
    """Raise what failed, if anything did.

    Raises:
        SmokeError: a wheel was not installed from the index, or did not give the known tokens.
    """
    if installed.passed:
        return
    lines = [
        f"  {each.wheel}: {run.installer} {run.version} on Python {run.python}: {run.detail}"
        for each in installed.wheels
        for run in each.runs
        if not run.passed
    ]
    raise SmokeError(
        "what comes from the index is not what was staged\n" + "\n".join(lines),
        cure="serve it and try one by hand: python -m index serve --root SITE",
    )
