"""The landing page: for people who want to install a wheel and to see what was proven about it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape
from packaging.version import Version

from index.changelog import releases_of
from index.commands import index_url, values_of
from index.page import HTML_PAGE, JSON_PAGE, html
from index.wheel import AUTO, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ci.table import Table
    from index.backends import BackendPages, Link
    from index.catalogue import Entry
    from index.commands import Commands, Tool
    from index.report import Interpreter

# Where the site's address is not known and there is no JavaScript to put it there.
UNKNOWN_ROOT: Final = "https://ADDRESS-OF-THIS-PAGE/"
# So many versions beside the newest are listed and offered, however many the catalogue has.
OTHER_VERSIONS: Final = 10

_TEMPLATES: Final = Path(__file__).with_name("templates")


@dataclass(frozen=True, kw_only=True)
class System:
    """A platform to choose; ``system``, ``machine`` and ``libc`` are None where it is unknown."""

    name: str
    title: str
    system: str | None
    machine: str | None


@dataclass(frozen=True, kw_only=True)
class Proven:
    """One wheel, and in words what its smoke test has shown."""

    link: Link
    href: str
    system: System

    @property
    def entry(self) -> Entry:
        """What the catalogue says."""
        return self.link.entry

    @cached_property
    def size(self) -> str:
        """The size in decimal megabytes."""
        return f"{self.entry.size / 1e6:.1f} MB" if self.entry.size >= 100_000 else "under 0.1 MB"

    @cached_property
    def interpreters(self) -> str:
        """The Pythons: ``CPython 3.9.18, 3.13.1; CPython free-threaded 3.13.1``."""
        groups: dict[tuple[str, str], list[str]] = {}
        for run in self.entry.report.interpreters:
            # what is no Python is called by its version alone: "C driver"
            python = run.implementation if run.implementation != "C" else ""
            kind = f"{python}{' free-threaded' if run.free_threaded else ''}"
            under = f" under {run.emulator}" if run.emulator else ""
            groups.setdefault((kind, under), []).append(run.version)
        return "; ".join(
            f"{kind} {', '.join(versions)}{under}".lstrip()
            for (kind, under), versions in groups.items()
        )

    @cached_property
    def devices(self) -> str:
        """What it computed on."""
        return ", ".join(_once(run.device for run in self.entry.report.interpreters))

    @cached_property
    def cpu_variants(self) -> str:
        """The CPU variants that were picked: ``zen4``; empty where there are none."""
        return ", ".join(_once(_variant_of(run) for run in self.entry.report.interpreters))

    @cached_property
    def host(self) -> str:
        """The machine of the test."""
        host = self.entry.report.host
        return ", ".join(filter(None, (f"{host.system} {host.machine}", host.libc, host.cpu)))


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A backend in the version to recommend, for the systems where that is the same one."""

    version: str
    systems: tuple[System, ...]
    texts: Mapping[str, tuple[str, ...]]
    """The filled-in text of each step by the tool's id; a tool that does not fit is left out."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A backend as the page offers it; ``recommended`` are its wheels to install now."""

    pages: BackendPages
    index: str
    offers: tuple[Offer, ...]
    recommended: tuple[Proven, ...]

    @property
    def systems(self) -> tuple[System, ...]:
        """Where it can be installed."""
        return tuple(dict.fromkeys(wheel.system for wheel in self.recommended))


@dataclass(frozen=True, kw_only=True)
class Other:
    """Wheels of one backend in a version that is not the one to recommend."""

    backend: str
    version: str
    systems: tuple[System, ...]
    yanked: str | None


@dataclass(frozen=True, kw_only=True)
class OtherVersion:
    """A version, without label, that is not, or not everywhere, the one to recommend."""

    version: str
    wheels: int
    others: tuple[Other, ...]


def landing(
    backends: Sequence[BackendPages],
    *,
    table: Table,
    root: str,
    commands: Commands,
    changelog: str,
) -> bytes:
    """Return the page as a function of what it is given.

    ``root`` is the address of the site with ``/`` at its end, or empty where it is not known: the
    page then fills in its own, and without JavaScript says to. ``changelog`` is Markdown. Beside
    the newest, `OTHER_VERSIONS` versions are listed; the indexes hold all.
    """
    systems = _systems(backends, table)
    tools = [
        tool
        for tool in commands.tools
        if not tool.besides_cpu or any(backend.family == "cpu" for backend in backends)
    ]
    choices = tuple(
        _choice(backend, systems=systems, tools=tools, root=root or UNKNOWN_ROOT)
        for backend in backends
    )
    others, hidden = _other_versions(choices, systems)
    style = (_TEMPLATES / "landing.css").read_text(encoding="utf-8") + _chosen_only(
        systems, choices, tools
    )
    script = (_TEMPLATES / "landing.js").read_text(encoding="utf-8")
    return html(
        "landing.html",
        project=PROJECT,
        html_page=HTML_PAGE,
        json_page=JSON_PAGE,
        auto=AUTO,
        root=root,
        unknown_root=UNKNOWN_ROOT,
        systems=systems,
        choices=choices,
        first=_first(choices, systems),
        families=_families(backends, table),
        tools=tools,
        others=others,
        hidden=hidden,
        checks=sorted(
            {
                check
                for choice in choices
                for wheel in choice.recommended
                for run in wheel.entry.report.interpreters
                for check in run.checks
            }
        ),
        releases=releases_of(changelog),
        data=_data(choices, others, tools, root),
        style=Markup(style),  # noqa: S704 - ours, and what is put in is escaped for CSS
        script=Markup(script),  # noqa: S704 - ours
        policy=f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}';"
        " base-uri 'none'; form-action 'none'",
    )


def _once(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def _variant_of(run: Interpreter) -> str:
    return re.sub(r"^(?:lib)?ggml-cpu-?|\.\w+$", "", run.cpu_variant or "")


def _systems(backends: Sequence[BackendPages], table: Table) -> tuple[System, ...]:
    """Return the platforms that have wheels: in the table's order, then those it has dropped."""
    there = {link.entry.platform for backend in backends for link in backend.links}
    order = [name for name in table.platforms if name in there]
    dropped = sorted(there - set(order))
    return tuple(
        System(name=row.name, title=row.title, system=row.system, machine=row.machine)
        for row in map(table.platforms.__getitem__, order)
    ) + tuple(System(name=name, title=name, system=None, machine=None) for name in dropped)


def _families(backends: Sequence[BackendPages], table: Table) -> list[tuple[str, str, Markup]]:
    """Return title, backends and how to find out of each family that has wheels."""
    found: dict[str, list[str]] = {}
    for backend in backends:
        if backend.family in table.families:
            found.setdefault(backend.family, []).append(backend.name)
    return [
        (family.title, ", ".join(found[name]), _with_code(family.find_out))
        for name, family in table.families.items()
        if name in found
    ]


def _with_code(text: str) -> Markup:
    """Return plain text as HTML, with what is in backquotes as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


def _choice(
    backend: BackendPages, *, systems: Sequence[System], tools: Sequence[Tool], root: str
) -> Choice:
    recommended: list[Proven] = []
    offered: dict[str, list[System]] = {}
    for system in systems:
        links = [link for link in backend.links if link.entry.platform == system.name]
        if not links:
            continue
        newest = ([link for link in links if link.entry.yanked is None] or links)[-1].entry
        offered.setdefault(newest.version, []).append(system)
        # The wheel for every installer stands before those that only some can choose.
        recommended += [
            Proven(link=link, href=_from_here(link), system=system)
            for link in sorted(links, key=lambda link: link.entry.variant is not None)
            if link.entry.version == newest.version
        ]
    offers = tuple(
        Offer(
            version=version,
            systems=tuple(where),
            texts={
                tool.id: tuple(
                    step.filled(values_of(version, backend=backend.name, root=root))
                    for step in tool.steps
                )
                for tool in tools
                if tool.fits(backend.name)
            },
        )
        for version, where in offered.items()
    )
    return Choice(
        pages=backend,
        index=index_url(root, backend.name),
        offers=offers,
        recommended=tuple(recommended),
    )


def _from_here(link: Link) -> str:
    """Return a link of a project's page as one of this page."""
    if "://" in link.href:
        return link.href
    return f"whl/{link.entry.backend}/{link.entry.project}/{link.href}"


def _first(choices: Sequence[Choice], systems: Sequence[System]) -> tuple[str, str]:
    """Return the system and the backend that are chosen before anybody has chosen."""
    system = systems[0]
    return system.name, next(each.pages.name for each in choices if system in each.systems)


def _other_versions(
    choices: Sequence[Choice], systems: Sequence[System]
) -> tuple[tuple[OtherVersion, ...], int]:
    """Return the versions to list beside the recommended ones, and how many more there are."""
    by_version: dict[Version, dict[tuple[str, str, str | None], set[str]]] = {}
    wheels: dict[Version, int] = {}
    for choice in choices:
        recommended = {wheel.entry.name for wheel in choice.recommended}
        for link in choice.pages.links:
            entry = link.entry
            if entry.name in recommended:
                continue
            public = Version(Version(entry.version).public)
            key = (entry.backend, entry.version, entry.yanked)
            by_version.setdefault(public, {}).setdefault(key, set()).add(entry.platform)
            wheels[public] = wheels.get(public, 0) + 1
    newest_first = sorted(by_version, reverse=True)
    listed = tuple(
        OtherVersion(
            version=str(public),
            wheels=wheels[public],
            others=tuple(
                Other(
                    backend=backend,
                    version=version,
                    systems=tuple(each for each in systems if each.name in platforms),
                    yanked=yanked,
                )
                for (backend, version, yanked), platforms in by_version[public].items()
            ),
        )
        for public in newest_first[:OTHER_VERSIONS]
    )
    return listed, len(newest_first) - len(listed)


def _data(
    choices: Sequence[Choice],
    others: Sequence[OtherVersion],
    tools: Sequence[Tool],
    root: str,
) -> dict[str, object]:
    """Return what the script needs to show other versions: the templates, and what there is."""
    listed = {other.version for other in others}
    versions: dict[str, dict[str, dict[str, str | None]]] = {}
    for choice in choices:
        of_system = versions.setdefault(choice.pages.name, {})
        offered = {offer.version for offer in choice.offers}
        for link in reversed(choice.pages.links):
            entry = link.entry
            if entry.version in offered or Version(entry.version).public in listed:
                of_system.setdefault(entry.platform, {}).setdefault(entry.version, entry.yanked)
    return {
        "root": root,
        "versions": {
            backend: {
                system: [{"version": name, "yanked": yanked} for name, yanked in names.items()]
                for system, names in of_system.items()
            }
            for backend, of_system in versions.items()
        },
        "tools": {tool.id: [step.text for step in tool.steps] for tool in tools},
    }


def _chosen_only(
    systems: Sequence[System], choices: Sequence[Choice], tools: Sequence[Tool]
) -> str:
    """Return the rules that leave of everything on the page what goes with the choice.

    A browser that does not know ``:has()`` drops each of them, and so shows everything.
    """
    rules = []
    for system in systems:
        name = _css(system.name)
        chosen = f'main:has([name="system"][value="{name}"]:checked)'
        rules += [
            f'{chosen} [data-systems]:not([data-systems~="{name}"]) {{ display: none; }}',
            f'{chosen} .choice:not([data-on~="{name}"]) .not-here {{ display: block; }}',
        ]
    for attribute, names in (
        ("backend", [choice.pages.name for choice in choices]),
        ("tool", [tool.id for tool in tools]),
    ):
        rules += [
            f'main:has([name="{attribute}"][value="{_css(name)}"]:checked)'
            f' [data-{attribute}]:not([data-{attribute}="{_css(name)}"]) {{ display: none; }}'
            for name in names
        ]
    return "".join(f"{rule}\n" for rule in rules)


def _css(text: str) -> str:
    """Escape what stands between quotation marks in CSS."""
    return re.sub(r"[^A-Za-z0-9_.-]", lambda match: f"\\{ord(match[0]):x} ", text)


def _digest(text: str) -> str:
    """Return the hash by which a content security policy lets a style or script through."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
