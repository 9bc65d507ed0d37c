"""Wine: found or not, started without a screen, and nothing of it left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ci.driver import compile_driver
from ci.errors import ToolMissingError
from ci.process import ProcessError
from ci.table import load_table
from ci.wine import can_prove, require_wine, windows

TABLE = load_table()
HAS_WINE = any(Path(place).exists() for place in ("/usr/lib/wine/wine64", "/usr/bin/wine64"))

needs_wine = pytest.mark.skipif(
    not HAS_WINE, reason="there is no wine64 (Debian: apt install wine64)"
)


def write_program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("backend", "platform", "can"),
    [
        ("cpu", "win_amd64", True),
        ("cu128", "win_amd64", True),
        ("cpu", "win_arm64", False),
        ("cpu", "manylinux_x86_64", False),
    ],
)
def test_whose_wheels_it_runs(backend: str, platform: str, can: bool) -> None:
    assert can_prove(TABLE.target(backend, platform)) is can


def test_no_wine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError) as caught:
        require_wine(tmp_path)
    assert caught.value.what == "there is no wine64 on this machine"
    assert caught.value.cure == (
        "install it (Debian: apt install wine64), or prove the wheel on Windows"
    )


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("wine-8.0 (Debian 8.0~repack-4)", "8.0"),
        ("wine-10.0.1", "10.0.1"),
        ("wine-git", "wine-git"),
    ],
)
def test_its_version(tmp_path: Path, printed: str, version: str) -> None:
    program = write_program(tmp_path / "wine64", f"echo '{printed}'")
    server = write_program(tmp_path / "wineserver")
    assert require_wine(tmp_path) == (program, server, version)


def test_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = write_program(tmp_path / "bin" / "wine", "echo wine-9.0")
    server = write_program(tmp_path / "bin" / "wineserver")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]))
    monkeypatch.setattr("shutil.which", {"wine": str(program), "wineserver": str(server)}.get)
    assert require_wine(tmp_path / "none") == (program, server, "9.0")


def test_a_wine_that_does_not_start(tmp_path: Path) -> None:
    program = write_program(
        tmp_path / "wine64",
        '[ "$1" = --version ] && echo wine-8.0 && exit',
        "echo 'wine: could not map the address space'",
        "exit 1",
    )
    ended = tmp_path / "ended"
    write_program(tmp_path / "wineserver", f'echo "$1 $WINEPREFIX" >> "{ended}"')
    with (
        pytest.raises(ToolMissingError) as caught,
        windows(tmp_path / "windows", tmp_path),
    ):
        pytest.fail("it has not started")
    assert caught.value.what == f"{program} does not start: wine: could not map the address space"
    prefix = tmp_path / "windows" / "prefix"
    assert ended.read_text(encoding="utf-8") == f"-k {prefix}\n-w {prefix}\n"


@needs_wine
@pytest.mark.build
def test_a_program_of_windows_looks_for_libraries_in_windows_way(tmp_path: Path) -> None:
    program = compile_driver(TABLE.target("cpu", "win_amd64").platform, tmp_path / "driver")
    with windows(tmp_path / "windows") as wine:
        assert wine.emulator == f"wine {wine.version}"
        with pytest.raises(ProcessError) as caught:
            wine.run([program, tmp_path, "model.gguf", "1", "1"], cwd=tmp_path, timeout=300)
    assert caught.value.returncode == 1
    # ERROR_MOD_NOT_FOUND
    assert caught.value.tail[-1].endswith("ggml-base.dll: error 126")


@needs_wine
def test_what_still_runs_ends_with_it(tmp_path: Path) -> None:
    with windows(tmp_path / "windows") as wine:
        waiting = subprocess.Popen(
            [wine.program, "cmd", "/c", "echo here & pause"],
            env={**os.environ, **wine.env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline().split() == [b"here"]
        assert waiting.poll() is None
    waiting.communicate(timeout=60)
    assert waiting.returncode != 0
