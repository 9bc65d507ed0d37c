"""Replacing a folder as a whole: the new tree is made beside the old, then one step swaps them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

from ci.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# linux/fcntl.h and linux/fs.h; sys/stdio.h of macOS.
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_RENAME_SWAP: Final = 2
# What a kernel or a file system says that cannot exchange.
_CANNOT: Final = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, so that two commands do not write there at the same time.

    The lock dies with its process and leaves no file behind.

    Raises:
        PublishError: Another command holds it.
    """
    if sys.platform == "win32":
        # A folder cannot be locked there; releases are made on Linux.
        yield
        return
    import fcntl  # noqa: PLC0415  # does not exist on Windows

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        what = f"{folder}: another index command is writing there"
        raise PublishError(what, cure="wait for it, then run this again") from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends without an error it becomes ``target``.

    Whoever looks at ``target`` meanwhile, and however this process ends, sees the old tree or
    the new one, whole. What a killed run left behind is removed by the next.

    Raises:
        PublishError: Another command is at work beside ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.new")
    with locked(target.parent):
        if _old(target).exists() and not target.exists():
            _old(target).rename(target)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        try:
            yield staged
            _swap(staged, target)
        finally:
            # After the swap this is the old tree, after an error the unfinished one.
            shutil.rmtree(staged, ignore_errors=True)


def replace_file(path: Path, content: bytes) -> None:
    """Put new content into a file in one step: a reader sees the old file or the new one."""
    staged = unfinished(path)
    with staged.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def unfinished(path: Path) -> Path:
    """Return where `replace_file` writes, and what it leaves there if it is killed."""
    return path.with_name(f".{path.name}.new")


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _swap(staged: Path, target: Path) -> None:
    if not target.exists():
        staged.rename(target)
        return
    if _exchange(staged, target):
        return
    # Two renames instead of one: `target` is missing between them, but never half of a tree.
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        staged.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    if sys.platform == "win32":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    paths = (os.fsencode(one), os.fsencode(other))
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        status = libc.renamex_np(*paths, ctypes.c_uint(_RENAME_SWAP))
    elif hasattr(libc, "renameat2"):
        flags = ctypes.c_uint(_RENAME_EXCHANGE)
        status = libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flags)
    else:
        return False
    if status == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
