"""The table: what it derives, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.errors import TableError, UsageError
from ci.table import TABLE_PATH, load_table


def spoiled(tmp_path: Path, old: str, new: str) -> Path:
    text = TABLE_PATH.read_text(encoding="utf-8")
    assert old in text
    place = tmp_path / "targets.toml"
    place.write_text(text.replace(old, new, 1), encoding="utf-8")
    return place


def test_every_backend_of_the_design_is_a_row() -> None:
    assert list(load_table().backends) == [
        "cpu", "metal", "cu121", "cu122", "cu123", "cu124", "cu125", "cu126", "cu128", "cu130",
        "rocm7x", "vulkan",
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
    assert len({(t.backend.name, t.platform.wheel_tag) for t in targets}) == len(targets)


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
        ('[family.hip]\ntitle = "AMD ROCm"', '[family.hop]\ntitle = "x"', "no family 'hip'"),
    ],
    ids=["family", "pattern", "type", "unknown", "missing", "schema", "syntax", "unused"],
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
