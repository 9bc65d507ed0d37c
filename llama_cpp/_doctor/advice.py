"""Which backend is the best for a machine, and why. Pure: facts in, a choice out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._doctor.backends import Backend, Backends, index_url
from llama_cpp._doctor.compatibility import parse_tag, tag_problem
from llama_cpp._gpu_code import cuda_fit, rocm_fit

if TYPE_CHECKING:
    from llama_cpp._doctor.accelerators import Accelerators
    from llama_cpp._doctor.system import System

_GPU_KINDS = ("discrete", "integrated", "virtual")


class Choice(NamedTuple):
    """What to install."""

    backend: str | None
    """None where no wheel is made for this machine."""
    why: str
    """One line."""
    url: str | None
    """The backend's index, ending in "/"."""
    passed_over: tuple[tuple[str, str], ...]
    """Families or backends that would be faster, and why they are not taken."""


def choose(system: System, accelerators: Accelerators, published: Backends) -> Choice:
    """Return the fastest backend that is sure to run here.

    In this order: Metal on Apple silicon; the newest CUDA that driver and GPUs take; ROCm where it is
    installed and has code for the GPU; Vulkan for any other GPU that Vulkan shows; else the CPU.

    Args:
        system: where Python runs.
        accelerators: what answers there.
        published: what there is to choose from, and the site.
    """
    here = tuple(each for each in published.all if fits_platform(each, system))
    passed_over: list[tuple[str, str]] = []
    for pick in (_metal, _cuda, _rocm, _vulkan, _cpu):
        backend, words = pick(here, accelerators)
        if backend is not None:
            url = index_url(published.site, backend.name)
            return Choice(backend.name, words, url, tuple(passed_over))
        if words:
            passed_over.append((pick.__name__.lstrip("_"), words))
    return Choice(None, _no_wheel(published, system), None, tuple(passed_over))


def forced(name: str, system: System, published: Backends) -> Choice:
    """Return the choice of the user.

    Raises:
        KeyError: there is no such backend.
    """
    backend = published.named(name)
    if backend is None or backend.name != name:
        raise KeyError(name)
    why = f"{backend.title}, as you asked"
    if not fits_platform(backend, system):
        why += f"; there is no {name} wheel for this machine ({system.name} {system.machine})"
    return Choice(name, why, index_url(published.site, name), ())


def fits_platform(backend: Backend, system: System) -> bool:
    """Return whether a wheel of this backend installs here."""
    tags = (parse_tag(tag) for tag in backend.wheel_tags)
    return any(tag is not None and tag_problem(tag, system) is None for tag in tags)


def _no_wheel(published: Backends, system: System) -> str:
    problems = [
        problem
        for each in published.all
        for text in each.wheel_tags
        for tag in [parse_tag(text)]
        if tag is not None and (tag.system, tag.machine) == (system.name, system.machine)
        for problem in [tag_problem(tag, system)]
        if problem is not None and problem[0] in {"libc-too-old", "system-too-old"}
    ]
    where = f"{system.name} {system.machine}" + (f" with {system.libc}" if system.libc else "")
    reason = f": {problems[0][1]}" if problems else ""
    return f"there is no wheel for {where}{reason}; build from source with `pip install`"


def _metal(here: tuple[Backend, ...], found: Accelerators) -> tuple[Backend | None, str]:
    if not found.metal:
        return None, ""
    backend = _first(here, "metal")
    if backend is None:
        return None, "this Python is not for Apple silicon: install an arm64 Python for the GPU"
    return backend, "Apple silicon: its GPU speaks Metal"


def _cuda(here: tuple[Backend, ...], found: Accelerators) -> tuple[Backend | None, str]:
    nvidia = found.nvidia
    there = [each for each in here if each.family == "cuda" and each.toolkit is not None]
    if not nvidia.gpus or nvidia.cuda is None:
        if nvidia.problem is not None:
            return None, f"NVIDIA's driver does not answer ({nvidia.problem})"
        if "NVIDIA" in found.adapters:
            return None, "there is an NVIDIA GPU, but no driver for it"
        return None, ""
    names = ", ".join(dict.fromkeys(gpu.name for gpu in nvidia.gpus))
    speaks = f"driver {nvidia.driver or '?'} speaks CUDA {_dotted(nvidia.cuda)}"
    if not there:
        return None, f"there is no CUDA wheel for this platform ({names})"
    best, best_score = None, (0, 0, False, (0, 0))
    for backend in there:
        toolkit = backend.toolkit or (0, 0)
        fits = [
            cuda_fit(backend.architectures, toolkit, nvidia.cuda, gpu.compute)
            for gpu in nvidia.gpus
        ]
        runs = sum(fit in {"native", "jit", "unknown"} for fit in fits)
        native = sum(fit == "native" for fit in fits)
        newer = toolkit > nvidia.cuda
        # among those newer than the driver (minor version compatibility) the oldest is the safest
        order = (-toolkit[0], -toolkit[1]) if newer else toolkit
        score = (runs, native, not newer, order)
        if runs and score > best_score:
            best, best_score = backend, score
    if best is None:
        oldest = min(each.toolkit or (0, 0) for each in there)
        if nvidia.cuda[0] < oldest[0]:
            return None, f"{speaks}, too old for every CUDA wheel (update the driver)"
        return None, f"no CUDA wheel has code for {names} with this driver ({speaks})"
    others = len(nvidia.gpus) - best_score[0]
    left_out = f"; {others} other GPU(s) here cannot run it" if others else ""
    compiled = "" if best_score[1] else "; the driver compiles its kernels at the first start"
    return best, f"{names}: {speaks}; {best.name} is the best fit{compiled}{left_out}"


def _rocm(here: tuple[Backend, ...], found: Accelerators) -> tuple[Backend | None, str]:
    gpus = found.rocm.gpus
    backend = _first(here, "hip")
    if not gpus:
        return None, ""
    names = ", ".join(f"{gpu.name} ({gpu.architecture})" for gpu in gpus)
    if backend is None:
        return None, f"there is no ROCm wheel for this platform ({names})"
    if not any(rocm_fit(backend.architectures, gpu.architecture) for gpu in gpus):
        return None, f"the ROCm wheel has no code for {names}"
    if found.rocm.folder is None:
        return None, f"ROCm's runtime is not installed ({names})"
    return backend, f"{names}: ROCm {found.rocm.version or '?'} is installed"


def _vulkan(here: tuple[Backend, ...], found: Accelerators) -> tuple[Backend | None, str]:
    backend = _first(here, "vulkan")
    gpus = [each for each in found.vulkan.devices if each.kind in _GPU_KINDS]
    if gpus and backend is not None:
        return backend, f"{gpus[0].name}: reached through Vulkan {gpus[0].api}"
    if gpus:
        return None, f"there is no Vulkan wheel for this platform ({gpus[0].name})"
    others = [vendor for vendor in found.adapters if vendor != "NVIDIA"]
    if others and backend is not None:
        return None, f"there is a GPU of {' and '.join(others)}, but Vulkan shows none"
    return None, ""


def _cpu(here: tuple[Backend, ...], found: Accelerators) -> tuple[Backend | None, str]:
    del found
    backend = _first(here, "cpu")
    return backend, "no GPU that a wheel could use was found" if backend is not None else ""


def _first(here: tuple[Backend, ...], family: str) -> Backend | None:
    newest = sorted(
        (each for each in here if each.family == family),
        key=lambda each: each.toolkit or (0, 0),
    )
    return newest[-1] if newest else None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
