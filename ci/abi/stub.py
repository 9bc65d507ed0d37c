"""The stub beside the module: the same declarations with the types that Python code sees."""

from __future__ import annotations

from collections.abc import Iterator

from ci.abi.declarations import (
    Aggregate,
    Array,
    Callback,
    Enumeration,
    Function,
    Pointer,
    Record,
    Scalar,
    Type,
)
from ci.abi.mapping import Mapped
from ci.abi.module import WIDTH, constants, ctypes_import, python_name

_TYPES = """\
_T = TypeVar("_T", bound=_CDataType)

# What ctypes takes for a parameter `T *`, `void *`, `const char *` and `char *`.
_To: TypeAlias = _Pointer[_T] | Array[_T] | _T | _CArgObject | None
_Address: TypeAlias = (
    int | bytes | Array[Any] | _Pointer[Any] | _CFunctionType | _CArgObject | c_void_p | None
)
_Text: TypeAlias = bytes | Array[c_char] | c_char_p | None
_Buffer: TypeAlias = Array[c_char] | _Pointer[c_char] | c_char_p | _CArgObject | None

# A field `T *`: read as a pointer, written as a pointer, an array or None.
class _PointerField(Generic[_T]):
    def __get__(self, instance: object, owner: type[object], /) -> _Pointer[_T]: ...
    def __set__(self, instance: object, value: _Pointer[_T] | Array[_T] | None, /) -> None: ...
"""


def render(mapped: Mapped, *, notice: str) -> str:
    """Return the text of the stub."""
    functions = (
        line for function in mapped.declarations.functions for line in _function(mapped, function)
    )
    body = "\n".join(
        (
            _TYPES,
            "COMMIT: Final[str]\n",
            *constants(mapped.declarations, ": Final = "),
            *_classes(mapped),
            "\nclass Functions:",
            *(functions if mapped.declarations.functions else ("    ...",)),
            "\nPROTOTYPES: Final[Mapping[str, tuple[str, Any, tuple[Any, ...]]]]",
        )
    )
    return (
        f"# {notice}\n"
        "from collections.abc import Callable, Mapping\n"
        f"{ctypes_import(body)}"
        "from typing import Any, Final, Generic, TypeVar\n\n"
        "from typing_extensions import TypeAlias\n\n"
        f"{body}\n"
    )


def render_functions(mapped: Mapped, *, notice: str) -> str:
    """Return the text of a stub that has the functions as a module's own names."""
    functions = "\n".join(
        line
        for function in mapped.declarations.functions
        for line in _function(mapped, function, bound=False)
    )
    return (
        f"# {notice}\n"
        f"{ctypes_import(functions)}"
        "from llama_cpp._abi import *\n"
        "from llama_cpp._abi import _Address, _Buffer, _Text, _To\n\n"
        f"{functions}\n"
    )


def _classes(mapped: Mapped) -> Iterator[str]:
    for step in mapped.steps():
        if step.what == "callback":
            yield from _callback(mapped, mapped.callbacks[step.name])
        elif step.what in {"record", "fields"}:
            record = mapped.declarations.records[step.name]
            yield f"\nclass {record.name}({record.kind}):"
            yield from _fields(mapped, record)


def _callback(mapped: Mapped, callback: Callback) -> Iterator[str]:
    received = ", ".join(_value(mapped, type_) for type_ in callback.parameters)
    is_address = isinstance(callback.result, Pointer)
    result = "int | None" if is_address else _value(mapped, callback.result)
    passed = [
        f"argument_{index}: {_argument(mapped, type_)}"
        for index, type_ in enumerate(callback.parameters)
    ]
    yield f"\nclass {callback.name}(_CFunctionType):"
    function = f"function: Callable[[{received}], {result}] | int = ..."
    yield from _method("__init__", [function], "None")
    yield from _method("__call__", passed, result)


def _fields(mapped: Mapped, record: Record) -> Iterator[str]:
    for field in record.fields:
        name = python_name(field.name)
        if isinstance(field.type, Pointer) and mapped.is_typed_pointer(field.type):
            yield f"    {name}: _PointerField[{_pointee(mapped, field.type.to)}]"
        else:
            yield f"    {name}: {_value(mapped, field.type)}"
        if field.inner is not None and field.name in record.promoted:
            yield from _fields(mapped, field.inner)


def _function(mapped: Mapped, function: Function, *, bound: bool = True) -> Iterator[str]:
    parameters = []
    for index, parameter in enumerate(function.parameters):
        is_nullable = (function.name, parameter.name) in mapped.nullable
        type_ = "int | None" if is_nullable else _argument(mapped, parameter.type)
        parameters.append(f"{python_name(parameter.name or f'argument_{index}')}: {type_}")
    result = _value(mapped, function.result)
    lines = _method(function.name, parameters, result, bound=bound)
    yield from lines if bound else (line.removeprefix("    ") for line in lines)


def _method(name: str, parameters: list[str], result: str, *, bound: bool = True) -> Iterator[str]:
    # ctypes functions take no keyword arguments.
    items = [*(["self"] if bound else []), *parameters, *(["/"] if parameters else [])]
    line = f"    def {name}({', '.join(items)}) -> {result}: ..."
    if len(line) <= WIDTH:
        yield line
        return
    yield f"    def {name}("
    for item in items:
        entry = f"        {item},"
        yield entry if len(entry) <= WIDTH else entry.replace("] | int =", "]\n        | int =")
    yield f"    ) -> {result}: ..."


def _value(mapped: Mapped, type_: Type) -> str:
    """Return the Python type of a result, a field or an argument that a callback receives."""
    match type_:
        case Scalar(name=name):
            return {
                "void": "None",
                "char": "bytes",
                "bool": "bool",
                "float": "float",
                "double": "float",
            }.get(name, "int")
        case Enumeration():
            return "int"
        case Array(of=Scalar(name="char")):
            return "bytes"
        case Array(of=of):
            return f"Array[{mapped.ctype(of)}]"
        case Pointer(to=to) if mapped.is_typed_pointer(type_):
            return f"_Pointer[{_pointee(mapped, to)}]"
        case _:
            ctype = mapped.ctype(type_)
            return {"c_void_p": "int | None", "c_char_p": "bytes | None"}.get(ctype, ctype)


def _argument(mapped: Mapped, type_: Type) -> str:
    """Return the Python type of what may be passed to a function."""
    match type_:
        case Pointer(to=Scalar(name="char", const=const)):
            return "_Text" if const else "_Buffer"
        case Pointer(to=Scalar(name="void")):
            return "_Address"
        case Pointer(to=Aggregate(name=name)) if not mapped.is_structure(name):
            return "int"
        case Pointer(to=to) if mapped.is_typed_pointer(type_):
            return f"_To[{_pointee(mapped, to)}]"
        case _:
            return _value(mapped, type_)


def _pointee(mapped: Mapped, type_: Type) -> str:
    match type_:
        case Pointer(to=to) if mapped.is_typed_pointer(type_):
            return f"_Pointer[{_pointee(mapped, to)}]"
        case Array(of=of):
            return f"Array[{_pointee(mapped, of)}]"
        case _:
            return mapped.ctype(type_)
