"""Python bindings of llama.cpp.

Importing this package loads nothing native and takes about a millisecond; its names are imported
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from llama_cpp._version import __version__

if TYPE_CHECKING:
    from llama_cpp._abi import *  # noqa: F403 - what __getattr__ gives
    from llama_cpp._build_info import BuildInfo, build_info
    from llama_cpp._errors import GenerationError, LlamaError, ModelLoadError, ValidationError
    from llama_cpp._library import (
        Device,
        cpu_variant,
        libraries,
        module_failures,
        system_info,
    )
    from llama_cpp._remote import add_rpc_servers, devices
    from llama_cpp.llama import Llama

__all__ = [
    "BuildInfo",
    "Device",
    "GenerationError",
    "Llama",
    "LlamaError",
    "ModelLoadError",
    "ValidationError",
    "__version__",
    "add_rpc_servers",
    "build_info",
    "cpu_variant",
    "devices",
    "libraries",
    "module_failures",
    "system_info",
]

_HOMES = {
    "BuildInfo": "_build_info",
    "Device": "_library",
    "GenerationError": "_errors",
    "Llama": "llama",
    "LlamaError": "_errors",
    "ModelLoadError": "_errors",
    "ValidationError": "_errors",
    "add_rpc_servers": "_remote",
    "build_info": "_build_info",
    "cpu_variant": "_library",
    "devices": "_remote",
    "libraries": "_library",
    "module_failures": "_library",
    "system_info": "_library",
}


_MODULES = ("llama", "llama_cpp", "llama_types")


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562).

    The constants that parameters take (``LLAMA_POOLING_TYPE_MEAN``, ``GGML_TYPE_Q8_0`` …) and the
    other names of llama.cpp's headers come from the generated declarations.
    """
    if name in _MODULES:
        return importlib.import_module(f"llama_cpp.{name}")
    if name.startswith("_"):
        raise AttributeError(f"module 'llama_cpp' has no attribute {name!r}")
    home = importlib.import_module(f"llama_cpp.{_HOMES.get(name, '_abi')}")
    try:
        value: object = getattr(home, name)
    except AttributeError:
        raise AttributeError(f"module 'llama_cpp' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
