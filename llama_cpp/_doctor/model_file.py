"""Which architecture a model file needs, and whether the libraries know it, without loading either.

Format: ggml/docs/gguf.md in llama.cpp.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from llama_cpp._errors import ModelLoadError
from llama_cpp._gguf import check_file

if TYPE_CHECKING:
    from typing import BinaryIO

_KEY = "general.architecture"
_STRING, _ARRAY = 8, 9
# gguf.md: gguf_metadata_value_type, the bytes of each that has a fixed size
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_LONGEST = 1 << 16


def model_architecture(path: Path) -> str:
    """Return a GGUF file's ``general.architecture``, such as ``qwen3vl``.

    Raises:
        ModelLoadError: no GGUF file, a damaged one, or one that does not say.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            file.seek(16)
            (pairs,) = struct.unpack("<Q", _take(file, 8))
            for _ in range(pairs):
                key = _string(file)
                (kind,) = struct.unpack("<I", _take(file, 4))
                if key == _KEY and kind == _STRING:
                    return _string(file)
                _skip(file, kind)
    except (OSError, ValueError, struct.error) as error:
        raise ModelLoadError(f"model file {path} is damaged: {error}; download it again") from error
    raise ModelLoadError(f"model file {path} does not say its architecture ({_KEY})")


def knows_architecture(folder: Path, architecture: str) -> bool:
    """Return whether libllama has a model architecture: its name is a string in the library."""
    wanted = b"\0" + architecture.encode() + b"\0"
    names = ("libllama.so", "libllama.dylib", "libllama.dll", "llama.dll")
    return any(wanted in (folder / name).read_bytes() for name in names if (folder / name).exists())


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        (length,) = struct.unpack("<Q", _take(file, 8))
        file.seek(length, 1)
    elif kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _take(file, 12))
        if inner in _SIZES:
            file.seek(_SIZES[inner] * count, 1)
        else:
            for _ in range(count):
                _skip(file, inner)
    elif kind in _SIZES:
        file.seek(_SIZES[kind], 1)
    else:
        raise ValueError(f"it has a value of unknown type {kind}")


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _take(file, 8))
    if length > _LONGEST:
        raise ValueError(f"it has a name of {length} bytes")
    return _take(file, length).decode("utf-8", "replace")


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise ValueError("it ends in the middle of its metadata")
    return data
