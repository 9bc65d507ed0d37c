"""The GPU wheels in ``dist/``: the CPU wheel and one module more, harmless without a driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ci.check import check
from ci.project import requirements
from ci.smoke_report import report_path
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
    return found("dist/llama_cpp_python-*+vulkan-py3-none-*.whl", "--backend vulkan")


@pytest.fixture
def cuda() -> Wheel:
    wheels = "dist/own/llama_cpp_python-*+cu130.sm90-py3-none-*.whl"
    return found(wheels, "--backend cu130 --archs 90 --runtime")


def found(pattern: str, arguments: str) -> Wheel:
    wheels = sorted(ROOT.glob(pattern))
    if len(wheels) != 1:
        pytest.skip(f"no such wheel in dist/: run `nox -s build -- {arguments}`")
    return read_wheel(wheels[0])


def use(wheel: Wheel, model: Path, folder: Path, **variables: str) -> tuple[str, str, list[str]]:
    """Install nothing but the wheel, use it twice; return the text, the devices, the warnings."""
    with zipfile.ZipFile(wheel.path) as archive:
        archive.extractall(folder / "installed")
    env = {**os.environ, "PYTHONPATH": str(folder / "installed"), **variables}
    env.pop("LLAMA_CPP_LIB_PATH", None)
    done = subprocess.run(
        [sys.executable, "-c", USE, model],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    text, devices, *messages = done.stdout.splitlines()
    return text, devices, messages


@pytest.mark.parametrize(
    ("name", "target"),
    [("vulkan", "vulkan-manylinux_x86_64"), ("cuda", "cu130-manylinux_x86_64")],
)
def test_it_is_the_cpu_wheel_and_one_module_more(
    name: str, target: str, wheel: Path, request: pytest.FixtureRequest
) -> None:
    gpu: Wheel = request.getfixturevalue(name)
    cpu = read_wheel(wheel)
    assert set(gpu.libraries) - set(cpu.libraries) == {f"llama_cpp/lib/libggml-{name}.so"}
    assert {each: gpu.libraries[each] for each in cpu.libraries} == cpu.libraries
    assert check(gpu.path, load_table()).name == target


def test_vulkan_without_a_driver_computes_on_the_cpu_and_ends_well(
    vulkan: Wheel, tiny: Path, tmp_path: Path
) -> None:
    none = str(tmp_path / "none.json")
    text, devices, messages = use(
        vulkan, tiny / "llama-f32.gguf", tmp_path, VK_ICD_FILENAMES=none, VK_DRIVER_FILES=none
    )
    assert (text, devices) == (" lifts the fog ", "['CPU']")
    (message,) = messages
    assert message.startswith(
        "n_gpu_layers=-1, but there is no GPU to compute on: Vulkan shows no GPU. "
    )


def test_cuda_without_a_driver_computes_on_the_cpu_and_ends_well(
    cuda: Wheel, tiny: Path, tmp_path: Path
) -> None:
    text, devices, messages = use(cuda, tiny / "llama-f32.gguf", tmp_path)
    if devices != "['CPU']":
        pytest.skip("this machine has a driver of NVIDIA's")
    assert text == " lifts the fog "
    (message,) = messages
    assert message.startswith(
        "n_gpu_layers=-1, but there is no GPU to compute on: the cu130 wheel needs NVIDIA's driver,"
        " and there is none; it computes on the CPU. "
    )


def test_cuda_asks_for_its_runtime_and_was_loaded_with_it(cuda: Wheel) -> None:
    assert cuda.metadata.get_all("Requires-Dist") == [
        *requirements(),
        "nvidia-cublas<14,>=13.0",
        "nvidia-cuda-runtime<14,>=13.0",
    ]
    report = json.loads(report_path(cuda.path).read_text(encoding="utf-8"))
    assert (report["sha256"], report["passed"]) == (cuda.sha256, True)
    if report["gpu"]["device"] != "none":
        return
    module = report["gpu"]["module"]
    assert [each.partition(" 13.0.")[0] for each in module["runtime"]] == [
        "nvidia-cublas",
        "nvidia-cuda-runtime",
    ]
    runtime = {Path(path).name for path in module["mapped"] if path.startswith("nvidia/")}
    assert {"libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13"} <= runtime
