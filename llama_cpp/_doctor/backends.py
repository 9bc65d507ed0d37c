"""The backends that are published, and the commands of each tool: data that is generated, read here."""

from __future__ import annotations

import json
from string import Template
from typing import NamedTuple

from llama_cpp._build_info import version_pair
from llama_cpp._package import package_path
from llama_cpp._version import __version__


class Backend(NamedTuple):
    """One published backend."""

    name: str
    """``cpu``, ``cu128`` …: the version label and the index's folder."""
    family: str
    """``cpu``, ``cuda``, ``hip``, ``metal`` or ``vulkan``."""
    title: str
    """For people: ``NVIDIA CUDA 12.8``."""
    toolkit: tuple[int, int] | None
    architectures: tuple[str, ...]
    """GPU architectures as CMake has them (``90``, ``120a``, ``90-virtual``), or ``gfx1100``."""
    wheel_tags: tuple[str, ...]
    """One wheel each: ``manylinux_2_17_x86_64`` …"""


class Backends(NamedTuple):
    """Everything that is published, and where."""

    site: str
    """Where the index is, ending in "/"."""
    all: tuple[Backend, ...]

    def named(self, name: str | None) -> Backend | None:
        """Return the backend of a name or a respun label (``cu128.1``)."""
        wanted = (name or "").split(".")[0]
        return next((each for each in self.all if each.name == wanted), None)


class Step(NamedTuple):
    """One thing for the user to do."""

    kind: str
    """``command`` to run, or ``file`` to put ``text`` into ``path``."""
    text: str
    path: str | None = None


class Tool(NamedTuple):
    """How one tool installs a backend, and switches to it."""

    name: str
    title: str
    templates: tuple[Step, ...]


def backends() -> Backends:
    """Return the published backends, in the table's order."""
    record = json.loads(package_path("_backends.json").read_text("utf-8"))
    return Backends(
        site=record["index"],
        all=tuple(
            Backend(
                name=each["name"],
                family=each["family"],
                title=each["title"],
                toolkit=version_pair(each["toolkit_version"]),
                architectures=tuple(each["gpu_architectures"]),
                wheel_tags=tuple(each["wheel_tags"]),
            )
            for each in record["backends"]
        ),
    )


def tools() -> tuple[Tool, ...]:
    """Return the tools whose commands are known."""
    record = json.loads(package_path("_commands.json").read_text("utf-8"))
    return tuple(
        Tool(
            name=each["id"],
            title=each["title"],
            templates=tuple(
                Step(step["kind"], step["text"], step.get("path")) for step in each["steps"]
            ),
        )
        for each in record["tools"]
    )


def index_url(site: str, backend: str) -> str:
    """Return a backend's index on a site, ending in "/"."""
    return f"{site.rstrip('/')}/whl/{backend}/"


def install_steps(tool: str, backend: str, site: str) -> tuple[Step, ...]:
    """Return what installs a backend with a tool, or switches to it.

    Raises:
        KeyError: there is no such tool.
    """
    known = {each.name: each for each in tools()}
    values = {
        "index": index_url(site, backend),
        "cpu_index": index_url(site, "cpu"),
        "backend": backend,
        "version": __version__,
        "label": backend,
    }
    return tuple(
        step._replace(text=Template(step.text).substitute(values)) for step in known[tool].templates
    )
