"""Errors of the toolchain: each says what is wrong and what to do, and has an exit code per kind."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a write fails with where there is no room: a full disk, a quota, a limit."""


class ToolchainError(Exception):
    """A step that cannot go on.

    ``what`` says where and what is wrong, ``cure`` what to choose or run next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, cure: str) -> None:
        super().__init__(f"{what}\n  -> {cure}")
        self.what = what
        self.cure = cure


class UsageError(ToolchainError):
    """The command line names something that does not exist or does not go together."""

    exit_code = 2


class TableError(ToolchainError):
    """``ci/targets.toml`` or the pin of llama.cpp is not well formed."""

    exit_code = 3


class VendorError(ToolchainError):
    """The source tree of llama.cpp is missing, of another commit, or not what its hash says."""

    exit_code = 4


class ToolMissingError(ToolchainError):
    """A compiler, git, a container engine or a toolkit is not on this machine."""

    exit_code = 5


class NetworkError(ToolchainError):
    """Something could not be downloaded."""

    exit_code = 6


class BuildError(ToolchainError):
    """The native build or the build of the wheel failed."""

    exit_code = 7


class WheelError(ToolchainError):
    """A finished wheel is damaged or is not what the table says."""

    exit_code = 8


class SmokeError(ToolchainError):
    """An installed wheel does not give the known answers."""

    exit_code = 9


class CatalogueError(ToolchainError):
    """The catalogue of the index is damaged, or a wheel must not enter it."""

    exit_code = 10


class PublishError(ToolchainError):
    """The index could not be published."""

    exit_code = 11


class DiskError(ToolchainError):
    """Something could not be written: no room, no right to."""

    exit_code = 12


class ReleaseError(ToolchainError):
    """A set of wheels is not what a release must be, or a release folder is not what it says."""

    exit_code = 13


def disk_error(error: OSError, place: Path) -> DiskError:
    """Return the error for something that could not be written at ``place``, with its cure."""
    if error.errno in NO_ROOM:
        return DiskError(
            f"there is no room left for {place}",
            cure="free some, or put the cache on another disk with LLAMA_CPP_PYTHON_CACHE=FOLDER"
            " (a CUDA toolkit takes 1 to 2 GB, a compiler cache up to 5 GB); nothing was left"
            " half-written",
        )
    return DiskError(
        f"{place} cannot be written: {error.strerror or error}", cure="mend its permissions"
    )
