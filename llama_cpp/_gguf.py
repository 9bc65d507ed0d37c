"""A look at the first bytes of a model file before llama.cpp opens it.

llama.cpp reports a bad file as one log line among many; the checks here name the commonest causes
(wrong path, interrupted download, another format) in words. Format: ggml/docs/gguf.md in llama.cpp.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from llama_cpp._errors import ModelLoadError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"GGUF"
_NEWEST_VERSION = 3
_OLDEST_VERSION = 2  # llama.cpp has dropped version 1
_HEADER = struct.Struct("<4sIQQ")

# gguf.md: a tensor's description takes at least 8 (name length) + 4 + 8 (one dimension) + 4 + 8 bytes,
# a key-value pair at least 8 (key length) + 4 (type) + 1 (value).
_SMALLEST_TENSOR_INFO = 32
_SMALLEST_PAIR = 13

_OTHER_FORMATS = (
    (b"ggjt", "a GGML file of 2023 (GGJT)"),
    (b"tjgg", "a GGML file of 2023 (GGJT)"),
    (b"lmgg", "a GGML file of 2023"),
    (b"FUGG", "a big-endian GGUF file"),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint?)"),
    (b"<!DO", "an HTML page (a failed download?)"),
    (b"<htm", "an HTML page (a failed download?)"),
    (b"vers", "a Git LFS pointer (run `git lfs pull`)"),
)


def check_file(path: Path, what: str = "model") -> None:
    """Raise :class:`ModelLoadError` where ``path`` cannot be a GGUF file that llama.cpp reads.

    Reads 24 bytes. What is inside is llama.cpp's to judge.

    Args:
        path: the file.
        what: how to call it in the message ("model", "LoRA adapter").
    """
    name = os.fspath(path)
    if "\0" in name:
        raise ModelLoadError(f"the {what} path {name!r} contains a NUL character")
    if path.is_dir():
        found = sorted(entry.name for entry in path.glob("*.gguf"))[:5]
        cure = f"; it holds {', '.join(found)}: name one of them" if found else ""
        raise ModelLoadError(f"{name} is a directory, not a {what} file{cure}")
    if not path.exists():
        raise ModelLoadError(
            f"{what} file {name} does not exist (current directory: {os.getcwd()}); "  # noqa: PTH109
            "check the path, or download the file first"
        )
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ModelLoadError(f"cannot read {what} file {name}: {error.strerror}") from error
    if not head:
        raise ModelLoadError(f"{what} file {name} is empty: download it again")
    if head[:4] != _MAGIC:
        raise ModelLoadError(f"{name} is not a GGUF file: {_describe(head)}")
    if len(head) < _HEADER.size:
        raise ModelLoadError(f"{what} file {name} is truncated after {size} bytes: {AGAIN}")
    _, version, tensors, pairs = _HEADER.unpack(head)
    _check_version(name, what, version)
    smallest = _HEADER.size + tensors * _SMALLEST_TENSOR_INFO + pairs * _SMALLEST_PAIR
    if smallest > size:
        raise ModelLoadError(
            f"{what} file {name} is truncated or damaged: it announces {tensors} tensors and {pairs} "
            f"metadata pairs, but has only {size} bytes: {AGAIN}"
        )


AGAIN = "download it again and compare its size and sha256 with the source"


def _check_version(name: str, what: str, version: int) -> None:
    if version > _NEWEST_VERSION and version & 0xFFFF == 0:
        raise ModelLoadError(
            f"{what} file {name} is a big-endian GGUF file; get the little-endian one"
        )
    if version > _NEWEST_VERSION:
        raise ModelLoadError(
            f"{what} file {name} has GGUF version {version}; this llama.cpp reads up to version "
            f"{_NEWEST_VERSION}: upgrade llama-cpp-python, or convert the {what} for version "
            f"{_NEWEST_VERSION}"
        )
    if version < _OLDEST_VERSION:
        raise ModelLoadError(
            f"{what} file {name} has GGUF version {version}, which llama.cpp no longer reads: "
            f"get a newer conversion of the {what}"
        )


def _describe(head: bytes) -> str:
    for magic, description in _OTHER_FORMATS:
        if head.startswith(magic):
            return f"it looks like {description}"
    return f"it begins with {head[:4]!r} instead of {_MAGIC!r}"
