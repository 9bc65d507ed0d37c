"""GPU architectures: which a module is compiled for, in the table's words and in CMake's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ci import rocm
from ci.errors import UsageError
from ci.process import run
from ci.table import Target
from ci.toolkit import Toolkit

_CUDA = re.compile(r"(\d{2,3})([af]?)(-virtual|-real)?")
_HIP = re.compile(r"gfx[0-9a-f]{3,4}(-generic)?")


def parse_architectures(text: str, target: Target) -> tuple[str, ...]:
    """Return the architectures of ``--archs``: ``86;89;120a``, ``90-virtual``, ``gfx1100``.

    Raises:
        UsageError: one is none, or the target's family has none.
    """
    if not target.backend.gpu_architectures:
        raise UsageError(
            f"{target.name} has no GPU architectures to choose from",
            cure="leave --archs away: the one module runs on every GPU",
        )
    hip = target.family.toolkit == "ROCm"
    pattern, example = (_HIP, "gfx1100;gfx1201") if hip else (_CUDA, "86;89;120a")
    names = [name for name in re.split(r"[;, ]+", text.strip()) if name]
    wrong = [name for name in names if not pattern.fullmatch(name)]
    if wrong or not names:
        raise UsageError(
            f"--archs {text!r}: {' '.join(wrong) or 'nothing'} is no GPU architecture",
            cure=f'write --archs "{example}"; '
            + (
                "`rocminfo` names your GPU's (gfx…)"
                if hip
                else "`nvidia-smi --query-gpu=compute_cap --format=csv` says yours (8.9 is 89)"
            ),
        )
    return tuple(dict.fromkeys(name.removesuffix("-real") for name in names))


def choose_architectures(
    target: Target, toolkit: Toolkit, own: Sequence[str] | None
) -> tuple[str, ...]:
    """Return what a module is compiled for with a toolkit, in the table's words.

    The table's, unless ``own`` are asked for. A toolkit of another minor version makes machine code
    alone (an older driver compiles no newer PTX), and only what it knows.

    Raises:
        UsageError: the toolkit makes no code for one that is asked for.
    """
    wanted = list(own or target.backend.gpu_architectures or ())
    if toolkit.name == "ROCm":
        rocm.check_architectures(toolkit, wanted)
    if toolkit.name != "CUDA":
        return tuple(wanted)
    known = _known(toolkit)
    unknown = [name for name in wanted if _number(name) not in known]
    if toolkit.is_compatible(target) and own is None:
        return tuple(
            name for name in wanted if name not in unknown and not name.endswith("-virtual")
        )
    if unknown:
        newer = [name for name in unknown if int(_number(name)) > max(map(int, known))]
        raise UsageError(
            f"CUDA {toolkit.version} makes no code for {', '.join(unknown)}; it knows"
            f" {', '.join(sorted(known, key=int))}",
            cure="leave it out, or take a "
            + ("newer backend (120a: cu128 and newer)" if newer else "backend of CUDA 12 (cu128)"),
        )
    return tuple(wanted)


def cmake_architectures(names: Sequence[str], toolkit: Toolkit) -> dict[str, str]:
    """Return the CMake definitions for architectures; a plain one is machine code alone."""
    if not names:
        return {}
    if toolkit.name == "ROCm":
        return {"GPU_TARGETS": ";".join(names)}
    if toolkit.front_end:
        # clang makes PTX beside machine code, and the -real of one name takes it from its namesake
        given = [
            name if name.endswith("-virtual") or f"{name}-virtual" in names else f"{name}-real"
            for name in names
            if name.removesuffix("-virtual") not in names or not name.endswith("-virtual")
        ]
    else:
        given = [name if name.endswith("-virtual") else f"{name}-real" for name in names]
    return {"CMAKE_CUDA_ARCHITECTURES": ";".join(given)}


def _known(toolkit: Toolkit) -> set[str]:
    nvcc = Path(toolkit.defines["CMAKE_CUDA_COMPILER"])
    return set(re.findall(r"compute_(\d+)", run([nvcc, "--list-gpu-arch"], timeout=60)))


def _number(name: str) -> str:
    match = _CUDA.fullmatch(name)
    return match[1] if match else name
