"""Every public name says what it is; the wheel carries the types."""

from __future__ import annotations

import ctypes
import importlib
import inspect
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MODULES = sorted(
    f"llama_cpp.{path.stem}"
    for path in (ROOT / "llama_cpp").glob("*.py")
    if not path.stem.startswith("_") or path.stem == "_internals"
)

# the class of ctypes.POINTER's types, which has no public name
POINTERS: type = type(ctypes.POINTER(ctypes.c_int))
# C's functions are documented in llama.h; these are its names
OF_C = frozenset({"llama_cpp._abi"})


def undocumented(module: str) -> Iterator[str]:
    """Yield the public names of ``module`` without a docstring of their own."""
    there = importlib.import_module(module)
    if not there.__doc__:
        yield module
    for name in dir(there):
        if name.startswith("_"):
            continue
        value = getattr(there, name)
        home = getattr(value, "__module__", None) or ""
        if not home.startswith("llama_cpp") or home in OF_C or isinstance(value, POINTERS):
            continue
        # what typing.NewType makes is a function before Python 3.10
        if inspect.isfunction(value) and not value.__doc__ and not hasattr(value, "__supertype__"):
            yield f"{module}.{name}"
        if inspect.isclass(value):
            yield from undocumented_members(f"{module}.{name}", value)


def undocumented_members(place: str, value: type) -> Iterator[str]:
    """Yield what of a class has no docstring: itself, its methods and properties."""
    if not vars(value).get("__doc__"):
        yield place
    for name, member in vars(value).items():
        if name.startswith("_") and name not in {"__init__", "__call__"}:
            continue
        found = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if isinstance(found, property):
            found = found.fget
        # what NamedTuple, TypedDict and dataclass generate has no line of ours
        if not inspect.isfunction(found) or not (found.__module__ or "").startswith("llama_cpp"):
            continue
        if not found.__doc__ and found.__code__.co_filename.endswith(".py"):
            yield f"{place}.{name}"


@pytest.mark.build
@pytest.mark.parametrize("module", ["llama_cpp", *MODULES])
def test_every_public_name_is_documented(module: str) -> None:
    assert sorted(set(undocumented(module))) == []


def test_what_has_no_docstring_is_found() -> None:
    class Plain:
        """A class."""

        def __init__(self) -> None:
            """Make it."""

        def said(self) -> None:
            """Say."""

        def unsaid(self) -> None: ...

        @property
        def unsaid_too(self) -> int:
            return 1

        @staticmethod
        def unsaid_as_well() -> None: ...

        def _inside(self) -> None: ...

    for name in ("__init__", "said", "unsaid", "_inside"):
        vars(Plain)[name].__module__ = "llama_cpp.plain"
    vars(Plain)["unsaid_too"].fget.__module__ = "llama_cpp.plain"
    vars(Plain)["unsaid_as_well"].__func__.__module__ = "llama_cpp.plain"
    assert list(undocumented_members("Plain", Plain)) == [
        "Plain.unsaid",
        "Plain.unsaid_too",
        "Plain.unsaid_as_well",
    ]


@pytest.mark.build
def test_the_wheel_carries_the_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"llama_cpp/py.typed", "llama_cpp/_abi.pyi"} <= names
