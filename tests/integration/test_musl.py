"""The finished musllinux wheel on musl: a Python linked with it, its own pip, known tokens."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from uv import find_uv_bin

from ci.installation import CLEAN
from ci.musl import prove
from ci.musl_python import MuslPython, bring_pythons
from ci.progress import Progress
from ci.table import Target, load_table

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = load_table().target("cpu", "musllinux_x86_64")
NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)

ARM = load_table().target("cpu", "musllinux_aarch64")

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="for Linux on x86-64"
    ),
]
emulated = pytest.mark.skipif(
    shutil.which("qemu-aarch64") is None,
    reason="there is no qemu-aarch64 (Debian: apt install qemu-user)",
)


def wheel_of(target: Target) -> Path:
    """The finished wheel of a target in ``dist/``; without it the tests are left out."""
    pattern = f"llama_cpp_python-*+cpu-py3-none-{target.wheel_tag}.whl"
    wheels = sorted((ROOT / "dist").glob(pattern))
    if not wheels:
        command = f"nox -s build -- --backend cpu --platform {target.platform.name}"
        pytest.skip(f"no wheel for {target.platform.title} in dist/: run `{command}`")
    (wheel,) = wheels
    return wheel


@pytest.fixture(scope="module")
def musl_wheel() -> Path:
    """The wheel for musl on this machine."""
    return wheel_of(TARGET)


@pytest.fixture(scope="module")
def pythons(musl_wheel: Path) -> list[MuslPython]:
    """A Python on each pinned musl, oldest first: who has the wheel has built them to prove it."""
    del musl_wheel
    return bring_pythons(Progress(), TARGET.platform)


@pytest.fixture(scope="module")
def environment(pythons: list[MuslPython], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment on the oldest musl."""
    folder = tmp_path_factory.mktemp("musl") / "env"
    run(pythons[0].program, "-m", "venv", folder)
    return folder / "bin" / "python"


def run(
    *command: str | Path, check: bool = True, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **CLEAN}
    for name in [name for name, value in CLEAN.items() if not value]:
        env.pop(name, None)
    done = subprocess.run(
        command, env=env, cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def test_known_tokens_on_the_oldest_musl_and_on_debian_s_newest(
    musl_wheel: Path, tiny: Path, tmp_path: Path
) -> None:
    results = prove(musl_wheel, TARGET, Progress(), now=NOW, models=tiny, scratch=tmp_path)
    assert [result["libc"] for result in results] == ["musl 1.2.3", "musl 1.2.5"]
    for result in results:
        checks = result["checks"]
        assert isinstance(checks, list)
        assert [check for check in checks if not check["passed"]] == []
        details = {check["name"]: check["detail"] for check in checks}
        assert details["greedy tokens"] == "4815 tokens of 9 models"
        assert details["rpc"].startswith("535 tokens over 127.0.0.1:")
        assert (result["passed"], result["tag"], result["emulator"]) == (True, "cp313", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.network
def test_uv_installs_it_with_its_dependencies_and_everything_is_checked(
    pythons: list[MuslPython], musl_wheel: Path, tiny: Path, tmp_path: Path
) -> None:
    """numpy is a musllinux wheel, too; it needs musl 1.2.4, which ours does not."""
    python = tmp_path / "env" / "bin" / "python"
    run(pythons[-1].program, "-m", "venv", "--without-pip", tmp_path / "env")
    run(find_uv_bin(), "pip", "install", "--python", python, "--only-binary", ":all:", musl_wheel)
    out = tmp_path / "result.json"
    script = ROOT / "tests" / "smoke" / "run.py"
    done = run(python, "-I", script, "--models", tiny, "--json", out, cwd=tmp_path)
    assert "left out" not in done.stdout
    checks = {check["name"]: check for check in json.loads(out.read_text("utf-8"))["checks"]}
    assert checks["grammar"]["passed"] is True
    record = json.loads(run(python, "-I", "-m", "llama_cpp", "doctor", "--json").stdout)
    assert (record["system"]["libc"], record["system"]["libc_version"]) == ("musl", [1, 2, 5])
    assert "wheel-fits" in {each["id"] for each in record["findings"] if each["level"] == "ok"}


def test_no_library_of_glibc_is_mapped(environment: Path, musl_wheel: Path) -> None:
    run(environment, "-I", "-m", "pip", "install", "-q", "--no-index", "--no-deps", musl_wheel)
    code = (
        "import json, llama_cpp; from llama_cpp._images import mapped_images;"
        "llama_cpp.devices(); print(json.dumps(mapped_images()))"
    )
    mapped = [Path(path) for path in json.loads(run(environment, "-I", "-c", code).stdout)]
    names = [path.name for path in mapped]
    assert "libllama.so" in names
    assert [name for name in names if name.startswith(("ld-", "libc.", "libm.", "libstdc++"))] == [
        "ld-musl-x86_64.so.1"
    ]


def test_its_pip_refuses_the_wheel_for_glibc(environment: Path, wheel: Path) -> None:
    refused = run(environment, "-I", "-m", "pip", "install", "--no-index", wheel, check=False)
    assert refused.returncode == 1
    assert f"ERROR: {wheel.name} is not a supported wheel on this platform." in refused.stderr


def test_doctor_knows_a_wheel_for_glibc_that_got_there_all_the_same(
    environment: Path, wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = run(environment, "-m", "llama_cpp", "doctor", "--json", check=False, cwd=tmp_path)
    record = json.loads(done.stdout)
    found = {each["id"]: each for each in record["findings"]}
    assert found["wrong-libc"]["message"] == (
        f"the wheel {wheel.stem.rpartition('-')[2]} does not fit: it is for glibc, this system has musl"
    )
    commands = [step["text"] for step in found["wrong-libc"]["steps"]]
    assert commands[0] == "pip uninstall -y llama-cpp-python"
    assert commands[1].startswith("pip install --index-url ")
    assert done.returncode == 1


@emulated
def test_known_tokens_on_musl_for_arm(tiny: Path, tmp_path: Path) -> None:
    results = prove(wheel_of(ARM), ARM, Progress(), now=NOW, models=tiny, scratch=tmp_path)
    assert [result["libc"] for result in results] == ["musl 1.2.3", "musl 1.2.5"]
    for result in results:
        checks = result["checks"]
        assert isinstance(checks, list)
        assert [check for check in checks if not check["passed"]] == []
        assert checks[-1]["detail"] == "4815 tokens of 9 models"
        assert (result["tag"], result["passed"]) == ("c", True)
        assert re.fullmatch(r"qemu-aarch64 [0-9.]+ -cpu max", str(result["emulator"]))


@emulated
def test_a_wheel_for_glibc_does_not_load_on_musl_for_arm(
    wheel: Path, tiny: Path, tmp_path: Path
) -> None:
    """It is musl that the program runs on: its loader says what it does not find."""
    results = prove(wheel, ARM, Progress(), now=NOW, models=tiny, scratch=tmp_path)
    assert [result["passed"] for result in results] == [False, False]
    for result in results:
        checks = result["checks"]
        assert isinstance(checks, list)
        first = checks[-1]["detail"].partition(" (needed by ")[0]
        assert first == (
            "llama-f16: driver: Error loading shared library ld-linux-x86-64.so.2:"
            " No such file or directory"
        )
