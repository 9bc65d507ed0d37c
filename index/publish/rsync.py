"""A server that rsync reaches: trees side by side, and one symbolic link to the one in use."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ci.errors import PublishError, ToolMissingError, UsageError
from index.publish.past import NOTHING, SAID, Past, read_past
from index.publish.target import Outcome
from index.publish.tree import MARK
from index.staging import locked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index.publish.target import Approve
    from index.publish.tree import Tree

CURRENT: Final = "current"
TREES: Final = "trees"
# Sorted by name they are sorted by age; the end is the tree's digest.
_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")
_LISTED: Final = re.compile(r"[dl]\S+ +[\d,.]+ \S+ \S+ (?P<name>.+?)(?: -> (?P<to>.*))?")
# rsync(1), EXIT VALUES: "Partial transfer due to error", which is also what a path that is not
# there gives; a daemon says "Error starting client-server protocol" of a module's folder.
_MISSING: Final = (23, 5)
# Numbers and permissions of this machine mean nothing there: everybody may read what is published.
_COPY: Final = ("--recursive", "--times", "--chmod=D755,F644", "--partial", "--timeout=300")


@dataclass(frozen=True, kw_only=True)
class Rsync:
    """``trees/<id>/`` and the link ``current`` in a folder on a server, or on this machine.

    ``keep`` is how many trees stay, the current one among them; ``now`` the time that a new tree
    is named after (``20261121T120000Z``); ``options`` go to rsync before everything else.
    """

    destination: str
    now: str
    keep: int = 3
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The destination as it was given."""
        return self.destination

    @property
    def _local(self) -> Path | None:
        # rsync(1): "a colon … before the first slash" makes it a host.
        is_remote = ":" in self.destination.split("/", 1)[0] or "://" in self.destination
        return None if is_remote else Path(self.destination)

    def put(self, tree: Tree, approve: Approve) -> Outcome:
        """Send the tree beside those that are there, then let ``current`` name it.

        Raises:
            ToolMissingError: rsync is not on this machine.
            PublishError: rsync failed, or another publish switched meanwhile.
        """
        with self._held():
            before = self._current()
            approve(NOTHING if before is None else self._past(before))
            there = self._trees()
            name = next(
                (each for each in reversed(there) if each.endswith(tree.digest[:12])),
                f"{self.now}-{tree.digest[:12]}",
            )
            sent, size = self._send(tree, name, like=before)
            if self._current() != before:
                what = f"{self.destination}: another publish has switched `{CURRENT}` meanwhile"
                raise PublishError(what, cure="run this again: it begins with what is there now")
            self._switch(name)
            dropped = self._drop(name)
        local = self._local
        return Outcome(
            sent=sent,
            size=size,
            served=None if local is None else local / TREES / name,
            back=f"to go back to {before}: `publish --to rsync:{self.destination} --back`"
            if before not in {None, name}
            else "",
            notes=(
                f"{CURRENT} -> {TREES}/{name}, it was {before or 'not there'}",
                *(f"removed {TREES}/{each}" for each in dropped),
            ),
        )

    def go_back(self) -> str:
        """Let ``current`` name the newest tree that is older than the one it names.

        Raises:
            UsageError: There is none.
        """
        with self._held():
            current = self._current()
            older = [name for name in self._trees() if current is not None and name < current]
            if not older:
                what = f"{self.destination}: no tree is older than {current or 'nothing'}"
                raise UsageError(what, cure="publish a site; a larger --keep keeps more trees")
            self._switch(older[-1])
            return f"{CURRENT} -> {TREES}/{older[-1]}, it was {current}"

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the folder where it is on this machine; rsync has no lock for others."""
        local = self._local
        if local is None:
            yield
            return
        local.mkdir(parents=True, exist_ok=True)
        with locked(local):
            yield

    def _current(self) -> str | None:
        listed = self._list(CURRENT)
        if listed is None:
            return None
        for _, to in listed:
            # A daemon without chroot may say it as an absolute path.
            name = (to or "").rstrip("/").rpartition("/")[2]
            if _ID.fullmatch(name):
                return name
        what = f"{self.destination}/{CURRENT} is there and is no link to one of {TREES}/"
        raise PublishError(what, cure="give another destination, or remove it yourself")

    def _trees(self) -> list[str]:
        listed = self._list(f"{TREES}/") or ()
        return sorted(name for name, _ in listed if _ID.fullmatch(name))

    def _list(self, path: str) -> tuple[tuple[str, str | None], ...] | None:
        """Return names and link targets in a folder there; None where it is not there."""
        done = self._start("--list-only", "--links", f"{self.destination}/{path}")
        if done.returncode in _MISSING and ("No such file" in done.stderr or not done.stderr):
            return None
        self._check(done)
        matches = map(_LISTED.fullmatch, done.stdout.splitlines())
        return tuple((match["name"], match["to"]) for match in matches if match)

    def _past(self, name: str) -> Past:
        with tempfile.TemporaryDirectory(prefix="published-") as folder:
            wanted = [f"--include=/{said}" for said in SAID]
            source = f"{self.destination}/{TREES}/{name}/"
            include = ("--include=/whl/", "--include=/whl/*/", "--include=/whl/*/*/")
            self._run("--recursive", *wanted, *include, "--exclude=*", source, f"{folder}/")
            return read_past(Path(folder))

    def _send(self, tree: Tree, name: str, *, like: str | None) -> tuple[int, int]:
        links = () if like in {None, name} else (f"--link-dest=../{like}/",)
        source, target = f"{tree.root.resolve()}/", f"{self.destination}/{TREES}/{name}/"
        # --delete: what an interrupted run of this very tree left half-sent under another name.
        said = self._run(*_COPY, "--delete", "--mkpath", "--stats", *links, source, target)
        # Once more by content: a page may have changed within the size and time of the old one.
        self._run(*_COPY, "--checksum", "--exclude=*.whl", *links, source, target)
        return _stat(said, "regular files transferred"), _stat(said, "transferred file size")

    def _switch(self, name: str) -> None:
        """Replace the link; rsync makes it under another name and renames it."""
        with tempfile.TemporaryDirectory(prefix="current-") as folder:
            link = Path(folder) / CURRENT
            link.symlink_to(f"{TREES}/{name}")
            self._run("--links", str(link), f"{self.destination}/")
        done = self._start("--list-only", f"{self.destination}/{CURRENT}/{MARK}")
        if done.returncode != 0 or self._current() != name:
            what = f"{self.destination}/{CURRENT} does not lead to {TREES}/{name}"
            cure = "a daemon that changes links needs `munge symlinks = no` for this module"
            raise PublishError(what, cure=cure)

    def _drop(self, current: str) -> list[str]:
        """Remove the oldest trees; never the current one, never one that is being sent."""
        older = [name for name in self._trees() if name < current]
        dropped = older[: max(0, len(older) - (self.keep - 1))]
        if dropped:
            with tempfile.TemporaryDirectory(prefix="empty-") as empty:
                rules = [f"--include=/{name}/***" for name in dropped]
                target = f"{self.destination}/{TREES}/"
                self._run("--recursive", "--delete", *rules, "--exclude=*", f"{empty}/", target)
        return dropped

    def _run(self, *arguments: str) -> str:
        done = self._start(*arguments)
        self._check(done)
        return done.stdout

    def _check(self, done: subprocess.CompletedProcess[str]) -> None:
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()][-6:]
            said = "".join(f"\n  | {line}" for line in lines)
            what = f"{self.destination}: rsync ended with {done.returncode}{said}"
            cure = "mend that, then run this again: it goes on where it stopped"
            raise PublishError(what, cure=cure)

    def _start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                ["rsync", "--no-motd", "--no-human-readable", *self.options, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except FileNotFoundError as error:
            what = "there is no rsync on this machine"
            raise ToolMissingError(what, cure="install it (Debian: apt install rsync)") from error


def _stat(text: str, name: str) -> int:
    match = re.search(rf"{name}: ([\d,.]+)", text)
    return int(re.sub(r"\D", "", match[1])) if match else 0
