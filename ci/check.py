"""Check: is a finished wheel exactly what the table says? All problems at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ci import device_code, project
from ci.deployment_target import deployment_problems, metal_problems
from ci.errors import WheelError
from ci.instructions import levels_above_baseline
from ci.library import Library, musl_name, read_library
from ci.macho import signature_problems
from ci.table import Machine, Platform, System, Table, Target
from ci.wheel import Wheel, library_names, read_wheel

_BUILD_INFO = "llama_cpp/_build_info.json"
_LIBRARIES = ("ggml-base", "ggml", "ggml-rpc", "llama", "mtmd")
_SUFFIXES = {".py", ".pyi", ".typed", ".json", ".so", ".dylib", ".dll"}

# what the policies of PEP 599 and PEP 656 promise and our libraries use
_SYSTEM_LIBRARIES: Mapping[System, tuple[str, ...]] = {
    "linux": (
        *("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"),
        *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
    ),
    "macos": ("/usr/lib/*", "/System/Library/Frameworks/*"),
    "windows": (
        *("KERNEL32.dll", "ADVAPI32.dll", "WS2_32.dll", "ole32.dll", "ucrtbase.dll"),
        # Python brings the last one; MSVCP140.dll is of the "Visual C++ Redistributable", which many lack
        *("api-ms-win-*.dll", "VCRUNTIME140*.dll"),
    ),
}
# kinds of instructions that run only where the CPU has them. miniaudio's FLAC decoder asks cpuid; the C++
# runtime of ARM, which is in every library, unwinds frames of SVE and SME, and those with memory tags.
_GUARDED: Mapping[Machine, Mapping[str, frozenset[str]]] = {
    "x86_64": {"mtmd": frozenset({"lzcnt"})},
    "aarch64": {"*": frozenset({"cntd x", "str za[w, ], [x]", "smstop za", "stg x, [x]"})},
    "arm64": {},
}
# home folders, temporary folders and checkouts of build machines
_BUILD_PATH = re.compile(
    rb"(?:/home/|/root/|/Users/|/tmp/|/project/|/github/|[A-Z]:\\)[\w.\\/-]{3,}"
)


def target_of(wheel: Wheel, table: Table) -> Target:
    """Return the target that a wheel claims to be, from its label and platform tag.

    Raises:
        WheelError: the table has no such target.
    """
    for target in table.targets:
        tag = f"py3-none-{target.wheel_tag}"
        if target.backend.name == (wheel.label or "").split(".")[0] and tag in wheel.tags:
            return target
    raise WheelError(
        f"{wheel.path.name} is no target of the table (label {wheel.label}, tags"
        f" {', '.join(wheel.tags)})",
        cure="see `python -m ci matrix --help` for the targets",
    )


def check(path: Path, table: Table, *, own_paths: tuple[Path, ...] = ()) -> Target:
    """Check a finished wheel and return its target.

    Args:
        path: the wheel.
        table: what it is compared with.
        own_paths: folders of this machine that must not be named in any library.

    Raises:
        WheelError: one or more problems, all of them listed.
    """
    wheel = read_wheel(path)
    target = target_of(wheel, table)
    problems = [
        *wheel.record_problems(),
        *_tag_problems(wheel, target),
        *_metadata_problems(wheel, target),
        *_origin_problems(wheel, target),
        *_content_problems(wheel, target),
        *_library_problems(wheel, target, own_paths),
    ]
    limit = target.backend.size_limit_mb * 1_000_000
    if wheel.size > limit:
        problems.append(f"it has {wheel.size / 1e6:.1f} MB, the ceiling is {limit / 1e6:.0f} MB")
    if problems:
        raise WheelError(
            f"{path.name} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n"
            + "\n".join(f"  {problem}" for problem in problems),
            cure="mend the build (or the table, where it is wrong) and build the wheel again",
        )
    return target


def _tag_problems(wheel: Wheel, target: Target) -> Iterator[str]:
    tag = f"py3-none-{target.wheel_tag}"
    if wheel.tags != (tag,):
        yield f"its name has the tags {', '.join(wheel.tags)}, not {tag} alone"
    written = [
        line.removeprefix("Tag: ")
        for line in wheel.files[f"{wheel.dist_info}/WHEEL"].decode().splitlines()
        if line.startswith("Tag: ")
    ]
    if written != [tag]:
        yield f"WHEEL has the tags {', '.join(written)}, not {tag} alone"


def _metadata_problems(wheel: Wheel, target: Target) -> Iterator[str]:
    if wheel.metadata["Name"] != "llama-cpp-python":
        yield f"METADATA has the name {wheel.metadata['Name']}"
    if wheel.metadata["Version"] != str(wheel.version):
        yield f"METADATA has version {wheel.metadata['Version']}, the name {wheel.version}"
    required = [
        text for text in wheel.metadata.get_all("Requires-Dist", []) if "extra ==" not in text
    ]
    wanted = sorted([*project.requirements(), *target.requirements])
    if sorted(required) != wanted:
        yield f"METADATA requires {', '.join(sorted(required)) or 'nothing'}, not {', '.join(wanted)}"
    licences = wheel.metadata.get_all("License-File", [])
    for licence in licences:
        if f"{wheel.dist_info}/licenses/{licence}" not in wheel.files:
            yield f"METADATA names the licence {licence}, which is not in the wheel"
    if not any("llama.cpp" in name for name in licences):
        yield "it has no licence of llama.cpp"


def _origin_problems(wheel: Wheel, target: Target) -> Iterator[str]:
    if _BUILD_INFO not in wheel.files:
        yield f"there is no {_BUILD_INFO}"
        return
    info = json.loads(wheel.files[_BUILD_INFO])
    if info["backend"] != target.backend.name:
        yield f"its build info says backend {info['backend']}, its label {target.backend.name}"
    sbom_name = f"{wheel.dist_info}/sboms/llama-cpp-python.cdx.json"
    if sbom_name not in wheel.files:
        yield f"there is no {sbom_name}"
    elif (info["llama_cpp_commit"] or "") not in wheel.files[sbom_name].decode():
        yield "its SBOM does not name llama.cpp's commit"
    yield from device_code.origin_problems(wheel, target, info)


def _content_problems(wheel: Wheel, target: Target) -> Iterator[str]:
    contents: dict[str, str] = {}
    for name, data in wheel.files.items():
        path = PurePosixPath(name)
        inside = path.parts[0] == "llama_cpp" and path.suffix in _SUFFIXES
        if path.parts[0] != wheel.dist_info and not inside:
            yield f"{name} does not belong into the wheel"
        if data:
            twin = contents.setdefault(hashlib.sha256(data).hexdigest(), name)
            if twin != name:
                yield f"{name} and {twin} are the same bytes"
    variants = [f"ggml-cpu-{variant}" for variant in target.platform.cpu_variants] or ["ggml-cpu"]
    stems = [*_LIBRARIES, *target.family.modules, *variants]
    expected = {f"llama_cpp/lib/{name}" for name in library_names(stems, target.platform.system)}
    for name in sorted(expected - set(wheel.libraries)):
        yield f"there is no {name}"
    for name in sorted(set(wheel.libraries) - expected):
        yield f"the table knows no library {name}"


def _library_problems(wheel: Wheel, target: Target, own_paths: tuple[Path, ...]) -> Iterator[str]:
    ours = {PurePosixPath(name).name for name in wheel.libraries}
    info = json.loads(wheel.files.get(_BUILD_INFO, b"{}"))
    for name, data in wheel.libraries.items():
        library = read_library(data)
        if library is None:
            yield f"{name} is not a library"
            continue
        yield from _needed_problems(name, library, target, ours)
        if _is_module(name, target):
            yield from device_code.module_problems(name, data, library, target, info)
        if target.platform.system == "linux":
            yield from _elf_problems(name, library, target)
        if target.platform.system == "macos":
            yield from _macho_problems(name, library, ours)
            yield from deployment_problems(name, data, target.platform)
            yield from signature_problems(name, data)
        if target.family.name == "metal" and _is_module(name, target):
            yield from metal_problems(name, data)
        yield from _leak_problems(name, data, library, own_paths)
        yield from _baseline_problems(name, library, target)


def _leak_problems(
    name: str, data: bytes, library: Library, own_paths: tuple[Path, ...]
) -> Iterator[str]:
    for path in own_paths:
        if str(path).encode() in data:
            yield f"{name} names the folder {path} of the build machine"
    leaked = _BUILD_PATH.search(_without_device_code(data, library))
    if leaked:
        yield f"{name} holds a path of the build machine: {leaked[0].decode()}"


def _without_device_code(data: bytes, library: Library) -> bytes:
    # in 50 MB of compressed code something looks like C:\\x by chance
    parts, start = [], 0
    for offset, size in sorted(library.device_code):
        parts.append(data[start:offset])
        start = offset + size
    return b"".join([*parts, data[start:]])


def _needed_problems(name: str, library: Library, target: Target, ours: set[str]) -> Iterator[str]:
    is_module = _is_module(name, target)
    # nothing but the backend's own module may need the driver: without one the CPU must compute
    externals = target.runtime.externals if is_module else []
    allowed = (*_system_libraries(target.platform), *externals)
    for needed in library.needed:
        if PurePosixPath(needed).name not in ours and not any(
            fnmatchcase(needed, pattern) for pattern in allowed
        ):
            yield f"{name} needs {needed}, which is neither in the wheel nor declared"
    if externals and not any(
        fnmatchcase(needed, pattern) for needed in library.needed for pattern in externals
    ):
        yield f"{name} needs none of {', '.join(externals)}: it is no {target.family.title} module"


def _system_libraries(platform: Platform) -> tuple[str, ...]:
    if platform.libc == "musl":
        return (musl_name(platform.machine),)
    return _SYSTEM_LIBRARIES[platform.system]


def _is_module(name: str, target: Target) -> bool:
    return PurePosixPath(name).stem.removeprefix("lib") in target.family.modules


def _elf_problems(name: str, library: Library, target: Target) -> Iterator[str]:
    file = PurePosixPath(name)
    places = target.runtime.run_paths if _is_module(name, target) else []
    wanted = ":".join(["$ORIGIN", *places])
    if library.run_paths != (wanted,):
        found = ", ".join(library.run_paths or ()) or "none"
        yield f"{name} has the run path {found}, not {wanted}"
    if library.soname not in {None, file.name}:
        yield f"{name} calls itself {library.soname}"
    for section in library.symbol_sections:
        yield f"{name} is not stripped: it has {section}"
    if _is_module(name, target) and library.cxx_exports:
        yield (
            f"{name} shows C++ names ({library.cxx_exports[0]} and {len(library.cxx_exports) - 1}"
            " more): another C++ runtime in the process would meet them"
        )
    if target.platform.libc == "glibc" and library.glibc is not None:
        _, major, minor, *_ = target.wheel_tag.split("_")
        if library.glibc > (int(major), int(minor)):
            needs = ".".join(map(str, library.glibc))
            yield f"{name} needs glibc {needs}, the tag promises {major}.{minor}"


def _macho_problems(name: str, library: Library, ours: set[str]) -> Iterator[str]:
    """Say where a library does not find its neighbours, or says where it was linked."""
    places = ("@rpath/", "@loader_path/")
    file = PurePosixPath(name).name
    if library.soname not in {None, *(f"{place}{file}" for place in places)}:
        yield f"{name} calls itself {library.soname}"
    for needed in library.needed:
        path = PurePosixPath(needed)
        if path.name in ours and needed not in {f"{place}{path.name}" for place in places}:
            yield f"{name} looks for {path.name} in {path.parent}"
    if library.run_paths != ("@loader_path",):
        found = ", ".join(library.run_paths or ()) or "none"
        yield f"{name} has the run path {found}, not @loader_path"


def _baseline_problems(name: str, library: Library, target: Target) -> Iterator[str]:
    stem = PurePosixPath(name).stem.removeprefix("lib")
    platform = target.platform
    if stem in {f"ggml-cpu-{variant}" for variant in platform.cpu_variants[1:]}:
        return
    guarded = frozenset[str]().union(
        *(kinds for owner, kinds in _GUARDED[platform.machine].items() if owner in {stem, "*"})
    )
    levels = levels_above_baseline(library.code, platform.machine, guarded, system=platform.system)
    for level, first in levels.items():
        yield f"{name} is to run on every CPU but uses {level}: {first}"
