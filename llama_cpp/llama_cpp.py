"""llama.cpp's own functions, structures and constants by their C names.

Nothing here is checked: a wrong argument ends the process. The libraries are loaded when a function
is first asked for.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from llama_cpp import _abi, _library

if TYPE_CHECKING:
    from llama_cpp._abi import *  # noqa: F403 - what __getattr__ gives

    _lib: ctypes.CDLL


def __getattr__(name: str) -> object:
    """Return a name of llama.cpp's headers, or ``_lib``, the loaded libllama."""
    value: object
    if name == "_lib":
        value = _library.native("llama")
    elif name in _abi.PROTOTYPES:
        value = getattr(_library.load(), name)
    elif name.startswith("_") or not hasattr(_abi, name):
        raise AttributeError(f"module 'llama_cpp.llama_cpp' has no attribute {name!r}")
    else:
        value = getattr(_abi, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List what there is."""
    public = (name for name in vars(_abi) if not name.startswith("_"))
    return sorted({*globals(), *public, *_abi.PROTOTYPES, "_lib"})
