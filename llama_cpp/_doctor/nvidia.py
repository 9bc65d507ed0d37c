"""What is there of NVIDIA: driver, GPUs, and CUDA toolkits and runtimes."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_cpp._doctor.programs import ask, ask_json, find_program
from llama_cpp._gpu_code import cuda_version

if TYPE_CHECKING:
    from collections.abc import Mapping

_MIB = 1 << 20
_QUERY = ("name", "driver_version", "memory.total", "memory.free", "compute_cap")
# the loaders' words of Linux, macOS and Windows
_NOT_THERE = ("no such file", "not found", "could not find")


class NvidiaGpu(NamedTuple):
    """One NVIDIA GPU."""

    name: str
    compute: tuple[int, int] | None
    """Compute capability: (9, 0) for an H100; None where the driver is too old to tell."""
    memory_total: int
    """Bytes; 0 where it is the host's."""
    memory_free: int


class Nvidia(NamedTuple):
    """The driver and its GPUs."""

    driver: str | None
    """The driver's version; None where there is no driver, or only its CUDA library answers."""
    cuda: tuple[int, int] | None
    """The newest CUDA that the driver speaks."""
    gpus: tuple[NvidiaGpu, ...]
    source: str | None
    """Who said it: ``NVML``, ``nvidia-smi`` or ``libcuda``; None where nobody answered."""
    problem: str | None
    """Why nobody answered, although there is something of a driver."""
    libcuda_problem: str | None
    """Why the driver's CUDA library does not load, in the loader's words; None where it does."""


class Toolkit(NamedTuple):
    """A CUDA toolkit, or a folder with only its runtime."""

    version: str
    folder: str
    has_compiler: bool


NO_NVIDIA = Nvidia(None, None, (), None, None, None)


def nvidia() -> Nvidia:
    """Ask NVML in a process of its own, else nvidia-smi, else the CUDA library alone."""
    probe = Path(__file__).with_name("nvml.py")
    said, failure = ask_json([sys.executable or "python3", "-I", str(probe)])
    found = _from_nvml(said)
    if found.source == "NVML":
        return found
    problem = failure or found.problem
    smi = find_program("nvidia-smi")
    if smi is not None:
        asked = _ask_smi(smi)
        if asked.source is not None:
            return asked._replace(libcuda_problem=found.libcuda_problem)
        problem = asked.problem
    return found._replace(problem=problem)


def _from_nvml(said: dict[str, Any]) -> Nvidia:
    error = _text(said.get("nvml_error"))
    libcuda = _text(said.get("libcuda_error"))
    # a library that is not there is no driver; one that is there and fails is a broken driver
    missing = error is None or not_there(error)
    cuda = cuda_version(said.get("cuda"))
    if said and error is None:
        gpus = tuple(
            NvidiaGpu(
                name=str(gpu["name"]),
                compute=None if gpu["compute"] is None else (gpu["compute"][0], gpu["compute"][1]),
                memory_total=int(gpu["memory_total"]),
                memory_free=int(gpu["memory_free"]),
            )
            for gpu in said["gpus"]
        )
        return Nvidia(_text(said["driver"]), cuda, gpus, "NVML", None, libcuda)
    source = "libcuda" if said and libcuda is None else None
    return Nvidia(None, cuda, (), source, None if missing else error, libcuda)


def not_there(words: str) -> bool:
    """Return whether a loader says that a library is not there, rather than that it fails."""
    return any(each in words.lower() for each in _NOT_THERE)


def _ask_smi(smi: str) -> Nvidia:
    head = ask([smi])
    if head.failure is not None:
        words = (head.output + head.error).strip().splitlines()
        detail = words[0].strip() if words else head.failure
        return NO_NVIDIA._replace(problem=f"nvidia-smi: {detail}")
    shown = re.search(r"CUDA (?:UMD )?Version:\s*([0-9]+)\.([0-9]+)", head.output)
    driver = re.search(r"Driver Version:\s*([0-9.]+)", head.output)
    rows = _query(smi, _QUERY) or _query(smi, _QUERY[:-1])
    return Nvidia(
        driver=driver[1] if driver else (rows[0][1] if rows else None),
        cuda=(int(shown[1]), int(shown[2])) if shown else None,
        gpus=tuple(
            NvidiaGpu(
                name=row[0],
                compute=_compute(row[4]) if len(row) > 4 else None,
                memory_total=_mebibytes(row[2]),
                memory_free=_mebibytes(row[3]),
            )
            for row in rows
        ),
        source="nvidia-smi",
        problem=None,
        libcuda_problem=None,
    )


def _query(smi: str, fields: tuple[str, ...]) -> list[list[str]]:
    answer = ask([smi, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
    if answer.failure is not None:  # an old driver does not know compute_cap
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.output.splitlines()]
    return [row for row in rows if len(row) == len(fields)]


def _compute(text: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"([0-9]+)\.([0-9]+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _mebibytes(text: str) -> int:
    return int(text) * _MIB if text.isdigit() else 0


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def toolkits(environment: Mapping[str, str], root: Path = Path("/")) -> tuple[Toolkit, ...]:
    """Return the CUDA toolkits of this machine, those that a build takes first, first.

    Args:
        environment: of which ``CUDACXX``, ``CUDA_PATH``, ``CUDA_HOME`` and PATH's nvcc are read.
        root: "/" or a stand-in for tests.
    """
    folders = []
    compiler = environment.get("CUDACXX")
    if compiler:
        folders.append(Path(compiler).parent.parent)
    folders += [
        Path(environment[name]) for name in ("CUDA_PATH", "CUDA_HOME") if environment.get(name)
    ]
    on_path = find_program("nvcc")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent.parent)
    folders += sorted((root / "usr/local").glob("cuda*"), reverse=True)
    windows = Path(environment.get("ProgramFiles", "C:/Program Files"))
    folders += sorted(windows.glob("NVIDIA GPU Computing Toolkit/CUDA/v*"), reverse=True)
    found: dict[Path, Toolkit] = {}
    for folder in folders:
        real = _resolved(folder)
        toolkit = _toolkit(folder)
        if toolkit is not None and real not in found:
            found[real] = toolkit
    return tuple(found.values())


def _toolkit(folder: Path) -> Toolkit | None:
    version = None
    try:
        record = json.loads((folder / "version.json").read_text("utf-8"))
        version = str(record["cuda"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        header = toolkit_header(folder, "cuda.h")
        defined = re.search(r"#define\s+CUDA_VERSION\s+([0-9]+)", header)
        numbers = cuda_version(int(defined[1])) if defined else None
        version = f"{numbers[0]}.{numbers[1]}" if numbers else None
    if version is None:  # a wrapper script's folder, or one that was emptied
        return None
    has_compiler = any((folder / "bin" / name).exists() for name in ("nvcc", "nvcc.exe"))
    return Toolkit(version, str(folder), has_compiler)


def toolkit_header(folder: Path, name: str) -> str:
    """Return the text of a toolkit's header, also in conda's layout; empty where there is none."""
    places = [folder / "include", *sorted(folder.glob("targets/*/include"))]
    return next((text for place in places for text in [_read(place / name)] if text), "")


def _resolved(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return path


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
