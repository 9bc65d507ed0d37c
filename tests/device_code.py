"""Stand-ins of code for GPUs: nvcc's containers, clang's bundles, and a library that holds some."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def entry(
    architecture: int, *, kind: int = 2, flags: int = 0x11, header: int = 64, payload: int = 8
) -> bytes:
    """Return one entry of a container; kind 1 is PTX, 2 machine code."""
    version = (0, 9) if kind == 1 else (8, 1)
    head = struct.pack("<HHIQII", kind, 0x101, header, payload, 0, 0)
    head += struct.pack("<HHIIIQQQ", *version, architecture, 0, 0, flags, 0, 0)
    return head.ljust(header, b"\0") + b"\x7f" * payload


def container(*entries: bytes, version: int = 1) -> bytes:
    """Return a container of nvcc's."""
    data = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, version, 16, len(data)) + data


def bundle(sizes: Mapping[str, int]) -> bytes:
    """Return a bundle of clang's with an entry of so many bytes for each name."""
    start = 32 + sum(24 + len(name) for name in sizes)
    head = struct.pack("<24sQ", b"__CLANG_OFFLOAD_BUNDLE__", len(sizes))
    for name, size in sizes.items():
        head += struct.pack("<QQQ", start, size, len(name)) + name.encode()
        start += size
    return head + b"\x7f" * sum(sizes.values())


def write_module(
    path: Path,
    section: bytes,
    *,
    name: str = ".nv_fatbin",
    needed: Sequence[str] = (),
    run_path: str = "$ORIGIN",
) -> None:
    """Compile a shared library with a section of code for GPUs, that needs what is named."""
    folder = path.parent / f"{path.name}.parts"
    folder.mkdir(parents=True)
    (folder / "section.bin").write_bytes(section)
    (folder / "module.s").write_text(
        f'.section {name},"a",@progbits\n.incbin "{folder / "section.bin"}"\n'
        '.section .note.GNU-stack,"",@progbits\n'
    )
    for soname in needed:
        command = ["cc", "-shared", "-nostdlib", f"-Wl,-soname,{soname}", "-x", "c", "/dev/null"]
        subprocess.run([*command, "-o", folder / soname], check=True)
    link: list[str | Path] = [
        "cc",
        "-shared",
        "-nostdlib",
        "-s",
        f"-Wl,-soname,{path.name}",
        folder / "module.s",
    ]
    link += ["-Wl,--no-as-needed", *(folder / soname for soname in needed)]
    link += ["-Wl,--enable-new-dtags", f"-Wl,-rpath,{run_path}", "-o", path]
    subprocess.run(link, check=True)
