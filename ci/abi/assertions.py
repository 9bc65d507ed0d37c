"""A C11 file that compiles only while the headers declare what the ctypes declarations say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ci.abi.declarations import (
    Aggregate,
    Array,
    Callback,
    Declarations,
    Enumeration,
    Function,
    Pointer,
    Record,
    Scalar,
    Type,
    Unsupported,
)

_PURPOSE = """\
// Compiles only while these headers declare what llama_cpp/_abi.py says; it makes no code.
// C11: gcc, clang, zig, and MSVC from 2019 16.8 with /std:c11.
"""

# `&((T *)0)->field` keeps the exact type: without & an array would decay to a pointer.
# _Generic does not evaluate its operand, so neither that nor the missing definitions matter.
_PRELUDE = """\
#include <stddef.h>

#if defined(__GNUC__)
#    pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#    pragma GCC diagnostic error "-Wmissing-field-initializers" // what ABI_FIELDS is made of
#elif defined(_MSC_VER)
#    pragma warning(disable: 4996) // deprecated functions are checked like all others
#endif

#define ABI_CURE \\
    " differs from llama_cpp/_abi.py: run 'nox -s generate' after a vendor bump and read the diff"

#define ABI_RECORD(record, size, alignment) \\
    _Static_assert(sizeof(record) == (size), "the size of " #record ABI_CURE); \\
    _Static_assert(_Alignof(record) == (alignment), "the alignment of " #record ABI_CURE)
// A new field may hide in the padding, where it changes no size: then an initializer is missing.
#define ABI_FIELDS(record, ...) \\
    _Static_assert(sizeof((record) {__VA_ARGS__}) > 0, "the list of fields of " #record ABI_CURE)
#define ABI_OFFSET(record, field, offset) \\
    _Static_assert(offsetof(record, field) == (offset), \\
                   "the offset of " #record " " #field ABI_CURE)
#define ABI_FIELD(record, field, offset, ...) \\
    ABI_OFFSET(record, field, offset); \\
    _Static_assert(_Generic(&((record *) 0)->field, __VA_ARGS__: 1, default: 0), \\
                   "the type of " #record " " #field ABI_CURE)
#define ABI_VALUE(constant, value) \\
    _Static_assert((constant) == (value), "the value of " #constant ABI_CURE)
#define ABI_ENUM(enumeration) \\
    _Static_assert(sizeof(enumeration) == sizeof(int), "the size of " #enumeration ABI_CURE)
#define ABI_TEXT(constant, length) \\
    _Static_assert(sizeof(constant) == (length) + 1, "the length of " #constant ABI_CURE)
#define ABI_FUNCTION(function, ...) \\
    _Static_assert(_Generic(&function, __VA_ARGS__: 1, default: 0), \\
                   "the type of " #function ABI_CURE)
"""


def render(declarations: Declarations, *, headers: Iterable[str], notice: str) -> str:
    """Return the text of the file; `headers` are included in their order."""
    records = declarations.records
    includes = "".join(f'#include "{header}"\n' for header in headers)
    lines = [
        *_constants(declarations),
        "",
        *(line for record in records.values() for line in _record(record, records)),
        "",
        *(_function(function) for function in declarations.functions),
    ]
    return f"// {notice}\n{_PURPOSE}\n{includes}{_PRELUDE}\n" + "\n".join(lines) + "\n"


def _constants(declarations: Declarations) -> Iterator[str]:
    for macro in declarations.macros:
        name, value = macro.constant.name, macro.constant.value
        if isinstance(value, str):
            yield f"ABI_TEXT({name}, {len(value)});"
        else:
            yield f"ABI_VALUE({name}, {value});"
    for enum in declarations.enums:
        yield ""
        if enum.name:
            yield f"ABI_ENUM({enum.c});"
        for constant in enum.constants:
            yield f"ABI_VALUE({constant.name}, {constant.value});"


def _record(record: Record, records: Mapping[str, Record]) -> Iterator[str]:
    # Records without a name in C are reached through the record that holds them.
    if record.c is None:
        return
    yield f"\nABI_RECORD({record.c}, {record.size}, {record.alignment});"
    if record.kind == "Structure":
        yield f"ABI_FIELDS({record.c}, {_zeros(record, records)});"
    yield from _fields(record, record.c, prefix="", start=0)


def _zeros(record: Record, records: Mapping[str, Record]) -> str:
    """Return the list of initializers that leaves out no field."""
    # a union takes one initializer, for its first field
    fields = record.fields[:1] if record.kind == "Union" else record.fields
    return ", ".join(_zero(field.type, records) for field in fields)


def _zero(type_: Type, records: Mapping[str, Record]) -> str:
    match type_:
        case Aggregate(name=name):
            return f"{{{_zeros(records[name], records)}}}"
        case Array(of=of):
            return f"{{{_zero(of, records)}}}"
        case _:
            return "0"


def _fields(record: Record, owner: str, *, prefix: str, start: int) -> Iterator[str]:
    for field in record.fields:
        offset = start + field.offset
        path = f"{prefix}{field.name}"
        if field.bits is not None:
            continue
        if field.inner is not None:
            inside = prefix if field.name in record.promoted else f"{path}."
            yield from _fields(field.inner, owner, prefix=inside, start=offset)
        else:
            type_ = declarator(field.type, "*")
            yield f"ABI_FIELD({owner}, {path}, {offset // 8}, {type_});"


def _function(function: Function) -> str:
    type_ = _signature(
        function.result, tuple(parameter.type for parameter in function.parameters), "(*)"
    )
    return f"ABI_FUNCTION({function.name}, {type_});"


def declarator(type_: Type, inner: str = "") -> str:
    """Return the C declaration of `inner` (a name, "*" or nothing) as a `type_`."""
    match type_:
        case (
            Scalar(name=c, const=const)
            | Enumeration(c=c, const=const)
            | Aggregate(c=c, const=const)
        ):
            return f"{'const ' if const else ''}{c} {inner}".rstrip()
        case Pointer(to=to, const=const):
            return declarator(to, f"*{' const ' if const else ''}{inner}".rstrip())
        case Array(of=of, length=length):
            return declarator(of, f"{_bound(inner)}[{length}]")
        case Callback(result=result, parameters=parameters):
            return _signature(result, parameters, _bound(inner))
        case Unsupported(c=c):
            return f"{c} {inner}".rstrip()


def _signature(result: Type, parameters: tuple[Type, ...], inner: str) -> str:
    listed = ", ".join(declarator(parameter) for parameter in parameters)
    return declarator(result, f"{inner}({listed or 'void'})")


def _bound(inner: str) -> str:
    """Bind first: `*name[3]` is an array of pointers, `(*name)[3]` a pointer to an array."""
    return f"({inner})" if inner.startswith("*") else inner
