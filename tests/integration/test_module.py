"""The Vulkan wheel in ``dist/``: the CPU wheel and one module more, harmless without a driver."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ci.check import check
from ci.table import load_table
from ci.wheel import Wheel, read_wheel

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(sys.platform != "linux", reason="built for Linux here"),
]

USE = """
import sys, warnings, llama_cpp
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        with llama_cpp.Llama(sys.argv[1], n_gpu_layers=-1, n_threads=1, verbose=False) as llama:
            answer = llama.create_completion("hello", max_tokens=8, temperature=0.0)
print(answer["choices"][0]["text"])
print([device.name for device in llama_cpp.devices()])
for each in caught:
    print(each.message)
"""


@pytest.fixture
def vulkan() -> Wheel:
    wheels = sorted((ROOT / "dist").glob("llama_cpp_python-*+vulkan-py3-none-*.whl"))
    if len(wheels) != 1:
        pytest.skip("no Vulkan wheel in dist/: run `nox -s build -- --backend vulkan`")
    return read_wheel(wheels[0])


def test_it_is_the_cpu_wheel_and_one_module_more(vulkan: Wheel, wheel: Path) -> None:
    cpu = read_wheel(wheel)
    assert set(vulkan.libraries) - set(cpu.libraries) == {"llama_cpp/lib/libggml-vulkan.so"}
    assert {name: vulkan.libraries[name] for name in cpu.libraries} == cpu.libraries
    table = load_table()
    assert check(vulkan.path, table) == table.target("vulkan", "manylinux_x86_64")


def test_without_a_driver_it_computes_on_the_cpu_and_ends_well(
    vulkan: Wheel, tiny: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(vulkan.path) as archive:
        archive.extractall(tmp_path / "installed")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    env |= {name: str(tmp_path / "none.json") for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES")}
    env.pop("LLAMA_CPP_LIB_PATH", None)
    done = subprocess.run(
        [sys.executable, "-c", USE, tiny / "llama-f32.gguf"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    text, devices, *messages = done.stdout.splitlines()
    assert (text, devices) == (" lifts the fog ", "['CPU']")
    (message,) = messages
    assert message.startswith(
        "n_gpu_layers=-1, but there is no GPU to compute on: Vulkan shows no GPU. "
    )
