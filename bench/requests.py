"""What a lock costs on the wire: this index, and one that only links its wheels, as is common.

The same wheels are on both, served by the same server to the same installers in one run. The other
one is the kind that `llama-cpp-python` has had so far: one page in HTML with a bare link per wheel, so
no hashes, no Requires-Python and no metadata beside the wheels.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from bench import machine
from ci.errors import BuildError
from ci.progress import Progress
from ci.table import load_table
from ci.wheel import Wheel, write_wheel
from tests.installers.clients import lock, project
from tests.installers.environments import NEWEST_PIP, NEWEST_UV, PDM, POETRY, Installer
from tests.installers.served import Request, Served, isolated, update
from tests.wheels import write_report

Style: TypeAlias = Literal["ours", "bare"]

STYLES: tuple[Style, ...] = ("ours", "bare")
CLIENTS = (
    Installer(name="pip", version=NEWEST_PIP),
    Installer(name="uv", version=NEWEST_UV),
    Installer(name="poetry", version=POETRY),
    Installer(name="pdm", version=PDM),
)
VERSIONS = (1, 10)
# for a lock against this index
GOAL_BYTES = 30_000

_BACKEND = "cpu"
_PROJECT = "llama-cpp-python"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Requests and bytes of bodies of one lock; the bytes by what they were of."""

    requests: int
    page_bytes: int
    metadata_bytes: int
    wheel_bytes: int

    @property
    def bytes(self) -> int:
        """All bytes."""
        return self.page_bytes + self.metadata_bytes + self.wheel_bytes


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One lock: who, against which kind of index, with how many versions on it."""

    client: Installer
    style: Style
    versions: int
    cost: Cost


def cost_of(requests: Iterable[Request]) -> Cost:
    """Sum up a server's log."""
    number, sizes = 0, {"page": 0, "metadata": 0, "wheel": 0}
    for request in requests:
        number += 1
        if request.path.endswith(".whl"):
            sizes["wheel"] += request.size
        elif request.path.endswith(".whl.metadata"):
            sizes["metadata"] += request.size
        else:
            sizes["page"] += request.size
    return Cost(
        requests=number,
        page_bytes=sizes["page"],
        metadata_bytes=sizes["metadata"],
        wheel_bytes=sizes["wheel"],
    )


def measure(wheel: Wheel, scratch: Path, progress: Progress) -> tuple[Lock, ...]:
    """Lock with every client against both kinds of index, for each number of versions.

    Raises:
        NetworkError: an installer cannot be downloaded.
        BuildError: an installer cannot lock.
    """
    locks: list[Lock] = []
    for versions in VERSIONS:
        folder = scratch / str(versions)
        progress.step(f"an index of {versions} version(s) for each platform")
        site = _site(wheel, versions, folder)
        for client in CLIENTS:
            for style in STYLES:
                cost = _lock(client, style, site, folder / f"{client}-{style}")
                progress.step(f"{client}, {style}: {cost.requests} requests, {cost.bytes:,} bytes")
                locks.append(Lock(client=client, style=style, versions=versions, cost=cost))
    return tuple(locks)


def _lock(client: Installer, style: Style, site: Path, folder: Path) -> Cost:
    env = isolated(folder / "home")
    folder.mkdir()
    at = project(folder / "project", client, env)
    with Served(site, folder / "requests.log", env) as served:
        index = served.index(_BACKEND if style == "ours" else style)
        done = lock(at, client.name, ours=index)
        if done.status != 0:
            raise BuildError(f"{client} could not lock:\n{done.text}", cure="read its last lines")
        return cost_of(served.requests())


def _site(wheel: Wheel, versions: int, folder: Path) -> Path:
    """Make a site of the wheel and of stand-ins for older versions and for other platforms."""
    dist = folder / "dist"
    dist.mkdir(parents=True)
    payload = random.Random(0).randbytes(wheel.size)
    newest = wheel.version.release
    for number in range(newest[-1] - versions + 1, newest[-1] + 1):
        version = f"{'.'.join(map(str, (*newest[:-1], number)))}+{_BACKEND}"
        for platform in load_table().platforms.values():
            copy = dist / f"llama_cpp_python-{version}-py3-none-{platform.wheel_tag}.whl"
            if copy.name == wheel.path.name:
                copy.hardlink_to(wheel.path)
            else:
                write_wheel(copy, _stand_in(wheel, version, platform.wheel_tag, payload))
            write_report(copy, backend=_BACKEND, platform=platform.name)
    site = update(dist, folder, isolated(folder))
    _add_bare_page(site)
    return site


def _stand_in(wheel: Wheel, version: str, tag: str, payload: bytes) -> dict[str, bytes]:
    """Return the files of a wheel of the same size with the same metadata."""
    metadata = wheel.files[f"{wheel.dist_info}/METADATA"].decode()
    info = f"llama_cpp_python-{version}.dist-info"
    said = f"\nVersion: {wheel.version}\n"
    return {
        "llama_cpp/lib/payload": payload,
        f"{info}/METADATA": metadata.replace(said, f"\nVersion: {version}\n").encode(),
        f"{info}/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: false\nTag: py3-none-{tag}\n"
        ).encode(),
    }


def _add_bare_page(site: Path) -> None:
    ours = f"whl/{_BACKEND}/{_PROJECT}"
    names = sorted(path.name for path in (site / ours).glob("*.whl"))
    links = "".join(
        f'<a href="/{ours}/{name.replace("+", "%2B")}">{name}</a><br>\n' for name in names
    )
    folder = site / "whl" / "bare" / _PROJECT
    folder.mkdir(parents=True)
    page = f"<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n"
    (folder / "index.html").write_text(page, encoding="utf-8")


def report(
    locks: Sequence[Lock], *, date: datetime, circumstances: dict[str, object]
) -> dict[str, object]:
    """Return the content of ``requests.json``."""
    ours = [each.cost.bytes for each in locks if each.style == "ours"]
    return {
        "schema": 1,
        "date": date.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cpu": machine.cpu_name(),
        **circumstances,
        "platforms": len(load_table().platforms),
        "goal_bytes": GOAL_BYTES,
        "most_bytes": max(ours),
        "met": max(ours) < GOAL_BYTES,
        "locks": [
            {
                "client": each.client.name,
                "client_version": each.client.version,
                "index": each.style,
                "versions": each.versions,
                "requests": each.cost.requests,
                "bytes": each.cost.bytes,
                "page_bytes": each.cost.page_bytes,
                "metadata_bytes": each.cost.metadata_bytes,
                "wheel_bytes": each.cost.wheel_bytes,
            }
            for each in locks
        ],
    }
