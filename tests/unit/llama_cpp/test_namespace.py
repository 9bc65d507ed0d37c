"""Modules that resolve their names when asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from llama_cpp._namespace import Namespace

from .conftest import Outcome


@pytest.fixture
def module() -> ModuleType:
    made = ModuleType("made")
    exec(
        "asked = []\n"
        "def __getattr__(name):\n"
        "    if name not in ('one', 'two'):\n"
        "        raise AttributeError(name)\n"
        "    asked.append(name)\n"
        "    globals()[name] = name.upper()\n"
        "    return globals()[name]\n"
        "def __dir__():\n"
        "    return sorted({*globals(), 'one', 'two'})\n",
        made.__dict__,
    )
    made.__class__ = Namespace
    return made


def test_dir_resolves_nothing(module: ModuleType) -> None:
    assert {"one", "two"} <= set(dir(module))
    assert module.asked == []


def test_one_name_is_resolved_once(module: ModuleType) -> None:
    assert (module.one, module.one) == ("ONE", "ONE")
    assert module.asked == ["one"]


def test_vars_resolves_all(module: ModuleType) -> None:
    names = vars(module)
    assert (names["one"], names["two"], module.asked) == ("ONE", "TWO", ["one", "two"])
    assert vars(module) is names


def test_annotations_are_no_endless_recursion(module: ModuleType) -> None:
    vars(module)["__annotations__"] = {"one": str}
    assert module.__annotations__ == {"one": str}
    assert vars(module)["two"] == "TWO"


def test_a_name_that_is_set_stays(module: ModuleType) -> None:
    module.one = 1  # type: ignore[attr-defined]
    assert (vars(module)["one"], module.asked) == (1, ["two"])


def test_star_import(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "made", module)
    taken: dict[str, object] = {}
    exec("from made import *", taken)
    assert (taken["one"], taken["two"]) == ("ONE", "TWO")


def test_listing_the_package_loads_nothing_native(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import llama_cpp\n"
        "names = dir(llama_cpp)\n"
        "from llama_cpp import _library\n"
        "print('llama_decode' in names, 'Llama' in names, _library._functions)"
    )
    assert (outcome.code, outcome.output) == (0, "True True None\n")


@pytest.mark.build
def test_the_package_shows_what_its_modules_have(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import llama_cpp\n"
        "from unittest import mock\n"
        "names = vars(llama_cpp)\n"
        "print('llama_decode' in names, 'Llama' in names, 'ChatCompletion' in names)\n"
        "print(names['llama_decode'] is llama_cpp.llama_cpp.llama_decode)\n"
        "with mock.patch('llama_cpp.llama_decode', 3):\n"
        "    print(llama_cpp.llama_decode)\n"
        "print(llama_cpp.llama_decode is names['llama_decode'])\n"
    )
    assert outcome.error == ""
    assert outcome.output == "True True True\nTrue\n3\nTrue\n"


def test_names_that_a_module_offers(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import sys\n"
        "import llama_cpp.llama as module\n"
        "print('llama_cpp.llama_types' in sys.modules, 'ChatCompletion' in dir(module))\n"
        "from llama_cpp.llama import ChatCompletion, LlamaGrammar, StoppingCriteriaList\n"
        "import llama_cpp\n"
        "print(ChatCompletion is llama_cpp.ChatCompletion, vars(module)['LlamaGrammar'] is LlamaGrammar)\n"
        "module.llama_decode"
    )
    assert outcome.output == "False True\nTrue True\n"
    assert outcome.last_line == (
        "AttributeError: module 'llama_cpp.llama' has no attribute 'llama_decode'"
    )
