"""One module more: a GPU wheel is the platform's CPU wheel and the backend's own module.

The module is compiled alone, from the same tree with the same compiler and flags; the CPU part is
taken from the finished, proven CPU wheel byte by byte.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from ci import paths
from ci.errors import BuildError, SmokeError, WheelError
from ci.process import run
from ci.progress import Progress
from ci.relabel import proven, with_version
from ci.table import Target
from ci.wheel import Wheel, library_names, read_wheel, write_wheel

_BUILD_INFO = "llama_cpp/_build_info.json"


@dataclass(frozen=True, kw_only=True)
class Module:
    """What compiling a backend's module gave: its libraries by file name, and the build info."""

    libraries: Mapping[str, bytes]
    build_info: bytes


def find_cpu_wheel(target: Target, folder: Path, *, commit: str, root: Path = paths.ROOT) -> Wheel:
    """Return the proven CPU wheel in ``folder`` that this checkout would build again.

    Args:
        target: the plain CPU target of the platform.
        folder: where finished wheels lie.
        commit: llama.cpp's commit that is to be in it.
        root: the checkout, whose Python files must be those of the wheel.

    Raises:
        WheelError: there is none; the message says why what lies there is not it.
    """
    cure = f"build it: nox -s build -- --backend {target.backend.name}"
    pattern = f"llama_cpp_python-*+{target.backend.name}-py3-none-{target.platform.wheel_tag}.whl"
    reasons: list[str] = []
    for path in sorted(folder.glob(pattern)):
        wheel = read_wheel(path)
        reason = _stale(wheel, commit, root)
        if reason is None:
            return wheel
        reasons.append(f"{path.name} {reason}")
    raise WheelError(
        "; ".join(reasons) or f"there is no {target.name} wheel in {folder}", cure=cure
    )


def _stale(wheel: Wheel, commit: str, root: Path) -> str | None:
    """Say why a wheel is not what would be built now, or None."""
    try:
        proven(wheel)
    except SmokeError as error:
        return f"is not proven: {error.what}"
    info = json.loads(wheel.files.get(_BUILD_INFO, b"{}"))
    if info.get("llama_cpp_commit") != commit:
        return f"is of llama.cpp {str(info.get('llama_cpp_commit'))[:12]}, not of {commit[:12]}"
    there = {
        name: data
        for name, data in wheel.files.items()
        if name.startswith("llama_cpp/")
        and not name.startswith("llama_cpp/lib/")
        and name != _BUILD_INFO
    }
    here = {
        f"llama_cpp/{path.relative_to(root / 'llama_cpp').as_posix()}": path.read_bytes()
        for path in (root / "llama_cpp").rglob("*")
        if path.is_file() and path.suffix in {".py", ".pyi", ".json", ".typed"}
    }
    here.pop(_BUILD_INFO, None)
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            return f"has another {name} than this checkout"
    return None


def compile_module(
    target: Target,
    folder: Path,
    progress: Progress,
    *,
    defines: Mapping[str, str],
    env: Mapping[str, str],
    version: Version,
) -> Module:
    """Compile the module of a target's family in ``folder`` and return it.

    Raises:
        ProcessError: CMake or the compiler failed.
        BuildError: they did not, but there is no module.
    """
    cmake = _program("cmake")
    everything = {
        "CMAKE_MAKE_PROGRAM": str(_program("ninja")),
        "CMAKE_BUILD_TYPE": "Release",
        "SKBUILD_PROJECT_VERSION_FULL": str(version),
        **defines,
    }
    definitions = [f"-D{name}={value}" for name, value in everything.items()]
    run([cmake, "-G", "Ninja", "-S", paths.ROOT, "-B", folder, *definitions], env=env)
    stems = target.family.modules
    with progress.compiling("compiling") as show:
        run([cmake, "--build", folder, "--target", *stems], env=env, on_line=show)
    libraries: dict[str, bytes] = {}
    for name in library_names(stems, target.platform.system):
        found = [path for path in folder.rglob(name) if path.is_file()]
        if len(found) != 1:
            raise BuildError(
                f"the build of {target.name} made {len(found)} files {name}",
                cure="delete build/ and try again",
            )
        libraries[name] = found[0].read_bytes()
    return Module(libraries=libraries, build_info=(folder / "_build_info.json").read_bytes())


def _program(name: str) -> Path | str:
    beside = Path(sys.executable).with_name(name)
    return beside if beside.exists() else (shutil.which(name) or name)


def assemble(cpu: Wheel, module: Module, target: Target, out: Path) -> Path:
    """Write the wheel of a target into ``out``: the CPU wheel, its label changed, and the module.

    Everything else of the CPU wheel is in it byte by byte. It still has to be repaired and checked.

    Raises:
        WheelError: the CPU wheel is not what can be relabelled, or the module is in it already.
    """
    version = version_of(cpu, target)
    files = with_version(cpu, version)
    for name, data in module.libraries.items():
        place = f"llama_cpp/lib/{name}"
        if place in files:
            raise WheelError(
                f"{cpu.path.name} has a {name} already", cure="give the plain CPU wheel"
            )
        files[place] = data
    files[_BUILD_INFO] = module.build_info
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"llama_cpp_python-{version}-py3-none-{target.platform.wheel_tag}.whl"
    write_wheel(path, files)
    return path


def version_of(cpu: Wheel, target: Target) -> Version:
    """Return the version of a target's wheel: that of the CPU wheel with the target's label."""
    return Version(f"{cpu.version.public}+{target.backend.name}")
