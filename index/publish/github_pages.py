"""A GitHub Pages branch in a checkout, where one commit is the step; or a folder for an upload."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ci.errors import PublishError, ToolMissingError, UsageError
from index.publish.folder import Folder
from index.publish.past import fetch_past
from index.publish.target import Outcome
from index.publish.tree import MARK
from index.staging import locked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from index.publish.target import Approve
    from index.publish.tree import Tree

# "GitHub blocks files larger than 100 MiB"; "Published GitHub Pages sites may be no larger than
# 1 GB" (limits of repositories and of Pages).
FILE_LIMIT: Final = 100 * 1024 * 1024
SITE_LIMIT: Final = 1_000_000_000
# Without it Pages runs Jekyll, which leaves out files and folders that begin with `_` or `.`.
_ADDED: Final = {".nojekyll": b""}
_KEPT: Final = ("CNAME", "README.md", "LICENSE", ".gitattributes", ".gitignore")
# Seconds to wait for another git that holds a lock, and between looks.
_PATIENCE: Final = 10.0
_PAUSE: Final = 0.1
_ELSEWHERE: Final = (
    "put the wheels somewhere else (`python -m index publish-wheels`) and make the site with"
    " `python -m index build --base-url URL`"
)


@dataclass(frozen=True, kw_only=True)
class GitHubPages:
    """The checkout of a branch, or a plain folder; ``push`` also sends the commit away."""

    path: Path
    push: bool = False

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self.path)

    def put(self, tree: Tree, approve: Approve) -> Outcome:
        """Commit the tree to the branch that is checked out, or replace the folder.

        Raises:
            UsageError: The branch is of something else, or has changes that are not committed.
            PublishError: The site is too large for Pages, or git refused.
        """
        _refuse_large(tree)
        if not (self.path / ".git").exists():
            if self.push:
                what = f"{self.path} is no checkout, so there is nothing to push"
                raise UsageError(what, cure="give a checkout of the Pages branch, or leave --push")
            plain = Folder(path=self.path, added=_ADDED, kept=_KEPT)
            return plain.put(tree, approve)
        with locked(self.path):
            return self._commit(tree, approve)

    def go_back(self) -> str:
        """Refuse: git does it.

        Raises:
            UsageError: Always.
        """
        what = f"{self.path}: git keeps what was there before"
        raise UsageError(what, cure=f"git -C {self.path} revert HEAD, and push that")

    def _commit(self, tree: Tree, approve: Approve) -> Outcome:
        git = _Git(folder=self.path)
        old = git.try_("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        there = git.entries(old)
        self._refuse_foreign(there)
        approve(fetch_past(there, lambda name: git.blob(there[name])))
        ids = _write_objects(git, tree)
        new_tree = git.tree({**{name: there[name] for name in _KEPT if name in there}, **ids})
        same = old is not None and git.run("rev-parse", f"{old}^{{tree}}") == new_tree
        dirty = git.run("status", "--porcelain", "--untracked-files=no") if old else ""
        if dirty and not same:
            what = f"{self.path} has changes that are not committed: {dirty.splitlines()[0]}"
            raise UsageError(what, cure=f"commit them, or git -C {self.path} reset --hard")
        commit = old
        if not same:
            message = f"The index: {len(tree.files)} files, {tree.digest[:12]}"
            parents = () if old is None else ("-p", old)
            commit = git.run("commit-tree", new_tree, *parents, "-m", message)
            # One step, and only if the branch is still where it was.
            git.run("update-ref", "-m", "publish", "HEAD", commit, old or "")
        notes = [f"{'nothing new, it is' if same else 'committed'} {commit}"]
        try:
            git.run("reset", "--hard", "--quiet")
        except PublishError as error:
            # The commit is what is published; the checkout is only a look at it.
            notes.append(f"the checkout is not like the commit: {error.what}")
        is_checked_out = len(notes) == 1
        if self.push:
            git.run("push")
            notes.append("pushed")
        else:
            notes.append(f"`git -C {self.path} push` makes it public")
        sent = [name for name, blob in ids.items() if there.get(name) != blob]
        return Outcome(
            sent=len(sent),
            size=sum(tree.files[name].size for name in sent if name in tree.files),
            served=self.path if is_checked_out else None,
            back=f"to go back: git -C {self.path} revert HEAD, and push that",
            notes=tuple(notes),
        )

    def _refuse_foreign(self, there: Mapping[str, str]) -> None:
        others = [name for name in there if name not in _ADDED and name not in _KEPT]
        if others and MARK not in there:
            what = f"{self.path}: the branch has {others[0]} and is no index, so it is not replaced"
            cure = "check out the Pages branch there (a new one: git switch --orphan gh-pages)"
            raise UsageError(what, cure=cure)


def _refuse_large(tree: Tree) -> None:
    for name, content in tree.files.items():
        if content.size > FILE_LIMIT:
            what = f"{name} has {content.size / 1e6:.0f} MB; GitHub takes files up to 100 MiB"
            raise PublishError(what, cure=_ELSEWHERE)
    if tree.size > SITE_LIMIT:
        what = f"the site has {tree.size / 1e9:.2f} GB; GitHub Pages takes up to 1 GB"
        raise PublishError(what, cure=_ELSEWHERE)


def _write_objects(git: _Git, tree: Tree) -> dict[str, str]:
    """Put every file into git's store and return their ids; the checkout is not touched."""
    names = list(tree.files)
    paths = "".join(f"{tree.files[name].path.resolve()}\n" for name in names)
    # --no-filters: no attribute and no setting may change a byte.
    ids = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", given=paths.encode())
    added = {
        name: git.run("hash-object", "-w", "--no-filters", "--stdin", given=content)
        for name, content in _ADDED.items()
    }
    return {**dict(zip(names, ids.splitlines(), strict=True)), **added}


@dataclass(frozen=True, kw_only=True)
class _Git:
    folder: Path

    def run(self, *arguments: str, given: bytes = b"") -> str:
        """Run git there and return what it printed, without the last newline."""
        return self._run(*arguments, given=given).decode().rstrip("\n")

    def try_(self, *arguments: str) -> str | None:
        """Run git there; None where it ended with an error."""
        try:
            return self.run(*arguments)
        except PublishError:
            return None

    def blob(self, name: str) -> bytes:
        """Return the content of a file by its id."""
        return self._run("cat-file", "blob", name)

    def entries(self, commit: str | None) -> dict[str, str]:
        """Return the id of each file of a commit, by its path."""
        if commit is None:
            return {}
        found = {}
        for line in self.run("ls-tree", "-r", "-z", commit).split("\0"):
            if line:
                description, _, name = line.partition("\t")
                found[name] = description.split()[2]
        return found

    def tree(self, blobs: Mapping[str, str]) -> str:
        """Write a tree of these files and return its id."""
        lines = "".join(f"100644 {blob}\t{name}\0" for name, blob in sorted(blobs.items()))
        name = f"publish-{hashlib.sha256(lines.encode()).hexdigest()[:12]}-{os.getpid()}"
        index = Path(self.run("rev-parse", "--absolute-git-dir")) / name
        try:
            extra = {"GIT_INDEX_FILE": str(index)}
            self._run("update-index", "-z", "--index-info", given=lines.encode(), extra=extra)
            return self._run("write-tree", extra=extra).decode().strip()
        finally:
            index.unlink(missing_ok=True)

    def _run(
        self, *arguments: str, given: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> bytes:
        command = ["git", "-c", "core.autocrlf=false", "-C", str(self.folder), *arguments]
        environment = {**os.environ, **(extra or {}), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                done = subprocess.run(
                    command,
                    input=given,
                    capture_output=True,
                    check=False,
                    env=environment,
                    # Killed with us, git would leave a lock that only a person may remove.
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                what = "there is no git on this machine"
                raise ToolMissingError(what, cure="install it") from error
            if done.returncode == 0:
                return done.stdout
            said = done.stderr.decode(errors="replace").strip() or "(it said nothing)"
            if ".lock': File exists" not in said or time.monotonic() > deadline:
                what = f"{self.folder}: git {arguments[0]} ended with {done.returncode}: {said}"
                raise PublishError(what, cure="mend that, then run this again")
            time.sleep(_PAUSE)
