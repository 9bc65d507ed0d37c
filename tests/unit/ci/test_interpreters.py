"""Interpreters: which ones are chosen by name, which must be there, and that all places agree."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from ci import paths
from ci.errors import ToolMissingError, UsageError
from ci.interpreters import (
    Interpreter,
    choose_interpreters,
    find_interpreters,
    require_interpreters,
)
from ci.table import load_table

HERE = f"3.{sys.version_info[1]}"


def test_a_workflow_names_several_in_one() -> None:
    chosen = choose_interpreters([f"{HERE} {HERE}", HERE], (HERE,))
    assert [interpreter.series for interpreter in chosen] == [HERE] * 3


def test_one_that_is_missing_among_several_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        choose_interpreters([f"{HERE} 3.99t"], (HERE, "3.99t"))
    assert caught.value.what == "there is no Python 3.99t on this machine"


def test_a_path_with_spaces_is_one_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("a folder with spaces") / f"python{HERE}"
    place.symlink_to(sys.executable)
    (chosen,) = choose_interpreters([str(place)], (HERE,))
    assert (chosen.path, chosen.series) == (place, HERE)


def interpreters(*series: str) -> list[Interpreter]:
    return [
        Interpreter(
            path=Path(f"python{each}"),
            version=f"{each.rstrip('t')}.1",
            series=each,
            free_threaded=each.endswith("t"),
        )
        for each in series
    ]


def test_what_is_missing_and_not_required_is_only_told() -> None:
    found = interpreters("3.9", "3.15")
    supported = ("3.9", "3.14", "3.15", "3.13t")
    assert require_interpreters(found, ["3.9"], supported) == ["3.14", "3.13t"]
    assert require_interpreters(found, [], ("3.9",)) == []


def test_a_required_one_that_is_missing_is_an_error_with_its_cure() -> None:
    with pytest.raises(ToolMissingError) as caught:
        require_interpreters(
            interpreters("3.9"), ["3.9", "3.13t", "3.15"], ("3.9", "3.14", "3.15", "3.13t")
        )
    assert caught.value.what == (
        "not on this machine, and required: Python 3.15, 3.13t (and 3.14, which need not be)"
    )
    assert caught.value.cure == (
        "bring it with pyenv, your system, or: uv python install 3.15 3.13t"
    )


def test_what_no_wheel_is_proven_on_cannot_be_required() -> None:
    with pytest.raises(UsageError) as caught:
        require_interpreters(interpreters("3.9"), ["3.8"], ("3.9",))
    assert caught.value.what == "3.8 is not a Python that wheels are proven on"


def test_the_package_s_metadata_and_the_table_name_the_same_pythons() -> None:
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = load_table().interpreters
    prefix = "Programming Language :: Python :: 3."
    classified = [
        text.rpartition(" ")[2] for text in project["classifiers"] if text.startswith(prefix)
    ]
    assert classified == named.cpython
    assert project["requires-python"] == f">={named.cpython[0]}"
    threading = "Programming Language :: Python :: Free Threading :: 3 - Stable"
    assert (threading in project["classifiers"]) is bool(named.free_threaded)
    # oldest, newest and one without a GIL, as the brief proof of every wheel is
    assert {named.cpython[0], named.cpython[-1]} <= set(named.required)
    assert set(named.required) & set(named.free_threaded)


@pytest.mark.skipif(sys.platform == "win32", reason="a script for a program")
def test_a_program_whose_name_is_of_no_use_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python3.98"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/run\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (found,) = find_interpreters((HERE,))
    assert (found.series, (tmp_path / "run").exists()) == (HERE, False)
    assert [each.series for each in find_interpreters((HERE, "3.98"))] == [HERE]
    assert (tmp_path / "run").exists()
