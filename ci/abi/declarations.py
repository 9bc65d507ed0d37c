"""What C headers declare, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Scalar:
    """A type without parts, by its C name: `int32_t`, `bool`, `float`, `void`."""

    name: str
    const: bool = False


@dataclass(frozen=True, kw_only=True)
class Enumeration:
    """A use of an enumeration; `c` is how C spells it."""

    name: str
    c: str
    const: bool = False


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """A use of a structure or union, complete or opaque; `c` is how C spells it."""

    name: str
    c: str
    const: bool = False


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """A pointer; `const` is its own, not that of what it points to."""

    to: Type
    const: bool = False


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array of a length known at compile time."""

    of: Type
    length: int


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A function type; `name` is its typedef, or structure and field where it has none."""

    name: str
    result: Type
    parameters: tuple[Type, ...]


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """A type that cannot be declared for all platforms at once; `where` names its use."""

    where: str
    c: str


Type = Scalar | Enumeration | Aggregate | Pointer | Array | Callback | Unsupported


@dataclass(frozen=True, kw_only=True)
class Field:
    """A member of a record; `offset` in bits, `bits` is the width of a bit-field.

    `inner` is the record that is declared in its place without a name of its own.
    """

    name: str
    type: Type
    offset: int
    bits: int | None = None
    inner: Record | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """A complete structure or union; sizes in bytes.

    `c` is None for a record without a name in C; `promoted` are the fields whose own members C
    reaches without naming them.
    """

    name: str
    c: str | None
    kind: Literal["Structure", "Union"]
    size: int
    alignment: int
    fields: tuple[Field, ...]
    promoted: tuple[str, ...] = ()
    header: str = ""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant of an enumeration or a `#define`."""

    name: str
    value: int | str


@dataclass(frozen=True, kw_only=True)
class Enum:
    """An enumeration with its constants in header order.

    `name` is empty if it has none; `c` is how C spells it.
    """

    name: str
    c: str
    constants: tuple[Constant, ...]
    header: str


@dataclass(frozen=True, kw_only=True)
class Macro:
    """A `#define` of an integer or a string."""

    constant: Constant
    header: str


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a function; `name` is empty where the header gives none."""

    name: str
    type: Type
    c: str


@dataclass(frozen=True, kw_only=True)
class Function:
    """An exported function; `c` is the C spelling of its result."""

    name: str
    result: Type
    parameters: tuple[Parameter, ...]
    c: str
    deprecated: bool
    header: str

    def types(self) -> Iterator[Type]:
        """Yield the types in the declaration, as they stand there."""
        yield self.result
        yield from (parameter.type for parameter in self.parameters)


@dataclass(frozen=True, kw_only=True)
class Declarations:
    """All declarations of the headers that were read, in their order."""

    records: Mapping[str, Record]
    enums: tuple[Enum, ...]
    macros: tuple[Macro, ...]
    functions: tuple[Function, ...]

    def types(self) -> Iterator[Type]:
        """Yield the types of all fields, then those of all functions, as they stand there."""
        for record in self.records.values():
            yield from (field.type for field in record.fields)
        for function in self.functions:
            yield from function.types()


def walk(type_: Type) -> Iterator[Type]:
    """Yield `type_` and every type that its spelling contains, the inner ones first."""
    match type_:
        case Pointer(to=inner) | Array(of=inner):
            yield from walk(inner)
        case Callback(result=result, parameters=parameters):
            for part in (result, *parameters):
                yield from walk(part)
        case _:
            pass
    yield type_


def with_const(type_: Type) -> Type:
    """Return `type_` qualified; the elements of an array, nothing of a function."""
    match type_:
        case Array(of=of):
            return replace(type_, of=with_const(of))
        case Callback() | Unsupported():
            return type_
        case _:
            return replace(type_, const=True)
