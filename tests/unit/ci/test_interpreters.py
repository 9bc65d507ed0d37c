"""Interpreters: which ones are chosen by name."""

from __future__ import annotations

import sys

import pytest

from ci.errors import UsageError
from ci.interpreters import choose_interpreters

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
