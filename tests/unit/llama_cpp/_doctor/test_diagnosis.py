"""The doctor's findings on synthetic machines."""

from __future__ import annotations

from typing import Any

import pytest

from llama_cpp._doctor import diagnosis
from llama_cpp._doctor.accelerators import Rocm, Vulkan
from llama_cpp._doctor.build_tools import Compiler, HostLimits, Tool
from llama_cpp._doctor.facts import Facts, ModelFile
from llama_cpp._doctor.findings import FINDINGS, finding
from llama_cpp._doctor.installation import Distribution
from llama_cpp._obstacles import RuntimePackage, gpu_without_code

from .machines import (
    ALPINE,
    ARC,
    B200,
    BROKEN_DRIVER,
    CPU_TRIAL,
    GTX_780,
    GTX_1080,
    H100,
    INTEL_MAC,
    LINUX,
    LLVMPIPE,
    MAC,
    NO_CUDA,
    OLD_GLIBC,
    RISCV,
    ROSETTA,
    RTX_3090,
    RTX_4090,
    RTX_5090,
    RX_580,
    RX_7900,
    SITE,
    TAGS,
    WINDOWS,
    build,
    driver,
    facts,
    gpu_trial,
)

FROM_SOURCE = '--no-binary llama-cpp-python "llama-cpp-python==0.3.100"'
SITE_URL = "https://llama-cpp-python.example/whl"


def source(**changes: Any) -> dict[str, Any]:
    """Return the changes that make an installed wheel one that was compiled here."""
    return {"build": build("source", **changes)}


def wheel(label: str | None, tag: str) -> dict[str, Any]:
    version = "0.3.100" if label is None else f"0.3.100+{label}"
    own = Distribution(version, SITE, "pip", None, False, (f"py3-none-{tag}",))
    return {"distribution": own}


LINUX_TAG = TAGS["linux", "glibc", "x86_64"]
OTHER_COPY = Distribution("0.3.99+cpu", "/usr/lib/python3/dist-packages", "pip", None, False, ())
FAILED = CPU_TRIAL._replace(cpu_variant=None, devices=(), llama_cpp=None)
CUDA_LIMITS = HostLimits(gcc=12, clang=15, msvc=1940)
NVCC_122 = Tool("/usr/local/cuda/bin/nvcc", "12.2")

# id of the case, the machine, and its findings that are neither ok nor a build's
MACHINES: list[tuple[str, Facts, list[str]]] = [
    ("cpu-only", facts(), []),
    (
        "h100-12.8-cu128",
        facts("cu128", trial=gpu_trial(), nvidia=driver("12.8", H100)),
        [],
    ),
    ("h100-cpu-wheel", facts(nvidia=driver("12.8", H100)), ["warning gpu-unused"]),
    (
        "h100-cu124-on-12.8",
        facts("cu124", trial=gpu_trial(), nvidia=driver("12.8", H100)),
        ["note better-backend"],
    ),
    (
        "rtx5090-cu124",
        facts("cu124", trial=gpu_trial(), nvidia=driver("12.8", RTX_5090)),
        ["warning gpu-compiles-at-start"],
    ),
    (
        "rtx5090-cu124-driver-12.2",
        facts("cu124", nvidia=driver("12.2", RTX_5090)),
        ["error gpu-needs-newer-driver", "note driver-minor-older"],
    ),
    (
        "rtx3090-cu124-driver-12.0",
        facts("cu124", trial=gpu_trial(), nvidia=driver("12.0", RTX_3090)),
        ["note driver-minor-older", "note better-backend"],
    ),
    ("cu130-driver-12.8", facts("cu130", nvidia=driver("12.8", H100)), ["error driver-too-old"]),
    (
        "forward-compatibility",
        facts("cu130", trial=gpu_trial(), nvidia=driver("12.8", H100)),
        ["note driver-too-old"],
    ),
    (
        "b200-cu124-nothing-better",
        facts("cu124", trial=gpu_trial(), nvidia=driver("12.8", B200)),
        ["note gpu-compiles-at-start", "note better-backend"],
    ),
    (
        "gtx1080-cu130",
        facts("cu130", nvidia=driver("13.0", GTX_1080)),
        ["error gpu-too-old"],
    ),
    ("kepler-cu121", facts("cu121", nvidia=driver("12.1", GTX_780)), ["error gpu-too-old"]),
    (
        "h100-own-build-for-89",
        facts(
            "cu128",
            nvidia=driver("12.8", H100),
            installation={"build": build("cu128", gpu_architectures=("89",))},
        ),
        ["error gpu-too-new"],
    ),
    (
        "compute-unknown",
        facts("cu124", trial=gpu_trial(), nvidia=driver("12.4", H100._replace(compute=None))),
        ["note gpu-unknown"],
    ),
    (
        "cu128-without-driver",
        facts(
            "cu128",
            trial=CPU_TRIAL._replace(unused_modules=(("libggml-cuda.so", NO_CUDA),)),
        ),
        ["error driver-missing", "error module-not-loaded"],
    ),
    ("nvml-broken", facts("cu128", nvidia=BROKEN_DRIVER), ["error driver-broken"]),
    (
        "nvml-broken-cuda-works",
        facts("cu128", trial=gpu_trial(), nvidia=BROKEN_DRIVER._replace(source="libcuda")),
        ["note driver-broken"],
    ),
    (
        "container-without-compute",
        facts("cu128", nvidia=driver("12.8", H100, libcuda_problem=NO_CUDA)),
        ["error driver-without-cuda"],
    ),
    ("container-without-gpu", facts("cu128", nvidia=driver("12.8")), ["error gpu-missing"]),
    (
        "gpus-hidden",
        facts(
            "cu128",
            trial=gpu_trial(),
            nvidia=driver("12.8", H100),
            hidden="CUDA_VISIBLE_DEVICES=-1",
        ),
        ["warning gpu-hidden"],
    ),
    (
        "cublas-missing",
        facts(
            "cu128",
            nvidia=driver("12.8", H100),
            trial=CPU_TRIAL._replace(
                unused_modules=(("libggml-cuda.so", "libcublas.so.12: cannot open"),)
            ),
        ),
        ["error module-not-loaded"],
    ),
    (
        "rpc-broken",
        facts(trial=CPU_TRIAL._replace(unused_modules=(("libggml-rpc.so", "file too short"),))),
        ["error rpc-not-loaded"],
    ),
    (
        "rpc-broken-in-a-gpu-wheel",
        facts(
            "cu128",
            nvidia=driver("12.8", H100),
            trial=gpu_trial()._replace(unused_modules=(("libggml-rpc.so", "file too short"),)),
        ),
        ["error rpc-not-loaded"],
    ),
    (
        "virtual-mac",
        facts("metal", MAC, metal=True),
        ["error metal-missing"],
    ),
    (
        "ggml-lists-no-gpu",
        facts("cu128", nvidia=driver("12.8", H100)),
        ["warning gpu-not-listed"],
    ),
    ("no-driver-cpu-wheel", facts(adapters=("NVIDIA",)), ["note gpu-out-of-reach"]),
    ("metal", facts("metal", MAC, trial=gpu_trial("MTL0", "Apple M3"), metal=True), []),
    ("mac-with-cpu-wheel", facts("cpu", MAC, metal=True), ["warning gpu-unused"]),
    (
        "rosetta",
        facts("cpu", ROSETTA, metal=True),
        ["warning python-emulated", "note gpu-out-of-reach"],
    ),
    (
        "x64-python-on-arm-windows",
        facts("cpu", WINDOWS._replace(native_machine="aarch64")),
        ["warning python-emulated"],
    ),
    (
        "metal-on-intel",
        facts("metal", INTEL_MAC, installation=wheel("metal", "macosx_12_0_arm64")),
        ["error wrong-platform", "error metal-missing"],
    ),
    ("alpine", facts("cpu", ALPINE), []),
    (
        "glibc-wheel-on-alpine",
        facts("cpu", ALPINE, installation=wheel("cpu", LINUX_TAG)),
        ["error wrong-libc"],
    ),
    (
        "old-glibc",
        facts("cpu", OLD_GLIBC),
        ["error libc-too-old", "note no-wheel"],
    ),
    (
        "old-macos",
        facts("cpu", INTEL_MAC._replace(version=(11, 7))),
        ["error system-too-old", "note no-wheel"],
    ),
    ("riscv-source", facts(None, RISCV), ["note no-wheel"]),
    (
        "x86-64-v1",
        facts(system=LINUX._replace(cpu_level="x86-64-v1")),
        ["note cpu-without-avx"],
    ),
    (
        "python-3.8",
        facts(system=LINUX._replace(python="CPython 3.8.1", python_version=(3, 8, 1))),
        ["error python-too-old"],
    ),
    ("python-32-bit", facts(system=LINUX._replace(bits=32)), ["error python-32-bit"]),
    (
        "free-threaded",
        facts(system=LINUX._replace(free_threaded=True)),
        ["note python-free-threaded"],
    ),
    (
        "rocm",
        facts(
            "rocm7x",
            trial=gpu_trial("ROCm0", "AMD"),
            rocm=Rocm("7.0.2", "/opt/rocm", (RX_7900,)),
        ),
        [],
    ),
    (
        "rocm-missing",
        facts("rocm7x", rocm=Rocm(None, None, (RX_7900,))),
        ["error rocm-missing"],
    ),
    (
        "rocm-6",
        facts(
            "rocm7x",
            trial=gpu_trial("ROCm0", "AMD"),
            rocm=Rocm("6.4.3", "/opt/rocm", (RX_7900,)),
        ),
        ["warning rocm-version"],
    ),
    (
        "rocm-gpu-too-old",
        facts("rocm7x", rocm=Rocm("7.0.2", "/opt/rocm", (RX_580,))),
        ["error gpu-too-old"],
    ),
    (
        "rocm-without-gpu",
        facts("rocm7x", rocm=Rocm("7.0.2", "/opt/rocm", ())),
        ["error gpu-missing"],
    ),
    (
        "vulkan",
        facts("vulkan", trial=gpu_trial("Vulkan0", "Arc"), vulkan=Vulkan("v", (ARC,), None)),
        [],
    ),
    ("vulkan-missing", facts("vulkan"), ["error vulkan-missing"]),
    (
        "vulkan-cpu-device-alone",
        facts("vulkan", vulkan=Vulkan("libvulkan.so.1", (LLVMPIPE,), None)),
        ["error vulkan-no-gpu"],
    ),
    (
        "vulkan-without-a-driver",
        facts(
            "vulkan",
            vulkan=Vulkan("libvulkan.so.1", (), "vkCreateInstance gave -9"),
            trial=CPU_TRIAL._replace(
                unused_modules=(("libggml-vulkan.so", "ggml_backend_init returned NULL"),)
            ),
        ),
        ["error vulkan-no-gpu"],
    ),
    (
        "warned-of-what-only-the-program-meets",
        facts(
            "cu128",
            nvidia=driver("12.8", source="libcuda"),
            trial=CPU_TRIAL._replace(
                obstacles=(gpu_without_code("cu128", "GTX 780", (3, 5), ("50", "90")),)
            ),
        ),
        ["error gpu-too-old"],
    ),
    (
        "vulkan-on-nvidia",
        facts(
            "vulkan",
            trial=gpu_trial("Vulkan0", "RTX"),
            vulkan=Vulkan("v", (ARC,), None),
            nvidia=driver("12.8", RTX_4090),
        ),
        ["note better-backend"],
    ),
    (
        "label-says-cu128-files-are-cpu",
        facts("cu128", installation={"build": build("cpu")}),
        ["error label-mismatch"],
    ),
    ("auto", facts("auto", installation={"build": build("cpu")}), ["note label-auto"]),
    (
        "own-label",
        facts("mine", installation={"build": build("cpu")}),
        ["note label-unknown"],
    ),
    ("respun", facts("cpu.1", installation={"build": build("cpu")}), []),
    (
        "build-info-damaged",
        facts(installation={"build": None, "build_problem": "x is damaged"}),
        ["error build-info-damaged"],
    ),
    ("source-build", facts(None), ["note prebuilt-exists"]),
    (
        "source-build-with-prebuilt-libraries",
        facts(None, installation=source(prebuilt=True)),
        ["note wraps-prebuilt"],
    ),
    (
        "stale",
        facts(
            None,
            environment={"CMAKE_ARGS": "-DGGML_CUDA=on"},
            installation=source(),
        ),
        ["warning stale-build", "note prebuilt-exists"],
    ),
    (
        "not-stale",
        facts(
            None,
            trial=gpu_trial(),
            nvidia=driver("12.4", RTX_3090),
            environment={"CMAKE_ARGS": "-DGGML_CUDA:BOOL=1 -DGGML_NATIVE=off -DFOO=1"},
            installation=source(defines={"GGML_CUDA": "ON", "GGML_NATIVE": "OFF"}),
        ),
        ["note prebuilt-exists", "note gpu-unknown", "note better-backend"],
    ),
    (
        "stale-architectures",
        facts(
            None,
            trial=gpu_trial(),
            nvidia=driver("12.8", RTX_4090),
            environment={"CMAKE_ARGS": "-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=89"},
            installation=source(
                defines={"GGML_CUDA": "on", "CMAKE_CUDA_ARCHITECTURES": "86"},
                toolkit="CUDA 12.8",
                gpu_architectures=("86",),
            ),
        ),
        ["warning stale-build", "note prebuilt-exists", "note better-backend"],
    ),
    (
        "source-build-with-ptx",
        facts(
            None,
            trial=gpu_trial(),
            nvidia=driver("12.8", RTX_5090),
            installation=source(
                defines={"GGML_CUDA": "on"}, toolkit="CUDA 12.8", gpu_architectures=("89",)
            ),
        ),
        ["warning gpu-compiles-at-start", "note prebuilt-exists"],
    ),
    (
        "stale-by-an-old-name",
        facts(
            None,
            environment={"CMAKE_ARGS": "-DLLAMA_CUBLAS=on"},
            installation=source(),
        ),
        ["warning stale-build", "note prebuilt-exists", "note option-renamed"],
    ),
    (
        "cmake-args-with-a-finished-wheel",
        facts(environment={"CMAKE_ARGS": "-DGGML_CUDA=on", "FORCE_CMAKE": "1"}),
        ["note cmake-args-unused", "note variable-unused"],
    ),
    (
        "library-variable-of-the-past",
        facts(environment={"LLAMA_CPP_LIB": "C:/llama.dll"}),
        ["note variable-unused"],
    ),
    (
        "library-path",
        facts(installation={"library_path": "/opt/llama"}),
        ["note library-path-set"],
    ),
    (
        "checkout-shadows",
        facts(
            trial=FAILED._replace(problem="llama.cpp's libraries are missing: x"),
            installation={
                "distribution": None,
                "build": None,
                "checkout": True,
                "others": (OTHER_COPY,),
            },
        ),
        ["warning checkout-shadows", "note libraries-missing"],
    ),
    (
        "bare-checkout",
        facts(
            trial=FAILED._replace(problem="llama.cpp's libraries are missing: x"),
            installation={"distribution": None, "build": None, "checkout": True},
        ),
        ["warning not-installed", "note libraries-missing"],
    ),
    ("two-copies", facts(installation={"others": (OTHER_COPY,)}), ["warning several-copies"]),
    (
        "another-distribution",
        facts(installation={"foreign": ("llama-cpp-python-cuda 0.2.9",)}),
        ["error foreign-files"],
    ),
    ("half-replaced", facts(installation={"version": "0.3.36"}), ["error version-mismatch"]),
    (
        "libraries-missing",
        facts(trial=FAILED._replace(problem="llama.cpp's libraries are missing: x")),
        ["error libraries-missing"],
    ),
    (
        "libraries-broken",
        facts(trial=FAILED._replace(problem="cannot load libllama.so: bad ELF")),
        ["error libraries-broken"],
    ),
    (
        "libraries-crash",
        facts(trial=FAILED._replace(problem="python was killed by SIGILL", crashed=True)),
        ["error libraries-crash"],
    ),
    (
        "model-known",
        facts(model=ModelFile("/m/a.gguf", "qwen3vl", known=True, problem=None)),
        [],
    ),
    (
        "model-too-new",
        facts(model=ModelFile("/m/a.gguf", "llama9", known=False, problem=None)),
        ["error model-too-new"],
    ),
    (
        "model-unreadable",
        facts(model=ModelFile("/m/a.gguf", None, known=False, problem="not a GGUF file")),
        ["error model-unreadable"],
    ),
]


@pytest.mark.parametrize(
    ("machine", "expected"), [pytest.param(*each[1:], id=each[0]) for each in MACHINES]
)
def test_findings(machine: Facts, expected: list[str]) -> None:
    found = diagnosis.examine(machine)
    said = [
        f"{each.level} {each.id}"
        for each in found
        if (each.level != "ok" and not each.id.startswith("build-"))
        or each.id == "build-info-damaged"
    ]
    assert said == expected
    bad = any(words.startswith(("error", "warning")) for words in expected)
    assert diagnosis.to_mend(found) is bad
    for each in found:
        # what is wrong says what to do, in words or as commands
        assert (
            each.level not in {"error", "warning"}
            or each.cure
            or each.steps
            or (each.id in {"model-unreadable", "libraries-broken"})
        )


def only(machine: Facts, identifier: str) -> Any:
    (found,) = [each for each in diagnosis.examine(machine) if each.id == identifier]
    return found


def commands(machine: Facts, identifier: str) -> list[str]:
    return [step.text for step in only(machine, identifier).steps if step.kind == "command"]


def test_a_wheel_of_another_system_goes_before_the_same_version_comes() -> None:
    install = f'pip install --index-url {SITE_URL}/cpu/ "llama-cpp-python==0.3.100+cpu"'
    labelled = facts("cpu", ALPINE, installation=wheel("cpu", LINUX_TAG))
    assert commands(labelled, "wrong-libc") == ["pip uninstall -y llama-cpp-python", install]
    plain = facts("cpu", ALPINE, installation=wheel(None, LINUX_TAG))
    assert commands(plain, "wrong-libc") == [install]


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("pip", [f'pip install --index-url {SITE_URL}/cu128/ "llama-cpp-python==0.3.100+cu128"']),
        ("uv-pip", [f'uv pip install --index {SITE_URL}/cu128/ "llama-cpp-python==0.3.100+cu128"']),
        ("uv", ["uv sync"]),
    ],
)
def test_switching_is_one_command_of_the_users_tool(tool: str, expected: list[str]) -> None:
    machine = facts(tool=tool, nvidia=driver("12.8", H100))
    assert commands(machine, "gpu-unused") == expected


def test_a_stale_build_is_compiled_again_past_the_cache() -> None:
    machine = facts(None, environment={"CMAKE_ARGS": "-DGGML_CUDA=on"}, tool="pip")
    assert only(machine, "stale-build").message == (
        "CMAKE_ARGS asks for GGML_CUDA=on, the build has not set it: an older build came out of a cache"
    )
    assert commands(machine, "stale-build") == [
        f"pip install --no-cache-dir --force-reinstall --no-deps {FROM_SOURCE}"
    ]
    uv_pip = facts(None, environment={"CMAKE_ARGS": "-DGGML_CUDA=on"}, tool="uv-pip")
    assert commands(uv_pip, "stale-build") == [
        "uv cache clean llama-cpp-python",
        f"uv pip install --reinstall-package llama-cpp-python {FROM_SOURCE}",
    ]
    uv = facts(None, environment={"CMAKE_ARGS": "-DGGML_CUDA=on"}, tool="uv")
    assert commands(uv, "stale-build") == [
        "uv cache clean llama-cpp-python",
        "uv sync --reinstall-package llama-cpp-python",
    ]


def test_the_way_back_to_a_finished_wheel() -> None:
    machine = facts(None, trial=gpu_trial(), nvidia=driver("12.8", H100))
    assert commands(machine, "prebuilt-exists") == [
        f'pip install --index-url {SITE_URL}/cu128/ "llama-cpp-python==0.3.100+cu128"'
    ]


def test_a_damaged_wheel_is_removed_first() -> None:
    assert commands(facts(installation={"version": "0.3.36"}), "version-mismatch") == [
        "pip uninstall -y llama-cpp-python",
        f'pip install --index-url {SITE_URL}/cpu/ "llama-cpp-python==0.3.100+cpu"',
    ]


def test_minor_version_compatibility_is_said_right() -> None:
    machine = facts("cu124", trial=gpu_trial(), nvidia=driver("12.0", RTX_3090))
    assert only(machine, "driver-minor-older").message == (
        "driver 570.86.15 speaks CUDA 12.0, the wheel is built with 12.4: machine code runs all the "
        "same (minor version compatibility), PTX would not"
    )
    newer = only(facts("cu130", nvidia=driver("12.8", H100)), "driver-too-old")
    assert newer.message == (
        "the cu130 wheel is built with CUDA 13.0; the driver speaks CUDA 12.8 at most"
    )
    assert newer.cure.startswith("install NVIDIA's driver 580 or newer on the host ")


@pytest.mark.parametrize(
    ("words", "cure", "command"),
    [
        (
            "libcublas.so.12: cannot open shared object file",
            "install CUDA 12's runtime and cuBLAS",
            ['pip install "nvidia-cuda-runtime-cu12" "nvidia-cublas-cu12"'],
        ),
        (
            "libcublasLt.so.13: cannot open shared object file",
            "install CUDA 13's runtime and cuBLAS",
            ['pip install "nvidia-cuda-runtime>=13,<14" "nvidia-cublas>=13,<14"'],
        ),
        (
            "libcudart.so.12: cannot open shared object file",
            "install CUDA 12's runtime and cuBLAS",
            ['pip install "nvidia-cuda-runtime-cu12" "nvidia-cublas-cu12"'],
        ),
        (NO_CUDA, "install NVIDIA's driver on the host", []),
        ("libvulkan.so.1: cannot open shared object file", "install the loader and a driver", []),
        ("libamdhip64.so.7: cannot open", "install ROCm's runtime", []),
        ("version `GLIBC_2.34' not found", "this system's GLIBC is older than 2.34", []),
    ],
)
def test_a_missing_library_has_a_package(words: str, cure: str, command: list[str]) -> None:
    trial = CPU_TRIAL._replace(unused_modules=(("libggml-cuda.so", words),))
    machine = facts("cu128", nvidia=driver("12.8", H100), trial=trial)
    found = only(machine, "module-not-loaded")
    assert found.message == (
        f"libggml-cuda.so does not load, so the cu128 wheel computes on the CPU: {words}"
    )
    assert found.cure.startswith(cure)
    assert commands(machine, "module-not-loaded") == command


def test_another_major_version_of_the_runtime_is_named() -> None:
    words = "libcudart.so.13: cannot open shared object file: No such file or directory"
    machine = facts(
        "cu130",
        nvidia=driver("13.0", H100),
        trial=CPU_TRIAL._replace(unused_modules=(("libggml-cuda.so", words),)),
        runtime_packages=(
            RuntimePackage("nvidia-cublas-cu12", "12.8.3.14"),
            RuntimePackage("nvidia-cuda-runtime-cu12", "12.8.57"),
        ),
    )
    assert only(machine, "module-not-loaded").message == (
        f"libggml-cuda.so does not load, so the cu130 wheel computes on the CPU: {words}; "
        "nvidia-cublas-cu12 12.8.3.14, nvidia-cuda-runtime-cu12 12.8.57 cannot take its place: it "
        "must be of the same major version"
    )


def test_a_broken_rpc_module_is_mended_by_the_same_wheel() -> None:
    broken = CPU_TRIAL._replace(unused_modules=(("libggml-rpc.so", "file too short"),))
    machine = facts(trial=broken)
    assert only(machine, "rpc-not-loaded").message == (
        "libggml-rpc.so does not load, so rpc_servers cannot be used: file too short"
    )
    assert commands(machine, "rpc-not-loaded")[0] == "pip uninstall -y llama-cpp-python"


# ---- the source build: notes alone --------------------------------------------------------------

PROMPT = 'the "x64 Native Tools Command Prompt" of Visual Studio'
MSVC = Compiler("msvc", "C:/VS/cl.exe", "19.44.35208", "x64")

BUILDS: list[tuple[str, Facts, list[str]]] = [
    ("ready", facts(), ["build-ready"]),
    ("no-build-backend", facts(tools={"scikit_build_core": None}), ["build-backend-missing"]),
    ("no-cmake", facts(tools={"cmake": None}), ["build-no-cmake"]),
    ("old-cmake", facts(tools={"cmake": Tool("/usr/bin/cmake", "3.18.4")}), ["build-no-cmake"]),
    ("no-ninja", facts(tools={"ninja": None}), ["build-no-ninja"]),
    ("no-git", facts(tools={"git": None}), ["build-no-git"]),
    ("no-compiler", facts(tools={"compiler": None}), ["build-no-compiler"]),
    ("windows-no-cl", facts("cpu", WINDOWS, tools={"compiler": None}), ["build-no-compiler"]),
    (
        "windows-x86-prompt",
        facts("cpu", WINDOWS, tools={"compiler": MSVC._replace(target="x86")}),
        ["build-wrong-prompt"],
    ),
    (
        "no-command-line-tools",
        facts("cpu", MAC),
        ["build-no-command-line-tools"],
    ),
    ("gpu-without-nvcc", facts(nvidia=driver("12.8", H100)), ["build-no-cuda"]),
    (
        "cuda-older-than-gpu",
        facts(nvidia=driver("12.8", RTX_5090), tools={"nvcc": NVCC_122}),
        ["build-cuda-older-than-gpu"],
    ),
    (
        "cuda-13-and-pascal",
        facts(nvidia=driver("13.0", GTX_1080), tools={"nvcc": Tool("/c/bin/nvcc", "13.0")}),
        ["build-cuda-older-than-gpu"],
    ),
    (
        "cuda-newer-than-driver",
        facts(nvidia=driver("12.8", H100), tools={"nvcc": Tool("/c/bin/nvcc", "13.0")}),
        ["build-cuda-newer-than-driver"],
    ),
    (
        "gcc-too-new",
        facts(
            tools={
                "nvcc": NVCC_122,
                "host_limits": CUDA_LIMITS,
                "compiler": Compiler("gcc", "/usr/bin/c++", "14.2.0", None),
            }
        ),
        ["build-host-compiler"],
    ),
    (
        "msvc-too-new",
        facts(
            "cpu",
            WINDOWS,
            tools={"nvcc": NVCC_122, "host_limits": CUDA_LIMITS, "compiler": MSVC},
        ),
        ["build-host-compiler"],
    ),
    (
        "msvc-old-enough",
        facts(
            "cpu",
            WINDOWS,
            tools={
                "nvcc": NVCC_122,
                "host_limits": CUDA_LIMITS,
                "compiler": MSVC._replace(version="19.39.33519"),
            },
        ),
        ["build-ready"],
    ),
    (
        "cuda-in-a-path-with-spaces",
        facts(tools={"nvcc": Tool("C:\\Program Files\\CUDA\\bin\\nvcc.exe", "12.8")}),
        ["build-cuda-spaces"],
    ),
    (
        "torn-cmake-args",
        facts(environment={"CMAKE_ARGS": "-DCMAKE_CUDA_COMPILER=C:/My CUDA/nvcc.exe"}),
        ["build-cmake-args"],
    ),
    ("open-quote", facts(environment={"CMAKE_ARGS": "-DX='1"}), ["build-cmake-args"]),
    (
        "generator-is-not-torn",
        facts(environment={"CMAKE_ARGS": "-G Ninja -D GGML_CUDA=ON -DX='a b'"}),
        ["build-ready"],
    ),
    (
        "architectures-of-others",
        facts(
            nvidia=driver("12.8", RTX_5090),
            tools={"nvcc": Tool("/c/bin/nvcc", "12.9")},
            environment={"CMAKE_ARGS": "-DCMAKE_CUDA_ARCHITECTURES=86;89;100"},
        ),
        ["build-architectures"],
    ),
    (
        "the-right-architecture",
        facts(
            nvidia=driver("12.8", RTX_5090),
            tools={"nvcc": Tool("/c/bin/nvcc", "12.9")},
            environment={"CMAKE_ARGS": "-DCMAKE_CUDA_ARCHITECTURES=120a-real"},
        ),
        ["build-ready"],
    ),
    ("temp-with-spaces", facts(tools={"temporary_folder": "C:/My Temp"}), ["build-temporary-folder"]),
    ("temp-missing", facts(tools={"temporary_folder": None}), ["build-temporary-folder"]),
    ("temp-not-ascii", facts(tools={"temporary_folder": "C:/ユーザー"}), ["build-temporary-folder"]),
    ("long-paths", facts("cpu", WINDOWS, tools={"long_paths": False}), ["build-long-paths"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "expected"), [pytest.param(*each[1:], id=each[0]) for each in BUILDS]
)
def test_a_source_build(machine: Facts, expected: list[str]) -> None:
    found = [each for each in diagnosis.examine(machine) if each.id.startswith("build-")]
    assert [each.id for each in found] == expected
    assert {each.level for each in found} <= {"note", "ok"}


def test_build_notes_name_the_cure() -> None:
    x86 = facts("cpu", WINDOWS, tools={"compiler": MSVC._replace(target="x86")})
    assert only(x86, "build-wrong-prompt").cure == f"open {PROMPT}: `cl` must say x64"
    studio = facts("cpu", WINDOWS, tools={"compiler": None, "visual_studio": "C:/VS"})
    assert only(studio, "build-no-compiler").message == "cl.exe is not on PATH: C:/VS is installed"
    spaces = facts(tools={"nvcc": Tool("C:\\Program Files\\CUDA\\bin\\nvcc.exe", "12.8")})
    assert commands(spaces, "build-cuda-spaces") == ['CUDACXX="C:/Program Files/CUDA/bin/nvcc.exe"']
    assert commands(BUILDS[14][1], "build-host-compiler") == ["CUDAHOSTCXX=g++-12"]
    architectures = only(BUILDS[21][1], "build-architectures")
    assert architectures.cure == "for this machine alone: -DCMAKE_CUDA_ARCHITECTURES=120a"


def test_every_finding_is_shown_by_a_machine_here() -> None:
    shown = {
        each.id for _, machine, _ in (*MACHINES, *BUILDS) for each in diagnosis.examine(machine)
    }
    assert shown == set(FINDINGS)


def test_an_unknown_finding_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="unknown finding note there-is-none"):
        finding("there-is-none", "note", "x")
