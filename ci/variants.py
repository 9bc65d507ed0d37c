"""Wheel variants: what ``[auto]`` of the table says of the index that an installer chooses from.

Source: PEP 825.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, TypeAlias

from packaging.requirements import InvalidRequirement, Requirement
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

if TYPE_CHECKING:
    from ci.table import Table

_STRICT = ConfigDict(extra="forbid", strict=True)

# PEP 825: what namespaces, features and values may be made of
Word = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Value = Annotated[str, Field(pattern=r"^[a-z0-9_.]+$")]
Feature = Annotated[str, Field(pattern=r"^[a-z0-9_]+ :: [a-z0-9_]+$")]
PluginApi = Annotated[str, Field(pattern=r"^[\w.]+(:[\w.]+)?$")]
Properties: TypeAlias = dict[Word, dict[Word, list[Value]]]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Provider:
    """Who reads off the properties of a machine: a namespace of wheel variants."""

    requires: Annotated[list[str], Field(min_length=1)]
    plugin_api: PluginApi | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FamilyFeatures:
    """The features that tell the backends of a family apart, as ``namespace :: feature``."""

    toolkit: Feature
    architectures: Feature | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Subset:
    """A wheel of a backend without some of its CPU variants, for machines with ``properties``."""

    backend: str
    platforms: list[str]
    properties: Annotated[Properties, Field(min_length=1)]
    without: Annotated[list[str], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Auto:
    """What the index ``auto`` is made of."""

    plain: list[str]
    providers: dict[Word, Provider]
    families: dict[str, FamilyFeatures]
    subsets: dict[Value, Subset]

    @property
    def provider_data(self) -> dict[str, object]:
        """The providers in the words of ``variant.json`` and ``…-variants.json`` (PEP 825)."""
        return {
            "default-priorities": {"namespace": list(self.providers)},
            "providers": {
                namespace: {"requires": provider.requires}
                | ({"plugin-api": provider.plugin_api} if provider.plugin_api else {})
                for namespace, provider in self.providers.items()
            },
        }


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class WheelVariant:
    """One wheel variant: its label, its properties, and the CPU variants that it leaves out."""

    label: str
    properties: Properties
    without: tuple[str, ...] = ()


def auto_problems(table: Table) -> Iterator[str]:
    """Name what does not go together in ``[auto]``."""
    auto = table.auto
    if "auto" in table.backends:
        yield "  backend.auto: that is the name of the index with the variants"
    for name in auto.plain:
        if name not in table.backends:
            yield f"  auto.plain: no backend {name!r}"
    for name, features in auto.families.items():
        yield from _feature_problems(table, name, features)
    for label, subset in auto.subsets.items():
        yield from _subset_problems(table, label, subset)
    yield from _provider_problems(auto)


def _provider_problems(auto: Auto) -> Iterator[str]:
    for namespace, provider in auto.providers.items():
        for requirement in provider.requires:
            try:
                Requirement(requirement)
            except InvalidRequirement:
                yield f"  auto.providers.{namespace}.requires: {requirement!r} is no requirement"
    used = {
        feature.partition(" :: ")[0]
        for features in auto.families.values()
        for feature in (features.toolkit, features.architectures)
        if feature is not None
    }.union(*(subset.properties for subset in auto.subsets.values()))
    for namespace in sorted(used - auto.providers.keys()):
        yield f"  auto.providers: there is none for the namespace {namespace!r}"
    for namespace in sorted(auto.providers.keys() - used):
        yield f"  auto.providers.{namespace}: no variant uses it"


def _feature_problems(table: Table, family: str, features: FamilyFeatures) -> Iterator[str]:
    if family not in table.families:
        yield f"  auto.families.{family}: there is no family of this name"
    for backend in table.backends.values():
        if backend.family != family:
            continue
        if not re.fullmatch(r"\d+(?:[.]\d+)*", backend.toolkit_version or ""):
            yield (
                f"  backend.{backend.name}.toolkit_version: auto.families.{family} needs one such"
                f" as 12.8, not {backend.toolkit_version!r}"
            )
        if features.architectures is not None and not backend.gpu_architectures:
            yield f"  backend.{backend.name}.gpu_architectures: auto.families.{family} needs some"


def _subset_problems(table: Table, label: str, subset: Subset) -> Iterator[str]:
    where = f"  auto.subsets.{label}"
    if label in table.backends or label == "null":
        yield f"{where}: the label is taken"
    if subset.backend not in table.backends:
        yield f"{where}.backend: no backend {subset.backend!r}"
    platforms = [t.platform for t in table.targets if t.backend.name == subset.backend]
    for pattern in subset.platforms:
        matching = [p for p in platforms if fnmatchcase(p.name, pattern)]
        if not matching:
            yield f"{where}.platforms: {pattern!r} matches no platform of {subset.backend}"
        for platform in matching:
            left = set(platform.cpu_variants) - set(subset.without)
            if left == set(platform.cpu_variants) or not left:
                what = "all of" if not left else "none of"
                yield f"{where}.without: leaves out {what} the CPU variants of {platform.name}"
    known = {name for platform in platforms for name in platform.cpu_variants}
    for name in subset.without:
        if name not in known:
            yield f"{where}.without: no platform of {subset.backend} has the CPU variant {name!r}"
