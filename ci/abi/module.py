"""The Python module that declares a C interface for ctypes."""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from ci.abi.declarations import Declarations, Function, Record
from ci.abi.mapping import SCALARS, Mapped

WIDTH = 100

_IMPORTABLE = sorted(
    {
        *("CFUNCTYPE", "POINTER", "Array", "Structure", "Union", "c_char_p", "c_void_p"),
        *("_CArgObject", "_CDataType", "_CFunctionType", "_Pointer"),
        *(name for name in SCALARS.values() if name != "None"),
    }
)

_DOCSTRING = '''\
"""llama.cpp's C interface as ctypes declarations.

Values and types only: `_library.py` binds PROTOTYPES to the loaded libraries. A NULL callback is
the callback type called without an argument, `ggml_log_callback()`.
"""
'''


def render(mapped: Mapped, *, libraries: Mapping[str, str], commit: str, notice: str) -> str:
    """Return the text of the module; `libraries` maps each function to the library that has it."""
    body = "\n".join(
        (
            f'COMMIT = "{commit}"\n',
            *constants(mapped.declarations, " = "),
            *_classes(mapped),
            "\n",
            "class Functions:",
            '    """The bound functions: one attribute for each name in PROTOTYPES."""\n\n',
            "# C name: (library, result, parameters)",
            "PROTOTYPES = {",
            *(
                line
                for function in mapped.declarations.functions
                for line in _prototype(mapped, function, libraries[function.name])
            ),
            "}",
        )
    )
    return (
        f"# {notice}\n{_DOCSTRING}\n"
        "from __future__ import annotations\n\n"
        f"{ctypes_import(body)}\n"
        f"{body}\n"
    )


def constants(declarations: Declarations, assign: str) -> Iterator[str]:
    """Yield a line per macro and enumeration constant; `assign` is between name and value."""
    for macro in declarations.macros:
        value = macro.constant.value
        text = f'"{value}"' if isinstance(value, str) else str(value)
        yield f"{macro.constant.name}{assign}{text}"
    for enum in declarations.enums:
        yield f"\n# {enum.c or 'unnamed enum'}"
        for constant in enum.constants:
            yield f"{constant.name}{assign}{constant.value}"


def ctypes_import(body: str) -> str:
    """Return the import of those names of ctypes that `body` mentions."""
    names = [name for name in _IMPORTABLE if re.search(rf"\b{name}\b", body)]
    return "\n".join(("from ctypes import (", *(f"    {name}," for name in names), ")\n"))


def python_name(name: str) -> str:
    """Return `name`, with an underscore behind it where it is a keyword of Python."""
    return f"{name}_" if keyword.iskeyword(name) else name


def signature(function: Function) -> str:
    """Return the C declaration of `function` in one line."""
    parameters = ", ".join(
        _declaration(parameter.c, parameter.name) for parameter in function.parameters
    )
    note = " [deprecated]" if function.deprecated else ""
    text = f"{_declaration(function.c, function.name)}({parameters or 'void'}){note}"
    return text.replace("_Bool", "bool")


def _declaration(c: str, name: str) -> str:
    if "(*" in c:
        return c.replace("(*", f"(*{name}", 1)
    base, bracket, bounds = c.partition("[")
    base = base.rstrip()
    return f"{base}{'' if base.endswith('*') else ' '}{name}".rstrip() + bracket + bounds


def _classes(mapped: Mapped) -> Iterator[str]:
    after_class = False
    for step in mapped.steps():
        if step.what == "callback":
            callback = mapped.callbacks[step.name]
            result = mapped.callback_result(callback)
            types = [result, *(mapped.ctype(type_) for type_ in callback.parameters)]
            yield "\n" if after_class else ""
            yield from _wrapped(f"{step.name} = CFUNCTYPE(", types, ")")
            after_class = False
            continue
        record = mapped.declarations.records[step.name]
        if step.what == "fields":
            yield "\n" if after_class else ""
            yield from _fields(mapped, record, f"{record.name}.")
            after_class = False
            continue
        after_class = True
        yield f"\n\nclass {record.name}({record.kind}):"
        yield f'    """{record.c or "without a name in C"}"""\n'
        # Without it a misspelt field would silently become an attribute.
        yield "    __slots__ = ()"
        if step.what == "record":
            yield from (f"    {line}" for line in _fields(mapped, record, ""))


def _fields(mapped: Mapped, record: Record, owner: str) -> Iterator[str]:
    if record.promoted:
        names = " ".join(f'"{python_name(name)}",' for name in record.promoted)
        yield f"{owner}_anonymous_ = ({names})"
    fields = [
        f'("{python_name(field.name)}", {mapped.ctype(field.type)}'
        f"{'' if field.bits is None else f', {field.bits}'}),"
        for field in record.fields
    ]
    if len(fields) == 1:
        yield f"{owner}_fields_ = ({fields[0]})"
        return
    yield f"{owner}_fields_ = ("
    yield from (f"    {field}" for field in fields)
    yield ")"


def _prototype(mapped: Mapped, function: Function, library: str) -> Iterator[str]:
    yield from textwrap.wrap(
        signature(function),
        width=WIDTH,
        initial_indent="    # ",
        subsequent_indent="    #     ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    types = [mapped.ctype(parameter.type) for parameter in function.parameters]
    parameters = f"({types[0]},)" if len(types) == 1 else f"({', '.join(types)})"
    values = (f'"{library}"', mapped.ctype(function.result), parameters)
    if len(parameters) <= WIDTH - len("        ,"):
        yield from _wrapped(f'    "{function.name}": (', values, "),")
        return
    yield f'    "{function.name}": ('
    yield from (f"        {value}," for value in values[:2])
    yield "        ("
    yield from (f"            {type_}," for type_ in types)
    yield from ("        ),", "    ),")


def _wrapped(start: str, items: Iterable[str], end: str) -> Iterator[str]:
    """Yield `items` between `start` and `end`, one per line where one is not enough."""
    items = tuple(items)
    line = f"{start}{', '.join(items)}{end}"
    if len(line) <= WIDTH:
        yield line
        return
    indent = " " * (len(start) - len(start.lstrip()))
    yield start
    yield from (f"{indent}    {item}," for item in items)
    yield f"{indent}{end}"
