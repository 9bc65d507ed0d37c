"""Which copy of this package runs, who installed it, and what else is over the same folder."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from llama_cpp._build_info import BuildInfo, build_info
from llama_cpp._doctor.programs import ask_json
from llama_cpp._errors import LlamaError
from llama_cpp._obstacles import Obstacle
from llama_cpp._version import __version__

NAME = "llama-cpp-python"
_IMPORTS = "llama_cpp/"
_TRIAL_SECONDS = 60.0
# the same copy as ours, also where sys.path was changed by hand
_TRIAL = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from llama_cpp.__main__ import attempt; print(json.dumps(attempt()))"
)


class Distribution(NamedTuple):
    """An installed llama-cpp-python, as its dist-info says."""

    version: str
    """With its label: ``0.3.100+cu128``."""
    folder: str
    """The site-packages that it is in."""
    installer: str | None
    url: str | None
    """Where it came from, where that was no index (direct_url.json)."""
    editable: bool
    tags: tuple[str, ...]
    """The wheel's tags: ``py3-none-manylinux_2_17_x86_64``."""

    @property
    def label(self) -> str | None:
        """``cu128``; None for a version without a label."""
        return self.version.partition("+")[2] or None


class Installation(NamedTuple):
    """What this process imported as ``llama_cpp``."""

    package: str
    """Its folder."""
    version: str
    """What the sources say: ``0.3.100``."""
    distribution: Distribution | None
    """The distribution that this folder belongs to; None in a bare checkout."""
    others: tuple[Distribution, ...]
    """The same distribution in other places on the path."""
    foreign: tuple[str, ...]
    """Other distributions that hold files of ``llama_cpp/`` in the same site-packages."""
    checkout: bool
    """Whether the folder is a source checkout's."""
    build: BuildInfo | None
    build_problem: str | None
    library_path: str | None
    """``LLAMA_CPP_LIB_PATH``."""


class Device(NamedTuple):
    """What ggml can compute on."""

    name: str
    description: str
    kind: str
    memory_total: int
    """Bytes."""


class Trial(NamedTuple):
    """What happened when the libraries were loaded, in a process of its own."""

    problem: str | None
    """Why they were not; None where they were."""
    crashed: bool
    """Whether the process died or hung, rather than saying why."""
    cpu_variant: str | None
    devices: tuple[Device, ...]
    unused_modules: tuple[tuple[str, str], ...]
    """Backend modules that did not load: file name and the loader's own words."""
    llama_cpp: str | None
    """llama.cpp's own version."""
    runtime: tuple[str, ...] = ()
    """Where CUDA's or ROCm's libraries came from."""
    obstacles: tuple[Obstacle, ...] = ()
    """What a program that asks for a GPU is warned of."""


def installation() -> Installation:
    """Return which copy this is; a damaged dist-info is left out, never an error."""
    package = Path(__file__).resolve().parent.parent
    found = _distributions(NAME)
    own = next((each for each in found if _owns(each, package)), None)
    try:
        build, problem = build_info(), None
    except LlamaError as error:
        build, problem = None, str(error)
    return Installation(
        package=str(package),
        version=__version__,
        distribution=own,
        others=tuple(each for each in found if each is not own),
        foreign=_foreign(package.parent),
        checkout=(package.parent / "CMakeLists.txt").is_file()
        and (package.parent / "pyproject.toml").is_file(),
        build=build,
        build_problem=problem,
        library_path=os.environ.get("LLAMA_CPP_LIB_PATH"),
    )


def trial() -> Trial:
    """Load the libraries as a user's program would, but in a process of its own."""
    said, failure = ask_json(
        [sys.executable or "python3", "-c", _TRIAL, json.dumps(sys.path)], seconds=_TRIAL_SECONDS
    )
    if failure is not None:
        return Trial(failure, True, None, (), (), None)
    if "problem" in said:
        return Trial(said["problem"], False, None, (), (), None)
    return Trial(
        problem=None,
        crashed=False,
        cpu_variant=said["cpu_variant"],
        devices=tuple(
            Device(each["name"], each["description"], each["kind"], each["memory_total"])
            for each in said["devices"]
        ),
        unused_modules=tuple(sorted(said["unused_modules"].items())),
        llama_cpp=said["llama_cpp"],
        runtime=tuple(said["runtime"]),
        obstacles=tuple(
            Obstacle(each["id"], each["message"], each["cure"], tuple(each["packages"]))
            for each in said["obstacles"]
        ),
    )


def _distributions(name: str) -> list[Distribution]:
    found: dict[tuple[str, str], Distribution] = {}
    for each in importlib.metadata.distributions():
        if _normal(str(each.metadata["Name"] or "")) == name:
            distribution = _distribution(each)
            found.setdefault((distribution.folder, distribution.version), distribution)
    return list(found.values())


def _distribution(each: importlib.metadata.Distribution) -> Distribution:
    url, editable = None, False
    try:
        direct = json.loads(each.read_text("direct_url.json") or "{}")
        url = direct.get("url")
        editable = bool(direct.get("dir_info", {}).get("editable", False))
    except (ValueError, AttributeError):
        pass
    wheel = each.read_text("WHEEL") or ""
    return Distribution(
        version=each.version,
        folder=str(Path(str(each.locate_file(""))).resolve()),
        installer=(each.read_text("INSTALLER") or "").strip() or None,
        url=url,
        editable=editable,
        tags=tuple(line[5:].strip() for line in wheel.splitlines() if line.startswith("Tag: ")),
    )


def _owns(distribution: Distribution, package: Path) -> bool:
    if distribution.editable:
        # an editable install imports from the checkout that its URL names
        named = Path(url2pathname(urlsplit(distribution.url or "").path))
        return named.resolve() == package.parent
    return Path(distribution.folder) == package.parent


def _foreign(site: Path) -> tuple[str, ...]:
    found = set()
    for each in importlib.metadata.distributions(path=[str(site)]):
        name = _normal(str(each.metadata["Name"] or ""))
        record = "" if name == NAME else each.read_text("RECORD") or ""
        if any(line.startswith(_IMPORTS) for line in record.splitlines()):
            found.add(f"{name} {each.version}")
    return tuple(sorted(found))


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
