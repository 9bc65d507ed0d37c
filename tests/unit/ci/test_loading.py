"""Loading a module without a GPU: which runtime, and a driver that knows no device."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ci.loading import can_load, oldest, write_driver
from ci.table import load_table
from ci.wheel import Wheel, read_wheel
from tests.wheels import write_built_wheel

TABLE = load_table()


@pytest.mark.parametrize(
    ("backend", "runtime"),
    [
        ("cu121", ["nvidia-cublas-cu12==12.1.*", "nvidia-cuda-runtime-cu12==12.1.*"]),
        ("cu130", ["nvidia-cublas==13.0.*", "nvidia-cuda-runtime==13.0.*"]),
    ],
)
def test_the_oldest_runtime_that_the_wheel_accepts(backend: str, runtime: list[str]) -> None:
    assert oldest(TABLE.target(backend, "manylinux_x86_64")) == runtime


@pytest.mark.parametrize(
    ("backend", "platform", "can"),
    [
        ("cu130", "manylinux_x86_64", True),
        ("cu130", "win_amd64", False),
        ("rocm6x", "manylinux_x86_64", False),
        ("vulkan", "manylinux_x86_64", False),
    ],
)
def test_where_a_driver_can_be_stood_in(backend: str, platform: str, can: bool) -> None:
    assert can_load(TABLE.target(backend, platform)) is can


@pytest.mark.build
@pytest.mark.skipif(sys.platform != "linux", reason="drivers are stood in on Linux")
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_driver_has_what_the_module_asks_for_and_no_device(tmp_path: Path) -> None:
    target = TABLE.target("cu130", "manylinux_x86_64")
    source = tmp_path / "module.c"
    source.write_text(
        "int cuInit(unsigned); int cuMemCreate(void *); int cudaFree(void *);\n"
        "int use(void) { return cuInit(0) + cuMemCreate(0) + cudaFree(0); }\n",
        encoding="utf-8",
    )
    library = tmp_path / "module.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    cpu = read_wheel(write_built_wheel(tmp_path, TABLE.target("cpu", "manylinux_x86_64")))
    files = {**cpu.files, "llama_cpp/lib/libggml-cuda.so": library.read_bytes()}
    wheel = Wheel(path=cpu.path, version=cpu.version, tags=cpu.tags, files=files)
    write_driver(wheel, target, tmp_path / "driver")
    driver = ctypes.CDLL(str(tmp_path / "driver" / "libcuda.so.1"))
    # CUDA_ERROR_NO_DEVICE
    assert (driver.cuInit(0), driver.cuMemCreate(None)) == (100, 100)
    # that is the runtime's, not the driver's
    assert not hasattr(driver, "cudaFree")
