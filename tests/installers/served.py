"""A site made and served by the index's own commands, and what clients ask of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from packaging.tags import platform_tags

from ci.table import load_table

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
# 2026-11-21T12:00:00Z, the upload time of every wheel in these tests
EPOCH: Final = "1795262400"

# whom to trust, and whom the index under test may ask for what our wheels require
_TRUST: Final = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE")
_UPSTREAM: Final = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
# what an earlier run was told there: some hundred requests
_TOLD: Final = ROOT / "build" / "dependencies.jsonl"

_LINE: Final = re.compile(r"(?P<method>\S+) (?P<path>\S+) (?P<status>\d+) (?P<size>\d+)")


def running_platform() -> str:
    """Return the tag of the running platform as our table has it."""
    ours = {platform.wheel_tag for platform in load_table().platforms.values()}
    return next(tag for tag in platform_tags() if tag in ours)


def isolated(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of this machine says where packages come from."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", *_TRUST)
        if name in os.environ
    }
    return {
        **kept,
        "HOME": str(home),
        "USERPROFILE": str(home),
        "APPDATA": str(home),
        "XDG_CONFIG_HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "NO_PROXY": "127.0.0.1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_CACHE_DIR": str(home / "uv-cache"),
        "UV_LINK_MODE": "copy",
        "POETRY_VIRTUALENVS_IN_PROJECT": "1",
        "POETRY_CACHE_DIR": str(home / "poetry-cache"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "PDM_CACHE_DIR": str(home / "pdm-cache"),
        "PDM_CHECK_UPDATE": "0",
        "SOURCE_DATE_EPOCH": EPOCH,
    }


def update(dist: Path, folder: Path, env: Mapping[str, str]) -> Path:
    """Make ``folder/site`` of the wheels in ``dist``, as `nox -s index` does, and return it."""
    site = folder / "site"
    files = ["--catalogue", str(folder / "catalogue.jsonl"), "--out", str(site)]
    dependencies = folder / "dependencies.jsonl"
    if _TOLD.exists():
        shutil.copy(_TOLD, dependencies)
    upstream = {name: os.environ[name] for name in _UPSTREAM if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "index", "update", "--wheels", str(dist), *files],
        cwd=ROOT,
        env={**env, **upstream},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if dependencies.exists() and not _TOLD.exists():
        _TOLD.parent.mkdir(exist_ok=True)
        # whole or not at all: other tests run beside this one
        Path(shutil.copy(dependencies, folder / "told")).replace(_TOLD)
    return site


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request and its answer; ``size`` is the length of the body in bytes."""

    method: str
    path: str
    status: int
    size: int


class Served:
    """``python -m index serve`` as a process; use it as a context."""

    def __init__(self, site: Path, log: Path, env: Mapping[str, str]) -> None:
        self.site, self.log = site, log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "index", "serve", "--root", str(site), "--port", "0"],
                cwd=ROOT,
                env=dict(env),
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", first)
        if found is None:
            self.stop()
        assert found is not None, first + log.read_text(encoding="utf-8")
        self.url = found[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def index(self, backend: str) -> str:
        """Return the address of a backend's index."""
        return f"{self.url}whl/{backend}/"

    def requests(self) -> list[Request]:
        """Return what was asked for so far."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [
            Request(
                method=match["method"],
                path=match["path"],
                status=int(match["status"]),
                size=int(match["size"]),
            )
            for match in map(_LINE.fullmatch, lines)
            if match is not None
        ]
