"""Check: is a finished wheel exactly what the table says? All problems at once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import lief

from ci.errors import WheelError
from ci.instructions import levels_above_baseline
from ci.table import Table, Target
from ci.wheel import Wheel, library_names, read_wheel

_LIBRARIES = ("ggml-base", "ggml", "llama", "mtmd")
_SUFFIXES = {".py", ".pyi", ".typed", ".json", ".so", ".dylib", ".dll"}

# what the policies of PEP 599 and PEP 656 promise and our libraries use
_SYSTEM_LIBRARIES = {
    "linux": ("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1")
    + ("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.musl-*.so.1"),
    "macos": ("/usr/lib/*", "/System/Library/Frameworks/*"),
    "windows": ("KERNEL32.dll", "ADVAPI32.dll", "api-ms-win-*.dll", "ucrtbase.dll")
    + ("MSVCP140*.dll", "VCRUNTIME140*.dll", "ole32.dll", "WS2_32.dll"),
}
# instructions that their code asks cpuid for at run time: miniaudio's FLAC decoder
_GUARDED = {("mtmd", "lzcnt")}
# home folders, temporary folders and checkouts of build machines
_BUILD_PATH = re.compile(rb"(?:/home/|/root/|/Users/|/tmp/|/project/|/github/|[A-Z]:\\)[\w.\\/-]{3,}")


def target_of(wheel: Wheel, table: Table) -> Target:
    """Return the target that a wheel claims to be, from its label and platform tag.

    Raises:
        WheelError: the table has no such target.
    """
    for target in table.targets:
        tag = f"py3-none-{target.platform.wheel_tag}"
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
        *_identity_problems(wheel, target),
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


def _identity_problems(wheel: Wheel, target: Target) -> Iterator[str]:
    tag = f"py3-none-{target.platform.wheel_tag}"
    if wheel.tags != (tag,):
        yield f"its name has the tags {', '.join(wheel.tags)}, not {tag} alone"
    written = [
        line.removeprefix("Tag: ")
        for line in wheel.files[f"{wheel.dist_info}/WHEEL"].decode().splitlines()
        if line.startswith("Tag: ")
    ]
    if written != [tag]:
        yield f"WHEEL has the tags {', '.join(written)}, not {tag} alone"
    if wheel.metadata["Name"] != "llama-cpp-python":
        yield f"METADATA has the name {wheel.metadata['Name']}"
    if wheel.metadata["Version"] != str(wheel.version):
        yield f"METADATA has version {wheel.metadata['Version']}, the name {wheel.version}"
    for licence in wheel.metadata.get_all("License-File", []):
        if f"{wheel.dist_info}/licenses/{licence}" not in wheel.files:
            yield f"METADATA names the licence {licence}, which is not in the wheel"
    if not any("llama.cpp" in name for name in wheel.metadata.get_all("License-File", [])):
        yield "it has no licence of llama.cpp"
    info_name = "llama_cpp/_build_info.json"
    if info_name not in wheel.files:
        yield f"there is no {info_name}"
        return
    info = json.loads(wheel.files[info_name])
    if info["backend"] != target.backend.name:
        yield f"its build info says backend {info['backend']}, its label {target.backend.name}"
    sbom_name = f"{wheel.dist_info}/sboms/llama-cpp-python.cdx.json"
    if sbom_name not in wheel.files:
        yield f"there is no {sbom_name}"
    elif (info["llama_cpp_commit"] or "") not in wheel.files[sbom_name].decode():
        yield "its SBOM does not name llama.cpp's commit"


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
    stems = [*_LIBRARIES, *target.family.modules]
    stems += [f"ggml-cpu-{variant}" for variant in target.platform.cpu_variants] or ["ggml-cpu"]
    expected = {f"llama_cpp/lib/{name}" for name in library_names(stems, target.platform.system)}
    for name in sorted(expected - set(wheel.libraries)):
        yield f"there is no {name}"
    for name in sorted(set(wheel.libraries) - expected):
        yield f"the table knows no library {name}"


def _library_problems(
    wheel: Wheel, target: Target, own_paths: tuple[Path, ...]
) -> Iterator[str]:
    ours = {PurePosixPath(name).name for name in wheel.libraries}
    allowed = (*_SYSTEM_LIBRARIES[target.platform.system], *target.family.externals)
    variants = {f"ggml-cpu-{name}" for name in target.platform.cpu_variants} - {"ggml-cpu-x64"}
    for name, data in wheel.libraries.items():
        binary = lief.parse(data)
        if binary is None:
            yield f"{name} is not a library"
            continue
        for needed in (PurePosixPath(str(library)) for library in _needed(binary)):
            if needed.name not in ours and not any(
                fnmatchcase(str(needed), pattern) for pattern in allowed
            ):
                yield f"{name} needs {needed}, which is neither in the wheel nor declared"
        if isinstance(binary, lief.ELF.Binary):
            yield from _elf_problems(name, binary, target)
        for path in own_paths:
            if str(path).encode() in data:
                yield f"{name} names the folder {path} of the build machine"
        leaked = _BUILD_PATH.search(data)
        if leaked:
            yield f"{name} holds a path of the build machine: {leaked[0].decode()}"
        stem = PurePosixPath(name).stem.removeprefix("lib")
        if target.platform.machine == "x86_64" and stem not in variants:
            guarded = frozenset(mnemonic for library, mnemonic in _GUARDED if library == stem)
            for level, first in levels_above_baseline(data, guarded).items():
                yield f"{name} is to run on every CPU but uses {level}: {first}"


def _needed(binary: lief.Binary) -> list[str]:
    if isinstance(binary, (lief.ELF.Binary, lief.PE.Binary, lief.MachO.Binary)):
        return [str(library) for library in binary.libraries] if isinstance(
            binary, (lief.ELF.Binary, lief.PE.Binary)
        ) else [library.name for library in binary.libraries]
    return []


def _elf_problems(name: str, binary: lief.ELF.Binary, target: Target) -> Iterator[str]:
    runpaths = [
        entry.runpath for entry in binary.dynamic_entries if isinstance(entry, lief.ELF.DynamicEntryRunPath)
    ] + [entry.rpath for entry in binary.dynamic_entries if isinstance(entry, lief.ELF.DynamicEntryRpath)]
    if runpaths != ["$ORIGIN"] and not target.family.modules:
        yield f"{name} has the run path {runpaths or 'none'}, not $ORIGIN"
    for section in binary.sections:
        if section.name in {".symtab", ".debug_info"}:
            yield f"{name} is not stripped: it has {section.name}"
    file_name = PurePosixPath(name).name
    soname = [entry.name for entry in binary.dynamic_entries if isinstance(entry, lief.ELF.DynamicSharedObject)]
    if soname and soname != [file_name]:
        yield f"{name} calls itself {soname[0]}"
    if target.platform.libc == "glibc":
        floor = _glibc_floor(target.platform.wheel_tag)
        for requirement in binary.symbols_version_requirement:
            for needed in requirement.get_auxiliary_symbols():
                version = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", str(needed.name))
                if version and (int(version[1]), int(version[2])) > floor:
                    yield f"{name} needs {needed.name}, the tag promises {floor[0]}.{floor[1]}"


def _glibc_floor(tag: str) -> tuple[int, int]:
    _, major, minor, *_ = tag.split("_")
    return int(major), int(minor)
