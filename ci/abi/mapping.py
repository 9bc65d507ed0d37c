"""How C types look in ctypes.

An enumeration is a `c_int`. A pointer to an opaque structure is a `c_void_p`, so that Python sees
`int | None` and NULL is None. ctypes has no callbacks that return a structure: a pointer to one is
a `c_void_p`; and no callbacks that return a typed pointer: what they return is a `c_void_p`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ci.abi.declarations import (
    Aggregate,
    Array,
    Callback,
    Declarations,
    Enumeration,
    Pointer,
    Scalar,
    Type,
    Unsupported,
    walk,
)
from ci.errors import VendorError

SCALARS: Mapping[str, str] = {
    "void": "None",
    "bool": "c_bool",
    "char": "c_char",
    "signed char": "c_int8",
    "unsigned char": "c_uint8",
    "short": "c_int16",
    "unsigned short": "c_uint16",
    "int": "c_int",
    "unsigned int": "c_uint",
    "long long": "c_int64",
    "unsigned long long": "c_uint64",
    "float": "c_float",
    "double": "c_double",
    "int8_t": "c_int8",
    "uint8_t": "c_uint8",
    "int16_t": "c_int16",
    "uint16_t": "c_uint16",
    "int32_t": "c_int32",
    "uint32_t": "c_uint32",
    "int64_t": "c_int64",
    "uint64_t": "c_uint64",
    "intptr_t": "c_ssize_t",
    "uintptr_t": "c_size_t",
    "size_t": "c_size_t",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One class of the module: a record at once, first its name and later its fields, a callback.

    A record is named ahead where an earlier class, or it itself, points to it.
    """

    what: Literal["record", "name", "fields", "callback"]
    name: str


@dataclass(frozen=True)
class Mapped:
    """The ctypes view of `declarations`.

    Pointers to the structures in `handles` are addresses although the headers show their fields;
    `nullable` are the parameters (function, name) for which a handle may be missing.
    """

    declarations: Declarations
    handles: frozenset[str]
    nullable: frozenset[tuple[str, str]]

    def ctype(self, type_: Type) -> str:
        """Return the ctypes expression for `type_`.

        Raises:
            VendorError: there is none.
        """
        match type_:
            case Scalar(name=name):
                return SCALARS[name]
            case Enumeration():
                return "c_int"
            case Aggregate(name=name):
                return name
            case Array(of=of, length=length):
                return f"{self.ctype(of)} * {length}"
            case Callback(name=name):
                return name if name in self.callbacks else "c_void_p"
            case Pointer(to=to):
                return self._pointer(to)
            case Unsupported(where=where, c=c):
                raise VendorError(
                    f"{where}: the C type {c!r} has no fixed meaning on all platforms",
                    cure="leave it out in ci/abi/taken.py, or teach ci/abi/headers.py this type",
                )

    def callback_result(self, callback: Callback) -> str:
        """Return the ctypes expression for what a Python function may return as `callback`."""
        return "c_void_p" if isinstance(callback.result, Pointer) else self.ctype(callback.result)

    def is_typed_pointer(self, type_: Type) -> bool:
        """Say whether ctypes knows what `type_` points to."""
        return isinstance(type_, Pointer) and self.ctype(type_).startswith("POINTER(")

    def is_structure(self, name: str) -> bool:
        """Say whether a pointer to the record `name` is typed."""
        return name in self.declarations.records and name not in self.handles

    @cached_property
    def callbacks(self) -> dict[str, Callback]:
        """The function types that get a class, in the order of their first use."""
        found: dict[str, Callback] = {}
        for used in self.declarations.types():
            for type_ in walk(used):
                if isinstance(type_, Callback) and not isinstance(type_.result, Aggregate):
                    found.setdefault(type_.name, type_)
        return found

    def steps(self) -> Iterator[Step]:
        """Yield the classes of the module, each after those it refers to."""
        done: set[str] = set()

        def prepare(used: Type) -> Iterator[Step]:
            for type_ in walk(used):
                match type_:
                    case Pointer(to=Aggregate(name=name)):
                        if self.is_structure(name) and name not in done:
                            done.add(name)
                            yield Step(what="name", name=name)
                    case Callback(name=name) if name in self.callbacks and name not in done:
                        done.add(name)
                        yield Step(what="callback", name=name)
                    case _:
                        pass

        for record in self.declarations.records.values():
            for field in record.fields:
                yield from prepare(field.type)
            yield Step(what="fields" if record.name in done else "record", name=record.name)
            done.add(record.name)
        for callback in self.callbacks.values():
            yield from prepare(callback)

    def _pointer(self, to: Type) -> str:
        match to:
            case Callback():
                return self.ctype(to)
            case Scalar(name="char"):
                return "c_char_p"
            case Scalar(name="void"):
                return "c_void_p"
            case Aggregate(name=name) if not self.is_structure(name):
                return "c_void_p"
            case _:
                return f"POINTER({self.ctype(to)})"
