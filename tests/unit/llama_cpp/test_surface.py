"""The interface that users of llama-cpp-python 0.3.36 know, name by name, parameter by parameter.

``tests/surface`` holds what that package's modules offer: names, methods, parameters with their
defaults, structures' fields, dictionaries' keys. Names are facts; nothing else of it is here.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.build

SURFACE: dict[str, dict[str, dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "surface" / "llama_cpp_python-0.3.36.json").read_text("utf-8")
)

# the class that ctypes.CFUNCTYPE derives from, which has no public name
C_FUNCTION: Any = ctypes.CFUNCTYPE(None).__mro__[1]
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

# Where ours is meant to differ: pattern of the line → reason.
DIFFERS = {
    "*.stop: default is (), not []": "nobody can change what all calls share",
    "llama_cpp.llama_grammar.*_GBNF: *": "a grammar of the same name and of our own words",
}


def problems(module: str) -> Iterator[str]:
    """Yield what ``module`` lacks, each as ``place: what``."""
    try:
        there = vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        yield f"{module}: {error}"
        return
    for name, expected in SURFACE[module].items():
        place = f"{module}.{name}"
        if name not in there:
            yield f"{place}: missing"
            continue
        yield from CHECKS[expected["k"]](place, expected, there[name])


def structure(place: str, expected: dict[str, Any], found: Any) -> Iterator[str]:
    fields = {field[0] for field in getattr(found, "_fields_", ())}
    if lost := sorted(set(expected["fields"]) - fields):
        yield f"{place}: no fields {lost}"


def typed_dict(place: str, expected: dict[str, Any], found: Any) -> Iterator[str]:
    if not (isinstance(found, type) and issubclass(found, dict)):
        yield f"{place}: no TypedDict"
    elif lost := sorted(set(expected["keys"]) - set(found.__annotations__)):
        yield f"{place}: no keys {lost}"


def class_(place: str, expected: dict[str, Any], found: Any) -> Iterator[str]:
    if not isinstance(found, type):
        yield f"{place}: no class"
        return
    for name, parameters in expected["methods"].items():
        method = vars(found).get(name)
        if method is None:
            yield f"{place}.{name}: missing"
        elif not callable(getattr(found, name)):
            yield f"{place}.{name}: not callable"
        elif parameters is not None:
            yield from signature(f"{place}.{name}", parameters, getattr(found, name))
    for name in expected["props"]:
        if not isinstance(vars(found).get(name), property):
            yield f"{place}.{name}: no property"


def function(place: str, expected: dict[str, Any], found: Any) -> Iterator[str]:
    if not callable(found):
        yield f"{place}: not callable"
    elif expected["sig"] is None:
        return
    elif isinstance(found, C_FUNCTION):
        # ctypes knows no parameter names: C's functions take their arguments by position here
        yield from native(place, {"argc": len(expected["sig"])}, found)
    else:
        yield from signature(place, expected["sig"], found)


def native(place: str, expected: dict[str, Any], found: Any) -> Iterator[str]:
    if not isinstance(found, C_FUNCTION):
        yield f"{place}: no function of C"
    elif len(found.argtypes or ()) != expected["argc"]:
        yield f"{place}: {len(found.argtypes or ())} parameters, not {expected['argc']}"


def constant(place: str, expected: dict[str, Any], found: Any) -> Iterator[str]:
    if repr(found)[:60] != expected["v"]:
        yield f"{place}: is {found!r}, not {expected['v']}"


def signature(place: str, expected: list[list[Any]], found: Any) -> Iterator[str]:
    ours = inspect.signature(found).parameters
    order = [name for name, parameter in ours.items() if parameter.kind in POSITIONAL]
    kinds = {parameter.kind for parameter in ours.values()}
    for index, (name, kind, default) in enumerate(expected):
        if kind == "VAR":
            if not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
                yield f"{place}.{name}: takes nothing beyond its parameters"
        elif name not in ours:
            yield f"{place}.{name}: missing"
        elif kind == "POS" and (index >= len(order) or order[index] != name):
            yield f"{place}.{name}: not at position {index}"
        elif default is not None and default != "<factory>":
            given = ours[name].default
            if given is inspect.Parameter.empty:
                yield f"{place}.{name}: has no default, not {default}"
            elif repr(given)[:40] != default:
                yield f"{place}.{name}: default is {given!r}, not {default}"


CHECKS = {
    "struct": structure,
    "typeddict": typed_dict,
    "class": class_,
    "func": function,
    "cfunc": native,
    "const": constant,
}


@pytest.mark.parametrize("module", sorted(SURFACE))
def test_nothing_is_missing(module: str) -> None:
    found = sorted(problems(module))
    assert [line for line in found if not any(fnmatchcase(line, each) for each in DIFFERS)] == []


def test_every_difference_is_one() -> None:
    found = [line for module in SURFACE for line in problems(module)]
    assert [each for each in DIFFERS if not any(fnmatchcase(line, each) for line in found)] == []


def method(self: object, text: str, count: int = 2, *, flag: bool = False) -> None: ...


EXPECTED_CLASS = {
    "k": "class",
    "methods": {
        "go": [["self", "POS", None], ["text", "POS", None], ["count", "POS", "2"]],
    },
    "props": ["size"],
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"go": method, "size": property(len)}, [], id="all there"),
        pytest.param({"go": method}, ["C.size: no property"], id="property missing"),
        pytest.param({"size": property(len)}, ["C.go: missing"], id="method missing"),
        pytest.param(
            {"go": lambda self, text: None, "size": property(len)},
            ["C.go.count: missing"],
            id="parameter missing",
        ),
        pytest.param(
            {"go": lambda self, text, count=3: None, "size": property(len)},
            ["C.go.count: default is 3, not 2"],
            id="other default",
        ),
        pytest.param(
            {"go": lambda self, text, count: None, "size": property(len)},
            ["C.go.count: has no default, not 2"],
            id="no default",
        ),
        pytest.param(
            {"go": lambda self, count=2, text="": None, "size": property(len)},
            ["C.go.text: not at position 1", "C.go.count: not at position 2"],
            id="other order",
        ),
    ],
)
def test_the_check_sees_what_a_class_lacks(given: dict[str, object], expected: list[str]) -> None:
    assert list(class_("C", EXPECTED_CLASS, type("C", (), given))) == expected


def test_the_check_sees_what_else_is_lacking() -> None:
    assert list(constant("N", {"v": "1"}, 2)) == ["N: is 2, not 1"]
    assert list(typed_dict("D", {"keys": []}, list)) == ["D: no TypedDict"]
    assert list(native("f", {"argc": 1}, len)) == ["f: no function of C"]
    from llama_cpp import _abi  # noqa: PLC0415

    assert list(structure("S", {"fields": ["token", "pas"]}, _abi.llama_batch)) == [
        "S: no fields ['pas']"
    ]
