"""Finds, loads and prepares llama.cpp's libraries, once per process and at first use.

``import llama_cpp`` loads nothing native. The first call of :func:`load` does, in dependency order
and by full path, so that exactly one copy of ggml is mapped; then it loads ggml's backends from the
same folder, without which llama.cpp has no device at all.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from llama_cpp import _abi, _handle, _log
from llama_cpp._errors import LlamaError
from llama_cpp._images import image_of, mapped_images, stem
from llama_cpp._package import package_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from llama_cpp._abi import Functions
    from llama_cpp._obstacles import Obstacle

ENVIRONMENT_VARIABLE = "LLAMA_CPP_LIB_PATH"

_PACKAGE_FOLDER = package_path("lib")
_LOAD_ORDER = ("ggml-base", "ggml", "llama")
_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
# what ggml loads by itself: bundles on macOS, which are not called .dylib
_MODULE_SUFFIX = ".dll" if sys.platform == "win32" else ".so"
# Ours are llama.dll, whichever compiler; a MinGW build of llama.cpp's own has libllama.dll.
_PREFIXES = ("", "lib") if sys.platform == "win32" else ("lib",)

_DEVICE_TYPES = ("CPU", "GPU", "IGPU", "ACCEL", "META")
# modules that need a runtime beside their driver
_WITH_RUNTIME = ("ggml-cuda", "ggml-hip")
# AMD's driver in the kernel
_KERNEL_FUSION_DRIVER = Path("/dev/kfd")
# ROCm's libraries that a module names, and those that these name
_MOST_LIBRARIES = 16

_lock = threading.RLock()
_functions: Functions | None = None
_folder: Path | None = None
_opened: dict[str, ctypes.CDLL] = {}
# ctypes callbacks and DLL folders must outlive every call that may use them
_kept: list[object] = []
_log_callback = _abi.ggml_log_callback(_log.receive)
_left_out: dict[int, Obstacle] = {}


class Device(NamedTuple):
    """Something ggml can compute on."""

    name: str
    """ggml's name for it: ``CPU``, ``CUDA0``, ``Vulkan0`` …"""
    description: str
    """The hardware's own name."""
    kind: str
    """``CPU``, ``GPU``, ``IGPU`` (shares the host's memory), ``ACCEL`` or ``META``."""
    memory_free: int
    """Bytes."""
    memory_total: int
    """Bytes."""


def load() -> Functions:
    """Return llama.cpp's functions; the first call loads the libraries and the backends.

    Raises:
        LlamaError: the libraries are not there or cannot be loaded, or another ggml is mapped.
    """
    if _functions is not None:
        return _functions
    with _lock:
        return _functions if _functions is not None else _load()


def library_folder() -> Path:
    """Return the folder that the libraries are loaded from, which must exist and hold them.

    ``LLAMA_CPP_LIB_PATH`` names it; without that it is ``lib`` inside the package.

    Raises:
        LlamaError: the folder or a library in it is missing.
    """
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    folder = Path(named).absolute() if named else _PACKAGE_FOLDER
    missing = [name for name in _LOAD_ORDER if find(folder, name) is None]
    if not missing:
        return folder
    lacks = "does not exist" if not folder.is_dir() else f"has no {file_name(missing[0])}"
    if named:
        raise LlamaError(
            f"{ENVIRONMENT_VARIABLE}={named}: {folder} {lacks}; set it to the folder that holds "
            f"{file_name('llama')}, or unset it to use the package's own libraries"
        )
    raise LlamaError(
        f"llama.cpp's libraries are missing: {folder} {lacks}. "
        "Install a built package (`pip install llama-cpp-python`), build one in this source tree "
        f"(`nox -s build -- --backend cpu`), or set {ENVIRONMENT_VARIABLE} to a folder that holds them"
    )


def native(name: str) -> ctypes.CDLL:
    """Return a loaded library itself, such as ``llama``, for packages that bind more of it."""
    load()
    return _opened[name]


def libraries() -> tuple[str, ...]:
    """Return the paths of the mapped libraries that came from :func:`library_folder`, sorted."""
    load()
    # an installer may have put links there (uv --link-mode symlink): what is mapped is their target
    ours = {entry.resolve() for entry in _folder_in_use().iterdir()}
    return tuple(sorted(path for path in mapped_images() if Path(path).resolve() in ours))


def devices() -> tuple[Device, ...]:
    """Return what ggml can compute on, in ggml's order (GPUs first).

    A GPU that the wheel has no code for is left out.
    """
    lib = load()
    found = []
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        if device is None or device in _left_out:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        kind = lib.ggml_backend_dev_type(device)
        found.append(
            Device(
                name=_text(lib.ggml_backend_dev_name(device)),
                description=_text(lib.ggml_backend_dev_description(device)),
                kind=_DEVICE_TYPES[kind] if 0 <= kind < len(_DEVICE_TYPES) else str(kind),
                memory_free=free.value,
                memory_total=total.value,
            )
        )
    return tuple(found)


def cpu_variant() -> str | None:
    """Return the file name of the CPU variant that ggml chose for this machine.

    None where the libraries were built without CPU variants.
    """
    mapped = [path for path in libraries() if stem(path).startswith("ggml-cpu-")]
    if len(mapped) > 1:
        # musl's dlclose(3) unloads nothing: those that ggml has only asked for their score are there, too
        registered = load().ggml_backend_reg_by_name(b"CPU")
        chosen = image_of(registered) if registered else None
        mapped = [path for path in mapped if path == chosen]
    return Path(mapped[0]).name if mapped else None


def left_out() -> dict[int, Obstacle]:
    """Return ggml's handles of the GPUs that no kernel of the module runs on, and why.

    ggml lists them all the same, and ends the process at their first kernel.
    """
    load()
    return dict(_left_out)


def modules() -> dict[str, Path]:
    """Return the backend modules in the folder: ``ggml-cuda`` → its file; not the CPU's."""
    load()
    found = {
        stem(path.name): path for path in sorted(_folder_in_use().glob(f"*ggml-*{_MODULE_SUFFIX}"))
    }
    return {
        name: path
        for name, path in found.items()
        if name not in _LOAD_ORDER and not name.startswith("ggml-cpu")
    }


def module_failures() -> dict[str, str]:
    """Try the backend modules that are in the folder but not in use, and say why each is not.

    A module that loads now (its driver appeared since) is then in use, and not in the answer.

    Returns:
        File name → the loader's own words, such as ``libcuda.so.1: cannot open shared object file``.
    """
    lib = load()
    used = {Path(path).name for path in libraries()}
    failures = {}
    for path in modules().values():
        if path.name in used:
            continue
        failure = _load_module(lib, path)
        if failure is None:
            _leave_out(lib)
        else:
            failures[path.name] = failure
    return failures


def _load_module(lib: Functions, path: Path) -> str | None:
    """Load one module; return why it does not load, None where it does."""
    _log.clear()
    with _log.kept():
        loaded = lib.ggml_backend_load(os.fsencode(path))
        reasons = _log.complaints()
    if loaded is not None:
        return None
    # ggml puts its function and the path before the loader's words
    words = "; ".join(reasons)
    said = words.partition(f"failed to load {path}: ")[2].strip()
    if not said and sys.platform == "win32":
        from llama_cpp import _runtime  # noqa: PLC0415 - nothing that a CPU wheel needs

        said = _runtime.missing(path.parent, stem(path.name)) or ""
    return said or words or "ggml gave no reason"


def _leave_out(lib: Functions) -> None:
    from llama_cpp import _gpu_fit  # noqa: PLC0415 - nothing that a CPU wheel needs

    _left_out.update(_gpu_fit.unfit_devices(lib, _folder_in_use()))


def _folder_in_use() -> Path:
    return cast("Path", _folder)


def system_info() -> str:
    """Return llama.cpp's own line about the instruction sets and features in use."""
    return _text(load().llama_print_system_info())


def print_system_info() -> str:
    """Return what :func:`system_info` returns, as llama.cpp's function of this name does."""
    return system_info()


def version() -> str:
    """Return llama.cpp's own version."""
    return _text(load().llama_version())


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def file_name(name: str) -> str:
    """Return what this system calls a library: ``llama`` → ``libllama.so``."""
    return f"{_PREFIXES[0]}{name}{_SUFFIX}"


def find(folder: Path, name: str) -> Path | None:
    """Return the file of the library ``name`` in a folder; None where there is none."""
    for prefix in _PREFIXES:
        path = folder / f"{prefix}{name}{_SUFFIX}"
        if path.is_file():
            return path
    return None


def open_library(folder: Path, name: str) -> ctypes.CDLL:
    """Return a library of the folder by its plain name; one that is mapped already as it is.

    Raises:
        LlamaError: it is not there, or the loader refuses it.
    """
    path = find(folder, name)
    if path is None:
        raise LlamaError(f"{folder} has no {file_name(name)}; reinstall the package")
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise LlamaError(
            f"cannot load {path}: {error}; install the package built for this system "
            "(`python -m llama_cpp` on a machine where it works shows what it was built for)"
        ) from error


def _refuse_second_ggml(folder: Path) -> None:
    """Raise where another package has mapped its own ggml: symbols of the two would mix."""
    for path in mapped_images():
        if stem(path) == "ggml-base" and Path(path).resolve().parent != folder.resolve():
            raise LlamaError(
                f"another ggml is already loaded in this process: {path}; two copies share one "
                "registry by accident. Use only one package with its own ggml per process, or set "
                f"{ENVIRONMENT_VARIABLE} to that copy's folder if it holds the same llama.cpp"
            )


class _Bound:
    """llama.cpp's functions as attributes, each looked up in its own library at first use."""

    def __init__(self, folder: Path, opened: dict[str, ctypes.CDLL]) -> None:
        self._folder = folder
        self._opened = opened

    def __getattr__(self, name: str) -> Callable[..., object]:
        try:
            library, restype, argtypes = _abi.PROTOTYPES[name]
        except KeyError:
            raise AttributeError(f"llama.cpp has no function {name}") from None
        if library not in self._opened:
            with _lock:
                if library not in self._opened:
                    self._opened[library] = open_library(self._folder, library)
                    if library == "mtmd":
                        # it has a logger of its own, which writes to stderr as well
                        cast("Functions", self).mtmd_helper_log_set(_log_callback, None)
        try:
            # An item of a CDLL is a fresh function object, which nobody else can re-declare.
            function = self._opened[library][name]
        except AttributeError as error:
            raise LlamaError(
                f"{find(self._folder, library)} has no function {name}: it was built from another "
                "llama.cpp than this package expects; reinstall the package"
            ) from error
        function.restype = restype
        function.argtypes = argtypes
        self.__dict__[name] = function
        return cast("Callable[..., object]", function)


def _load() -> Functions:
    global _functions, _folder  # noqa: PLW0603 - libraries are process-wide, and so is this
    folder = library_folder()
    _refuse_second_ggml(folder)
    if sys.platform == "win32":
        # for what a library loads by name later; each of ours is loaded by its full path all the same
        with suppress(OSError):
            _kept.append(os.add_dll_directory(str(folder)))
    for name in _LOAD_ORDER:
        _opened[name] = open_library(folder, name)
    lib = cast("Functions", _Bound(folder, _opened))
    lib.llama_log_set(_log_callback, None)
    _folder = folder
    _load_backends(lib, folder)
    lib.llama_backend_init()
    atexit.register(_shut_down, lib)
    _functions = lib
    return lib


def has_driver(module: str) -> bool:
    """Return whether there is a driver for ``ggml-cuda`` or ``ggml-hip``, without starting it."""
    if module == "ggml-hip":
        return sys.platform == "win32" or _KERNEL_FUSION_DRIVER.exists()
    from llama_cpp import _cuda_driver  # noqa: PLC0415 - nothing that a CPU wheel needs

    return _cuda_driver.is_there()


def _load_backends(lib: Functions, folder: Path) -> None:
    module = next((name for name in _WITH_RUNTIME if find(folder, name) is not None), None)
    if module is None or not has_driver(module):
        lib.ggml_backend_load_all_from_path(os.fsencode(folder))
        return
    from llama_cpp import _runtime  # noqa: PLC0415 - nothing that a CPU needs

    _kept.extend(_runtime.prepare(folder, module))
    if module == "ggml-hip":
        path = cast("Path", find(folder, module))
        for _ in range(_MOST_LIBRARIES):
            failure = _load_module(lib, path)
            if failure is None or not _runtime.supply(failure):
                break
    lib.ggml_backend_load_all_from_path(os.fsencode(folder))
    _leave_out(lib)


def _shut_down(lib: Functions) -> None:
    """Free what is still open, then take the log callback out, while Python still runs."""
    if _handle.close_all():
        # a NULL callback makes llama.cpp write to stderr again
        with suppress(Exception):
            lib.llama_log_set(_abi.ggml_log_callback(), None)
            if "mtmd" in _opened:
                lib.mtmd_helper_log_set(_abi.ggml_log_callback(), None)
