"""Synthetic machines: what the edge would have gathered there, for the doctor's and select's tests."""

from __future__ import annotations

from typing import Any

from llama_cpp._amd_driver import RocmGpu
from llama_cpp._build_info import BuildInfo
from llama_cpp._doctor.accelerators import Accelerators, Rocm, Vulkan, VulkanDevice
from llama_cpp._doctor.backends import Backend, Backends
from llama_cpp._doctor.build_tools import BuildTools, Compiler, HostLimits, Tool
from llama_cpp._doctor.facts import Facts
from llama_cpp._doctor.installation import Device, Distribution, Installation, Trial
from llama_cpp._doctor.nvidia import NO_NVIDIA, Nvidia, NvidiaGpu
from llama_cpp._doctor.project import Project
from llama_cpp._doctor.system import System

GIB = 1 << 30

_ALL = (
    "manylinux_2_17_x86_64",
    "manylinux_2_17_aarch64",
    "musllinux_1_2_x86_64",
    "macosx_12_0_arm64",
    "macosx_12_0_x86_64",
    "win_amd64",
    "win_arm64",
)
_GPU = ("manylinux_2_17_x86_64", "manylinux_2_17_aarch64", "win_amd64")
_TO_HOPPER = ("50", "60", "61", "70", "75", "80", "86", "89", "90", "90-virtual")
_BLACKWELL = ("120a", "120-virtual")


def _cuda(minor: int) -> Backend:
    architectures = _TO_HOPPER + (_BLACKWELL if minor >= 8 else ())
    return Backend(
        f"cu12{minor}", "cuda", f"NVIDIA CUDA 12.{minor}", (12, minor), architectures, _GPU
    )


# Not those of the table: a machine's best backend here does not change when one is added there.
PUBLISHED = Backends(
    site="https://llama-cpp-python.example/",
    all=(
        Backend("cpu", "cpu", "CPU", None, (), _ALL),
        Backend("metal", "metal", "Apple Metal", None, (), ("macosx_12_0_arm64",)),
        *(_cuda(minor) for minor in (1, 2, 3, 4, 5, 6, 8)),
        Backend("cu130", "cuda", "NVIDIA CUDA 13.0", (13, 0), _TO_HOPPER[4:-1] + _BLACKWELL, _GPU),
        Backend(
            "rocm7x", "hip", "AMD ROCm 7.0", (7, 0), ("gfx90a", "gfx1030", "gfx1100"), _GPU[:1]
        ),
        Backend("vulkan", "vulkan", "Vulkan 1.4", (1, 4), (), _GPU),
    ),
)
SITE = "/venv/lib/python3.12/site-packages"
NO_CUDA = "libcuda.so.1: cannot open shared object file: No such file or directory"
NO_VULKAN = "libvulkan.so.1: cannot open shared object file: No such file or directory"

H100 = NvidiaGpu("NVIDIA H100 80GB HBM3", (9, 0), 80 * GIB, 79 * GIB)
RTX_5090 = NvidiaGpu("NVIDIA GeForce RTX 5090", (12, 0), 32 * GIB, 31 * GIB)
RTX_4090 = NvidiaGpu("NVIDIA GeForce RTX 4090", (8, 9), 24 * GIB, 23 * GIB)
RTX_3090 = NvidiaGpu("NVIDIA GeForce RTX 3090", (8, 6), 24 * GIB, 23 * GIB)
GTX_1080 = NvidiaGpu("NVIDIA GeForce GTX 1080", (6, 1), 8 * GIB, 7 * GIB)
GTX_780 = NvidiaGpu("NVIDIA GeForce GTX 780", (3, 5), 3 * GIB, 3 * GIB)
GB10 = NvidiaGpu("NVIDIA GB10", (12, 1), 0, 0)
B200 = NvidiaGpu("NVIDIA B200", (10, 0), 180 * GIB, 179 * GIB)
RX_7900 = RocmGpu("AMD Radeon RX 7900 XTX", "gfx1100")
RX_580 = RocmGpu("AMD Radeon RX 580", "gfx803")
ARC = VulkanDevice("Intel(R) Arc(tm) A770 Graphics (DG2)", "discrete", "1.3", 16 * GIB)
LLVMPIPE = VulkanDevice("llvmpipe (LLVM 19.1.7, 256 bits)", "cpu", "1.4", 16 * GIB)

NO_VULKAN_LOADER = Vulkan(None, (), NO_VULKAN)
NO_ROCM = Rocm(None, None, ())

CPU_TRIAL = Trial(
    problem=None,
    crashed=False,
    cpu_variant="libggml-cpu-haswell.so",
    devices=(Device("CPU", "Intel(R) Core(TM) i7", "CPU", 32 * GIB),),
    unused_modules=(),
    llama_cpp="0.5.0-dev",
)
LINUX = System(
    name="linux",
    release="Debian GNU/Linux 12 (bookworm), Linux 6.1.0",
    version=(),
    machine="x86_64",
    native_machine="x86_64",
    libc="glibc",
    libc_version=(2, 36),
    cpu="Intel(R) Core(TM) i7",
    cpu_level="x86-64-v3",
    python="CPython 3.12.1",
    python_version=(3, 12, 1),
    free_threaded=False,
    bits=64,
    executable="/venv/bin/python",
)
ALPINE = LINUX._replace(release="Alpine Linux v3.20", libc="musl", libc_version=(1, 2, 5))
OLD_GLIBC = LINUX._replace(release="CentOS release 6.10", libc_version=(2, 12))
ARM_LINUX = LINUX._replace(machine="aarch64", native_machine="aarch64", cpu_level=None)
RISCV = LINUX._replace(machine="riscv64", native_machine="riscv64", cpu_level=None)
MAC = LINUX._replace(
    name="macos",
    release="macOS 15.1",
    version=(15, 1),
    machine="arm64",
    native_machine="arm64",
    libc=None,
    libc_version=(),
    cpu="Apple M3",
    cpu_level=None,
)
ROSETTA = MAC._replace(machine="x86_64")
INTEL_MAC = MAC._replace(machine="x86_64", native_machine="x86_64", cpu_level="x86-64-v3")
WINDOWS = LINUX._replace(
    name="windows", release="Windows 11 10.0.26100", libc=None, libc_version=()
)
WINDOWS_ARM = WINDOWS._replace(machine="aarch64", native_machine="aarch64", cpu_level=None)

TAGS = {
    ("linux", "glibc", "x86_64"): "manylinux_2_17_x86_64",
    ("linux", "glibc", "aarch64"): "manylinux_2_17_aarch64",
    ("linux", "musl", "x86_64"): "musllinux_1_2_x86_64",
    ("macos", None, "arm64"): "macosx_12_0_arm64",
    ("macos", None, "x86_64"): "macosx_12_0_x86_64",
    ("windows", None, "x86_64"): "win_amd64",
    ("windows", None, "aarch64"): "win_arm64",
}


BROKEN_DRIVER = Nvidia(None, None, (), None, "Driver/library version mismatch", None)


def driver(cuda: str, *gpus: NvidiaGpu, version: str = "570.86.15", **changes: Any) -> Nvidia:
    """Return a driver that speaks ``cuda`` and has these GPUs."""
    major, minor = cuda.split(".")
    return Nvidia(version, (int(major), int(minor)), gpus, "NVML", None, None)._replace(**changes)


def hardware(**changes: Any) -> Accelerators:
    """Return a machine without accelerators, but for ``changes``."""
    none = Accelerators(
        nvidia=NO_NVIDIA._replace(libcuda_problem=NO_CUDA),
        toolkits=(),
        runtime_packages=(),
        rocm=NO_ROCM,
        vulkan=NO_VULKAN_LOADER,
        metal=False,
        adapters=(),
        hidden=None,
    )
    return none._replace(**changes)


def build(backend: str, **changes: Any) -> BuildInfo:
    """Return what the build of a published backend records."""
    known = PUBLISHED.named(backend)
    toolkit = f"CUDA {known.toolkit[0]}.{known.toolkit[1]}" if known and known.toolkit else None
    return BuildInfo(
        backend=backend,
        version=f"0.3.100+{backend}",
        llama_cpp_commit="0c1e57098bba43ac29e6e3b677cdceebdd22334f",
        llama_cpp_version="0.5.0-dev",
        compiler="GNU 12.2.0",
        defines={"GGML_NATIVE": "OFF"},
        toolkit=toolkit,
        gpu_architectures=known.architectures if known else (),
        prebuilt=False,
    )._replace(**changes)


def installed(label: str | None, system: System = LINUX, **changes: Any) -> Installation:
    """Return a wheel of a backend as an installer leaves it; a source build without a label."""
    tag = TAGS.get((system.name, system.libc, system.machine), "linux_riscv64")
    version = "0.3.100" + (f"+{label}" if label else "")
    return Installation(
        package=f"{SITE}/llama_cpp",
        version="0.3.100",
        distribution=Distribution(version, SITE, "pip", None, False, (f"py3-none-{tag}",)),
        others=(),
        foreign=(),
        checkout=False,
        build=build(label or "source"),
        build_problem=None,
        library_path=None,
    )._replace(**changes)


def gpu_trial(name: str = "CUDA0", description: str = "NVIDIA GPU") -> Trial:
    """Return what the libraries say where a GPU is in use."""
    return CPU_TRIAL._replace(
        devices=(Device(name, description, "GPU", 24 * GIB), *CPU_TRIAL.devices)
    )


TOOLS = BuildTools(
    scikit_build_core="1.1.2",
    cmake=Tool("/usr/bin/cmake", "3.25.1"),
    ninja=Tool("/usr/bin/ninja", "1.11.1"),
    compiler=Compiler("gcc", "/usr/bin/c++", "12.2.0", None),
    nvcc=None,
    host_limits=HostLimits(None, None, None),
    git=Tool("/usr/bin/git", "2.39.5"),
    visual_studio=None,
    command_line_tools=None,
    long_paths=None,
    temporary_folder="/tmp",
)


def facts(
    label: str | None = "cpu",
    system: System = LINUX,
    tool: str = "pip",
    trial: Trial = CPU_TRIAL,
    tools: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    installation: dict[str, Any] | None = None,
    model: Any = None,
    **accelerators: Any,
) -> Facts:
    """Return a machine with the wheel ``label`` on it."""
    return Facts(
        system=system,
        accelerators=hardware(**accelerators),
        installation=installed(label, system)._replace(**(installation or {})),
        trial=trial,
        project=Project(tool, "for this test", conda=False),
        build_tools=TOOLS._replace(**(tools or {})),
        environment=environment or {},
        published=PUBLISHED,
        model=model,
    )
