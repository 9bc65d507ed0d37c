"""The documented steps of each tool, ``llama_cpp/_commands.json``, done as a person does them."""

from __future__ import annotations

import json
import shlex
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from index.commands import load_commands

if TYPE_CHECKING:
    from index.commands import Values
    from tests.installers.clients import Project

Toml: TypeAlias = "str | bool | int | list[Toml] | dict[str, Toml]"

# tables in a list are told apart by their name, and ours begin like this
_OURS: Final = "llama-cpp-python-"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: a command, or text to put into the file ``path``."""

    kind: Literal["command", "file"]
    text: str
    path: str | None


def steps_of(tool: str, values: Values) -> tuple[Step, ...]:
    """Return the documented steps of a tool with all names filled in."""
    return tuple(
        Step(kind=step.kind, text=step.filled(values), path=step.path)
        for step in load_commands().tool(tool).steps
    )


def follow(steps: tuple[Step, ...], at: Project) -> None:
    """Do every step; a command that fails ends the test with all that it printed."""
    for step in steps:
        if step.kind == "command":
            done = at.run(*shlex.split(step.text))
            assert done.status == 0, done.text
        else:
            assert step.path is not None
            file = at.folder / step.path
            file.write_text(put(file.read_text("utf-8"), step.text), encoding="utf-8")


def put(text: str, block: str) -> str:
    """Put a block into a TOML file: its values replace those that are there.

    In lists of tables, those of ours that are there make room for the block's.
    """
    return dump(_merged(tomllib.loads(text), tomllib.loads(block)))


def _merged(old: dict[str, Toml], new: dict[str, Toml]) -> dict[str, Toml]:
    merged = dict(old)
    for key, value in new.items():
        there = merged.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            merged[key] = _merged(there, value)
        elif _is_tables(value) and isinstance(there, list):
            merged[key] = [each for each in there if not _is_ours(each)] + cast("list[Toml]", value)
        else:
            merged[key] = value
    return merged


def _is_ours(table: Toml) -> bool:
    return isinstance(table, dict) and str(table.get("name", "")).startswith(_OURS)


def _is_tables(value: Toml) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, dict) for x in value)


def dump(table: dict[str, Toml], path: tuple[str, ...] = ()) -> str:
    """Write a TOML document of strings, numbers, lists and tables."""
    lines = [
        f"{_key(key)} = {_inline(value)}\n"
        for key, value in table.items()
        if not isinstance(value, dict) and not _is_tables(value)
    ]
    if lines and path:
        lines.insert(0, f"[{'.'.join(map(_key, path))}]\n")
    for key, value in table.items():
        inner = (*path, key)
        if isinstance(value, dict):
            lines.append(dump(value, inner))
        elif _is_tables(value):
            for each in cast("list[dict[str, Toml]]", value):
                lines.append(f"[[{'.'.join(map(_key, inner))}]]\n")
                lines += [f"{_key(name)} = {_inline(item)}\n" for name, item in each.items()]
    return "".join(lines)


def _key(key: str) -> str:
    return json.dumps(key)


def _inline(value: Toml) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(k)} = {_inline(v)}' for k, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value, ensure_ascii=False)
