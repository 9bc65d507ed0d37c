"""One module more: a GPU wheel is the platform's CPU wheel and the backend's own module.

The module is compiled alone, from the same tree with the same compiler and flags; the CPU part is
taken from the finished, proven CPU wheel byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.version import Version

from ci import paths
from ci.compiler import CompilerCache
from ci.errors import BuildError, SmokeError, WheelError, disk_error
from ci.process import run
from ci.progress import Progress
from ci.relabel import proven, with_version
from ci.table import Target
from ci.wheel import Wheel, library_names, read_wheel, write_wheel

_BUILD_INFO = "llama_cpp/_build_info.json"
_KEPT_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What compiling a module took: objects and where they came from, seconds of the processors."""

    objects: int
    cached: int
    seconds: float | None
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class Module:
    """What compiling a backend's module gave: its libraries by file name, the build info, the cost."""

    libraries: Mapping[str, bytes]
    build_info: Mapping[str, object]
    cost: Cost


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
    pattern = f"llama_cpp_python-*+{target.backend.name}-py3-none-{target.wheel_tag}.whl"
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
    cache: CompilerCache,
) -> Module:
    """Compile the module of a target's family in ``folder`` and return it.

    Raises:
        ProcessError: CMake or the compiler failed.
        BuildError: they did not, but there is no module.
    """
    start = time.monotonic()
    cmake = _program("cmake")
    everything = {
        "CMAKE_MAKE_PROGRAM": str(_program("ninja")),
        "CMAKE_BUILD_TYPE": "Release",
        **cache.defines,
        **defines,
    }
    definitions = [f"-D{name}={value}" for name, value in everything.items()]
    stems = target.family.modules
    with cache.serving():
        run([cmake, "-G", "Ninja", "-S", paths.ROOT, "-B", folder, *definitions], env=env)
        with progress.compiling("compiling") as show:
            run([cmake, "--build", folder, "--target", *stems], env=env, on_line=show)
        stats = cache.stats()
    libraries: dict[str, bytes] = {}
    for name in library_names(stems, target.platform.system):
        found = [path for path in folder.rglob(name) if path.is_file()]
        if len(found) != 1:
            raise BuildError(
                f"the build of {target.name} made {len(found)} files {name}",
                cure="delete build/ and try again",
            )
        libraries[name] = found[0].read_bytes()
    return Module(
        libraries=libraries,
        build_info=json.loads((folder / "_build_info.json").read_bytes()),
        cost=Cost(
            objects=stats.hits + stats.misses,
            cached=stats.hits,
            seconds=stats.seconds,
            elapsed=time.monotonic() - start,
        ),
    )


class ModuleStore:
    """Compiled modules in the user's cache folder, each under the hash of all that went into it."""

    def __init__(self, inputs: Mapping[str, object] | None) -> None:
        """Find the place of a module.

        Args:
            inputs: all that decides what is compiled; None where it is not known, which stores
                nothing and finds nothing.
        """
        self._folder: Path | None = None
        # SCCACHE_RECACHE asks for compiling anew; that is no other wish than this one
        if inputs is not None and not os.environ.get("SCCACHE_RECACHE"):
            key = hashlib.sha256(json.dumps([1, inputs], sort_keys=True).encode()).hexdigest()
            self._folder = paths.cache_folder() / "modules" / key[:24]

    def find(self) -> Module | None:
        """Return the module, if it was compiled before."""
        if self._folder is None or not self._folder.is_dir():
            return None
        os.utime(self._folder)
        record = json.loads((self._folder / "module.json").read_bytes())
        return Module(
            libraries={name: (self._folder / name).read_bytes() for name in record["libraries"]},
            build_info=record["build_info"],
            cost=Cost(**record["cost"]),
        )

    def keep(self, module: Module) -> None:
        """Put a module there, whole or not at all; one that was not asked for in a month goes."""
        if self._folder is None:
            return
        parent = self._folder.parent
        try:
            parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=parent, prefix=".") as scratch:
                new = Path(scratch) / "module"
                new.mkdir()
                for name, data in module.libraries.items():
                    (new / name).write_bytes(data)
                record = {
                    "libraries": sorted(module.libraries),
                    "build_info": module.build_info,
                    "cost": asdict(module.cost),
                }
                (new / "module.json").write_text(json.dumps(record), "utf-8")
                # another build may have been quicker: its bytes are the same
                with suppress(OSError):
                    new.rename(self._folder)
        except OSError as error:
            raise disk_error(error, parent) from error
        oldest = time.time() - _KEPT_SECONDS
        for other in parent.iterdir():
            if other.stat().st_mtime < oldest:
                shutil.rmtree(other, ignore_errors=True)


def _program(name: str) -> Path | str:
    beside = Path(sys.executable).with_name(name)
    return beside if beside.exists() else (shutil.which(name) or name)


def assemble(cpu: Wheel, module: Module, target: Target, version: Version, out: Path) -> Path:
    """Write the wheel of a target into ``out``: the CPU wheel, its label changed, and the module.

    Everything else of the CPU wheel is in it byte by byte, but for METADATA, which requires the
    distributions that bring the module's runtime. It still has to be repaired and checked.

    Raises:
        WheelError: the CPU wheel is not what can be relabelled, or the module is in it already.
    """
    files = with_version(cpu, version)
    for name, data in module.libraries.items():
        place = f"llama_cpp/lib/{name}"
        if place in files:
            raise WheelError(
                f"{cpu.path.name} has a {name} already", cure="give the plain CPU wheel"
            )
        files[place] = data
    info = {
        **module.build_info,
        "backend": target.backend.name,
        "version": str(version),
        "compiler": _compilers(cpu, module, target),
    }
    files[_BUILD_INFO] = (json.dumps(info, indent=2) + "\n").encode()
    metadata = f"llama_cpp_python-{version}.dist-info/METADATA"
    files[metadata] = _with_requirements(files[metadata], target.requirements)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"llama_cpp_python-{version}-py3-none-{target.wheel_tag}.whl"
    write_wheel(path, files)
    return path


def _compilers(cpu: Wheel, module: Module, target: Target) -> str:
    """Return the compiler of the CPU part, and that of the module where it is another one."""
    one = str(json.loads(cpu.files[_BUILD_INFO]).get("compiler"))
    other = module.build_info["compiler"]
    if one == other:
        return one
    (stem,) = target.family.modules
    return f"{one}; {stem}: {other}"


def _with_requirements(metadata: bytes, requirements: tuple[str, ...]) -> bytes:
    head, separator, body = metadata.partition(b"\n\n")
    lines = [head.rstrip(b"\n"), *(f"Requires-Dist: {text}".encode() for text in requirements)]
    return b"\n".join(lines) + (separator or b"\n") + body


def version_of(cpu: Wheel, target: Target, architectures: Sequence[str] = ()) -> Version:
    """Return the version of a target's wheel: that of the CPU wheel with the target's label.

    A wheel for GPUs of one's own says so: ``0.3.100+cu130.sm86.sm120a`` (``gfx1100`` of ROCm).
    """
    own = [
        name if name.startswith("gfx") else f"{'ptx' if name.endswith('-virtual') else 'sm'}{name}"
        for name in architectures
    ]
    label = ".".join([target.backend.name, *(name.removesuffix("-virtual") for name in own)])
    return Version(f"{cpu.version.public}+{label}")
