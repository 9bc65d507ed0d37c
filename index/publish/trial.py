"""A trial of what is served: real pip installs from it, as a user would."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import tempfile
import threading
import venv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

import requests
from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ci.errors import PublishError
from index.serve import Server
from index.wheel import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packaging.tags import Tag
    from packaging.version import Version

    from index.publish.past import Past
    from index.publish.tree import Link, Tree

_TIMEOUT: Final = 900
_LOOK: Final = "import llama_cpp, sys; sys.stdout.write(llama_cpp.__file__)"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One wheel to try from the page that names it."""

    page: str
    link: Link
    version: Version | None
    tags: frozenset[Tag]

    @property
    def is_plain(self) -> bool:
        """Whether pip reads the name; that of a variant wheel it does not."""
        return self.version is not None

    @property
    def fits(self) -> bool:
        """Whether the wheel installs here."""
        return not self.tags.isdisjoint(sys_tags())


def subjects(tree: Tree, past: Past, pages: Iterable[str]) -> tuple[Subject, ...]:
    """Choose what to try: of each page and platform the newest wheel, new ones before others."""
    chosen: dict[tuple[str, str], Subject] = {}
    rank: dict[tuple[str, str], tuple[bool, bool, Version | None]] = {}
    for page in pages:
        for link in tree.pages[page]:
            if page.rpartition("/")[2] != PROJECT or link.yanked or not link.name.endswith(".whl"):
                continue
            subject = _subject(page, link)
            key = (page, link.name.removesuffix(".whl").split("-py3-", 1)[-1])
            now = ((link.name, link.sha256) not in past.links, subject.is_plain, subject.version)
            before = rank.get(key)
            # A variant's version is not read: the last one on the page is the newest.
            if (
                before is None
                or now[:2] > before[:2]
                or (now[:2] == before[:2] and _newer(now[2], before[2]))
            ):
                chosen[key], rank[key] = subject, now
    return tuple(chosen[key] for key in sorted(chosen))


def _newer(one: Version | None, other: Version | None) -> bool:
    return one is None or other is None or one >= other


def _subject(page: str, link: Link) -> Subject:
    try:
        _, version, _, tags = parse_wheel_filename(link.name)
    except InvalidWheelFilename:
        return Subject(page=page, link=link, version=None, tags=frozenset())
    return Subject(page=page, link=link, version=version, tags=tags)


class Trial:
    """A fresh environment with pip, made when the first wheel is tried; used for all of them."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    @cached_property
    def _python(self) -> Path:
        folder = self._scratch / "env"
        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(folder)
        return folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(self, subjects: Sequence[Subject], url: str) -> tuple[str, ...]:
        """Install or download each wheel from the index at ``url`` and say what was seen.

        Raises:
            PublishError: One cannot be installed, is not the one that the page should name, or
                cannot be imported.
        """
        return tuple(self._try(subject, url) for subject in subjects)

    def _try(self, subject: Subject, url: str) -> str:
        name = subject.link.name
        if not subject.is_plain:
            self._fetch(subject, url)
            return f"downloaded {name} from {subject.page}/"
        if not subject.fits:
            self._download(subject, url)
            return f"downloaded {name} from {subject.page}/ with pip"
        self._install(subject, url)
        return f"installed {name} from {subject.page}/ with pip and imported it"

    def _download(self, subject: Subject, url: str) -> None:
        """Let pip choose by name, version and platform, and compare what it chose."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            platforms = sorted({tag.platform for tag in subject.tags})
            self._pip(
                "download",
                "--dest",
                folder,
                *(f"--platform={platform}" for platform in platforms),
                "--python-version=3.12",
                "--implementation=py",
                "--abi=none",
                subject=subject,
                url=url,
            )
            found = sorted(Path(folder).iterdir())
            if [path.name for path in found] != [subject.link.name]:
                raise _failure(subject, url, f"pip chose {', '.join(path.name for path in found)}")
            self._compare(subject, url, hashlib.sha256(found[0].read_bytes()).hexdigest())

    def _install(self, subject: Subject, url: str) -> None:
        report = self._scratch / "report.json"
        self._pip("install", "--force-reinstall", f"--report={report}", subject=subject, url=url)
        said = json.loads(report.read_bytes())["install"][0]["download_info"]
        self._compare(subject, url, str(said["archive_info"]["hashes"]["sha256"]))
        done = subprocess.run(
            [self._python, "-I", "-c", _LOOK],
            cwd=self._scratch,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise _failure(subject, url, f"`import llama_cpp` failed\n{_tail(done.stderr)}")
        if not Path(done.stdout).is_relative_to(self._scratch):
            raise _failure(subject, url, f"`import llama_cpp` took {done.stdout}")

    def _pip(self, verb: str, *options: str, subject: Subject, url: str) -> None:
        index = urljoin(url, f"{subject.page.rpartition('/')[0]}/")
        done = subprocess.run(
            [
                str(self._python),
                "-I",
                "-m",
                "pip",
                "--isolated",
                "--disable-pip-version-check",
                "--no-cache-dir",
                "--no-input",
                verb,
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                f"--index-url={index}",
                *options,
                f"{PROJECT}=={subject.version}",
            ],
            cwd=self._scratch,
            env=_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise _failure(subject, url, f"pip {verb} failed\n{_tail(done.stderr)}")

    def _fetch(self, subject: Subject, url: str) -> None:
        """Download a file by the page's own link."""
        link = subject.link
        address = urljoin(urljoin(url, f"{subject.page}/"), link.url)
        try:
            with requests.get(address, stream=True, timeout=60) as answer:
                answer.raise_for_status()
                digest = hashlib.sha256()
                for chunk in answer.iter_content(_CHUNK):
                    digest.update(chunk)
        except requests.RequestException as error:
            raise _failure(subject, url, str(error)) from error
        if digest.hexdigest() != link.sha256:
            raise _failure(subject, url, f"{address} has sha256 {digest.hexdigest()}")

    def _compare(self, subject: Subject, url: str, found: str) -> None:
        if found != subject.link.sha256:
            raise _failure(
                subject, url, f"pip took one with sha256 {found}, not {subject.link.sha256}"
            )


def _failure(subject: Subject, url: str, why: str) -> PublishError:
    what = f"{subject.link.name} from {urljoin(url, subject.page)}/: {why}"
    return PublishError(what, cure="look at that page and that file with `curl -i`")


def _tail(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.strip().splitlines()[-8:])


def _environment() -> dict[str, str]:
    """Return this process's variables without those that say where packages come from."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "PYTHON", "UV_", "LLAMA_CPP", "VIRTUAL_ENV"))
    } | {"PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1,localhost"}


@contextlib.contextmanager
def trial() -> Iterator[Trial]:
    """Give a trial in a folder of its own, which is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="trial-") as scratch:
        yield Trial(Path(scratch).resolve())


@contextlib.contextmanager
def served(root: Path) -> Iterator[str]:
    """Serve a tree on loopback and give its address."""
    with Server(root, port=0, log=lambda _: None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()
