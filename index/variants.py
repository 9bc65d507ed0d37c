"""The index of a version's wheel variants, ``<distribution>-<version>-variants.json`` (PEP 825).

An installer that knows variants reads this one file to choose a wheel by what the machine has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from variantlib.errors import ValidationError
from variantlib.variants_json import VariantsJson

from ci.errors import CatalogueError
from index.wheel import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ci.table import Table
    from index.catalogue import Entry
    from index.wheel import Variant


def variants_name(version: str) -> str:
    """Return the file name of the index of a version's variants."""
    return f"{PROJECT.replace('-', '_')}-{version}-variants.json"


def variants_json(entries: Iterable[Entry], *, table: Table) -> bytes:
    """Return the index of the variants among the entries of one version.

    The providers and their order are the table's as it is now: which version of a provider an
    installer has built in is about the installer, not about a wheel of last year.

    Raises:
        CatalogueError: There is no variant, entries are of different versions, one label has two
            meanings, two labels have the same, or the table has no provider for a namespace.
    """
    versions: set[str] = set()
    labels: dict[str, Variant] = {}
    for entry in entries:
        variant = entry.variant
        if variant is None:
            continue
        versions.add(entry.version)
        there = labels.setdefault(variant.label, variant)
        if there != variant:
            what = f"{entry.name}: another wheel of {entry.version} has the variant label\
 {variant.label} with other properties"
            raise CatalogueError(what, cure="give one of them another label (--label auto.1)")
    if len(versions) != 1:
        what = f"an index of variants is of one version, these entries are of {sorted(versions)}"
        raise CatalogueError(what, cure="call it once per version that has variants")
    version = versions.pop()
    content: Any = {
        **table.auto.provider_data,
        "variants": {
            label: {
                namespace: {feature: list(values) for feature, values in features.items()}
                for namespace, features in labels[label].properties.items()
            }
            for label in sorted(labels)
        },
    }
    try:
        written = VariantsJson(content)
    except ValidationError as error:
        what = f"the variants of {version}: {error}"
        raise CatalogueError(what, cure="mend [auto.providers] in ci/targets.toml") from error
    _tell_apart(version, written)
    return f"{written.to_str()}\n".encode()


def _tell_apart(version: str, written: VariantsJson) -> None:
    """See that no two variants look alike to an installer, which could then take either."""
    seen: dict[str, str] = {}
    for label, description in written.variants.items():
        twin = seen.setdefault(description.hexdigest, label)
        if twin != label:
            what = f"the variants {twin} and {label} of {version} have the same properties"
            raise CatalogueError(what, cure="change the properties of one of them in the table")
