"""Guests: what an environment of a Python of another machine is made of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ci.emulation import software_device
from ci.errors import ToolMissingError
from ci.guest import (
    SUITES,
    Guest,
    bring_guest,
    make_environment,
    require_emulator,
    site_packages,
    write_program,
)
from ci.progress import Progress
from ci.table import load_table


def test_missing_emulator_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissingError) as caught:
        require_emulator("aarch64")
    assert caught.value.what == "there is no qemu-aarch64 on this machine"
    assert caught.value.cure == "on Linux install qemu's user mode (Debian: apt install qemu-user)"


def test_the_pythons_are_of_the_table() -> None:
    assert set(SUITES) <= set(load_table().interpreters.cpython)


def test_a_program_goes_on_as_another_with_its_arguments(tmp_path: Path) -> None:
    place = tmp_path / "a program"
    write_program(place, [sys.executable, "-c", "import sys; print(sys.argv[1:])", "first one"])
    printed = subprocess.run([place, "$HOME", "a b"], capture_output=True, text=True, check=True)
    assert printed.stdout == "['first one', '$HOME', 'a b']\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for an emulator is a script")
def test_an_environment_is_one_and_its_executable_is_the_emulated_one(tmp_path: Path) -> None:
    """This Python as its own guest, and a script for an emulator that emulates nothing."""
    series = f"{sys.version_info[0]}.{sys.version_info[1]}"
    program = Path(sys.executable).resolve()
    guest = Guest(series=series, machine="any", root=tmp_path / "root", program=program)
    emulator = tmp_path / "emulator"
    # -L ROOT -0 NAME PROGRAM ARGUMENTS
    emulator.write_text(
        '#!/bin/bash\nshift 3; name=$1; shift; exec -a "$name" "$@"\n', encoding="utf-8"
    )
    emulator.chmod(0o755)
    folder = tmp_path / "env"
    interpreter = make_environment(guest, folder, emulator)
    assert (interpreter.path, interpreter.series) == (folder / "bin" / "python", series)
    (site_packages(guest, folder) / "there.py").write_text("here = 1\n", encoding="utf-8")
    code = "import sys, there; print(sys.executable, sys.prefix, there.here, sep='|')"
    printed = subprocess.run(
        [interpreter.path, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout == f"{interpreter.path}|{folder}|1\n"


def test_a_guest_with_more_packages_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path))
    for name in ("aarch64-3.13", "aarch64-3.13+libvulkan1+mesa-vulkan-drivers"):
        program = tmp_path / "guests" / name / "usr" / "bin" / "python3.13"
        program.parent.mkdir(parents=True)
        program.touch()
        packages = name.split("+")[1:]
        guest = bring_guest("3.13", "aarch64", Progress(), packages=packages)
        assert (guest.program, guest.root) == (program, program.parents[2])


def test_the_device_in_software_of_a_guest_is_named(tmp_path: Path) -> None:
    guest = Guest(series="3.13", machine="aarch64", root=tmp_path, program=tmp_path / "python")
    assert software_device(guest) == {}
    manifests = tmp_path / "usr" / "share" / "vulkan" / "icd.d"
    manifests.mkdir(parents=True)
    for name in ("lvp_icd.json", "radeon_icd.json"):
        (manifests / name).touch()
    # as the guest sees it
    assert software_device(guest)["VK_DRIVER_FILES"] == "/usr/share/vulkan/icd.d/lvp_icd.json"


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for an emulator is a program")
def test_a_guest_that_does_not_run_names_its_folder(tmp_path: Path) -> None:
    guest = Guest(series="3.9", machine="any", root=tmp_path, program=tmp_path / "python3.9")
    with pytest.raises(ToolMissingError) as caught:
        make_environment(guest, tmp_path / "env", Path("/bin/false"))
    assert caught.value.what == f"Python 3.9 of {tmp_path} does not run under /bin/false"
    assert caught.value.cure == "delete that folder and run it again"
