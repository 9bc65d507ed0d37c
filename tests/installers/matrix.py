"""Every client, kind of page and arrangement of indexes: one cell each, run for real."""

from __future__ import annotations

import gzip
import re
import shutil
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from tests.installers.clients import INSTALLERS, Arrangement, install, project, sync
from tests.installers.environments import NEWEST_PIP, NEWEST_UV, interpreter_of
from tests.installers.libraries import LIBRARIES, RefusedError
from tests.installers.registry import NAME, write_registry
from tests.installers.served import Served, isolated, running_platform, update
from tests.wheels import write_proven_wheel, write_wheel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.installers.environments import Installer
    from tests.installers.served import Request

Pages: TypeAlias = Literal["json", "html"]

BACKEND: Final = "cpu"
NEWEST: Final = "0.3.100+cpu"
_PAGE: Final = f"/whl/{BACKEND}/llama-cpp-python/"
_BOTH: Final[tuple[Arrangement, ...]] = ("alone", "extra")
_LIBRARY_ARRANGEMENTS: Final[Mapping[str, tuple[Arrangement, ...]]] = {
    "unearth": _BOTH,
    "simple-repository": _BOTH,
}
_PLATFORMS: Final = (
    "manylinux_2_17_x86_64",
    "manylinux_2_17_aarch64",
    "musllinux_1_2_x86_64",
    "macosx_12_0_arm64",
    "win_amd64",
)
# how pip, uv, poetry and pdm say that a file has another hash than the page
_HASH: Final = re.compile(
    r"do not match the hashes|hash mismatch|not found in known hashes", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the matrix."""

    client: str
    installer: Installer | None
    pages: Pages
    arrangement: Arrangement

    def __str__(self) -> str:
        return f"{self.client}-{self.pages}-{self.arrangement}"

    @property
    def missing(self) -> str | None:
        """What this machine lacks for it, None where it lacks nothing."""
        if self.installer is None or interpreter_of(self.installer) is not None:
            return None
        return f"{self.client} needs Python {self.installer.series}, which is not on this machine"


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a client asked of our index: which pages, and how many of the files, in bytes too."""

    page: Pages | None
    pages: int
    metadata: int
    wheels: int
    size: int


Refusal: TypeAlias = Literal["install", "lock"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a cell.

    ``installed`` is the version that the client ended with; ``refused`` by what it refused the
    wheel in a second try, where other bytes lay under its name: by its installation, or only by
    one from a lock file; None where it did not.
    """

    installed: str | None
    traffic: Traffic
    refused: Refusal | None
    seconds: float
    text: str

    def seen(self) -> Expected:
        """Return what was seen, to compare it with what is expected."""
        return Expected(
            installed=self.installed,
            page=self.traffic.page,
            pages=self.traffic.pages,
            metadata=self.traffic.metadata,
            wheels=self.traffic.wheels,
            refused=self.refused,
        )


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a cell must come to: see `Outcome` and `Traffic`."""

    installed: str | None
    page: Pages | None
    pages: int
    metadata: int
    wheels: int
    refused: Refusal | None


def cells() -> tuple[Cell, ...]:
    """Return every cell."""
    clients: list[tuple[str, Installer | None, tuple[Arrangement, ...], tuple[Pages, ...]]] = [
        *((str(each), each, _BOTH, ("json", "html")) for each in INSTALLERS),
        *(
            (
                f"{name}-{version(name)}",
                None,
                _LIBRARY_ARRANGEMENTS.get(name, ("alone",)),
                # a parser of HTML has no use for the other
                ("html",) if name == "html5lib" else ("json", "html"),
            )
            for name in LIBRARIES
        ),
    ]
    return tuple(
        Cell(client=client, installer=installer, pages=pages, arrangement=arrangement)
        for client, installer, arrangements, kinds in clients
        for pages in kinds
        for arrangement in arrangements
    )


def expected(cell: Cell) -> Expected:
    """Return what a cell must come to; what differs by client is known from trying."""
    name = cell.client.rpartition("-")[0]
    only_html = cell.client == "pip-20.3" or name in {"html5lib", "pypi-simple"}
    # the others are older than PEP 658, or find and resolve nothing
    resolves_with_metadata = name in {"uv", "poetry", "pdm", "pypi-simple"} or cell.client in {
        "pip-23.2",
        "pip-24.0",
        f"pip-{NEWEST_PIP}",
    }
    refused: Refusal | None = "install"
    if name == "html5lib":
        refused = None
    elif name == "uv" and cell.client != f"uv-{NEWEST_UV}":
        # `uv pip install` of these does not compare a wheel with the page, `uv sync` does
        refused = "lock"
    return Expected(
        installed=NEWEST,
        page="html" if only_html else cell.pages,
        # pdm reads the page for the lock, for the hashes in it, and to install
        pages=3 if name == "pdm" else 1,
        metadata=1 if resolves_with_metadata else 0,
        wheels=0 if name == "html5lib" else 1,
        refused=refused,
    )


def make_site(folder: Path) -> Path:
    """Make a site with the index's own command: two versions and another backend."""
    for label in ("0.3.99+cpu", NEWEST, "0.3.100+cu128"):
        for platform in {running_platform(), *_PLATFORMS}:
            if label.endswith("+cpu") or platform == running_platform():
                backend = label.partition("+")[2]
                write_proven_wheel(
                    folder / "dist", backend=backend, version=label, platform=platform
                )
    return update(folder / "dist", folder, isolated(folder))


def run_cell(cell: Cell, site: Path, folder: Path) -> Outcome:
    """Run a cell in an empty folder, against a copy of the site."""
    started = time.monotonic()
    copy = folder / "served"
    shutil.copytree(site, copy)
    if cell.pages == "html":
        for page in copy.rglob("index.v1_json"):
            page.unlink()
    write_registry(copy)
    with Served(copy, folder / "requests.log", isolated(folder)) as served:
        installed, text = _try(cell, served, folder / "first")
        traffic = traffic_of(served.requests(), copy)
        _spoil(copy / _PAGE[1:])
        refused, answer = _refused(cell, served, folder)
    return Outcome(
        installed=installed,
        traffic=traffic,
        refused=refused,
        seconds=time.monotonic() - started,
        text=f"{text}\n{answer}",
    )


def _spoil(page: Path) -> None:
    """Put other bytes under the names of the newest wheels, as a broken upload would."""
    for wheel in page.glob(f"*-{NEWEST}-*.whl"):
        write_wheel(page, {"evil.py": ""}, version=NEWEST, tag=wheel.stem.split("-", 2)[2])


def _refused(cell: Cell, served: Served, folder: Path) -> tuple[Refusal | None, str]:
    try:
        installed, text = _try(cell, served, folder / "second")
    except RefusedError as refusal:
        return "install", str(refusal)
    if installed is None and _HASH.search(text):
        return "install", text
    if cell.installer is None or cell.installer.name != "uv":
        return None, text
    place = project(folder / "third", cell.installer, isolated(folder / "third-home"))
    done = sync(place, ours=served.index(BACKEND))
    refused = place.installed() is None and _HASH.search(done.text)
    return ("lock" if refused else None), f"{text}\n{done.text}"


def _try(cell: Cell, served: Served, folder: Path) -> tuple[str | None, str]:
    ours = served.index(BACKEND)
    registry = served.index(NAME) if cell.arrangement == "extra" else None
    if cell.installer is None:
        folder.mkdir()
        library = LIBRARIES[cell.client.rpartition("-")[0]]
        return library(folder, ours, registry), ""
    place = project(folder, cell.installer, isolated(folder / "home"))
    done = install(place, cell.installer.name, ours=ours, registry=registry)
    found = place.installed()
    # an error after the wheel is in place is an error all the same
    return (found if done.status == 0 else None), done.text


def traffic_of(requests: list[Request], site: Path) -> Traffic:
    """Sum up what was asked of our index; a page that had not changed counts as a page."""
    ours = [each for each in requests if each.path.startswith(_PAGE) and each.status in {200, 304}]
    pages = [each for each in ours if each.path == _PAGE]
    html = (site / _PAGE[1:] / "index.html").read_bytes()
    kind: Pages | None = None
    if pages:
        # the server sends it compressed to those that take it
        sizes = {len(html), len(gzip.compress(html, mtime=0))}
        kind = "html" if pages[0].size in sizes else "json"
    return Traffic(
        page=kind,
        pages=len(pages),
        metadata=sum(each.path.endswith(".whl.metadata") for each in ours),
        wheels=sum(each.path.endswith(".whl") for each in ours),
        size=sum(each.size for each in ours),
    )
