"""cmake/finalize.c: a module that zig linked can be unloaded without a crash at the process's end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ci import paths, zig
from ci.host import host_platform
from ci.table import load_table

ROOT = Path(__file__).resolve().parents[2]

# what the compiler makes of a static object with a destructor
SOURCE = """
extern void * __dso_handle __attribute__((visibility("hidden")));
extern int __cxa_atexit(void (*)(void *), void *, void *);
extern int puts(const char *);
static void destroy(void * unused) { (void) unused; puts("destroyed"); }
int start(void) { return __cxa_atexit(destroy, 0, &__dso_handle); }
"""
UNLOAD = """
import ctypes, sys, _ctypes
library = ctypes.CDLL(sys.argv[1])
assert library.start() == 0
_ctypes.dlclose(library._handle)
sys.stdout.flush()
"""


@pytest.mark.build
@pytest.mark.skipif(sys.platform != "linux", reason="zig links modules on Linux alone")
@pytest.mark.parametrize("finalized", [True, False], ids=["with", "without"])
def test_exit_handlers_run_when_a_library_is_unloaded(tmp_path: Path, finalized: bool) -> None:
    target = host_platform(load_table()).zig_target
    assert target is not None
    zig.write_scripts(target, tmp_path / "zig", {})
    source = tmp_path / "static.c"
    source.write_text(SOURCE, encoding="utf-8")
    sources = [source, *([ROOT / "cmake" / "finalize.c"] if finalized else [])]
    library = tmp_path / "libstatic.so"
    subprocess.run(
        [tmp_path / "zig" / "cc", "-shared", "-fPIC", "-O2", "-s", "-o", library, *sources],
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(paths.cache_folder() / "zig")},
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", UNLOAD, library], capture_output=True, text=True, check=False
    )
    # the day that zig links this itself, finalize.c can go
    assert (done.returncode == 0, done.stdout) == (
        (True, "destroyed\n") if finalized else (False, "")
    )
