from __future__ import annotations

import json
from dataclasses import replace
from typing import TypeAlias

import pytest
from variantlib.variants_json import VariantsJson

from ci.errors import CatalogueError
from ci.table import load_table
from index.catalogue import Entry
from index.report import Host, Proof
from index.variants import variants_json, variants_name
from index.wheel import Variant

Properties: TypeAlias = dict[str, dict[str, tuple[str, ...]]]

TABLE = load_table()
PROOF = Proof(
    sha256="a" * 64,
    source=None,
    date="2026-11-21T02:00:00Z",
    host=Host(system="Linux", machine="x86_64", libc=None, cpu=None),
    interpreters=(),
)
CUDA: Properties = {"nvidia": {"cuda_version_lower_bound": ("12.8",)}}
V3: Properties = {"x86_64": {"level": ("v3",)}}


def entry(
    label: str | None,
    properties: Properties | None = None,
    *,
    version: str = "0.3.100+auto",
    platform: str = "manylinux_2_17_x86_64",
) -> Entry:
    """Return an entry of a wheel variant; without a label of the plain wheel."""
    end = "" if label is None else f"-{label}"
    variant = None if label is None else Variant(label=label, properties=properties or {})
    return Entry(
        name=f"llama_cpp_python-{version}-py3-none-{platform}{end}.whl",
        project="llama-cpp-python",
        version=version,
        backend="auto",
        platform="manylinux_x86_64",
        sha256="b" * 64,
        size=10,
        upload_time="2026-11-21T12:00:00Z",
        requires_python=">=3.9",
        requires=(),
        metadata_sha256="c" * 64,
        report=PROOF,
        variant=variant,
        yanked=None,
        url=None,
    )


def test_the_name_is_the_specification_s() -> None:
    assert variants_name("0.3.100+auto") == "llama_cpp_python-0.3.100+auto-variants.json"


def test_the_index_of_a_version_says_who_chooses_and_what() -> None:
    content = variants_json(
        [entry("x86_64_v3", V3), entry(None), entry("cu128", CUDA)], table=TABLE
    )

    assert json.loads(content) == {
        "$schema": "https://variants-schema.wheelnext.dev/v0.2.0.json",
        "default-priorities": {"namespace": ["nvidia", "x86_64"]},
        "providers": {
            "nvidia": {
                "plugin-api": "nvidia_variant_provider.plugin:NvidiaVariantPlugin",
                "requires": ["nvidia-variant-provider>=0.0.1,<1"],
            },
            "x86_64": {"requires": ["x86-64-variant-provider>=0.2.1,<1"]},
        },
        "variants": {
            "cu128": {"nvidia": {"cuda_version_lower_bound": ["12.8"]}},
            "x86_64_v3": {"x86_64": {"level": ["v3"]}},
        },
    }
    assert content.endswith(b"\n")
    assert sorted(VariantsJson(json.loads(content)).variants) == ["cu128", "x86_64_v3"]


def test_the_order_of_the_entries_does_not_matter() -> None:
    entries = [entry("x86_64_v3", V3), entry("cu128", CUDA)]

    assert variants_json(entries, table=TABLE) == variants_json(entries[::-1], table=TABLE)


def test_one_label_on_two_platforms_is_one_variant() -> None:
    windows = entry("cu128", CUDA, platform="win_amd64")

    both = variants_json([entry("cu128", CUDA), windows], table=TABLE)

    assert both == variants_json([windows], table=TABLE)


def test_one_label_cannot_mean_two_things() -> None:
    other = entry("cu128", V3, platform="win_amd64")

    with pytest.raises(CatalogueError) as caught:
        variants_json([entry("cu128", CUDA), other], table=TABLE)
    assert caught.value.what == (
        "llama_cpp_python-0.3.100+auto-py3-none-win_amd64-cu128.whl: another wheel of 0.3.100+auto"
        " has the variant label cu128 with other properties"
    )


def test_two_labels_cannot_mean_one_thing() -> None:
    with pytest.raises(CatalogueError) as caught:
        variants_json([entry("cu128", CUDA), entry("cuda", CUDA)], table=TABLE)
    assert caught.value.what == (
        "the variants cu128 and cuda of 0.3.100+auto have the same properties"
    )


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        pytest.param(["0.3.100+auto", "0.3.101+auto"], r"'0\.3\.100\+auto', '0\.3\.101", id="two"),
        pytest.param([], r"\[\]", id="none"),
    ],
)
def test_it_is_of_one_version(versions: list[str], found: str) -> None:
    entries = [entry("cu128", CUDA, version=version) for version in versions]

    with pytest.raises(CatalogueError, match=found):
        variants_json([entry(None), *entries], table=TABLE)


def test_a_namespace_that_nobody_reads_off_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"missing: \{'quantum'\}") as caught:
        variants_json([entry("q", {"quantum": {"qubits": ("9",)}})], table=TABLE)
    assert caught.value.cure == "mend [auto.providers] in ci/targets.toml"


def test_providers_are_the_table_s() -> None:
    (nvidia,) = (p for name, p in TABLE.auto.providers.items() if name == "nvidia")
    auto = replace(TABLE.auto, providers={"nvidia": nvidia})

    content = json.loads(variants_json([entry("cu128", CUDA)], table=replace(TABLE, auto=auto)))

    assert list(content["providers"]) == ["nvidia"]
    assert content["default-priorities"] == {"namespace": ["nvidia"]}
