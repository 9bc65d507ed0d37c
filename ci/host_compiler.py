"""The pinned host compiler: a gcc with an old C library, for toolkits that take no zig.

Its programs run on this machine's C library; what they compile runs on every one from theirs on.
"""

from __future__ import annotations

from pathlib import Path

from ci.compiler import Compiler
from ci.pins import CompilerPin, Host, Pins, unpacked, write_script
from ci.progress import Progress

_TRIPLETS: dict[Host, str] = {
    "linux_x86_64": "x86_64-linux-gnu",
    "linux_aarch64": "aarch64-linux-gnu",
}
_PROGRAMS = ("as", "ld", "ar", "nm", "ranlib", "objcopy", "strip")
# what the compiler's programs need and a machine may not have; never the C library
_LIBRARIES = (
    "libmpc",
    "libmpfr",
    "libgmp",
    "libisl",
    "libz",
    "libzstd",
    "libbfd",
    "libopcodes",
    "libctf",
)

# The C++ runtime goes into the module and stays hidden there: a process may have others (RATIONALE)
_LINK = "-static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL -Wl,--enable-new-dtags"


def bring_host_compiler(progress: Progress, pins: Pins, host: Host) -> Compiler | None:
    """Return the pinned compiler of a host, brought if need be; None where none is pinned.

    Raises:
        NetworkError, VendorError, DiskError: as for a toolkit.
    """
    pin = next((pin for pin in pins.compiler if host in pin.host), None)
    if pin is None:
        return None
    folder = unpacked(progress, pin, host, lambda root: _arrange(root, pin, host), revision=2)
    return compiler_in(folder, pin)


def compiler_in(folder: Path, pin: CompilerPin) -> Compiler:
    """Return the compiler in an arranged folder."""
    return Compiler(
        name=f"{pin.name} {pin.version}, glibc {pin.glibc}",
        defines={
            "CMAKE_C_COMPILER": str(folder / "bin" / "gcc"),
            "CMAKE_CXX_COMPILER": str(folder / "bin" / "g++"),
            "CMAKE_AR": str(folder / "bin" / "ar"),
            "CMAKE_RANLIB": str(folder / "bin" / "ranlib"),
            "CMAKE_SHARED_LINKER_FLAGS": _LINK,
            "CMAKE_MODULE_LINKER_FLAGS": _LINK,
        },
    )


def _arrange(folder: Path, pin: CompilerPin, host: Host) -> None:
    """Write ``bin/gcc``, ``bin/g++`` and the rest, which see the unpacked system and no other."""
    triplet = _TRIPLETS[host]
    private = folder / "private"
    private.mkdir()
    for libraries in (folder / "usr" / "lib" / triplet, folder / "lib" / triplet):
        for path in sorted(libraries.iterdir()):
            if path.name.startswith(tuple(f"{name}{end}" for name in _LIBRARIES for end in ".-")):
                (private / path.name).symlink_to(Path("..") / path.relative_to(folder))
    tools = folder / "tools"
    tools.mkdir()
    root = 'root=$(dirname "$(dirname "$(readlink -f "$0")")")'
    run = f'LD_LIBRARY_PATH="$root/private" exec "$root/usr/bin/{triplet}'
    for name in _PROGRAMS:
        (tools / name).symlink_to(Path("..") / "usr" / "bin" / f"{triplet}-{name}")
        write_script(folder / "bin" / name, f'{root}\n{run}-{name}" "$@"')
    major = pin.version.partition(".")[0]
    for name in ("gcc", "g++"):
        flags = '--sysroot="$root" -B"$root/tools"'
        write_script(folder / "bin" / name, f'{root}\n{run}-{name}-{major}" {flags} "$@"')
