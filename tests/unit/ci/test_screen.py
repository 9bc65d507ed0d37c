"""A screen that nobody looks at: started, gone afterwards, or said to be missing."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from ci.errors import ToolMissingError
from ci.proving import require_provers
from ci.screen import screen
from ci.table import load_table

needs_xvfb = pytest.mark.skipif(
    shutil.which("Xvfb") is None, reason="there is no Xvfb (Debian: apt install xvfb)"
)


def listening(display: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(f"/tmp/.X11-unix/X{display.removeprefix(':')}") == 0


@needs_xvfb
def test_it_listens_until_it_is_no_longer_needed() -> None:
    with screen() as first, screen() as second:
        assert first is not None
        assert second is not None
        assert first != second
        assert listening(first)
        assert listening(second)
    assert not listening(first)


def test_one_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "Xvfb"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with screen() as display:
        assert display is None


def test_none_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError) as caught, screen():
        pytest.fail("there is none")
    assert caught.value.what == (
        "there is no Xvfb on this machine, and without a screen wine knows no GPU"
    )
    assert caught.value.cure == "install it (Debian: apt install xvfb)"


def test_a_gpu_wheel_for_windows_is_proven_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("ci.host.here", lambda: ("linux", "x86_64", "glibc"))
    monkeypatch.setattr("ci.wine.require_wine", lambda: None)
    require_provers(load_table().target("cpu", "win_amd64"))
    with pytest.raises(ToolMissingError, match="no Xvfb"):
        require_provers(load_table().target("vulkan", "win_amd64"))
