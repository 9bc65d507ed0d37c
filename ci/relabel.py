"""Relabelled wheels: the same payload under another version label, or as a wheel variant.

What the index ``auto`` and the package index offer is made of finished, proven wheels; nothing is
compiled again. Source of the formats: PEP 440 (version labels), PEP 825 (wheel variants).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from packageurl import PackageURL
from packaging.version import Version
from variantlib.constants import VARIANT_DIST_INFO_FILENAME
from variantlib.errors import ValidationError
from variantlib.variant_dist_info import VariantDistInfo

from ci.check import target_of
from ci.errors import SmokeError, UsageError, WheelError
from ci.host import host_platform
from ci.interpreters import Interpreter
from ci.progress import Progress
from ci.smoke import smoke
from ci.smoke_report import report_path, require_passed, write_report
from ci.table import Table, Target
from ci.variants import Auto, WheelVariant
from ci.wheel import Wheel, library_names, read_wheel, write_wheel

AUTO: Final = "auto"

_BUILD_INFO: Final = "llama_cpp/_build_info.json"
_REBUILD: Final = "build it again with `nox -s build`; a finished wheel is never edited"


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One wheel to be made: of which, under which label, as which variant.

    ``label`` None is a version without a label, as the package index wants it.
    """

    source: Wheel
    target: Target
    label: str | None
    variant: WheelVariant | None = None

    @property
    def version(self) -> Version:
        """The version with the new label."""
        public = self.source.version.public
        return Version(public if self.label is None else f"{public}+{self.label}")

    @property
    def name(self) -> str:
        """The file name."""
        parts = [
            f"llama_cpp_python-{self.version}-py3-none-{self.target.wheel_tag}",
            *([self.variant.label] if self.variant else []),
        ]
        return f"{'-'.join(parts)}.whl"

    @property
    def is_subset(self) -> bool:
        """Whether it leaves CPU variants out, so that the source's proof is not about it."""
        return self.variant is not None and bool(self.variant.without)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of one copy; ``new`` is False where the same bytes lay there, proven."""

    path: Path
    source: str
    new: bool


def plan(
    wheels: Sequence[Path], table: Table, *, label: str | None = AUTO
) -> tuple[list[Copy], list[str]]:
    """Say which wheels come of finished ones: the plain copies and, with a label, the variants.

    Returns:
        The copies sorted by name, and the names of the wheels that have no place.

    Raises:
        WheelError: one is damaged or is no target of the table.
        UsageError: two wheels would become one.
    """
    copies: dict[str, Copy] = {}
    unused: list[str] = []
    for path in sorted(wheels):
        source = read_wheel(path)
        target = target_of(source, table)
        found = [Copy(source=source, target=target, label=label)] if table.is_plain(target) else []
        if label is not None:
            found += [
                Copy(source=source, target=target, label=label, variant=variant)
                for variant in table.variants(target)
            ]
        for copy in found:
            twin = copies.setdefault(copy.name, copy)
            if twin is not copy:
                raise UsageError(
                    f"{twin.source.path.name} and {path.name} would both become {copy.name}",
                    cure="name the wheels to take on the command line",
                )
        if not found:
            unused.append(path.name)
    return [copies[name] for name in sorted(copies)], unused


def make(
    copies: Sequence[Copy],
    folder: Path,
    table: Table,
    interpreters: Sequence[Interpreter],
    progress: Progress,
    *,
    now: datetime,
) -> list[Made]:
    """Write relabelled wheels and their reports into ``folder``; what is there stays untouched.

    A copy with the whole payload gets a report that is derived from the source's. One that
    leaves something out is proven anew, which goes only on a machine of its platform; elsewhere
    it is left out with a warning.

    Raises:
        SmokeError: a source has no passing report about its very bytes, or a smaller wheel fails
            its own smoke test.
        WheelError: a source lacks or contradicts what must be changed in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Made] = []
    # in the folder itself, so that what is finished can be put in place in one step
    with tempfile.TemporaryDirectory(dir=folder, prefix=".relabel-") as scratch:
        for copy in copies:
            path = folder / copy.name
            proof = proven(copy.source)
            if copy.is_subset and copy.target.platform != host_platform(table):
                progress.warn(
                    f"left out {copy.name}: it must be proven on {copy.target.platform.title}"
                )
                continue
            staged = relabel(copy, Path(scratch), table.auto)
            if _same(staged, path) and _bound_report(path, copy, proof) is not None:
                made.append(Made(path=path, source=copy.source.path.name, new=False))
                continue
            if copy.is_subset:
                report = smoke(staged, copy.target, interpreters, progress, now=now)
                require_passed(report)
                report = {**report, "backend": _index_of(copy)}
            else:
                report = derived_report(copy, staged, proof)
            staged.replace(path)
            write_report(path, report)
            made.append(Made(path=path, source=copy.source.path.name, new=True))
    return made


def relabel(copy: Copy, folder: Path, auto: Auto) -> Path:
    """Write one relabelled wheel into ``folder``: equal sources give equal bytes.

    Changed are the version in METADATA, the SBOM and the build info, the name of the dist-info
    folder, and RECORD; ``variant.json`` is added; a subset loses its libraries. Everything else
    is the same byte by byte.

    Raises:
        WheelError: what must be changed is not there, or says something else than its name.
    """
    source = copy.source
    old, new = str(source.version), str(copy.version)
    files = with_version(source, copy.version, left_out=_left_out(copy))
    files[_BUILD_INFO] = _build_info(copy, old, new)
    if copy.variant is not None:
        files[f"llama_cpp_python-{new}.dist-info/{VARIANT_DIST_INFO_FILENAME}"] = _variant_json(
            copy.variant, auto
        )
    path = folder / copy.name
    write_wheel(path, files)
    return path


def with_version(
    source: Wheel, version: Version, *, left_out: AbstractSet[str] = frozenset()
) -> dict[str, bytes]:
    """Return a wheel's files under another version; the build info alone still has the old one.

    Raises:
        WheelError: it is a wheel variant, or METADATA says something else than its name.
    """
    if source.variant is not None:
        raise WheelError(
            f"{source.path.name} is a wheel variant already", cure="relabel the wheel it came from"
        )
    old, new = str(source.version), str(version)
    info = f"llama_cpp_python-{new}.dist-info"
    files: dict[str, bytes] = {}
    for name, data in source.files.items():
        if name in left_out:
            continue
        inside = name.removeprefix(f"{source.dist_info}/")
        if inside == name:
            files[name] = data
            continue
        if inside == "METADATA":
            data = _metadata(data, old, new, source)  # noqa: PLW2901 - the same file, edited
        elif inside.startswith("sboms/") and inside.endswith(".json"):
            data = _sbom(data, old, new)  # noqa: PLW2901
        files[f"{info}/{inside}"] = data
    return files


def _left_out(copy: Copy) -> set[str]:
    stems = [f"ggml-cpu-{name}" for name in (copy.variant.without if copy.variant else ())]
    libraries = library_names(stems, copy.target.platform.system)
    names = {f"llama_cpp/lib/{library}" for library in libraries}
    for name in sorted(names - set(copy.source.files)):
        raise WheelError(f"{copy.source.path.name} has no {name} to leave out", cure=_REBUILD)
    return names


def _metadata(data: bytes, old: str, new: str, source: Wheel) -> bytes:
    # only the one line: a parser would write the description and the order of fields anew
    pattern = rb"(?m)^Version: " + re.escape(old.encode()) + rb"(?=\r?$)"
    head, separator, body = data.partition(b"\n\n")
    changed, count = re.subn(pattern, b"Version: " + new.encode(), head)
    if count != 1:
        raise WheelError(f"METADATA of {source.path.name} does not say {old}", cure=_REBUILD)
    return changed + separator + body


def _sbom(data: bytes, old: str, new: str) -> bytes:
    document: dict[str, Any] = json.loads(data)
    component = document.get("metadata", {}).get("component", {})
    if component.get("version") != old:
        return data
    component["version"] = new
    if "purl" in component:
        purl = PackageURL.from_string(component["purl"])
        component["purl"] = purl._replace(version=new).to_string()
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _build_info(copy: Copy, old: str, new: str) -> bytes:
    """Change the version alone: the backend stays what was compiled, whatever the label says."""
    name = copy.source.path.name
    data = copy.source.files.get(_BUILD_INFO)
    if data is None:
        raise WheelError(f"{name} has no {_BUILD_INFO}", cure=_REBUILD)
    backend = json.loads(data).get("backend")
    if backend != copy.target.backend.name:
        raise WheelError(f"the build info of {name} says backend {backend}", cure=_REBUILD)
    pattern = rb'("version"\s*:\s*)"' + re.escape(old.encode()) + b'"'
    changed, count = re.subn(pattern, rb'\g<1>"' + new.encode() + b'"', data)
    if count != 1:
        raise WheelError(f"the build info of {name} does not say version {old}", cure=_REBUILD)
    return changed


def _variant_json(variant: WheelVariant, auto: Auto) -> bytes:
    content = {**auto.provider_data, "variants": {variant.label: variant.properties}}
    try:
        written: str = VariantDistInfo(json.dumps(content), variant.label).to_str()
    except ValidationError as error:
        raise WheelError(
            f"variant {variant.label}: {error}", cure="mend [auto] in ci/targets.toml"
        ) from error
    return written.encode()


def proven(source: Wheel) -> dict[str, Any]:
    """Return the report of a wheel, which must say that these very bytes passed.

    Raises:
        SmokeError: there is none, or it says something else.
    """
    path = report_path(source.path)
    cure = f"prove it with `nox -s smoke -- {source.path}`"
    report = _read_report(path)
    if report is None:
        raise SmokeError(f"{source.path.name} has no smoke report beside it", cure=cure)
    if (report.get("wheel"), report.get("sha256")) != (source.path.name, source.sha256):
        raise SmokeError(f"{path.name} is about another wheel than the one beside it", cure=cure)
    if report.get("passed") is not True or not report.get("interpreters"):
        raise SmokeError(f"{path.name} does not say that the wheel passed", cure=cure)
    return report


def derived_report(copy: Copy, wheel: Path, proof: Mapping[str, object]) -> dict[str, object]:
    """Return the report of a copy with the whole payload: the source's, bound to the new bytes."""
    made = read_wheel(wheel)
    return {
        **proof,
        "wheel": copy.name,
        "sha256": made.sha256,
        "size": made.size,
        "backend": _index_of(copy),
        "source": {
            "wheel": copy.source.path.name,
            "sha256": copy.source.sha256,
            "payload": "the same libraries and modules; only labels differ",
        },
    }


def _index_of(copy: Copy) -> str:
    label = (copy.label or "").partition(".")[0]
    return AUTO if label == AUTO else copy.target.backend.name


def _same(staged: Path, path: Path) -> bool:
    return path.is_file() and staged.read_bytes() == path.read_bytes()


def _bound_report(path: Path, copy: Copy, proof: Mapping[str, object]) -> dict[str, Any] | None:
    """Return the report of a copy that lies there, if it is what would be written now."""
    report = _read_report(report_path(path))
    if report is None:
        return None
    if not copy.is_subset:
        return report if report == derived_report(copy, path, proof) else None
    bound = (report.get("wheel"), report.get("sha256"), report.get("backend"))
    there = read_wheel(path)
    good = bound == (path.name, there.sha256, _index_of(copy)) and report.get("passed") is True
    return report if good else None


def _read_report(path: Path) -> dict[str, Any] | None:
    try:
        report = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise SmokeError(
            f"{path.name} is not a smoke report: {error}", cure="delete it and prove the wheel anew"
        ) from error
    return report if isinstance(report, dict) else {}
