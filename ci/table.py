"""The one table, ``ci/targets.toml``: platforms, families, backends, and the targets they make."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci.errors import TableError, UsageError
from ci.problems import told
from ci.schedule import Container, Subsets
from ci.variants import Auto, FamilyFeatures, Properties, WheelVariant, auto_problems

TABLE_PATH = Path(__file__).with_name("targets.toml")

_STRICT = ConfigDict(extra="forbid", strict=True)

System: TypeAlias = Literal["linux", "macos", "windows"]
Machine: TypeAlias = Literal["x86_64", "aarch64", "arm64"]
Toolkit: TypeAlias = Literal["none", "CUDA", "ROCm", "Xcode", "Vulkan SDK"]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Interpreters:
    """The Pythons that a wheel is proven on (never compiled for: it is ``py3-none``)."""

    cpython: list[str]
    free_threaded: list[str]
    required: list[str]
    """Those of them without which ``smoke --all-pythons`` fails."""

    @property
    def all(self) -> tuple[str, ...]:
        """Every version, oldest first, free-threaded ones last."""
        return (*self.cpython, *self.free_threaded)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Publication:
    """Where the index is published: ``<url>whl/<backend>/``."""

    url: str


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Platform:
    """Where a wheel installs; named like the half of a cibuildwheel identifier after the dash."""

    name: str
    title: str
    system: System
    machine: Machine
    libc: Literal["glibc", "musl"] | None = None
    wheel_tag: str
    zig_target: str | None = None
    """What ziglang calls it. On Linux every wheel is built with that, elsewhere those alone that
    another system cross-compiles."""
    runner: str
    cibuildwheel: str
    cpu_variants: list[str]
    """ggml's CPU variants; the first is the one that every CPU of the machine runs."""
    defines: dict[str, str] = field(default_factory=dict)
    """CMake defines of every build for it; those of the family go before them."""
    oldest_python: str | None = None
    """The oldest Python that there is for it, where that is not the oldest of the interpreters."""
    proof_packages: list[str] = field(default_factory=list)
    """Packages of its runner's system that the proof of a wheel for it needs."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Crossed:
    """Where the pipeline compiles for a platform that this is not."""

    runner: str
    packages: list[str] = field(default_factory=list)
    """Of the runner's system: what it runs a wheel for the platform with."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Runtime:
    """What a module needs where it runs."""

    externals: list[str] = field(default_factory=list)
    """Libraries that the module alone may need, and that stay outside of the wheel."""
    run_paths: list[str] = field(default_factory=list)
    """Where the module looks for them, besides its own folder: ``$ORIGIN/../../nvidia/cu13/lib``."""
    dependencies: list[str] = field(default_factory=list)
    """Distributions that bring them, from the toolkit's version on."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Family:
    """What ggml computes with: its CMake defines, modules and external libraries."""

    name: str
    title: str
    defines: dict[str, str]
    modules: list[str]
    find_out: str
    """How somebody reads off whether the machine has it; code in backquotes."""
    smoke: Literal["cpu", "gpu"]
    toolkit: Toolkit
    runtime: dict[str, Runtime] = field(default_factory=dict)
    """By the major version of the toolkit."""
    wheel_tags: dict[str, str] = field(default_factory=dict)
    """By platform, where it is not the platform's own."""
    minutes: int
    """How long a job of the pipeline may take that compiles everything."""
    gpu_on_runner: list[str] = field(default_factory=list)
    """Platforms whose runner has a device to compute on; the others need a runner with a GPU."""
    gpu_container: Container | None = None
    """Where the proof runs on a runner with a GPU; None: on the runner itself."""
    proof_packages: list[str] = field(default_factory=list)
    """Packages of the runner's system that bring that device."""
    crosses: bool = False
    """Whether any machine compiles it for a platform that ziglang has a name of."""
    crossed: dict[str, Crossed] = field(default_factory=dict)
    """By platform, where the pipeline compiles it on another one's runner."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Backend:
    """What a user asks for; its name is at once version label, index path and README row."""

    name: str
    family: str
    platforms: list[str]
    toolkit_version: str | None = None
    gpu_architectures: list[str] | None = None
    size_limit_mb: int


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Target:
    """One backend on one platform: exactly one wheel."""

    backend: Backend
    family: Family
    platform: Platform

    @property
    def name(self) -> str:
        """``<backend>-<platform>``, for example ``cpu-manylinux_x86_64``."""
        return f"{self.backend.name}-{self.platform.name}"

    @property
    def wheel_tag(self) -> str:
        """The platform tag of the wheel: the family's own where the platform's is too old for it."""
        return self.family.wheel_tags.get(self.platform.name, self.platform.wheel_tag)

    @property
    def runtime(self) -> Runtime:
        """What the module needs at run time; nothing for a family without a runtime."""
        major = (self.backend.toolkit_version or "").partition(".")[0]
        return self.family.runtime.get(major, Runtime())

    @property
    def requirements(self) -> tuple[str, ...]:
        """The wheel's dependencies that bring the runtime, sorted."""
        version = self.backend.toolkit_version or "0"
        following = int(version.partition(".")[0]) + 1
        return tuple(
            f"{name}<{following},>={version}" for name in sorted(self.runtime.dependencies)
        )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class _File:
    schema: Literal[1]
    index: Publication
    interpreters: Interpreters
    subset: Subsets
    platform: dict[str, Platform]
    family: dict[str, Family]
    backend: dict[str, Backend]
    auto: Auto


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True))
class Table:
    """Platforms, families and backends by name, checked against each other."""

    index: Publication
    interpreters: Interpreters
    subsets: Subsets
    platforms: Mapping[str, Platform]
    families: Mapping[str, Family]
    backends: Mapping[str, Backend]
    auto: Auto

    def pythons(self, platform: Platform) -> tuple[str, ...]:
        """Return the interpreters that there are for a platform, in the table's order."""
        names = self.interpreters.all
        if platform.oldest_python is None:
            return names
        oldest = self.interpreters.cpython.index(platform.oldest_python)
        missing = self.interpreters.cpython[:oldest]
        return tuple(name for name in names if name not in missing)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Every wheel of a complete release, in the table's order."""
        return tuple(
            Target(backend=backend, family=self.families[backend.family], platform=platform)
            for backend in self.backends.values()
            for platform in self.platforms.values()
            if any(fnmatchcase(platform.name, pattern) for pattern in backend.platforms)
        )

    def backend(self, name: str) -> Backend:
        """Return the backend called ``name``.

        Raises:
            UsageError: there is none; the message lists those that there are.
        """
        try:
            return self.backends[name]
        except KeyError:
            raise UsageError(
                f"unknown backend {name!r}", cure=f"choose one of: {', '.join(self.backends)}"
            ) from None

    def platform(self, name: str) -> Platform:
        """Return the platform called ``name``.

        Raises:
            UsageError: there is none; the message lists those that there are.
        """
        try:
            return self.platforms[name]
        except KeyError:
            raise UsageError(
                f"unknown platform {name!r}", cure=f"choose one of: {', '.join(self.platforms)}"
            ) from None

    def target(self, backend: str, platform: str) -> Target:
        """Return the target of ``backend`` on ``platform``.

        Raises:
            UsageError: one is unknown, or the backend does not exist on that platform.
        """
        wanted = (self.backend(backend).name, self.platform(platform).name)
        for target in self.targets:
            if (target.backend.name, target.platform.name) == wanted:
                return target
        there = [t.platform.name for t in self.targets if t.backend.name == backend]
        raise UsageError(
            f"there is no {backend} wheel for {platform}",
            cure=f"{backend} exists on: {', '.join(there)} (give one with --platform)",
        )

    def is_plain(self, target: Target) -> bool:
        """Say whether a target's wheel is what ``auto`` has for everybody on its platform."""
        there = {t.backend.name for t in self.targets if t.platform == target.platform}
        plain = next((name for name in self.auto.plain if name in there), None)
        return target.backend.name == plain

    def variants(self, target: Target) -> tuple[WheelVariant, ...]:
        """Return the wheel variants that ``auto`` has of a target's wheel."""
        found: list[WheelVariant] = []
        features = self.auto.families.get(target.family.name)
        if features is not None:
            found += self._family_variants(target.backend, features)
        for label, subset in self.auto.subsets.items():
            if subset.backend == target.backend.name and any(
                fnmatchcase(target.platform.name, pattern) for pattern in subset.platforms
            ):
                there = target.platform.cpu_variants
                without = tuple(name for name in subset.without if name in there)
                found.append(
                    WheelVariant(label=label, properties=subset.properties, without=without)
                )
        return tuple(found)

    def _family_variants(
        self, backend: Backend, features: FamilyFeatures
    ) -> Iterator[WheelVariant]:
        """Yield the variant of a backend by its toolkit, and the one for GPUs that it is last for."""
        toolkit = {features.toolkit: [str(backend.toolkit_version)]}
        yield WheelVariant(label=backend.name, properties=_properties(toolkit))
        if features.architectures is not None and (last := self._last_for(backend)):
            architectures = [f"{architecture}_real" for architecture in last]
            # the bounds of the newer ones as well: an installer ranks by the highest that holds
            newer = [str(other.toolkit_version) for other in self._newer(backend)]
            bounds = [*toolkit[features.toolkit], *newer]
            values = {features.toolkit: bounds, features.architectures: architectures}
            yield WheelVariant(label=f"{backend.name}_old_gpus", properties=_properties(values))

    def _last_for(self, backend: Backend) -> list[str]:
        """Return the architectures that this backend has and no newer one of its family, if any."""
        newer = [other.gpu_architectures or [] for other in self._newer(backend)]
        return [
            architecture
            for architecture in backend.gpu_architectures or ()
            # code for a virtual architecture runs on every newer GPU as well: none is left behind
            if newer
            and not architecture.endswith("-virtual")
            and not any(architecture in others for others in newer)
        ]

    def _newer(self, backend: Backend) -> list[Backend]:
        """Return the backends of the family with a newer toolkit, in the table's order."""
        return [
            other
            for other in self.backends.values()
            if other.family == backend.family and _release(other) > _release(backend)
        ]


def _properties(values: Mapping[str, list[str]]) -> Properties:
    """Return values by feature by namespace, from values by ``namespace :: feature``."""
    properties: Properties = {}
    for feature, value in values.items():
        namespace, _, name = feature.partition(" :: ")
        properties.setdefault(namespace, {})[name] = value
    return properties


def _release(backend: Backend) -> tuple[int, ...]:
    return tuple(int(part) for part in (backend.toolkit_version or "0").split("."))


def load_table(path: Path = TABLE_PATH) -> Table:
    """Read and check the table.

    Raises:
        TableError: not TOML, an unknown or missing key, a reference to something that is not
            in the table, or a pattern that matches no platform.
    """
    cure = f"mend {path.name}; the keys are the fields of the classes in ci/table.py"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"{path.name}: {error}", cure=cure) from error
    for noun in ("platform", "family", "backend"):
        entries = raw.get(noun)
        if isinstance(entries, dict):
            for name, entry in entries.items():
                if isinstance(entry, dict):
                    entry["name"] = name
    try:
        # strict, but with tables for dataclasses: that is what pydantic does with JSON
        file = TypeAdapter(_File).validate_json(json.dumps(raw, default=str))
    except ValidationError as error:
        raise TableError(f"{path.name}:\n{told(error)}", cure=cure) from error
    table = Table(
        index=file.index,
        interpreters=file.interpreters,
        subsets=file.subset,
        platforms=file.platform,
        families=file.family,
        backends=file.backend,
        auto=file.auto,
    )
    _check_references(table, path.name, cure)
    return table


def _check_references(table: Table, where: str, cure: str) -> None:
    problems: list[str] = []
    for backend in table.backends.values():
        if backend.family not in table.families:
            problems.append(f"  backend.{backend.name}.family: no family {backend.family!r}")
        problems += [
            f"  backend.{backend.name}.platforms: {pattern!r} matches no platform"
            for pattern in backend.platforms
            if not any(fnmatchcase(name, pattern) for name in table.platforms)
        ]
        family = table.families.get(backend.family)
        major = (backend.toolkit_version or "").partition(".")[0]
        if family is not None and family.runtime and major not in family.runtime:
            problems.append(
                f"  backend.{backend.name}.toolkit_version: of family.{family.name}.runtime's major"
                f" versions ({', '.join(family.runtime)}) it is none: {backend.toolkit_version}"
            )
    problems += [
        f"  family.{family.name}.wheel_tags: no platform {name!r}"
        for family in table.families.values()
        for name in family.wheel_tags.keys() - table.platforms.keys()
    ]
    problems += [
        f"  family.{family.name}.{key}: no platform {name!r}"
        for family in table.families.values()
        for key, names in (("gpu_on_runner", family.gpu_on_runner), ("crossed", family.crossed))
        for name in names
        if name not in table.platforms
    ]
    problems += [
        f"  platform.{platform.name}.oldest_python: {platform.oldest_python!r} is none of"
        f" {', '.join(table.interpreters.cpython)}"
        for platform in table.platforms.values()
        if platform.oldest_python not in {None, *table.interpreters.cpython}
    ]
    problems += [
        f"  interpreters.required: {name!r} is none of {', '.join(table.interpreters.all)}"
        for name in table.interpreters.required
        if name not in table.interpreters.all
    ]
    used = {backend.family for backend in table.backends.values()}
    problems += [f"  family.{name}: no backend uses it" for name in table.families.keys() - used]
    # what these say is about backends and platforms: it makes no sense while those are wrong
    problems = problems or [
        *table.subsets.problems([target.name for target in table.targets]),
        *auto_problems(table),
    ]
    if problems:
        raise TableError(f"{where}:\n" + "\n".join(problems), cure=cure)
