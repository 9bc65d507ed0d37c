"""Reads C headers with libclang.

The headers are parsed for one fixed target with standard headers of our own, so the result is
the same on every machine. Structure layouts are the same on every 64-bit target, which is why
one reading serves all of them; `vendor/abi_check.c` proves it again in each native build.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from clang import cindex

from ci.abi.declarations import (
    Aggregate,
    Array,
    Callback,
    Constant,
    Declarations,
    Enum,
    Enumeration,
    Field,
    Function,
    Macro,
    Parameter,
    Pointer,
    Record,
    Scalar,
    Type,
    Unsupported,
    with_const,
)
from ci.errors import VendorError

TARGET = "x86_64-linux-gnu"

# With -nostdinc nothing of the machine is read: these are all the standard headers the public
# headers include. The names of the typedefs are what the reader below recognises.
STANDARD_HEADERS: Mapping[str, str] = {
    "stdbool.h": "#define bool _Bool\n#define true 1\n#define false 0\n",
    "stddef.h": "typedef unsigned long size_t;\n#define NULL ((void *) 0)\n",
    "stdint.h": (
        "typedef signed char int8_t;\ntypedef unsigned char uint8_t;\n"
        "typedef short int16_t;\ntypedef unsigned short uint16_t;\n"
        "typedef int int32_t;\ntypedef unsigned int uint32_t;\n"
        "typedef long int64_t;\ntypedef unsigned long uint64_t;\n"
        "typedef long intptr_t;\ntypedef unsigned long uintptr_t;\n"
    ),
    "stdio.h": "#include <stddef.h>\ntypedef struct { int unused; } FILE;\n",
}

_SIZED = frozenset(
    {
        *("int8_t", "uint8_t", "int16_t", "uint16_t", "int32_t", "uint32_t"),
        *("int64_t", "uint64_t", "intptr_t", "uintptr_t", "size_t"),
    }
)

_KINDS = cindex.TypeKind
# `long` is missing on purpose: it has 4 bytes on Windows and 8 elsewhere.
_SCALARS: Mapping[cindex.TypeKind, str] = {
    _KINDS.BOOL: "bool",
    _KINDS.CHAR_S: "char",
    _KINDS.SCHAR: "signed char",
    _KINDS.UCHAR: "unsigned char",
    _KINDS.SHORT: "short",
    _KINDS.USHORT: "unsigned short",
    _KINDS.INT: "int",
    _KINDS.UINT: "unsigned int",
    _KINDS.LONGLONG: "long long",
    _KINDS.ULONGLONG: "unsigned long long",
    _KINDS.FLOAT: "float",
    _KINDS.DOUBLE: "double",
    _KINDS.VOID: "void",
}


def read(
    folders: Iterable[Path],
    headers: Iterable[str],
    *,
    member_names: Mapping[str, tuple[str, ...]],
) -> Declarations:
    """Read `headers` (file names), found in `folders`.

    `member_names` gives names to the anonymous members of a record, in order; without one a
    member is called `anonymous_0`, `anonymous_1`, …

    Raises:
        VendorError: a header is missing or does not parse, or an enumeration is wider than an int.
    """
    folders = tuple(folders)
    wanted = tuple(headers)
    for header in wanted:
        if not any((folder / header).is_file() for folder in folders):
            places = ", ".join(str(folder) for folder in folders)
            raise VendorError(
                f"the header {header} is in none of {places}",
                cure="run `nox -s vendor`; if upstream has moved the header, name its new place in "
                "ci/abi/taken.py",
            )
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in STANDARD_HEADERS.items():
            (Path(temporary) / name).write_text(f"#pragma once\n{text}", encoding="utf-8")
        unit = cindex.Index.create().parse(
            "abi.c",
            args=[
                *("-x", "c", "-std=c11", "-target", TARGET, "-nostdinc", "-isystem", temporary),
                *(f"-I{folder}" for folder in folders),
            ],
            unsaved_files=[("abi.c", "".join(f'#include "{header}"\n' for header in wanted))],
            options=cindex.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD,
        )
        problems = [d for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
        if problems:
            first = problems[0]
            raise VendorError(
                f"{first.location.file}:{first.location.line}: {first.spelling}",
                cure="a standard header that is new to these headers goes into STANDARD_HEADERS in "
                "ci/abi/headers.py",
            )
        return _Reader(set(wanted), member_names).declarations(unit)


class _Reader:
    """Turns libclang's cursors into values; the only place that sees them."""

    def __init__(self, headers: set[str], member_names: Mapping[str, tuple[str, ...]]) -> None:
        self._headers = headers
        self._member_names = member_names
        self._records: dict[str, Record] = {}

    def declarations(self, unit: cindex.TranslationUnit) -> Declarations:
        enums: list[Enum] = []
        functions: list[Function] = []
        definitions: dict[str, tuple[str, list[str]]] = {}
        for cursor in unit.cursor.get_children():
            header = Path(cursor.location.file.name).name if cursor.location.file else ""
            if header not in self._headers:
                continue
            if cursor.kind in {cindex.CursorKind.STRUCT_DECL, cindex.CursorKind.UNION_DECL}:
                if cursor.is_definition() and not cursor.is_anonymous():
                    self._record(cursor, cursor.spelling, cursor.type.spelling, header)
            elif cursor.kind == cindex.CursorKind.ENUM_DECL and cursor.is_definition():
                enums.append(_enum(cursor, header))
            elif cursor.kind == cindex.CursorKind.FUNCTION_DECL and _is_exported(cursor):
                functions.append(self._function(cursor, header))
            elif cursor.kind == cindex.CursorKind.MACRO_DEFINITION:
                tokens = [token.spelling for token in cursor.get_tokens()]
                definitions[cursor.spelling] = (header, tokens[1:])
        values = {name: tokens for name, (_, tokens) in definitions.items()}
        macros = [
            Macro(constant=Constant(name=name, value=value), header=header)
            for name, (header, tokens) in definitions.items()
            if (value := _value(tokens, values)) is not None
        ]
        return Declarations(
            records=self._records,
            enums=tuple(enums),
            macros=tuple(macros),
            functions=tuple(functions),
        )

    def _function(self, cursor: cindex.Cursor, header: str) -> Function:
        return Function(
            name=cursor.spelling,
            result=self._type(cursor.result_type, f"{cursor.spelling}_result"),
            parameters=tuple(
                Parameter(
                    name=argument.spelling,
                    type=self._parameter(argument.type, f"{cursor.spelling}_{argument.spelling}"),
                    c=argument.type.spelling,
                )
                for argument in cursor.get_arguments()
            ),
            c=cursor.result_type.spelling,
            deprecated=cursor.availability == cindex.AvailabilityKind.DEPRECATED,
            header=header,
        )

    def _record(self, cursor: cindex.Cursor, name: str, c: str | None, header: str) -> Record:
        names = iter(self._member_names.get(name, ()))
        fields: list[Field] = []
        promoted: list[str] = []
        for member, unnamed in _members(cursor):
            if unnamed is None:
                fields.append(
                    Field(
                        name=member.spelling,
                        type=self._type(member.type, f"{name}_{member.spelling}"),
                        offset=member.get_field_offsetof(),
                        bits=member.get_bitfield_width() if member.is_bitfield() else None,
                    )
                )
                continue
            if member == unnamed:
                member_name = next(names, f"anonymous_{len(promoted)}")
                promoted.append(member_name)
            else:
                member_name = member.spelling
            inner = self._record(unnamed, f"{name}_{member_name}", None, header)
            fields.append(
                Field(
                    name=member_name,
                    type=Aggregate(name=inner.name, c=""),
                    offset=_offset(cursor, member, unnamed),
                    inner=inner,
                )
            )
        record = Record(
            name=name,
            c=c,
            kind="Union" if cursor.kind == cindex.CursorKind.UNION_DECL else "Structure",
            size=cursor.type.get_size(),
            alignment=cursor.type.get_align(),
            fields=tuple(fields),
            promoted=tuple(promoted),
            header=header,
        )
        self._records[name] = record
        return record

    def _parameter(self, type_: cindex.Type, place: str) -> Type:
        # "A declaration of a parameter as 'array of type' shall be adjusted to 'qualified pointer
        # to type'" (C11 6.7.6.3), and libclang leaves that to its user.
        if type_.kind in {_KINDS.INCOMPLETEARRAY, _KINDS.VARIABLEARRAY}:
            return Pointer(to=self._type(type_.element_type, place))
        declared = self._type(type_, place)
        return Pointer(to=declared.of) if isinstance(declared, Array) else declared

    def _type(self, type_: cindex.Type, place: str, *, alias: str = "") -> Type:
        """Translate; `place` names a function type that `alias`, the last typedef, does not."""
        const = type_.is_const_qualified()
        if type_.kind == _KINDS.ELABORATED:
            inner = self._type(type_.get_named_type(), place, alias=alias)
            return with_const(inner) if const else inner
        if type_.kind == _KINDS.TYPEDEF:
            declaration = type_.get_declaration()
            if declaration.spelling in _SIZED:
                return Scalar(name=declaration.spelling, const=const)
            inner = self._type(
                declaration.underlying_typedef_type, place, alias=declaration.spelling
            )
            return with_const(inner) if const else inner
        if type_.kind in _SCALARS:
            return Scalar(name=_SCALARS[type_.kind], const=const)
        if type_.kind == _KINDS.ENUM:
            declared = type_.get_declaration().type
            return Enumeration(
                name=declared.get_declaration().spelling, c=declared.spelling, const=const
            )
        if type_.kind == _KINDS.RECORD:
            declared = type_.get_declaration().type
            return Aggregate(
                name=declared.get_declaration().spelling, c=declared.spelling, const=const
            )
        if type_.kind == _KINDS.POINTER:
            return Pointer(to=self._type(type_.get_pointee(), place, alias=alias), const=const)
        if type_.kind == _KINDS.CONSTANTARRAY:
            return Array(of=self._type(type_.element_type, place), length=type_.get_array_size())
        if type_.kind == _KINDS.FUNCTIONPROTO and not type_.is_function_variadic():
            name = alias or place
            return Callback(
                name=name,
                result=self._type(type_.get_result(), f"{name}_result"),
                parameters=tuple(
                    self._parameter(argument, f"{name}_argument_{index}")
                    for index, argument in enumerate(type_.argument_types())
                ),
            )
        return Unsupported(where=place, c=type_.spelling)


def _members(
    record: cindex.Cursor,
) -> Iterator[tuple[cindex.Cursor, cindex.Cursor | None]]:
    """Yield each member with its unnamed record, if its type is one; itself if it has no name."""
    kinds = {cindex.CursorKind.STRUCT_DECL, cindex.CursorKind.UNION_DECL}
    children = list(record.get_children())
    for index, child in enumerate(children):
        if child.kind == cindex.CursorKind.FIELD_DECL:
            declared = child.type.get_declaration()
            yield child, declared if declared.kind in kinds and declared.is_anonymous() else None
        elif child.kind in kinds and child.is_anonymous():
            following = children[index + 1] if index + 1 < len(children) else None
            declares_field = (
                following is not None
                and following.kind == cindex.CursorKind.FIELD_DECL
                and following.type.get_declaration() == child
            )
            if not declares_field:
                yield child, child


def _offset(record: cindex.Cursor, member: cindex.Cursor, inner: cindex.Cursor) -> int:
    if member.kind == cindex.CursorKind.FIELD_DECL:
        return int(member.get_field_offsetof())
    # An anonymous member has no name to ask for; it starts where its first field does.
    first = next(iter(inner.type.get_fields()))
    return int(record.type.get_offset(first.spelling)) - int(first.get_field_offsetof())


def _enum(cursor: cindex.Cursor, header: str) -> Enum:
    anonymous = cursor.is_anonymous()
    constants = tuple(
        Constant(name=child.spelling, value=int(child.enum_value))
        for child in cursor.get_children()
        if child.kind == cindex.CursorKind.ENUM_CONSTANT_DECL
    )
    for constant in constants:
        if not -(2**31) <= int(constant.value) < 2**31:
            raise VendorError(
                f"{header}: {constant.name} = {constant.value} does not fit an int",
                cure="ci/abi/mapping.py passes every enumeration as c_int; give it a wider type",
            )
    return Enum(
        name="" if anonymous else cursor.spelling,
        c="" if anonymous else cursor.type.spelling,
        constants=constants,
        header=header,
    )


def _is_exported(cursor: cindex.Cursor) -> bool:
    """Say whether a library has a symbol for it that ctypes can call."""
    return (
        cursor.linkage == cindex.LinkageKind.EXTERNAL
        and not cursor.is_definition()
        and not cursor.type.is_function_variadic()
    )


_INTEGER = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]*")


def _value(tokens: list[str], macros: Mapping[str, list[str]]) -> int | str | None:
    """Return the value of a macro that is an integer, a string or another such macro."""
    if len(tokens) > 2 and tokens[0] == "(" and tokens[-1] == ")":
        return _value(tokens[1:-1], macros)
    if len(tokens) == 2 and tokens[0] == "-":
        value = _value(tokens[1:], macros)
        return -value if isinstance(value, int) else None
    if len(tokens) != 1:
        return None
    (token,) = tokens
    if token in macros:
        rest = {name: value for name, value in macros.items() if name != token}
        return _value(macros[token], rest)
    if integer := _INTEGER.fullmatch(token):
        digits = integer[1]
        is_octal = len(digits) > 1 and digits.isdigit() and digits.startswith("0")
        return int(digits, 8) if is_octal else int(digits, 0)
    if token.startswith('"'):
        return str(ast.literal_eval(token))
    return None
