"""A machine with a GPU wheel on it, made of stand-ins: the driver, the runtime and the module.

They are small shared libraries, compiled once: a driver that answers what its environment says; the
runtime, empty but for its names; and a module that needs both, lists the driver's GPUs as ggml's
devices, and has no memory to give.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DRIVER: Final = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int number(const char *name, int otherwise) {
  const char *text = getenv(name); return text ? atoi(text) : otherwise;
}
static int capability(int device) { /* FAKE_GPUS="61 90" */
  const char *text = getenv("FAKE_GPUS"); char *next; int found = 0;
  if (!text) text = "90";
  for (int i = 0; i <= device; i++, text = next) found = (int)strtol(text, &next, 10);
  return found;
}
int cuDriverGetVersion(int *version) { *version = number("FAKE_CUDA", 13000); return 0; }
int cuInit(unsigned flags) { return number("FAKE_INIT", 0); }
int cuGetErrorString(int status, const char **words) {
  *words = status == 100 ? "no CUDA-capable device is detected" : "unknown error"; return 0;
}
int cuDeviceGetCount(int *count) {
  const char *hidden = getenv("CUDA_VISIBLE_DEVICES"), *text = getenv("FAKE_GPUS");
  *count = 1;
  if (text) for (const char *at = text; *at; at++) *count += *at == ' ';
  if (number("FAKE_INIT", 0) || (hidden && !strcmp(hidden, "-1"))) *count = 0;
  return 0;
}
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
  snprintf(name, size, "NVIDIA Stand-in %d", capability(device)); return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  int found = capability(device);
  *value = attribute == 75 ? found / 10 : found % 10; return 0;
}
"""

# the parts of ggml-backend-impl.h (GGML_BACKEND_API_VERSION 2) that loading a model touches
MODULE: Final = r"""
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int cuDriverGetVersion(int *); int cuDeviceGetCount(int *); int cuDeviceGetName(char *, int, int);
int cudart(void); int cublas(void);
void ggml_log_internal(int level, const char *format, ...);
typedef struct device device;
typedef struct buft { const char *(*name)(struct buft *); void *(*alloc)(struct buft *, size_t);
  size_t (*alignment)(struct buft *); void *max, *size; bool (*host)(struct buft *);
  device *owner; void *context; } buft;
typedef struct props { const char *name, *description; size_t free, total; int type; const char *id;
  bool async, host_buffer, from_pointer, events; } props;
struct device { const char *(*name)(device *), *(*description)(device *);
  void (*memory)(device *, size_t *, size_t *); int (*type)(device *); void (*props)(device *, props *);
  void *(*backend)(device *, const char *); buft *(*buft)(device *); void *host, *pointer;
  bool (*op)(device *, const void *), (*takes)(device *, buft *), (*offload)(device *, const void *);
  void *event[3]; void *reg; void *context; };
typedef struct reg { int version; const char *(*name)(struct reg *); size_t (*count)(struct reg *);
  device *(*get)(struct reg *, size_t); void *(*proc)(struct reg *, const char *); void *context; } reg;
static device devices[4]; static buft bufts[4]; static char names[4][8], texts[4][64];
static int number(device *self) { return (int)(self - devices); }
static const char *name(device *self) { return names[number(self)]; }
static const char *text(device *self) { return texts[number(self)]; }
static void memory(device *self, size_t *free, size_t *total) { *free = 3 << 20; *total = 8 << 20; }
static int type(device *self) { return 1; }
static void get_props(device *self, props *all) {
  memset(all, 0, sizeof *all);
  all->name = name(self); all->description = text(self); all->type = 1;
  memory(self, &all->free, &all->total);
}
static void *backend(device *self, const char *params) { return NULL; }
static buft *get_buft(device *self) { return &bufts[number(self)]; }
static bool yes(device *self, const void *op) { return true; }
static bool takes(device *self, buft *kind) { return kind->owner == self; }
static bool no(device *self, const void *op) { return false; }
static const char *buft_name(buft *self) { return name(self->owner); }
static size_t alignment(buft *self) { return 128; }
static bool not_host(buft *self) { return false; }
static void *alloc(buft *self, size_t size) {
  ggml_log_internal(4, "%s: allocating %.2f MiB on device %d: cudaMalloc failed: out of memory\n",
                    "ggml_backend_cuda_buffer_type_alloc_buffer", size / 1048576.0, number(self->owner));
  return NULL;
}
static const char *reg_name(reg *self) { return "CUDA"; }
static size_t count(reg *self) {
  int found = 0, version = 0;
  cuDriverGetVersion(&version); cuDeviceGetCount(&found);
  return version < NEEDS * 1000 ? 0 : (size_t)found;
}
static device *get(reg *self, size_t index) { return &devices[index]; }
static void *proc(reg *self, const char *wanted) { return NULL; }
static reg own = {2, reg_name, count, get, proc, NULL};
void *ggml_backend_init(void) {
  cudart(); cublas();
  for (int i = 0; i < 4; i++) {
    snprintf(names[i], sizeof names[i], "CUDA%d", i);
    cuDeviceGetName(texts[i], sizeof texts[i], i);
    bufts[i] = (buft){buft_name, alloc, alignment, NULL, NULL, not_host, &devices[i], NULL};
    devices[i] = (device){name, text, memory, type, get_props, backend, get_buft, NULL, NULL,
                          yes, takes, no, {NULL}, &own, NULL};
  }
  return &own;
}
"""


def compiler() -> list[str]:
    """Return the C compiler: cc, or the one that comes with the development tools."""
    found = shutil.which("cc")
    return [found] if found else [sys.executable, "-m", "ziglang", "cc"]


def compile_library(file: Path, source: str, *options: str | Path) -> Path:
    """Compile a shared library whose SONAME is its file name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = file.with_name(f"{file.name}.c")
    text.write_text(source)
    subprocess.run(
        [*compiler(), "-shared", "-fPIC", "-w", f"-Wl,-soname,{file.name}", "-o", file, text, *options],
        check=True,
        timeout=120,
    )  # fmt: skip
    text.unlink()
    return file


@dataclass(frozen=True)
class Parts:
    """The stand-ins, compiled."""

    driver: Path
    """``libcuda.so.1``."""
    runtime: Path
    """A folder with the libraries of CUDA 12, 13 and 99."""
    modules: dict[int, Path]
    """``libggml-cuda.so``, by CUDA's major version that it needs."""


def compile_parts(folder: Path, libraries: Path) -> Parts:
    """Compile the stand-ins.

    Args:
        folder: for what is made.
        libraries: llama.cpp's, which the module is linked with.
    """
    driver = compile_library(folder / "driver/libcuda.so.1", DRIVER)
    runtime = folder / "runtime"
    for major in (12, *MODULES):
        lt = compile_library(runtime / f"libcublasLt.so.{major}", "int lt(void) { return 0; }")
        compile_library(
            runtime / f"libcublas.so.{major}",
            "int lt(void); int cublas(void) { return lt(); }",
            *(lt, "-Wl,-rpath,$ORIGIN"),
        )
        compile_library(runtime / f"libcudart.so.{major}", "int cudart(void) { return 0; }")
    modules = {
        major: compile_library(
            folder / f"{major}/libggml-cuda.so",
            MODULE.replace("NEEDS", str(major)),
            *(runtime / f"libcudart.so.{major}", runtime / f"libcublas.so.{major}", driver),
            *(libraries / "libggml-base.so", "-Wl,--allow-shlib-undefined"),
            # as the real module has it
            f"-Wl,--enable-new-dtags,-rpath,$ORIGIN:$ORIGIN/../../nvidia/cu{major}/lib",
        )
        for major in MODULES
    }
    return Parts(driver=driver, runtime=runtime, modules=modules)


# 99 is on no machine: the loader finds none but what a test puts there
MODULES: Final = (13, 99)
CUBLAS: Final = ("libcublasLt.so", "libcublas.so")
CUDART: Final = ("libcudart.so",)

BUILD_INFO: Final = {
    "version": "0.3.100",
    "llama_cpp_commit": None,
    "llama_cpp_version": None,
    "compiler": "a stand-in",
    "defines": {"GGML_CUDA": "ON"},
    "gpu_architectures": ["75", "80", "86", "89", "90", "120a", "120-virtual"],
    "prebuilt": False,
}


@dataclass
class Machine:
    """A folder that stands for a machine: site-packages, other folders, a driver or none."""

    folder: Path
    parts: Parts
    libraries: Path
    major: int = 13
    """CUDA's, that the wheel is built with."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def site(self) -> Path:
        """The site-packages of the wheel."""
        return self.folder / "site"

    def install(self, *, module: bool = True, **info: object) -> None:
        """Put the libraries, the module and the record of the build into site-packages."""
        lib = self.site / "llama_cpp/lib"
        lib.mkdir(parents=True)
        for file in self.libraries.glob("*.so"):
            if "cpu" in file.name or file.name in {"libggml-base.so", "libggml.so", "libllama.so"}:
                (lib / file.name).symlink_to(file)
        self.environment["LLAMA_CPP_LIB_PATH"] = str(lib)
        self.put_wheel(self.site, module=module, **info)

    def put_wheel(self, site: Path, *, module: bool = True, **info: object) -> None:
        """Put the module and its record of the build to the libraries in a site-packages."""
        package = site / "llama_cpp"
        if module:
            shutil.copy(self.parts.modules[self.major], package / "lib")
        info = {"backend": f"cu{self.major}0", "toolkit": f"CUDA {self.major}.0.88", **info}
        (package / "_build_info.json").write_text(json.dumps({**BUILD_INFO, **info}))

    def put_driver(self, **answers: object) -> None:
        """Put the driver where the loader finds it; answers are its environment."""
        self.environment["LD_LIBRARY_PATH"] = str(self.parts.driver.parent)
        answers = {"FAKE_CUDA": self.major * 1000, **answers}
        self.environment.update({name: str(value) for name, value in answers.items()})

    def put_runtime(self, folder: Path, *, major: int | None = None) -> None:
        """Put the runtime's wheels into a site-packages, as pip does."""
        major = major or self.major
        for part, names in (("cuda_runtime", CUDART), ("cublas", CUBLAS)):
            place = folder / (f"nvidia/cu{major}/lib" if major >= 13 else f"nvidia/{part}/lib")
            self._put(place, names, major)
            suffix = "" if major >= 13 else f"_cu{major}"
            info = folder / f"nvidia_{part}{suffix}-{major}.0.1.dist-info"
            info.mkdir()
            name = f"nvidia-{part}{suffix}".replace("_", "-")
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {major}.0.1\n"
            )

    def put_libraries(self, place: Path) -> None:
        """Put the libraries of the runtime into a folder."""
        self._put(place, (*CUDART, *CUBLAS), self.major)

    def _put(self, place: Path, names: tuple[str, ...], major: int) -> None:
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(self.parts.runtime / f"{name}.{major}", place)

    def variables(self) -> dict[str, str]:
        """Return the environment of a process on this machine."""
        theirs = {"CUDA_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "ROCM_PATH", "HIP_PATH"}
        kept = {name: value for name, value in os.environ.items() if name not in theirs}
        return {**kept, **self.environment}
