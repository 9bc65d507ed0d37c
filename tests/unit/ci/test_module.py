"""One module more: the CPU wheel, byte by byte, another label, and the backend's own module."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ci.check import check
from ci.errors import WheelError
from ci.module import Cost, Module, ModuleStore, assemble, find_cpu_wheel, version_of
from ci.table import Target, load_table
from ci.wheel import Wheel, library_names, read_wheel
from tests.wheels import COMMIT, write_built_wheel, write_report

TABLE = load_table()
CPU = TABLE.target("cpu", "manylinux_x86_64")


COST = Cost(objects=12, cached=5, seconds=31.5, elapsed=20.0)


def info(backend: str) -> dict[str, object]:
    return {
        "backend": "as it was compiled",
        "version": "as it was compiled",
        "llama_cpp_commit": COMMIT,
        "compiler": "gcc 10.2.1" if backend.startswith("cu") else "zig 0.17.0",
        "toolkit": f"stand-in for {backend}",
    }


def put_together(cpu: Wheel, target: Target, out: Path) -> Path:
    return assemble(cpu, module_of(target), target, version_of(cpu, target), out)


def module_of(target: Target) -> Module:
    names = library_names(target.family.modules, target.platform.system)
    return Module(
        libraries=dict.fromkeys(names, b"stand-in module"),
        build_info=info(target.backend.name),
        cost=COST,
    )


@pytest.mark.parametrize(
    ("backend", "platform", "library", "compiler"),
    [
        ("vulkan", "manylinux_x86_64", "libggml-vulkan.so", "zig 0.17.0"),
        ("vulkan", "manylinux_aarch64", "libggml-vulkan.so", "zig 0.17.0"),
        ("vulkan", "win_amd64", "ggml-vulkan.dll", "zig 0.17.0"),
        ("cu128", "manylinux_x86_64", "libggml-cuda.so", "zig 0.17.0; ggml-cuda: gcc 10.2.1"),
        ("metal", "macosx_arm64", "libggml-metal.so", "zig 0.17.0"),
    ],
)
def test_one_module_more(
    tmp_path: Path, backend: str, platform: str, library: str, compiler: str
) -> None:
    target = TABLE.target(backend, platform)
    cpu = read_wheel(write_built_wheel(tmp_path, TABLE.target("cpu", platform)))
    path = put_together(cpu, target, tmp_path / "out")
    assert path.name == (f"llama_cpp_python-0.3.100+{backend}-py3-none-{target.wheel_tag}.whl")
    made = read_wheel(path)
    assert made.record_problems() == []
    assert set(made.libraries) - set(cpu.libraries) == {f"llama_cpp/lib/{library}"}
    assert {name: made.files[name] for name in cpu.libraries} == cpu.libraries
    assert made.metadata["Version"] == f"0.3.100+{backend}"
    assert json.loads(made.files["llama_cpp/_build_info.json"]) == {
        **info(backend),
        "backend": backend,
        "version": f"0.3.100+{backend}",
        "compiler": compiler,
    }
    assert made.metadata.get_all("Requires-Dist", []) == list(target.requirements)
    sbom = json.loads(made.files[f"{made.dist_info}/sboms/llama-cpp-python.cdx.json"])
    assert sbom["metadata"]["component"]["version"] == f"0.3.100+{backend}"
    python = {name for name in cpu.files if name.endswith(".py")}
    assert python
    assert all(made.files[name] == cpu.files[name] for name in python)


def test_the_same_twice_is_the_same_bytes(tmp_path: Path) -> None:
    target = TABLE.target("vulkan", "manylinux_x86_64")
    cpu = read_wheel(write_built_wheel(tmp_path, CPU))
    first = put_together(cpu, target, tmp_path / "a")
    second = put_together(cpu, target, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_a_module_that_is_there_already(tmp_path: Path) -> None:
    target = TABLE.target("vulkan", "manylinux_x86_64")
    cpu = read_wheel(write_built_wheel(tmp_path, CPU))
    made = read_wheel(put_together(cpu, target, tmp_path / "out"))
    with pytest.raises(WheelError) as caught:
        put_together(made, target, tmp_path / "again")
    assert caught.value.what == f"{made.path.name} has a libggml-vulkan.so already"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one Python file, and its proven CPU wheel in ``dist/``."""
    root = tmp_path / "checkout"
    wheel = write_built_wheel(root / "dist", CPU)
    (root / "llama_cpp").mkdir()
    files = read_wheel(wheel).files
    (root / "llama_cpp" / "__init__.py").write_bytes(files["llama_cpp/__init__.py"])
    return root


def test_the_proven_cpu_wheel_is_found(checkout: Path) -> None:
    found = find_cpu_wheel(CPU, checkout / "dist", commit=COMMIT, root=checkout)
    assert found.label == "cpu"


@pytest.mark.parametrize("change", ["none", "report", "failed", "source", "more", "commit"])
def test_a_cpu_wheel_that_would_be_built_anew(checkout: Path, change: str) -> None:
    (wheel,) = (checkout / "dist").glob("*.whl")
    commit = COMMIT
    if change == "none":
        shutil.rmtree(checkout / "dist")
        (checkout / "dist").mkdir()
        reason = f"there is no {CPU.name} wheel in {checkout / 'dist'}"
    elif change == "report":
        wheel.with_name(f"{wheel.name}.smoke.json").unlink()
        reason = f"{wheel.name} is not proven: {wheel.name} has no smoke report beside it"
    elif change == "failed":
        write_report(wheel, passed=False)
        reason = f"{wheel.name} is not proven: {wheel.name}.smoke.json does not say that"
    elif change == "source":
        (checkout / "llama_cpp" / "__init__.py").write_text("changed = True\n", encoding="utf-8")
        reason = f"{wheel.name} has another llama_cpp/__init__.py than this checkout"
    elif change == "more":
        (checkout / "llama_cpp" / "_new.py").touch()
        reason = f"{wheel.name} has another llama_cpp/_new.py than this checkout"
    else:
        commit = "f" * 40
        reason = f"{wheel.name} is of llama.cpp {COMMIT[:12]}, not of ffffffffffff"
    with pytest.raises(WheelError) as caught:
        find_cpu_wheel(CPU, checkout / "dist", commit=commit, root=checkout)
    assert caught.value.what.startswith(reason)
    assert caught.value.cure == "build it: nox -s build -- --backend cpu"


@pytest.mark.build
def test_a_wheel_without_its_driver_library_is_not_what_it_says(
    wheel: Path, tmp_path: Path
) -> None:
    """A real CPU wheel with a library of the CPU in the module's place: check says all of it."""
    cpu = read_wheel(wheel)
    target = TABLE.target("vulkan", "manylinux_x86_64")
    other = cpu.files["llama_cpp/lib/libmtmd.so"]
    made = assemble(
        cpu,
        Module(libraries={"libggml-vulkan.so": other}, build_info=info("vulkan"), cost=COST),
        target,
        version_of(cpu, target),
        tmp_path,
    )
    with pytest.raises(WheelError) as caught:
        check(made, TABLE)
    for problem in (
        "llama_cpp/lib/libggml-vulkan.so are the same bytes",
        "libggml-vulkan.so calls itself libmtmd.so",
        "libggml-vulkan.so needs none of libvulkan.so.1, vulkan-1.dll: it is no Vulkan module",
    ):
        assert problem in caught.value.what


@pytest.mark.parametrize(
    ("backend", "architectures", "version"),
    [
        ("cu130", (), "0.3.100+cu130"),
        ("cu130", ("90",), "0.3.100+cu130.sm90"),
        ("cu128", ("86", "120a", "90-virtual"), "0.3.100+cu128.sm86.sm120a.ptx90"),
        ("rocm7x", ("gfx1100", "gfx1201"), "0.3.100+rocm7x.gfx1100.gfx1201"),
    ],
)
def test_a_wheel_for_gpus_of_ones_own_says_so(
    tmp_path: Path, backend: str, architectures: tuple[str, ...], version: str
) -> None:
    cpu = read_wheel(write_built_wheel(tmp_path, CPU))
    target = TABLE.target(backend, "manylinux_x86_64")
    assert str(version_of(cpu, target, architectures)) == version


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SCCACHE_RECACHE", raising=False)
    return tmp_path / "cache" / "modules"


def test_a_module_is_compiled_once(cache: Path) -> None:
    module = module_of(TABLE.target("cu130", "manylinux_x86_64"))
    inputs = {"commit": COMMIT, "defines": {"GGML_CUDA": "ON"}}
    assert ModuleStore(inputs).find() is None
    ModuleStore(inputs).keep(module)
    assert ModuleStore(inputs).find() == module
    # twice is no error, and leaves nothing else there
    ModuleStore(inputs).keep(module)
    assert len(list(cache.iterdir())) == 1
    assert ModuleStore({**inputs, "commit": "another"}).find() is None


def test_what_may_change_unseen_is_not_stored(cache: Path) -> None:
    ModuleStore(None).keep(module_of(TABLE.target("vulkan", "manylinux_x86_64")))
    assert ModuleStore(None).find() is None
    assert not cache.exists()


def test_a_build_that_is_to_be_anew_finds_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(TABLE.target("cu130", "manylinux_x86_64"))
    ModuleStore({"commit": COMMIT}).keep(module)
    assert cache.is_dir()
    monkeypatch.setenv("SCCACHE_RECACHE", "1")
    assert ModuleStore({"commit": COMMIT}).find() is None


def test_a_module_that_nobody_asked_for_in_a_month_goes(cache: Path) -> None:
    module = module_of(TABLE.target("cu130", "manylinux_x86_64"))
    ModuleStore({"commit": "old"}).keep(module)
    (old,) = cache.iterdir()
    os.utime(old, (0, 0))
    ModuleStore({"commit": "new"}).keep(module)
    assert not old.exists()
    assert ModuleStore({"commit": "new"}).find() == module
