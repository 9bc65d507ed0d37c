"""An environment per client, made once in the cache folder with uv from the pins here."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from filelock import FileLock

from ci.errors import NetworkError
from ci.paths import cache_folder
from ci.process import ProcessError, run
from tests.installers.environments import program

_REQUIREMENTS: Final = Path(__file__).with_name("requirements")
_READY: Final = "ready"
CLIENTS: Final = (
    "guidance",
    "haystack",
    "instructor",
    "langchain-community",
    "llama-index",
    "lm-format-enforcer",
    "outlines",
)


def provided(client: str) -> Path:
    """Return the Python of a client's environment, made where it is not there yet.

    `llama-cpp-python` is not in it: the one under test comes with PYTHONPATH.

    Raises:
        NetworkError: the package registry that this machine is set up for does not give it.
    """
    requirements = _REQUIREMENTS / f"{client}.txt"
    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    digest = hashlib.sha256(series.encode() + requirements.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / "clients" / f"{client}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        python = program(folder, "python")
        # an environment's Python is a link to one that may have been removed
        if (folder / _READY).is_file() and python.exists():
            return python
        shutil.rmtree(folder, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        began = time.monotonic()
        try:
            run([*uv, "venv", "--quiet", "--python", sys.executable, folder])
            # the pins are complete, and some of them require llama-cpp-python
            install = [*uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
            run([*install, "--requirement", str(requirements)])
        except ProcessError as error:
            raise NetworkError(
                f"the environment of {client} could not be made: {error.what}",
                cure="look at the index that uv is set up for, then run this again",
            ) from error
        (folder / _READY).write_text(f"{time.monotonic() - began:.1f} s\n", encoding="utf-8")
    return python
