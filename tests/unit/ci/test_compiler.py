"""The compiler and its caches."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ci import zig
from ci.compiler import choose_compiler
from ci.table import load_table

PLATFORM = load_table().platforms["manylinux_x86_64"]


def installation(folder: Path) -> Path:
    (folder / "lib" / "std").mkdir(parents=True)
    return folder


def test_installations_of_the_same_files_share_a_cache_and_others_do_not(tmp_path: Path) -> None:
    one, link, copy = (installation(tmp_path / name) for name in ("one", "link", "copy"))
    file = one / "lib" / "std" / "std.zig"
    file.write_text("pub const zig = 1;", encoding="utf-8")
    (link / "lib" / "std" / "std.zig").hardlink_to(file)
    shutil.copy2(file, copy / "lib" / "std" / "std.zig")

    folder = zig.cache_folder(tmp_path, one)

    assert folder.parent == tmp_path
    assert zig.cache_folder(tmp_path, link) == folder
    assert zig.cache_folder(tmp_path, copy) != folder


def test_a_cache_that_nobody_has_used_for_a_month_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path))
    old, recent = tmp_path / "zig" / "old", tmp_path / "zig" / "recent"
    for folder in (old, recent):
        (folder / "h").mkdir(parents=True)
    os.utime(old, (0, 0))

    compiler = choose_compiler("zig", PLATFORM, tmp_path / "scripts", {})

    own = Path(compiler.env["ZIG_GLOBAL_CACHE_DIR"])
    assert sorted((tmp_path / "zig").iterdir()) == sorted([own, recent])
