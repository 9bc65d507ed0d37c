"""The commands that mend something, for the tool that the user installs with. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from llama_cpp._doctor.backends import Step, install_steps

if TYPE_CHECKING:
    from llama_cpp._doctor.facts import Facts

_NAME = "llama-cpp-python"
_ADD = {
    "uv": "uv add {}",
    "uv-pip": "uv pip install {}",
    "pip": "pip install {}",
    "poetry": "poetry add {}",
    "pdm": "pdm add {}",
}
_CUDA_LIBRARY = re.compile(
    r"(?:lib)?(?P<name>cudart|cublasLt|cublas)(?:64)?(?:\.so\.|_)(?P<major>[0-9]+)"
)
_CUDA_PACKAGES = {"cudart": "cuda-runtime", "cublas": "cublas", "cublasLt": "cublas"}


def switch(facts: Facts, backend: str) -> tuple[Step, ...]:
    """Return what switches the installed package to a backend."""
    return install_steps(facts.project.tool, backend, facts.published.site)


def reinstall(facts: Facts) -> tuple[Step, ...]:
    """Return what installs the same package again, over whatever is there."""
    own = facts.installation.distribution
    known = facts.published.named(own.label if own else None)
    from_source = own is not None and own.url is not None and not own.url.endswith(".whl")
    if known is None or from_source:
        return rebuild(facts)
    first = {"pip": f"pip uninstall -y {_NAME}", "uv-pip": f"uv pip uninstall {_NAME}"}
    # uv, poetry and pdm compare versions and would leave the damaged files
    again = {
        "uv": f"uv sync --reinstall-package {_NAME}",
        "poetry": f"poetry run python -m pip uninstall -y {_NAME}",
        "pdm": "pdm sync --reinstall",
    }
    tool = facts.project.tool
    if tool in first:
        return (Step("command", first[tool]), *switch(facts, known.name))
    if tool == "poetry":
        return (Step("command", again[tool]), Step("command", "poetry sync"))
    return (Step("command", again[tool]),)


def rebuild(facts: Facts) -> tuple[Step, ...]:
    """Return what compiles the package again, past the caches of built wheels."""
    own = facts.installation.distribution
    named = f'"{_NAME}=={facts.installation.version}"'
    source = f'"{own.url}"' if own is not None and own.url is not None else named
    if own is not None and own.editable:
        source = f'-e "{own.url}"'
    tool = facts.project.tool
    if tool == "uv":
        commands: tuple[str, ...] = (
            f"uv cache clean {_NAME}",
            f"uv sync --reinstall-package {_NAME}",
        )
    elif tool == "uv-pip":
        commands = (
            f"uv cache clean {_NAME}",
            f"uv pip install --reinstall-package {_NAME} --no-binary {_NAME} {source}",
        )
    else:
        python = "" if tool == "pip" else f'--python "{facts.system.executable}" '
        past_the_cache = f"--no-cache-dir --force-reinstall --no-deps --no-binary {_NAME}"
        commands = (f"pip {python}install {past_the_cache} {source}",)
    return tuple(Step("command", command) for command in commands)


def add(facts: Facts, package: str) -> tuple[Step, ...]:
    """Return what installs one more package."""
    return (Step("command", _ADD[facts.project.tool].format(f'"{package}"')),)


def missing_library(facts: Facts, words: str) -> tuple[str, tuple[Step, ...]]:
    """Return what brings the library that a loader misses: a sentence, and commands.

    Args:
        facts: the machine.
        words: the loader's own, such as ``libcublas.so.12: cannot open shared object file``.
    """
    cuda = _CUDA_LIBRARY.search(words)
    if cuda:
        major = int(cuda["major"])
        package = f"nvidia-{_CUDA_PACKAGES[cuda['name']]}"
        # from CUDA 13 on the packages carry the major version in their version alone
        package += f"-cu{major}" if major < 13 else f">={major},<{major + 1}"
        return f"install CUDA {major}'s {cuda['name']}", add(facts, package)
    if "libcuda.so" in words or "nvcuda" in words:
        return driver_cure(facts, None), ()
    if "libvulkan" in words or "vulkan-1" in words:
        return vulkan_cure(facts), ()
    if re.search(r"libamdhip64|librocblas|libhipblas", words):
        return "install ROCm's runtime (rocm-hip-libraries in AMD's package repository)", ()
    glibc = re.search(r"version [`'](GLIBC|GLIBCXX)_([0-9.]+)'", words)
    if glibc:
        return f"this system's {glibc[1]} is older than {glibc[2]}: take a newer system", ()
    return "install the library that it names", reinstall(facts)


def driver_cure(facts: Facts, oldest: tuple[str, str] | None) -> str:
    """Return how to get an NVIDIA driver.

    Args:
        facts: the machine.
        oldest: the oldest version that will do, on Linux and on Windows.
    """
    windows = facts.system.name == "windows"
    version = f" {oldest[1 if windows else 0]} or newer" if oldest else ""
    if windows:
        return f"install NVIDIA's driver{version} (nvidia.com/drivers), then restart"
    return (
        f"install NVIDIA's driver{version} on the host (Debian: `sudo apt install nvidia-driver`; "
        "Ubuntu: `sudo ubuntu-drivers install`), then restart; "
        "a container needs the NVIDIA Container Toolkit and `--gpus all`"
    )


def vulkan_cure(facts: Facts) -> str:
    """Return how to get a Vulkan loader and driver."""
    if facts.system.name == "windows":
        return "install the GPU vendor's driver: it brings Vulkan"
    return (
        "install the loader and a driver (Debian, Ubuntu: `sudo apt install libvulkan1 "
        "mesa-vulkan-drivers`; NVIDIA's driver brings its own)"
    )
