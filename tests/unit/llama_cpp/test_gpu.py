"""GPU wheels where something is missing, and where nothing is: devices, the one warning, the runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.gpu_machine import Machine, Parts, compile_library, compile_parts

from .conftest import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Outcome

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-ins are Linux's"),
]

ASK = """
import json, sys, warnings
import llama_cpp
from llama_cpp import _gpu, _runtime
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        try:
            with llama_cpp.Llama(sys.argv[1], n_gpu_layers=-1, n_threads=1, verbose=False) as llama:
                answer = llama.create_completion("hello", max_tokens=8, temperature=0.0)
            text = answer["choices"][0]["text"]
        except llama_cpp.LlamaError as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps({
    "text": text,
    "devices": [device.name for device in llama_cpp.devices()],
    "warnings": [[str(each.message), each.filename] for each in caught],
    "runtime": list(_runtime.mapped()),
    "obstacles": [each.id for each in _gpu.obstacles()],
}))
"""

ANSWER = " lifts the fog "
BEGIN = "n_gpu_layers=-1, but there is no GPU to compute on: "
END = ". `python -m llama_cpp doctor` says more"
INSTALL_DRIVER = (
    "install NVIDIA's driver 580 or newer on the host (Debian: `sudo apt install nvidia-driver`; "
    "Ubuntu: `sudo ubuntu-drivers install`), then restart; "
    "a container needs the NVIDIA Container Toolkit and `--gpus all`"
)
ARCHITECTURES = "75, 80, 86, 89, 90, 120a, 120-virtual"


@pytest.fixture(scope="session")
def parts(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return compile_parts(tmp_path_factory.mktemp("parts"), libraries)


@pytest.fixture
def machine(parts: Parts, libraries: Path, tmp_path: Path) -> Machine:
    made = Machine(folder=tmp_path, parts=parts, libraries=libraries)
    made.install()
    return made


@pytest.fixture
def bare(parts: Parts, libraries: Path, tmp_path: Path) -> Machine:
    """One whose runtime is nowhere, not even in the machine's own folders."""
    made = Machine(folder=tmp_path, parts=parts, libraries=libraries, major=99)
    made.install()
    return made


@pytest.fixture
def ask(model_file: Path) -> Callable[[Machine], dict[str, Any]]:
    """Load a model twice on a machine, asking for its GPU, and return what happened."""

    def run(machine: Machine) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", ASK, str(model_file)],
            cwd=REPOSITORY,
            env=machine.variables(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "log": done.stderr}

    return run


def one_warning(record: dict[str, Any]) -> str:
    """Return the only warning, which names the line that asked."""
    ((message, file),) = record["warnings"]
    assert file == "<string>"
    text: str = message
    return text


def on_the_cpu(record: dict[str, Any]) -> str:
    """Return the warning's reason and cure, where the model computes on the CPU."""
    assert (record["text"], record["devices"], record["log"]) == (ANSWER, ["CPU"], "")
    message = one_warning(record)
    assert message.startswith(BEGIN)
    assert message.endswith(END)
    return message.removeprefix(BEGIN).removesuffix(END)


def test_everything_is_there(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    machine.put_driver()
    machine.put_runtime(machine.site)
    record = ask(machine)
    assert (record["devices"], record["warnings"]) == (["CUDA0", "CPU"], [])
    beside = str(machine.site / "nvidia/cu13/lib")
    assert [str(Path(path).resolve().parent) for path in record["runtime"]] == [beside] * 3


@pytest.mark.parametrize("variable", [None, "CUDA_PATH", "CUDA_HOME", "targets"])
def test_the_runtime_is_elsewhere(
    machine: Machine, ask: Callable[[Machine], dict[str, Any]], variable: str | None
) -> None:
    machine.put_driver()
    other = machine.folder / "other place"
    if variable is None:
        machine.put_runtime(other)
        machine.environment["PYTHONPATH"] = str(other)
        place = other / "nvidia/cu13/lib"
    else:
        place = other / ("targets/x86_64-linux/lib" if variable == "targets" else "lib64")
        machine.put_libraries(place)
        machine.environment["CUDA_PATH" if variable == "targets" else variable] = str(other)
    record = ask(machine)
    assert (record["devices"], record["warnings"]) == (["CUDA0", "CPU"], [])
    assert {str(Path(path).parent) for path in record["runtime"]} == {str(place)}


def test_a_damaged_runtime_is_passed_over(
    machine: Machine, ask: Callable[[Machine], dict[str, Any]]
) -> None:
    machine.put_driver()
    for name in ("damaged", "whole"):
        machine.put_runtime(machine.folder / name)
    (machine.folder / "damaged/nvidia/cu13/lib/libcudart.so.13").write_text("no library")
    paths = (machine.folder / name for name in ("damaged", "whole"))
    machine.environment["PYTHONPATH"] = ":".join(map(str, paths))
    assert ask(machine)["devices"] == ["CUDA0", "CPU"]


def test_no_driver(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    machine.put_runtime(machine.folder / "other")
    machine.environment["PYTHONPATH"] = str(machine.folder / "other")
    record = ask(machine)
    assert on_the_cpu(record) == (
        "the cu130 wheel needs NVIDIA's driver, and there is none; it computes on the CPU. The model "
        f"runs on the CPU. To change that: {INSTALL_DRIVER}"
    )
    # nothing of the runtime is mapped for nothing
    assert record["runtime"] == []


def test_an_old_driver(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    machine.put_driver(FAKE_CUDA=12080)
    machine.put_runtime(machine.site)
    assert on_the_cpu(ask(machine)) == (
        "the cu130 wheel is built with CUDA 13.0; the driver speaks CUDA 12.8 at most. The model runs "
        f"on the CPU. To change that: {INSTALL_DRIVER}"
    )


MISSING = (
    "libggml-cuda.so does not load, so the cu990 wheel computes on the CPU: libcudart.so.99: cannot "
    "open shared object file: No such file or directory"
)
BOTH = (
    "install CUDA 99's runtime and cuBLAS: "
    '`pip install "nvidia-cuda-runtime>=99,<100" "nvidia-cublas>=99,<100"`'
)


def test_no_runtime(bare: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    bare.put_driver()
    reason = on_the_cpu(ask(bare))
    assert reason == f"{MISSING}. The model runs on the CPU. To change that: {BOTH}"


def test_a_part_of_the_runtime(bare: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    bare.put_driver()
    bare.put_runtime(bare.site)
    (bare.site / "nvidia/cu99/lib/libcublas.so.99").unlink()
    (info,) = bare.site.glob("nvidia_cublas-*")
    (info / "METADATA").unlink()
    info.rmdir()
    bare.environment["PYTHONPATH"] = str(bare.site)
    assert on_the_cpu(ask(bare)).endswith(
        "libcublas.so.99: cannot open shared object file: No such file or directory. The model runs on "
        'the CPU. To change that: install CUDA 99\'s cublas: `pip install "nvidia-cublas>=99,<100"`'
    )


def test_another_major_version_of_the_runtime(
    bare: Machine, ask: Callable[[Machine], dict[str, Any]]
) -> None:
    bare.put_driver()
    bare.put_runtime(bare.site, major=12)
    bare.environment["PYTHONPATH"] = str(bare.site)
    assert on_the_cpu(ask(bare)) == (
        f"{MISSING}; nvidia-cublas-cu12 12.0.1, nvidia-cuda-runtime-cu12 12.0.1 cannot take its place: "
        f"it must be of the same major version. The model runs on the CPU. To change that: {BOTH}"
    )


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        (
            "61",
            (
                "no kernel runs on NVIDIA Stand-in 61 (compute 6.1): the cu130 wheel has "
                f"{ARCHITECTURES}"
            ),
        ),
        (
            "100",
            (
                "no kernel runs on NVIDIA Stand-in 100 (compute 10.0): the cu130 wheel has "
                f"{ARCHITECTURES}"
            ),
        ),
    ],
    ids=["too-old", "too-new"],
)
def test_a_gpu_without_code_is_left_out(
    machine: Machine, ask: Callable[[Machine], dict[str, Any]], gpus: str, reason: str
) -> None:
    machine.put_driver(FAKE_GPUS=gpus)
    machine.put_runtime(machine.site)
    record = ask(machine)
    assert on_the_cpu(record) == (
        f"{reason}. The model runs on the CPU. To change that: `python -m llama_cpp select` names the "
        "backend to switch to"
    )
    assert record["obstacles"] == ["gpu-too-old" if gpus == "61" else "gpu-too-new"]


def test_ptx_that_the_driver_cannot_compile(
    machine: Machine, ask: Callable[[Machine], dict[str, Any]]
) -> None:
    machine.put_driver(FAKE_GPUS="121", FAKE_CUDA=13000)
    machine.put_runtime(machine.site)
    record = machine.site / "llama_cpp/_build_info.json"
    record.write_text(record.read_text().replace("13.0.88", "13.2.10"))
    assert on_the_cpu(ask(machine)).startswith(
        "NVIDIA Stand-in 121 (compute 12.1) needs the wheel's PTX, and a driver that speaks CUDA 13.0 "
        "cannot compile PTX of CUDA 13.2. "
    )


def test_one_of_two_gpus_is_left_out(
    machine: Machine, ask: Callable[[Machine], dict[str, Any]]
) -> None:
    machine.put_driver(FAKE_GPUS="61 90")
    machine.put_runtime(machine.site)
    record = ask(machine)
    assert record["devices"] == ["CUDA1", "CPU"]
    assert one_warning(record).startswith(
        "n_gpu_layers=-1, and not every GPU computes: no kernel runs on NVIDIA Stand-in 61 "
    )
    # the weights go to the other one, and that has no room
    assert "CUDA1 did not give" in record["text"]


def test_a_build_of_ones_own_has_ptx_of_each_architecture(
    machine: Machine, ask: Callable[[Machine], dict[str, Any]]
) -> None:
    machine.put_driver(FAKE_GPUS="120")
    machine.put_runtime(machine.site)
    record = machine.site / "llama_cpp/_build_info.json"
    info = {**json.loads(record.read_text()), "backend": "source", "gpu_architectures": ["86"]}
    record.write_text(json.dumps(info))
    assert ask(machine)["devices"] == ["CUDA0", "CPU"]


def test_too_little_memory(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    machine.put_driver()
    machine.put_runtime(machine.site)
    record = ask(machine)
    kind, _, text = record["text"].partition(": ")
    assert kind == "ModelLoadError"
    head, _, tail = text.partition(" does not fit: ")
    assert head.endswith("llama-f32.gguf")
    assert tail == (
        "CUDA0 did not give 0.2 MiB of memory in one piece (3.0 MiB of 8.0 MiB are free without "
        "it); keep fewer layers there (n_gpu_layers is -1), close other programs that "
        "use it, or take a smaller model or a stronger quantisation. llama.cpp's own words follow"
    )


def test_hidden_gpus(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    machine.put_driver(CUDA_VISIBLE_DEVICES=-1)
    machine.put_runtime(machine.site)
    assert on_the_cpu(ask(machine)) == (
        "CUDA_VISIBLE_DEVICES=-1 hides every NVIDIA GPU. The model runs on the CPU. To change that: "
        "unset it"
    )


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            100,
            (
                "the cu130 wheel is for NVIDIA GPUs, and none answers. The model runs on the CPU. To "
                "change that: a container needs `--gpus all`"
            ),
        ),
        (
            999,
            (
                "NVIDIA's driver is there but does not answer: unknown error. The model runs on the CPU. "
                "To change that: restart the machine: after an update the old module is still loaded; if "
                "that does not help, install the driver again"
            ),
        ),
    ],
)
def test_a_driver_without_a_gpu(
    machine: Machine, ask: Callable[[Machine], dict[str, Any]], status: int, reason: str
) -> None:
    machine.put_driver(FAKE_INIT=status)
    machine.put_runtime(machine.site)
    assert on_the_cpu(ask(machine)) == reason


def put_module(machine: Machine, name: str, needed: str, **info: object) -> None:
    """Install a wheel whose module needs a library that is on no machine."""
    lib = machine.site / "llama_cpp/lib"
    (lib / "libggml-cuda.so").unlink()
    library = compile_library(machine.folder / needed, "int f(void) { return 0; }")
    compile_library(lib / name, "int f(void); int ggml_backend_init(void) { return f(); }", library)
    library.unlink()
    record = lib.parent / "_build_info.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), **info}))


def test_no_vulkan(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    needed = "libvulkan.so.1.none"
    put_module(machine, "libggml-vulkan.so", needed, backend="vulkan", toolkit="Vulkan 1.4.309")
    assert on_the_cpu(ask(machine)) == (
        f"the vulkan wheel needs the Vulkan loader: {needed}: cannot open shared object file: No such "
        "file or directory. The model runs on the CPU. To change that: install the loader and a "
        "driver (Debian, Ubuntu: `sudo apt install libvulkan1 mesa-vulkan-drivers`; NVIDIA's driver "
        "brings its own)"
    )


no_rocm = pytest.mark.skipif(
    any(Path(place).exists() for place in ("/dev/kfd", "/opt/rocm")), reason="there is ROCm here"
)


@no_rocm
def test_no_rocm(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    needed = "libamdhip64.so.99"
    put_module(machine, "libggml-hip.so", needed, backend="rocm7x", toolkit="ROCm 7.0.2")
    assert on_the_cpu(ask(machine)) == (
        "the rocm7x wheel is for AMD GPUs, and none answers; the rocm7x wheel needs ROCm's runtime, "
        "and it is not in /opt/rocm nor ROCM_PATH. The model runs on the CPU. To change that: load the "
        "amdgpu kernel driver, join the groups render and video; install ROCm's runtime "
        "(rocm-hip-libraries)"
    )


ROCM_MODULE = r"""
#include <stddef.h>
int hip(void); int blas(void);
static const char *name(void *self) { return "ROCm"; }
static size_t count(void *self) { return 0; }
static void *none(void *self, const char *wanted) { return NULL; }
static struct { int version; void *name, *count, *get, *proc, *context; } own =
  {2, name, count, NULL, none, NULL};
void *ggml_backend_init(void) { hip(); blas(); return &own; }
"""


@no_rocm
def test_rocm_is_found_by_the_names_that_the_module_misses(
    machine: Machine, run_python: Callable[..., Outcome]
) -> None:
    rocm = machine.folder / "rocm 7"
    hip = compile_library(rocm / "lib/libamdhip64.so.99", "int hip(void) { return 0; }")
    blas = compile_library(rocm / "lib/librocblas.so.98", "int blas(void) { return 0; }")
    lib = machine.site / "llama_cpp/lib"
    (lib / "libggml-cuda.so").unlink()
    compile_library(lib / "libggml-hip.so", ROCM_MODULE, hip, blas)
    code = (
        "import sys\nfrom pathlib import Path\nfrom llama_cpp import _gpu, _library, _runtime\n"
        # the driver's device, which is on no machine without an AMD GPU
        "_library._KERNEL_FUSION_DRIVER = Path(sys.argv[1])\n"
        "print(_library.module_failures(), [each.id for each in _gpu.obstacles()])\n"
        "print(*_runtime.mapped(), sep='\\n')\n"
    )
    environment = {**machine.environment, "ROCM_PATH": str(rocm)}
    outcome = run_python(code, str(rocm), **environment)
    assert (outcome.code, outcome.error) == (0, "")
    assert outcome.output.splitlines() == ["{} ['gpu-missing']", str(hip), str(blas)]
    # without the driver none of it is mapped
    outcome = run_python(code, str(rocm / "none"), **environment)
    assert outcome.output.splitlines()[0].startswith(
        "{'libggml-hip.so': 'libamdhip64.so.99: cannot"
    )
    assert outcome.output.rstrip().endswith("['gpu-missing']")
    for file in (hip, blas):
        file.unlink()
    outcome = run_python(code, str(rocm), **environment)
    assert outcome.output.rstrip().endswith("['rocm-missing']")


def test_a_damaged_module(machine: Machine, ask: Callable[[Machine], dict[str, Any]]) -> None:
    (machine.site / "llama_cpp/lib/libggml-cuda.so").write_text("no library")
    machine.put_driver()
    reason = on_the_cpu(ask(machine))
    assert reason.startswith(
        "libggml-cuda.so does not load, so the cu130 wheel computes on the CPU: "
    )
    assert reason.endswith("To change that: install the package again")


_LOAD_TWICE = (
    "import sys, warnings, llama_cpp\n"
    "warnings.simplefilter('always')\n"
    "for _ in range(2):\n"
    "    llama_cpp.Llama(sys.argv[1], n_gpu_layers=int(sys.argv[2]), n_threads=1, verbose=False).close()\n"
)


def test_a_package_without_a_module(
    parts: Parts,
    libraries: Path,
    tmp_path: Path,
    model_file: Path,
    run_python: Callable[..., Outcome],
) -> None:
    machine = Machine(folder=tmp_path, parts=parts, libraries=libraries)
    machine.install(module=False)
    outcome = run_python(_LOAD_TWICE, str(model_file), "-1", **machine.environment)
    assert (outcome.code, outcome.output) == (0, "")
    assert outcome.error == (
        "<string>:4: RuntimeWarning: n_gpu_layers=-1, but there is no GPU to compute on: this package "
        "holds the CPU backend alone. The model runs on the CPU. To change that: `python -m llama_cpp "
        "select` names the backend to switch to. `python -m llama_cpp doctor` says more\n"
    )
    silent = run_python(_LOAD_TWICE, str(model_file), "0", **machine.environment)
    assert (silent.code, silent.error) == (0, "")


def test_a_gpu_without_code_computes_nothing_either_where_none_was_asked_for(
    machine: Machine, model_file: Path, run_python: Callable[..., Outcome]
) -> None:
    machine.put_driver(FAKE_GPUS="61")
    machine.put_runtime(machine.site)
    silent = run_python(_LOAD_TWICE, str(model_file), "0", **machine.environment)
    assert (silent.code, silent.output, silent.error) == (0, "", "")


def info(machine: Machine) -> dict[str, Any]:
    """Return what ``python -m llama_cpp`` says on a machine."""
    done = subprocess.run(
        [sys.executable, "-m", "llama_cpp", "--json"],
        cwd=REPOSITORY,
        env=machine.variables(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_info_says_what_is_in_use_and_from_where(machine: Machine) -> None:
    machine.put_driver()
    machine.put_runtime(machine.folder / "other")
    machine.environment["PYTHONPATH"] = str(machine.folder / "other")
    record = info(machine)
    assert (record["modules"], record["unused_modules"]) == (["libggml-cuda.so"], {})
    place = machine.folder / "other/nvidia/cu13/lib"
    assert record["runtime"] == [
        str(place / f"lib{name}.so.13") for name in ("cublas", "cublasLt", "cudart")
    ]
    assert (record["driver_cuda"], record["obstacles"]) == ("13.0", [])


def test_info_says_why_not(machine: Machine) -> None:
    record = info(machine)
    assert (record["modules"], list(record["unused_modules"])) == ([], ["libggml-cuda.so"])
    assert (record["runtime"], record["driver_cuda"]) == ([], None)
    (obstacle,) = record["obstacles"]
    assert obstacle == {
        "id": "driver-missing",
        "message": "the cu130 wheel needs NVIDIA's driver, and there is none; it computes on the CPU",
        "cure": INSTALL_DRIVER,
        "packages": [],
    }
