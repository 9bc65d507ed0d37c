"""The doctor's judgement of GPUs, drivers and the installed backend. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _obstacles
from llama_cpp._build_info import version_pair
from llama_cpp._doctor.advice import Choice, choose
from llama_cpp._doctor.findings import Finding, finding
from llama_cpp._doctor.mending import add, reinstall, switch
from llama_cpp._gpu_code import cuda_fit, rocm_fit, with_ptx
from llama_cpp._obstacles import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_cpp._doctor.backends import Step
    from llama_cpp._doctor.facts import Facts
    from llama_cpp._doctor.nvidia import NvidiaGpu
    from llama_cpp._obstacles import Obstacle

_FAMILIES = (
    ("GGML_CUDA", "cuda"),
    ("GGML_HIP", "hip"),
    ("GGML_VULKAN", "vulkan"),
    ("GGML_METAL", "metal"),
)
_GPU_KINDS = ("GPU", "IGPU")
_TRUE = {"1", "ON", "YES", "TRUE", "Y"}


class Installed(NamedTuple):
    """The backend that is installed."""

    name: str
    family: str
    toolkit: tuple[int, int] | None
    architectures: tuple[str, ...]


def installed_backend(facts: Facts) -> Installed | None:
    """Return what the build info says is installed, else the label; None in a bare checkout."""
    build = facts.installation.build
    own = facts.installation.distribution
    known = facts.published.named(build.backend if build else own.label if own else None)
    if known is not None:
        toolkit = version_pair(build.toolkit) if build else None
        architectures = build.gpu_architectures if build else ()
        return Installed(
            known.name,
            known.family,
            toolkit or known.toolkit,
            architectures or known.architectures,
        )
    if build is None:
        return None
    for option, family in _FAMILIES:
        if build.defines.get(option, "OFF").upper() in _TRUE:
            toolkit = version_pair(build.toolkit)
            return Installed(build.backend, family, toolkit, with_ptx(build.gpu_architectures))
    return Installed(build.backend, "cpu", None, ())


def gpu_findings(facts: Facts) -> list[Finding]:
    """Return what is to say about the GPUs here and the backend that is installed."""
    here = installed_backend(facts)
    best = choose(facts.system, facts.accelerators, facts.published)
    found = list(_hidden(facts))
    if here is None:
        return found
    if here.family == "cpu":
        return [*found, *_cpu(facts, best), *_modules(facts, here)]
    judge = {"cuda": _cuda, "hip": _rocm, "vulkan": _vulkan, "metal": _metal}[here.family]
    found += judge(facts, here, best)
    found += _modules(facts, here)
    found += _warned_of(facts, here, best, {each.id for each in found})
    if not any(each.level in {"warning", "error"} for each in found):
        found += _in_use(facts)
    return found


def _switch(facts: Facts, best: Choice, here: Installed) -> tuple[Step, ...]:
    """Return the way to the best backend, or to the CPU's where that is the one that fails."""
    backend = best.backend if best.backend not in {None, here.name} else "cpu"
    return switch(facts, backend or "cpu")


def _hidden(facts: Facts) -> Iterator[Finding]:
    hidden = facts.accelerators.hidden
    if hidden is not None and facts.accelerators.nvidia.gpus:
        yield _found(_obstacles.gpus_hidden(hidden), "warning")


def _cpu(facts: Facts, best: Choice) -> Iterator[Finding]:
    if best.backend not in {None, "cpu"}:
        yield finding(
            "gpu-unused",
            "warning",
            f"the CPU wheel is installed, but {best.why}",
            f"switch to {best.backend}",
            switch(facts, best.backend or "cpu"),
        )
    elif best.backend == "cpu":
        yield finding("cpu-fits", "ok", f"cpu is the best backend here: {best.why}")
    for _, why in best.passed_over:
        yield finding("gpu-out-of-reach", "note", why)


def _cuda(facts: Facts, here: Installed, best: Choice) -> Iterator[Finding]:
    nvidia = facts.accelerators.nvidia
    toolkit = here.toolkit or (12, 0)
    windows = facts.system.name == "windows"
    computes = any(each.kind in _GPU_KINDS for each in facts.trial.devices)
    if nvidia.problem is not None and not nvidia.gpus:
        yield _found(
            _obstacles.driver_broken(nvidia.problem),
            "note" if computes else "error",
            "; ggml computes on the GPU all the same" if computes else "",
        )
        return
    if nvidia.source is None:
        yield _found(
            _obstacles.driver_missing(here.name, toolkit[0], windows=windows),
            or_else="; without an NVIDIA GPU switch the backend:",
            steps=_switch(facts, best, here),
        )
        return
    if nvidia.libcuda_problem is not None:
        words = nvidia.libcuda_problem
        yield _found(_obstacles.driver_without_cuda(words, toolkit[0], windows=windows))
    if not nvidia.gpus and nvidia.source != "libcuda":
        yield _found(
            _obstacles.gpu_missing(here.name, "NVIDIA"),
            or_else="; without an NVIDIA GPU switch the backend:",
            steps=_switch(facts, best, here),
        )
    if nvidia.cuda is None:
        yield finding(
            "gpu-unknown", "note", "the driver does not say which CUDA it speaks: run `nvidia-smi`"
        )
        return
    if nvidia.cuda[0] < toolkit[0]:
        yield _found(
            _obstacles.driver_too_old(here.name, toolkit, nvidia.cuda, windows=windows),
            "note" if computes else "error",
            # NVIDIA's cuda-compat packages do that for data centre GPUs
            "; ggml computes on the GPU all the same (forward compatibility)" if computes else "",
            or_else="; or switch the backend:",
            steps=_switch(facts, best, here),
        )
        return
    judged = [_gpu(facts, here, best, gpu) for gpu in dict.fromkeys(nvidia.gpus)]
    yield from judged
    if nvidia.cuda < toolkit:
        yield finding(
            "driver-minor-older",
            "note",
            f"driver {nvidia.driver or '?'} speaks CUDA {dotted(nvidia.cuda)}, the wheel is built "
            f"with {dotted(toolkit)}: machine code runs all the same (minor version "
            "compatibility), PTX would not",
        )
    said = any(each.steps for each in judged)
    if not said and best.backend != here.name and best.backend in _cuda_names(facts):
        yield finding(
            "better-backend",
            "note",
            f"{best.backend} fits better: {best.why}",
            "switch when you like:",
            switch(facts, best.backend),
        )


def _gpu(facts: Facts, here: Installed, best: Choice, gpu: NvidiaGpu) -> Finding:
    driver, toolkit = facts.accelerators.nvidia.cuda or (0, 0), here.toolkit or (12, 0)
    fit = cuda_fit(here.architectures, toolkit, driver, gpu.compute)
    if gpu.compute is None or fit == "unknown":
        return finding(
            "gpu-unknown",
            "note",
            f"{gpu.name}: whether the {here.name} build has code for it is not known",
        )
    name = f"{gpu.name} (compute {dotted(gpu.compute)})"
    has = f"the {here.name} wheel has {', '.join(here.architectures)}"
    if fit == "native":
        return finding("gpu-fits", "ok", f"{name}: the {here.name} wheel has machine code for it")
    steps = _switch(facts, best, here)
    if fit == "jit":
        better = best.backend != here.name and _is_native(facts, best.backend, gpu)
        return finding(
            "gpu-compiles-at-start",
            "warning" if better else "note",
            f"{name} is newer than the wheel's machine code: the driver compiles its kernels at the "
            f"first start (minutes, then cached), and they are slower ({has})",
            f"switch to {best.backend}" if better else "",
            steps if better else (),
        )
    if fit == "driver-cannot-jit":
        return _found(
            _obstacles.gpu_needs_newer_driver(gpu.name, gpu.compute, toolkit, driver),
            or_else="; or switch:",
            steps=steps,
        )
    obstacle = _obstacles.gpu_without_code(here.name, gpu.name, gpu.compute, here.architectures)
    other = best.backend if best.backend not in {None, here.name} else "cpu"
    return _found(obstacle._replace(cure=f"switch to {other}"), steps=steps)


def _is_native(facts: Facts, backend: str | None, gpu: NvidiaGpu) -> bool:
    known = facts.published.named(backend)
    driver = facts.accelerators.nvidia.cuda
    if known is None or known.toolkit is None or driver is None:
        return False
    return cuda_fit(known.architectures, known.toolkit, driver, gpu.compute) == "native"


def _rocm(facts: Facts, here: Installed, best: Choice) -> Iterator[Finding]:
    rocm = facts.accelerators.rocm
    if rocm.folder is None:
        yield _found(
            _obstacles.rocm_missing(here.name),
            or_else=", or switch the backend:",
            steps=_switch(facts, best, here),
        )
    have, need = version_pair(rocm.version), here.toolkit
    if have and need and have[0] != need[0]:
        yield finding(
            "rocm-version",
            "warning",
            f"the {here.name} wheel is built with ROCm {dotted(need)}, here is ROCm {rocm.version}",
            f"install ROCm {need[0]}",
        )
    if not rocm.gpus:
        yield _found(
            _obstacles.gpu_missing(here.name, "AMD"),
            or_else="; or switch the backend:",
            steps=_switch(facts, best, here),
        )
    for gpu in dict.fromkeys(rocm.gpus):
        name = f"{gpu.name} ({gpu.architecture})"
        if not here.architectures:
            yield finding("gpu-unknown", "note", f"{name}: the build does not say its GPUs")
        elif rocm_fit(here.architectures, gpu.architecture):
            yield finding("gpu-fits", "ok", f"{name}: the {here.name} wheel has code for it")
        else:
            obstacle = _obstacles.amd_gpu_without_code(
                here.name, gpu.name, gpu.architecture, here.architectures
            )
            other = best.backend if best.backend not in {None, here.name} else "cpu"
            steps = _switch(facts, best, here)
            yield _found(obstacle._replace(cure=f"switch to {other}"), steps=steps)


def _vulkan(facts: Facts, here: Installed, best: Choice) -> Iterator[Finding]:
    vulkan = facts.accelerators.vulkan
    windows = facts.system.name == "windows"
    if vulkan.loader is None:
        words = vulkan.problem or "not found"
        yield _found(_obstacles.vulkan_missing(here.name, words, windows=windows))
    elif not any(each.kind != "cpu" for each in vulkan.devices):
        yield _found(_obstacles.vulkan_without_gpu(windows=windows))
    if best.backend is not None and best.backend in _cuda_names(facts):
        yield finding(
            "better-backend",
            "note",
            f"{best.backend} is faster on this GPU: {best.why}",
            "switch when you like:",
            switch(facts, best.backend),
        )


def _cuda_names(facts: Facts) -> set[str]:
    return {each.name for each in facts.published.all if each.family == "cuda"}


def _metal(facts: Facts, here: Installed, best: Choice) -> Iterator[Finding]:
    del here, best
    if facts.trial.problem is None and not any(
        each.kind in _GPU_KINDS for each in facts.trial.devices
    ):
        yield _found(_obstacles.metal_without_gpu())


def _modules(facts: Facts, here: Installed) -> Iterator[Finding]:
    for module, words in facts.trial.unused_modules:
        if _obstacles.shows_no_gpu(module, words):
            continue
        obstacle = _obstacles.module_not_loaded(
            module,
            words,
            here.name,
            facts.accelerators.runtime_packages,
            windows=facts.system.name == "windows",
        )
        again = obstacle.cure in {_obstacles.UNKNOWN_LIBRARY, _obstacles.REINSTALL}
        steps = reinstall(facts) if again else add(facts, *obstacle.packages)
        yield _found(obstacle, steps=steps)


def _warned_of(facts: Facts, here: Installed, best: Choice, said: set[str]) -> Iterator[Finding]:
    """Yield what the trial met and the facts alone do not show, as where only libcuda answers."""
    for each in facts.trial.obstacles:
        if each.id not in said:
            steps = add(facts, *each.packages) or _switch(facts, best, here)
            yield _found(each, steps=steps)


def _in_use(facts: Facts) -> Iterator[Finding]:
    if facts.trial.problem is not None:
        return
    gpus = [each for each in facts.trial.devices if each.kind in _GPU_KINDS]
    if gpus:
        names = ", ".join(f"{each.name} {each.description}" for each in gpus)
        yield finding("gpu-used", "ok", f"ggml computes on {names}")
    else:
        yield _found(_obstacles.gpu_not_listed(), "warning")


def _found(
    obstacle: Obstacle,
    level: str = "error",
    but: str = "",
    *,
    or_else: str = "",
    steps: tuple[Step, ...] = (),
) -> Finding:
    """Make a finding of what a program would be warned of, in the same words."""
    return finding(obstacle.id, level, obstacle.message + but, obstacle.cure + or_else, steps)
