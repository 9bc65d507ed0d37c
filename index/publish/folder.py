"""A folder that a web server serves: replaced as one tree, in one step."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ci.errors import UsageError
from index.publish.past import NOTHING, read_past
from index.publish.target import Outcome
from index.publish.tree import MARK
from index.staging import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from index.publish.target import Approve
    from index.publish.tree import Content, Tree

# A web server runs as somebody else: what is published can be read by everybody.
_FOLDER_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
# Up to here two files are compared byte by byte; above, size and time tell (wheels never change).
_COMPARED: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder on this machine.

    ``added`` are files by name that the tree gets on top, ``kept`` names that it takes over from
    the tree that is there.
    """

    path: Path
    added: Mapping[str, bytes] = field(default_factory=dict)
    kept: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self.path)

    def put(self, tree: Tree, approve: Approve) -> Outcome:
        """Make the tree beside the folder, then exchange the two.

        Raises:
            UsageError: The folder is something else than a site, or holds the site itself.
            PublishError: Another command is at work beside it.
        """
        target = self.path.resolve()
        self._refuse_foreign(target, tree)
        sent = size = 0
        with replacing(target) as staged:
            approve(read_past(target) if target.is_dir() else NOTHING)
            for name, content in tree.files.items():
                if not _link(target / name, content, _made(staged, name)):
                    _copy(content.path, staged / name)
                    sent, size = sent + 1, size + content.size
            for name in self.kept:
                if (target / name).is_file() and not (staged / name).exists():
                    _copy(target / name, staged / name)
            for name, added in self.added.items():
                (staged / name).write_bytes(added)
            staged.chmod(_FOLDER_MODE)
        back = "to go back, publish the site from before; a wheel is taken back with"
        return Outcome(sent=sent, size=size, served=target, back=f"{back} `python -m index yank`")

    def go_back(self) -> str:
        """Refuse: the tree from before is not kept.

        Raises:
            UsageError: Always.
        """
        what = f"{self.path}: a folder keeps no tree from before"
        cure = "publish to rsync:FOLDER, which keeps some, or take wheels back with `yank`"
        raise UsageError(what, cure=cure)

    def _refuse_foreign(self, target: Path, tree: Tree) -> None:
        source = tree.root.resolve()
        if target == source or target in source.parents or source in target.parents:
            what = f"{self.path} and the site {tree.root} are one in the other"
            raise UsageError(what, cure="publish to another folder")
        if not target.exists():
            return
        allowed = {*self.added, *self.kept}
        if not target.is_dir() or (
            not (target / MARK).is_file()
            and any(path.name not in allowed for path in target.iterdir())
        ):
            what = f"{self.path}: not a site that this command published, so it is not replaced"
            raise UsageError(what, cure="give another folder, or remove it yourself")


def _made(staged: Path, name: str) -> Path:
    """Return the place of a file in the new tree; its folders are there."""
    path = staged / name
    for parent in reversed(path.relative_to(staged).parents[:-1]):
        folder = staged / parent
        if not folder.is_dir():
            folder.mkdir()
            folder.chmod(_FOLDER_MODE)
    return path


def _link(there: Path, content: Content, place: Path) -> bool:
    """Take a file over from the tree that is there; False where it is not the same."""
    try:
        found, wanted = there.stat(), content.path.stat()
        if found.st_size != content.size:
            return False
        if content.size <= _COMPARED:
            if there.read_bytes() != content.path.read_bytes():
                return False
        elif found.st_mtime_ns != wanted.st_mtime_ns:
            return False
        place.hardlink_to(there)
    except OSError:
        # not there, or a file system without hard links
        return False
    return True


def _copy(source: Path, place: Path) -> None:
    with source.open("rb") as old, place.open("wb") as new:
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        # A rename may reach the disk before the bytes do; after a power cut it must not have.
        os.fsync(new.fileno())
    shutil.copystat(source, place)
    place.chmod(_FILE_MODE)
