"""What a requirement asks for: on which machines it holds, and which files it lets through.

Where the answer depends on something that is not known, such as the release of a kernel, it is
yes: a page too many does no harm, one too few breaks an installation.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from ci.errors import CatalogueError

if TYPE_CHECKING:
    from collections.abc import Collection

    from packaging.utils import NormalizedName
    from packaging.version import Version

# Platform tags as the specification of "platform compatibility tags" has them; the version in
# them is a floor, and some machine of the platform may be above it.
_PLATFORM_TAG: Final = re.compile(
    r"(?P<system>manylinux|musllinux|macosx|win)(?:\d+|_\d+_\d+)?_(?P<machine>[a-z]\w*)"
)
# What one file for several machines is called on macOS.
_FAT: Final = {
    "universal2": ("arm64", "x86_64"),
    "universal": ("x86_64",),
    "intel": ("x86_64",),
    "fat3": ("x86_64",),
    "fat64": ("x86_64",),
}
# os_name, sys_platform, platform_system
_SYSTEMS: Final = {
    "manylinux": ("posix", "linux", "Linux"),
    "musllinux": ("posix", "linux", "Linux"),
    "macosx": ("posix", "darwin", "Darwin"),
    "win": ("nt", "win32", "Windows"),
}
_IMPLEMENTATIONS: Final = (("cpython", "CPython"), ("pypy", "PyPy"))
_PLATFORM_VARIABLES: Final = ("os_name", "platform_machine", "platform_system", "sys_platform")
_UNKNOWN: Final = ("platform_release", "platform_version")
_EXTRA: Final = re.compile(r"""\bextra\s*==\s*['"]([^'"]+)['"]|['"]([^'"]+)['"]\s*==\s*extra\b""")
_QUOTED: Final = re.compile(r"""['"]([^'"]*)['"]""")
_PATCH: Final = re.compile(r"\b(\d+\.\d+)\.(\d+)\b")


@lru_cache(maxsize=4096)
def parse(text: str) -> Requirement:
    """Read a line of ``Requires-Dist``.

    Raises:
        CatalogueError: It is not one.
    """
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        what = f"Requires-Dist: {text!r} is not a requirement ({str(error).splitlines()[0]})"
        raise CatalogueError(what, cure="mend the metadata of that wheel") from error


def extras_of(requires: Collection[str]) -> frozenset[str]:
    """Return the extras that the markers of these requirements name."""
    markers = (str(parse(text).marker or "") for text in requires)
    found = itertools.chain.from_iterable(_EXTRA.findall(marker) for marker in markers)
    return frozenset(canonicalize_name(one or other) for one, other in found)


def names_a_platform(marker: str) -> bool:
    """Say whether a marker asks for the machine, and not for Python or extras alone."""
    return any(name in marker for name in (*_PLATFORM_VARIABLES, *_UNKNOWN))


@lru_cache(maxsize=4096)
def may_hold(
    marker: str, *, platform: str | None, pythons: tuple[str, ...], extras: frozenset[str]
) -> bool:
    """Say whether a marker can be true on a platform (``manylinux_x86_64``), or anywhere.

    Anywhere (None) is also on machines that nobody supports, since uv locks for all of them.
    ``pythons`` are those that count, as the table has them (``3.9``, ``3.13t``); ``extras`` are
    those that somebody may ask for.
    """
    if any(name in marker for name in _UNKNOWN):
        return True
    parsed = Marker(marker)
    places = _anywhere(marker) if platform is None else [_place(platform)]
    versions = _versions(marker, pythons)
    try:
        return any(
            parsed.evaluate({**place, **python, "extra": extra})
            for place, python in itertools.product(places, versions)
            for extra in ("", *sorted(extras))
        )
    except (UndefinedComparison, UndefinedEnvironmentName):
        return True


def _place(platform: str) -> dict[str, str]:
    system, _, machine = platform.partition("_")
    os_name, sys_platform, platform_system = _SYSTEMS[system]
    return {
        "os_name": os_name,
        "platform_machine": machine.upper() if system == "win" else machine,
        "platform_release": "",
        "platform_system": platform_system,
        "platform_version": "",
        "sys_platform": sys_platform,
    }


def _anywhere(marker: str) -> list[dict[str, str]]:
    """Return every machine that a marker can tell apart: those with the values that it names."""
    named = [name for name in _PLATFORM_VARIABLES if name in marker]
    values = ["", *sorted(set(_QUOTED.findall(marker)))]
    return [
        {**_place("manylinux_x86_64"), **dict(zip(named, chosen, strict=True))}
        for chosen in itertools.product(values, repeat=len(named))
    ]


def _versions(marker: str, pythons: tuple[str, ...]) -> list[dict[str, str]]:
    minors = sorted({python.removesuffix("t") for python in pythons})
    # The edges of every minor version, and what the marker itself names.
    versions = {f"{minor}.{patch}" for minor in minors for patch in (0, 99)}
    versions |= {f"{minor}.{patch}" for minor, patch in _PATCH.findall(marker) if minor in minors}
    return [
        {
            "implementation_name": name,
            "implementation_version": version,
            "platform_python_implementation": title,
            "python_full_version": version,
            "python_version": version.rpartition(".")[0],
        }
        for version, (name, title) in itertools.product(sorted(versions), _IMPLEMENTATIONS)
    ]


@lru_cache(maxsize=65536)
def may_use(
    file: str, requires_python: str | None, *, platform: str | None, pythons: tuple[str, ...]
) -> bool:
    """Say whether some machine of a platform with one of these Pythons can install a file.

    Without a platform any machine will do.
    """
    if not _admits(requires_python, pythons):
        return False
    if not file.endswith(".whl"):
        return True
    abis = _abis(pythons)
    tags = parse_wheel_filename(file)[3]
    return any((tag.interpreter, tag.abi) in abis and _runs(tag.platform, platform) for tag in tags)


def _admits(requires_python: str | None, pythons: tuple[str, ...]) -> bool:
    if requires_python is None:
        return True
    try:
        specifiers = SpecifierSet(requires_python)
    except InvalidSpecifier:
        # Installers pass over what they cannot read.
        return True
    minors = {python.removesuffix("t") for python in pythons}
    return any(specifiers.contains(f"{minor}.{patch}") for minor in minors for patch in (0, 99))


@lru_cache
def _abis(pythons: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Return every pair of interpreter tag and ABI tag that one of these Pythons takes."""
    found = set()
    for python in pythons:
        major, minor = (int(part) for part in python.removesuffix("t").split("."))
        interpreter = f"cp{major}{minor}"
        abi = f"{interpreter}t" if python.endswith("t") else interpreter
        for tag in itertools.chain(
            cpython_tags((major, minor), abis=[abi], platforms=["any"]),
            compatible_tags((major, minor), interpreter=interpreter, platforms=["any"]),
        ):
            found.add((tag.interpreter, tag.abi))
    return frozenset(found)


def _runs(tag: str, platform: str | None) -> bool:
    if tag == "any" or platform is None:
        return True
    match = _PLATFORM_TAG.fullmatch(tag)
    if match is None:
        return False
    machines = _FAT.get(match["machine"], (match["machine"],))
    return platform in {f"{match['system']}_{machine}" for machine in machines}


def pins(specifiers: SpecifierSet) -> bool:
    """Say whether specifiers name one version, which lets a yanked file through (PEP 592)."""
    return any(
        each.operator == "===" or (each.operator == "==" and not each.version.endswith(".*"))
        for each in specifiers
    )


@lru_cache(maxsize=65536)
def name_and_version(file: str) -> tuple[NormalizedName, Version]:
    """Return the project and the version that the name of a wheel or an sdist says.

    Raises:
        ValueError: It is the name of something else; installers pass over such files.
    """
    if file.endswith(".whl"):
        return parse_wheel_filename(file)[:2]
    return parse_sdist_filename(file)
