"""The doctor and select for real: installed, under other Pythons, with stand-ins for what is missing here.

Stand-ins are programs on PATH that print what nvidia-smi, rocminfo and nvcc print, and small shared
libraries with the entry points of NVML and Vulkan, compiled by gcc.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import pytest

from ci.interpreters import find_interpreters
from tests.gpu_machine import Machine, Parts, compile_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
SITE: Final = "http://127.0.0.1:8000"
KEPT: Final = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "HOME", "LANG")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-ins are Linux's")

NVIDIA_SMI = """\
#!/bin/sh
case "$*" in
  *compute_cap*) [ -n "$OLD_DRIVER" ] && { echo 'Field "compute_cap" is not a valid field to query.'; exit 2; }
    echo "NVIDIA H100 80GB HBM3, 550.54.15, 81559, 81007, 9.0" ;;
  *query-gpu*) echo "NVIDIA H100 80GB HBM3, 470.57.02, 81559, 81007" ;;
  *) [ -n "$HANG" ] && sleep 100
    [ -n "$MISMATCH" ] && { echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18; }
    cat <<'END'
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
END
esac
"""

FAKE_NVML = r"""
#include <string.h>
#include <stdlib.h>
typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInit_v2(void) { if (getenv("NVML_CRASH")) abort(); return getenv("NVML_FAIL") ? 18 : 0; }
const char *nvmlErrorString(int status) {
  return status == 18 ? "Driver/library version mismatch" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.86.15", size); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12080; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  *device = (void *)(unsigned long)(index + 1); return 0;
}
int nvmlDeviceGetName(void *device, char *name, unsigned size) {
  strncpy(name, device == (void *)1 ? "NVIDIA GeForce RTX 5090" : "NVIDIA GB10", size); return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  if (device != (void *)1) return 3;
  memory->total = 34359738368ULL; memory->free = 33285996544ULL; memory->used = 1073741824ULL; return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  *major = 12; *minor = device == (void *)1 ? 0 : 1; return 0;
}
"""

FAKE_CUDA = "int cuDriverGetVersion(int *version) { *version = 12080; return 0; }\n"

FAKE_VULKAN = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
int vkCreateInstance(void *info, void *allocator, void **instance) {
  if (getenv("VULKAN_CRASH")) abort();
  *instance = (void *)1; return getenv("VULKAN_FAIL") ? -9 : 0;
}
int vkEnumeratePhysicalDevices(void *instance, uint32_t *count, void **devices) {
  if (devices) { devices[0] = (void *)1; devices[1] = (void *)2; }
  *count = 2; return 0;
}
struct properties { uint32_t api, driver, vendor, device, type; char name[256]; };
void vkGetPhysicalDeviceProperties(void *device, struct properties *out) {
  out->api = (1u << 22) | (3u << 12); out->type = device == (void *)1 ? 2 : 4;
  strcpy(out->name, device == (void *)1 ? "Intel(R) Arc(tm) A770" : "llvmpipe");
}
struct heap { uint64_t size; uint32_t flags; };
struct memory { uint32_t types; uint32_t type[64]; uint32_t heaps; struct heap heap[16]; };
void vkGetPhysicalDeviceMemoryProperties(void *device, struct memory *out) {
  out->heaps = 2; out->heap[0].size = 17179869184ULL; out->heap[0].flags = device == (void *)1;
  out->heap[1].size = 68719476736ULL;
}
"""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment with this package in it, as pip leaves it."""

    python: Path
    site: Path

    def run(
        self,
        *arguments: str | Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: int | TextIO = subprocess.PIPE,
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return subprocess.run(
            [str(self.python), "-m", "llama_cpp", *map(str, arguments)],
            cwd=cwd,
            env={**kept, **(env or {})},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )

    def doctor(self, cwd: Path, env: Mapping[str, str] | None = None) -> dict[str, Any]:
        done = self.run("doctor", "--json", cwd=cwd, env=env)
        assert done.stderr == ""
        record: dict[str, Any] = json.loads(done.stdout)
        assert record["schema"] == 1
        assert record["fits"] is (done.returncode == 0)
        return record


def ids(record: dict[str, Any], *levels: str) -> list[str]:
    return [each["id"] for each in record["findings"] if each["level"] in (levels or ("error",))]


def install(wheel: Path, folder: Path, python: str | None = None) -> Installed:
    """Unpack the finished wheel into a fresh environment, with this checkout's modules over it."""
    if python is None:
        venv.create(folder, with_pip=False)
    else:
        subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shutil.rmtree(site / "llama_cpp/_doctor", ignore_errors=True)
    shutil.copytree(
        ROOT / "llama_cpp",
        site / "llama_cpp",
        ignore=shutil.ignore_patterns("__pycache__", "lib", "_build_info.json"),
        dirs_exist_ok=True,
    )
    (info,) = site.glob("llama_cpp_python-*.dist-info")
    (info / "INSTALLER").write_text("pip\n")
    return Installed(python=folder / "bin" / "python", site=site)


@pytest.fixture(scope="module")
def cpu(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("cpu") / "venv")


@pytest.fixture
def fresh(wheel: Path, tmp_path: Path) -> Installed:
    """One that the test may break."""
    return install(wheel, tmp_path / "venv")


def put_program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(text)
    program.chmod(0o755)
    return program


def on_path(folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@functools.cache
def compiler() -> str:
    found = shutil.which("gcc")
    if found is None:
        pytest.skip("there is no gcc (Debian: apt install gcc)")
    return found


def compile_library(folder: Path, name: str, source: str) -> dict[str, str]:
    """Compile a stand-in for a driver's library; return what makes the loader find it."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.c"
    file.write_text(source)
    subprocess.run(
        [compiler(), "-shared", "-fPIC", "-w", "-o", folder / name, file], check=True, timeout=60
    )
    return {"LD_LIBRARY_PATH": str(folder)}


@pytest.mark.build
def test_a_machine_without_a_gpu_is_well(cpu: Installed, tmp_path: Path) -> None:
    record = cpu.doctor(tmp_path)
    assert ids(record, "error", "warning") == []
    assert {"wheel-fits", "libraries-load"} <= set(ids(record, "ok"))
    assert record["installation"]["build"]["backend"] == "cpu"
    assert record["installation"]["distribution"]["installer"] == "pip"
    assert record["system"]["libc"] in {"glibc", "musl"}
    assert record["trial"]["cpu_variant"].startswith("libggml-cpu-")
    assert record["project"]["tool"] == "pip"


@pytest.mark.build
def test_the_text_says_what_is_installed(cpu: Installed, tmp_path: Path) -> None:
    done = cpu.run("doctor", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "System",
        "Accelerators",
        "Installed",
        "Source build (only where you compile it yourself)",
        "Findings",
        "Nothing is to be mended.",
    ]
    assert any(line.startswith("  version:       0.3.100+cpu, installed by pip") for line in lines)
    assert any(line.startswith("  options:       GGML_BACKEND_DL=ON ") for line in lines)
    assert any(line.startswith("  NVIDIA driver: ") for line in lines)


@pytest.mark.build
@pytest.mark.parametrize("verb", ["info", "doctor", "select"])
def test_a_full_disk_is_a_message(cpu: Installed, tmp_path: Path, verb: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = cpu.run(verb, cwd=tmp_path, stdout=full)
    assert done.returncode == 3
    assert done.stderr == (
        "error: the answer cannot be written: [Errno 28] No space left on device; send it somewhere "
        "else\n"
    )


@pytest.mark.build
@pytest.mark.parametrize("verb", ["info", "doctor", "select"])
def test_a_reader_that_has_seen_enough_is_no_error(
    cpu: Installed, tmp_path: Path, verb: str
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = cpu.run(verb, cwd=tmp_path, stdout=closed)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.build
def test_info_is_what_it_was(cpu: Installed, tmp_path: Path) -> None:
    plain, verb = cpu.run(cwd=tmp_path), cpu.run("info", cwd=tmp_path)
    assert plain.returncode == verb.returncode == 0
    assert plain.stdout == verb.stdout
    assert plain.stdout.startswith("version: 0.3.100+cpu\n")
    assert json.loads(cpu.run("--json", cwd=tmp_path).stdout)["version"] == "0.3.100+cpu"


@pytest.mark.build
def test_nvidia_smi_is_asked_where_nvml_is_not_there(cpu: Installed, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "nvidia-smi", NVIDIA_SMI)
    record = cpu.doctor(tmp_path, on_path(tmp_path / "bin"))
    nvidia = record["accelerators"]["nvidia"]
    assert (nvidia["source"], nvidia["driver"], nvidia["cuda"]) == (
        "nvidia-smi",
        "550.54.15",
        [12, 4],
    )
    assert nvidia["gpus"] == [
        {
            "name": "NVIDIA H100 80GB HBM3",
            "compute": [9, 0],
            "memory_total": 81559 << 20,
            "memory_free": 81007 << 20,
        }
    ]
    assert ids(record, "warning") == ["gpu-unused"]
    (unused,) = [each for each in record["findings"] if each["id"] == "gpu-unused"]
    assert unused["steps"][0]["text"].endswith('whl/cu124/ "llama-cpp-python==0.3.100+cu124"')


@pytest.mark.build
def test_an_old_driver_does_not_tell_the_compute_capability(cpu: Installed, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "nvidia-smi", NVIDIA_SMI)
    record = cpu.doctor(tmp_path, {**on_path(tmp_path / "bin"), "OLD_DRIVER": "1"})
    (gpu,) = record["accelerators"]["nvidia"]["gpus"]
    assert (gpu["name"], gpu["compute"]) == ("NVIDIA H100 80GB HBM3", None)


@pytest.mark.build
@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("MISMATCH", "nvidia-smi: Failed to initialize NVML: Driver/library version mismatch"),
        ("HANG", "nvidia-smi: nvidia-smi gave no answer in 10 s"),
    ],
)
def test_a_broken_nvidia_smi(cpu: Installed, tmp_path: Path, variable: str, problem: str) -> None:
    put_program(tmp_path / "bin", "nvidia-smi", NVIDIA_SMI)
    record = cpu.doctor(tmp_path, {**on_path(tmp_path / "bin"), variable: "1"})
    assert record["accelerators"]["nvidia"]["problem"] == problem
    assert ids(record, "error", "warning") == []
    assert "gpu-out-of-reach" in ids(record, "note")


@pytest.mark.build
def test_nvml(cpu: Installed, tmp_path: Path) -> None:
    env = compile_library(tmp_path / "lib", "libnvidia-ml.so.1", FAKE_NVML)
    compile_library(tmp_path / "lib", "libcuda.so.1", FAKE_CUDA)
    record = cpu.doctor(tmp_path, env)
    nvidia = record["accelerators"]["nvidia"]
    assert (nvidia["source"], nvidia["driver"], nvidia["cuda"], nvidia["libcuda_problem"]) == (
        "NVML",
        "570.86.15",
        [12, 8],
        None,
    )
    assert [(gpu["name"], gpu["compute"], gpu["memory_total"]) for gpu in nvidia["gpus"]] == [
        ("NVIDIA GeForce RTX 5090", [12, 0], 32 << 30),
        ("NVIDIA GB10", [12, 1], 0),
    ]
    assert ids(record, "warning") == ["gpu-unused"]
    shown = cpu.run("doctor", cwd=tmp_path, env=env)
    assert shown.returncode == 1
    assert "  GPU:           NVIDIA GeForce RTX 5090, compute 12.0, 32.0 GiB\n" in shown.stdout
    assert "  GPU code:      -DCMAKE_CUDA_ARCHITECTURES=120a;121a\n" in shown.stdout


@pytest.mark.build
@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("NVML_FAIL", "Driver/library version mismatch"),
        ("NVML_CRASH", "python was killed by SIGABRT"),
    ],
)
def test_a_broken_nvml(cpu: Installed, tmp_path: Path, variable: str, problem: str) -> None:
    env = compile_library(tmp_path / "lib", "libnvidia-ml.so.1", FAKE_NVML)
    record = cpu.doctor(tmp_path, {**env, variable: "1"})
    assert record["accelerators"]["nvidia"]["problem"] == problem
    assert "libraries-load" in ids(record, "ok")
    # nvidia-smi answers all the same
    put_program(tmp_path / "bin", "nvidia-smi", NVIDIA_SMI)
    again = cpu.doctor(tmp_path, {**env, variable: "1", **on_path(tmp_path / "bin")})
    assert again["accelerators"]["nvidia"]["source"] == "nvidia-smi"


@pytest.mark.build
def test_the_driver_without_nvml(cpu: Installed, tmp_path: Path) -> None:
    env = compile_library(tmp_path / "lib", "libcuda.so.1", FAKE_CUDA)
    nvidia = cpu.doctor(tmp_path, env)["accelerators"]["nvidia"]
    assert (nvidia["source"], nvidia["cuda"], nvidia["problem"]) == ("libcuda", [12, 8], None)


@pytest.mark.build
def test_vulkan(cpu: Installed, tmp_path: Path) -> None:
    env = compile_library(tmp_path / "lib", "libvulkan.so.1", FAKE_VULKAN)
    record = cpu.doctor(tmp_path, env)
    assert record["accelerators"]["vulkan"] == {
        "loader": "libvulkan.so.1",
        "devices": [
            {
                "name": "Intel(R) Arc(tm) A770",
                "kind": "discrete",
                "api": "1.3",
                "memory_total": 16 << 30,
            },
            {"name": "llvmpipe", "kind": "cpu", "api": "1.3", "memory_total": 0},
        ],
        "problem": None,
    }
    selected = cpu.run("select", "--json", cwd=tmp_path, env=env)
    assert json.loads(selected.stdout)["backend"] == "vulkan"


@pytest.mark.build
@pytest.mark.parametrize(
    ("variable", "problem"),
    [
        ("VULKAN_FAIL", "vkCreateInstance gave -9: there is no Vulkan driver"),
        ("VULKAN_CRASH", "python was killed by SIGABRT"),
    ],
)
def test_a_broken_vulkan(cpu: Installed, tmp_path: Path, variable: str, problem: str) -> None:
    env = compile_library(tmp_path / "lib", "libvulkan.so.1", FAKE_VULKAN)
    record = cpu.doctor(tmp_path, {**env, variable: "1"})
    assert record["accelerators"]["vulkan"]["problem"] == problem
    assert "libraries-load" in ids(record, "ok")


@pytest.mark.build
def test_rocm_and_nvcc_stand_ins(cpu: Installed, tmp_path: Path) -> None:
    rocm = tmp_path / "rocm"
    (rocm / "lib").mkdir(parents=True)
    (rocm / ".info").mkdir()
    (rocm / ".info/version").write_text("7.0.2-56\n")
    (rocm / "lib/libamdhip64.so.7").touch()
    put_program(
        tmp_path / "bin",
        "rocminfo",
        "#!/bin/sh\nprintf 'Agent 1  \\n*******  \\n  Name:                    gfx1100  \\n"
        "  Marketing Name:          AMD Radeon RX 7900 XTX  \\n  Device Type:             GPU  \\n'\n",
    )
    cuda = tmp_path / "cuda"
    (cuda / "include/crt").mkdir(parents=True)
    (cuda / "include/cuda.h").write_text("#define CUDA_VERSION 12020\n")
    (cuda / "include/crt/host_config.h").write_text("#if __GNUC__ > 4\n")
    put_program(
        cuda / "bin", "nvcc", "#!/bin/sh\necho 'Cuda compilation tools, release 12.2, V12.2.140'\n"
    )
    env = {**on_path(tmp_path / "bin"), "ROCM_PATH": str(rocm), "CUDACXX": str(cuda / "bin/nvcc")}
    record = cpu.doctor(tmp_path, env)
    assert record["accelerators"]["rocm"] == {
        "version": "7.0.2",
        "folder": str(rocm),
        "gpus": [{"name": "AMD Radeon RX 7900 XTX", "architecture": "gfx1100"}],
    }
    assert record["accelerators"]["toolkits"][0]["version"] == "12.2"
    assert record["build_tools"]["nvcc"] == {"path": str(cuda / "bin/nvcc"), "version": "12.2"}
    compilers = record["build_tools"]["compiler"]
    assert ("build-host-compiler" in ids(record, "note")) == (
        compilers is not None and compilers["kind"] == "gcc"
    )


@pytest.mark.build
def test_missing_and_broken_libraries(fresh: Installed, tmp_path: Path) -> None:
    library = fresh.site / "llama_cpp/lib/libllama.so"
    library.write_bytes(b"not a library")
    record = fresh.doctor(tmp_path)
    assert ids(record) == ["libraries-broken"]
    assert record["system"]["python"].startswith("CPython 3.")
    library.unlink()
    record = fresh.doctor(tmp_path)
    assert ids(record) == ["libraries-missing"]
    (missing,) = [each for each in record["findings"] if each["id"] == "libraries-missing"]
    assert missing["steps"][0]["text"] == "pip uninstall -y llama-cpp-python"


@pytest.mark.build
def test_a_library_that_crashes_does_not_take_the_doctor_along(
    fresh: Installed, tmp_path: Path
) -> None:
    crash = "#include <stdlib.h>\n__attribute__((constructor)) void die(void) { abort(); }\n"
    compile_library(tmp_path / "lib", "libllama.so", crash)
    shutil.copy(tmp_path / "lib/libllama.so", fresh.site / "llama_cpp/lib/libllama.so")
    record = fresh.doctor(tmp_path)
    assert ids(record) == ["libraries-crash"]
    assert record["trial"]["problem"] == "python was killed by SIGABRT"


@pytest.mark.build
def test_a_gpu_module_that_does_not_load_names_the_package(
    fresh: Installed, tmp_path: Path
) -> None:
    lib = fresh.site / "llama_cpp/lib"
    compile_library(tmp_path / "lib", "libcublas.so.12", "int cublas(void) { return 0; }\n")
    source = tmp_path / "module.c"
    source.write_text("int cublas(void); int ggml_backend_init(void) { return cublas(); }\n")
    (tmp_path / "lib/libcublas.so").symlink_to(tmp_path / "lib/libcublas.so.12")
    subprocess.run(
        [compiler(), "-shared", "-fPIC", "-o", lib / "libggml-cuda.so", source,
         "-L", tmp_path / "lib", "-l:libcublas.so.12"],
        check=True,
    )  # fmt: skip
    (info,) = fresh.site.glob("*.dist-info")
    info.rename(info.with_name("llama_cpp_python-0.3.100+cu128.dist-info"))
    metadata = fresh.site / "llama_cpp_python-0.3.100+cu128.dist-info/METADATA"
    metadata.write_text(metadata.read_text().replace("0.3.100+cpu", "0.3.100+cu128"))
    record_file = fresh.site / "llama_cpp/_build_info.json"
    build = json.loads(record_file.read_text())
    record_file.write_text(json.dumps({**build, "backend": "cu128", "toolkit": "CUDA 12.8"}))
    record = fresh.doctor(tmp_path)
    assert ids(record) == ["driver-missing", "module-not-loaded"]
    (finding,) = [each for each in record["findings"] if each["id"] == "module-not-loaded"]
    assert "libcublas.so.12: cannot open shared object file" in finding["message"]
    packages = '"nvidia-cuda-runtime-cu12" "nvidia-cublas-cu12"'
    assert finding["steps"] == [
        {"kind": "command", "text": f"pip install {packages}", "path": None}
    ]


@pytest.mark.build
def test_the_label_and_the_build_disagree(fresh: Installed, tmp_path: Path) -> None:
    record_file = fresh.site / "llama_cpp/_build_info.json"
    build = json.loads(record_file.read_text())
    record_file.write_text(json.dumps({**build, "backend": "vulkan"}))
    assert "label-mismatch" in ids(fresh.doctor(tmp_path))
    record_file.write_text("{}")
    assert ids(fresh.doctor(tmp_path)) == ["build-info-damaged"] * 1 + ["libraries-broken"] * 1


@pytest.mark.build
def test_a_stale_source_build(fresh: Installed, tmp_path: Path) -> None:
    record_file = fresh.site / "llama_cpp/_build_info.json"
    build = json.loads(record_file.read_text())
    record_file.write_text(json.dumps({**build, "backend": "source"}))
    asked = fresh.doctor(tmp_path, {"CMAKE_ARGS": "-DGGML_CUDA=on"})
    assert "stale-build" in ids(asked, "warning")
    same = fresh.doctor(tmp_path, {"CMAKE_ARGS": "-DGGML_NATIVE=0"})
    assert "stale-build" not in ids(same, "warning")


@pytest.mark.build
def test_a_checkout_in_the_current_folder_shadows(fresh: Installed, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(
        ROOT / "llama_cpp",
        checkout / "llama_cpp",
        ignore=shutil.ignore_patterns("lib", "__pycache__"),
    )
    for name in ("pyproject.toml", "CMakeLists.txt"):
        (checkout / name).touch()
    record = fresh.doctor(checkout)
    assert ids(record, "warning") == ["checkout-shadows"]
    assert record["installation"]["package"] == str(checkout / "llama_cpp")
    assert record["installation"]["others"][0]["folder"] == str(fresh.site)
    assert ids(fresh.doctor(tmp_path), "warning") == []


@pytest.mark.build
def test_leftovers_and_strangers_in_the_same_folder(fresh: Installed, tmp_path: Path) -> None:
    old = fresh.site / "llama_cpp_python-0.3.4.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: 0.3.4\n")
    other = fresh.site / "llama_cpp_python_cuda-0.2.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: llama-cpp-python-cuda\nVersion: 0.2.9\n"
    )
    (other / "RECORD").write_text("llama_cpp/__init__.py,,\n")
    record = fresh.doctor(tmp_path)
    assert "several-copies" in ids(record, "warning") or "version-mismatch" in ids(record)
    assert "foreign-files" in ids(record)
    assert record["installation"]["foreign"] == ["llama-cpp-python-cuda 0.2.9"]


@pytest.mark.build
def test_half_replaced(fresh: Installed, tmp_path: Path) -> None:
    (fresh.site / "llama_cpp/_version.py").write_text('__version__ = "0.3.99"\n')
    assert ids(fresh.doctor(tmp_path)) == ["version-mismatch"]


@pytest.mark.build
def test_a_model_that_the_libraries_know(cpu: Installed, tiny: Path, tmp_path: Path) -> None:
    done = cpu.run("doctor", "--model", tiny / "llama-f32.gguf", cwd=tmp_path)
    assert done.returncode == 0
    assert "  ok:       model-known: llama-f32.gguf is a llama: this llama.cpp (" in done.stdout
    wrong = cpu.run("doctor", "--model", tmp_path / "none.gguf", cwd=tmp_path)
    assert wrong.returncode == 1
    assert f"model-unreadable: model file {tmp_path / 'none.gguf'} does not exist" in wrong.stdout


@pytest.mark.build
@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_other_pythons(wheel: Path, tmp_path: Path, version: str) -> None:
    found = find_interpreters((version,))
    if not found:
        pytest.skip(f"there is no Python {version}")
    there = install(wheel, tmp_path / "venv", str(found[0].path))
    record = there.doctor(tmp_path)
    assert ids(record, "error", "warning") == []
    assert record["system"]["python"].startswith(f"CPython {version}.")
    assert there.run("select", "--url", cwd=tmp_path).stdout.endswith("/whl/cpu/\n")


# ---- select -------------------------------------------------------------------------------------


@pytest.mark.build
def test_select(cpu: Installed, tmp_path: Path) -> None:
    done = cpu.run("select", "--index", SITE, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "cpu: no GPU that a wheel could use was found",
        f"index: {SITE}/whl/cpu/",
        "",
        "With pip (pip installed this package):",
        '  pip install --index-url http://127.0.0.1:8000/whl/cpu/ "llama-cpp-python==0.3.100+cpu"',
    ]


@pytest.mark.build
def test_select_for_a_uv_project_with_a_gpu(cpu: Installed, tmp_path: Path) -> None:
    put_program(tmp_path / "bin", "nvidia-smi", NVIDIA_SMI)
    (tmp_path / "uv.lock").touch()
    env = {**on_path(tmp_path / "bin"), "LLAMA_CPP_INDEX_URL": "http://127.0.0.1:8000/"}
    done = cpu.run("select", cwd=tmp_path, env=env)
    assert done.stdout.startswith(
        "cu124: NVIDIA H100 80GB HBM3: driver 550.54.15 speaks CUDA 12.4; cu124 is the best fit\n"
        f"index: http://127.0.0.1:8000/whl/cu124/\n\nWith uv (found {tmp_path}/uv.lock):\n"
        "  in pyproject.toml:\n"
    )
    assert done.stdout.endswith("  uv sync\n")
    url = cpu.run("select", "--url", cwd=tmp_path, env=env)
    assert url.stdout == "http://127.0.0.1:8000/whl/cu124/\n"


@pytest.mark.build
@pytest.mark.parametrize("tool", ["uv", "uv-pip", "pip", "poetry", "pdm", "uv-extras"])
def test_select_for_each_tool(cpu: Installed, tmp_path: Path, tool: str) -> None:
    done = cpu.run("select", "--backend", "cu128", "--tool", tool, "--json", cwd=tmp_path)
    record = json.loads(done.stdout)
    assert (done.returncode, record["schema"], record["backend"]) == (0, 1, "cu128")
    assert record["tool"] == tool
    assert record["index"].endswith("/whl/cu128/")
    assert any("cu128" in step["text"] for step in record["steps"])


@pytest.mark.build
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("select", "--backend", "cu999"), "there is no backend 'cu999': choose one of cpu, "),
        (("select", "--tool", "rye"), "argument --tool: invalid choice: 'rye'"),
        (("select", "--index", "foo"), "argument --index: 'foo' is no address such as"),
        (("doctor", "--index", "http://x/$(id)"), "argument --index: 'http://x/$(id)' is no"),
        (("cure",), "invalid choice: 'cure'"),
        (("doctor", "--url"), "unrecognized arguments: --url"),
    ],
)
def test_usage(cpu: Installed, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = cpu.run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def parts(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return compile_parts(tmp_path_factory.mktemp("parts"), libraries)


_WARNED = (
    "import json, sys, warnings, llama_cpp\n"
    "from llama_cpp import _gpu\n"
    "with warnings.catch_warnings(record=True) as caught:\n"
    "    warnings.simplefilter('always')\n"
    "    llama_cpp.Llama(sys.argv[1], n_gpu_layers=-1, n_threads=1, verbose=False).close()\n"
    "print(json.dumps([str(each.message) for each in caught]))\n"
)


@pytest.mark.build
@pytest.mark.parametrize(
    ("answers", "identifier"),
    [
        (None, "driver-missing"),
        ({"FAKE_CUDA": "13000"}, "driver-too-old"),
        ({}, "module-not-loaded"),
        ({"FAKE_GPUS": "61", "runtime": "yes"}, "gpu-too-old"),
    ],
)
def test_a_program_is_warned_in_the_words_of_the_doctor(
    fresh: Installed,
    parts: Parts,
    libraries: Path,
    tiny: Path,
    tmp_path: Path,
    answers: dict[str, str] | None,
    identifier: str,
) -> None:
    machine = Machine(folder=tmp_path, parts=parts, libraries=libraries, major=99)
    machine.put_wheel(fresh.site)
    if answers is not None:
        machine.put_driver(**{name: each for name, each in answers.items() if name != "runtime"})
        if "runtime" in answers:
            machine.put_runtime(fresh.site)
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    done = subprocess.run(
        [fresh.python, "-c", _WARNED, tiny / "llama-f32.gguf"],
        cwd=tmp_path,
        env={**kept, **machine.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (warning,) = json.loads(done.stdout)
    record = fresh.doctor(tmp_path, machine.environment)
    (finding,) = [each for each in record["findings"] if each["id"] == identifier]
    assert finding["level"] == "error"
    assert f": {finding['message']}. The model runs on the CPU. To change that: " in warning
    commands = [step["text"] for step in finding["steps"]]
    if identifier == "module-not-loaded":
        assert f"`{commands[0]}`" in warning
