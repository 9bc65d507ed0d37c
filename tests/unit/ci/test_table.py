"""The table: what it derives, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.errors import TableError, UsageError
from ci.table import TABLE_PATH, Table, load_table


def spoiled(tmp_path: Path, old: str, new: str) -> Path:
    text = TABLE_PATH.read_text(encoding="utf-8")
    assert old in text
    place = tmp_path / "targets.toml"
    place.write_text(text.replace(old, new, 1), encoding="utf-8")
    return place


def test_every_backend_of_the_design_is_a_row() -> None:
    assert list(load_table().backends) == [
        "cpu", "metal", "cu121", "cu122", "cu123", "cu124", "cu125", "cu126", "cu128", "cu130",
        "rocm6x", "rocm7x", "vulkan",
    ]  # fmt: skip


def test_cpu_exists_on_every_platform() -> None:
    table = load_table()
    names = [target.platform.name for target in table.targets if target.backend.name == "cpu"]
    assert names == list(table.platforms)


def test_a_target_is_named_after_backend_and_platform() -> None:
    target = load_table().target("cu128", "manylinux_x86_64")
    assert (target.name, target.family.name) == ("cu128-manylinux_x86_64", "cuda")


def test_names_of_targets_and_wheels_are_unique() -> None:
    targets = load_table().targets
    assert len({target.name for target in targets}) == len(targets)
    assert len({(t.backend.name, t.wheel_tag) for t in targets}) == len(targets)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('family = "cpu"', 'family = "abacus"', "backend.cpu.family: no family 'abacus'"),
        ('platforms = ["*"]', 'platforms = ["amiga*"]', "'amiga*' matches no platform"),
        ("size_limit_mb = 14", 'size_limit_mb = "14"', "backend.cpu.size_limit_mb: Input should"),
        ("size_limit_mb = 14", "size_limit = 14", "backend.cpu.size_limit: Unexpected keyword"),
        ('runner = "ubuntu-24.04"', "", "platform.manylinux_x86_64.runner: Field required"),
        ("schema = 1", "schema = 2", "schema: Input should be 1"),
        ("schema = 1", "schema = ", "Invalid value"),
        ('family = "metal"', 'family = "cpu"', "family.metal: no backend uses it"),
        (
            'toolkit_version = "7.2"',
            'toolkit_version = "8.0"',
            (
                "backend.rocm7x.toolkit_version: of family.hip.runtime's major versions (6, 7) it is"
                " none: 8.0"
            ),
        ),
        (
            "wheel_tags = { manylinux_x86_64",
            "wheel_tags = { amiga",
            "family.cuda.wheel_tags: no platform 'amiga'",
        ),
        ('pr = ["cpu-*"', 'pr = ["amiga-*"', "subset.pr: 'amiga-*' matches no target"),
        ('monthly = ["*"]', "", "subset.monthly: Field required"),
        (
            'oldest_python = "3.11"',
            'oldest_python = "2.7"',
            "platform.win_arm64.oldest_python: '2.7' is none of 3.9, 3.10, ",
        ),
        (
            'gpu_on_runner = ["macosx_arm64"]',
            'gpu_on_runner = ["amiga"]',
            "family.metal.gpu_on_runner: no platform 'amiga'",
        ),
        (
            "docker.io/library/python@sha256:",
            "docker.io/library/python:3.13-slim",
            "family.cuda.gpu_container.image: String should match pattern",
        ),
    ],
    ids=[
        "family",
        "pattern",
        "type",
        "unknown",
        "missing",
        "schema",
        "syntax",
        "unused",
        "runtime",
        "wheel tag",
        "subset",
        "no subset",
        "oldest python",
        "gpu on runner",
        "image without a digest",
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(TableError) as caught:
        load_table(spoiled(tmp_path, old, new))
    assert message in str(caught.value)
    assert "mend targets.toml" in caught.value.cure


def test_an_unknown_backend_lists_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        load_table().target("cu999", "manylinux_x86_64")
    assert str(caught.value).startswith("unknown backend 'cu999'\n  -> choose one of: cpu, metal, ")


def test_an_unknown_platform_lists_those_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        load_table().target("cpu", "amiga")
    assert "unknown platform 'amiga'\n  -> choose one of: manylinux_x86_64, " in str(caught.value)


def test_a_backend_that_is_not_on_a_platform_says_where_it_is() -> None:
    with pytest.raises(UsageError) as caught:
        load_table().target("metal", "win_amd64")
    assert str(caught.value) == (
        "there is no metal wheel for win_amd64\n"
        "  -> metal exists on: macosx_arm64 (give one with --platform)"
    )


def cuda(name: str, table: Table) -> dict[str, list[str]]:
    variant, *_ = table.variants(table.target(name, "manylinux_x86_64"))
    assert (variant.label, variant.without) == (name, ())
    assert list(variant.properties) == ["nvidia"]
    return variant.properties["nvidia"]


def test_a_cuda_backend_is_a_variant_with_its_true_minor_version() -> None:
    table = load_table()
    versions = {
        name: cuda(name, table)["cuda_version_lower_bound"]
        for name, backend in table.backends.items()
        if backend.family == "cuda"
    }
    assert versions == {
        "cu121": ["12.1"], "cu122": ["12.2"], "cu123": ["12.3"], "cu124": ["12.4"],
        "cu125": ["12.5"], "cu126": ["12.6"], "cu128": ["12.8"], "cu130": ["13.0"],
    }  # fmt: skip


def old_gpus(table: Table) -> dict[str, dict[str, list[str]]]:
    """Return the properties of each variant for the GPUs that newer backends have dropped."""
    found = {}
    for name, backend in table.backends.items():
        if backend.family == "cuda":
            for variant in table.variants(table.target(name, "manylinux_x86_64"))[1:]:
                assert (variant.label, variant.without) == (f"{name}_old_gpus", ())
                assert list(variant.properties) == ["nvidia"]
                found[name] = variant.properties["nvidia"]
    return found


def test_the_last_backend_for_some_gpus_has_a_variant_for_them() -> None:
    # of cu121 to cu126 nothing is lost in cu128; of what cu128 has, cu130 lacks four
    assert old_gpus(load_table()) == {
        "cu128": {
            "cuda_version_lower_bound": ["12.8", "13.0"],
            "sm_arch": ["50_real", "60_real", "61_real", "70_real"],
        }
    }


def test_a_new_cuda_is_a_variant_by_its_row_alone(tmp_path: Path) -> None:
    row = """
[backend.cu132]
family = "cuda"
toolkit_version = "13.2"
gpu_architectures = ["75", "90", "90-virtual"]
platforms = ["manylinux_x86_64"]
size_limit_mb = 400
"""
    table = load_table(spoiled(tmp_path, "[backend.rocm7x]", f"{row}\n[backend.rocm7x]"))
    assert cuda("cu132", table) == {"cuda_version_lower_bound": ["13.2"]}
    assert old_gpus(table) == {
        "cu128": {
            "cuda_version_lower_bound": ["12.8", "13.0", "13.2"],
            "sm_arch": ["50_real", "60_real", "61_real", "70_real"],
        },
        "cu130": {
            "cuda_version_lower_bound": ["13.0", "13.2"],
            "sm_arch": ["80_real", "86_real", "89_real", "100_real", "120a_real", "121a_real"],
        },
    }


def test_cpu_wheels_have_a_smaller_variant_where_machines_have_levels() -> None:
    table = load_table()
    found = {
        target.platform.name: [(v.label, v.properties, v.without) for v in table.variants(target)]
        for target in table.targets
        if target.backend.name == "cpu"
    }
    properties = {"x86_64": {"level": ["v3"]}}
    whole = ("x86_64_v3", properties, ("sse42", "sandybridge", "ivybridge", "piledriver"))
    # MSVC builds neither of the other two
    windows = ("x86_64_v3", properties, ("sse42", "sandybridge"))
    assert found == {
        "manylinux_x86_64": [whole],
        "manylinux_aarch64": [],
        "musllinux_x86_64": [whole],
        "musllinux_aarch64": [],
        "macosx_arm64": [],
        "macosx_x86_64": [whole],
        "win_amd64": [windows],
        "win_arm64": [],
    }


def test_every_platform_has_one_plain_wheel() -> None:
    table = load_table()
    plain = {t.platform.name: t.backend.name for t in table.targets if table.is_plain(t)}
    assert plain == dict.fromkeys(table.platforms, "cpu") | {"macosx_arm64": "metal"}
    assert len([t for t in table.targets if table.is_plain(t)]) == len(table.platforms)


def test_providers_are_said_in_the_words_of_the_specification() -> None:
    assert load_table().auto.provider_data == {
        "default-priorities": {"namespace": ["nvidia", "x86_64"]},
        "providers": {
            "nvidia": {
                "requires": ["nvidia-variant-provider>=0.0.1,<1"],
                "plugin-api": "nvidia_variant_provider.plugin:NvidiaVariantPlugin",
            },
            "x86_64": {"requires": ["x86-64-variant-provider>=0.2.1,<1"]},
        },
    }


SUBSET = "auto.subsets.x86_64_v3"
NVIDIA = 'requires = ["nvidia-variant-provider>=0.0.1,<1"]'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('plain = ["metal"', 'plain = ["mettle"', "auto.plain: no backend 'mettle'"),
        ("[backend.vulkan]", "[backend.auto]", "backend.auto: that is the name of the index"),
        (NVIDIA, 'requires = [">1"]', "auto.providers.nvidia.requires: '>1' is no requirement"),
        (NVIDIA, "requires = []", "auto.providers.nvidia.requires: List should have at least 1"),
        ("plugin:NvidiaV", "plugin NvidiaV", "auto.providers.nvidia.plugin_api: String should"),
        (
            "[auto.providers.x86_64]",
            "[auto.providers.amd64]",
            "auto.providers: there is none for the namespace 'x86_64'",
        ),
        ("[auto.families.cuda]", "[auto.families.coda]", "auto.families.coda: there is no family"),
        ('"nvidia :: sm_arch"', '"nvidia:sm_arch"', "auto.families.cuda.architectures: String sh"),
        (
            'toolkit_version = "12.1"',
            'toolkit_version = "12.x"',
            "backend.cu121.toolkit_version: auto.families.cuda needs one such as 12.8, not '12.x'",
        ),
        (
            'toolkit_version = "12.1"',
            "",
            (
                "backend.cu121.toolkit_version: of family.cuda.runtime's major versions (12, 13) it is"
                " none: None"
            ),
        ),
        (
            'gpu_architectures = ["75", "80", "86", "89", "90", "90-virtual", "100", "120a", "121a"]',
            "",
            "backend.cu130.gpu_architectures: auto.families.cuda needs some",
        ),
        ("[auto.providers.x86_64]", "[auto.providers.amd64]", "amd64: no variant uses it"),
        ('backend = "cpu"', 'backend = "abacus"', f"{SUBSET}.backend: no backend 'abacus'"),
        (
            '"*x86_64", "win_amd64"',
            '"*x86_64", "amiga"',
            f"{SUBSET}.platforms: 'amiga' matches no platform of cpu",
        ),
        (
            '"*x86_64", "win_amd64"',
            '"*x86_64", "win_arm64"',
            f"{SUBSET}.without: leaves out all of the CPU variants of win_arm64",
        ),
        (
            '"*x86_64", "win_amd64"',
            '"*x86_64", "macosx_arm64"',
            f"{SUBSET}.without: leaves out none of the CPU variants of macosx_arm64",
        ),
        (
            'without = ["sse42"',
            'without = ["sse43"',
            f"{SUBSET}.without: no platform of cpu has the CPU variant 'sse43'",
        ),
        ("[auto.subsets.x86_64_v3]", "[auto.subsets.cu128]", "subsets.cu128: the label is taken"),
        ("[auto.subsets.x86_64_v3]", "[auto.subsets.V3]", "auto.subsets.V3.[key]: String should"),
        ('level = ["v3"]', "level = 3", f"{SUBSET}.properties.x86_64.level: Input should be a"),
        ('{ x86_64 = { level = ["v3"] } }', "{}", f"{SUBSET}.properties: Dictionary should have"),
    ],
)
def test_an_auto_that_makes_no_sense_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(TableError) as caught:
        load_table(spoiled(tmp_path, old, new))
    assert message in str(caught.value)
    assert "mend targets.toml" in caught.value.cure
