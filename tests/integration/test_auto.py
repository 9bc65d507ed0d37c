"""``auto/`` with real installers: uv picks a wheel by what the machine has, all others the plain one.

What is served is made by the commands: small stand-ins of wheels through `ci.relabel`, then
`python -m index update`. The driver and the GPU are what uv's own variables say, so it needs none.
"""

from __future__ import annotations

import json
import os
import platform as python_platform
import shutil
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from ci.host import host_platform
from ci.progress import Progress
from ci.relabel import make, plan, relabel
from ci.table import load_table
from tests.installers.environments import NEWEST_UV, Installer, program, provided
from tests.installers.served import Served, isolated, update
from tests.wheels import write_built_wheel, write_report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]
TABLE: Final = load_table()
HERE: Final = host_platform(TABLE)
CUDA: Final = ("cu121", "cu124", "cu128", "cu130")
VARIANTS: Final = {"UV_PREVIEW_FEATURES": "wheel-variants"}
DRIVER: Final = "NV_VARIANT_PROVIDER_FORCE_CUDA_DRIVER_VERSION"
GPU: Final = "NV_VARIANT_PROVIDER_FORCE_SM_ARCH"

pytestmark = pytest.mark.skipif(
    HERE.name not in {t.platform.name for t in TABLE.targets if t.backend.name == "cu128"},
    reason=f"the table has no CUDA wheels for {HERE.name}",
)

# x86-64-v3 as the psABI has it, in the words of /proc/cpuinfo (abm is LZCNT)
_V3: Final = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}


def level_variant() -> str | None:
    """Return the label that this machine's CPU level asks for, as /proc/cpuinfo has it."""
    if python_platform.machine() != "x86_64":
        return None
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next(line for line in lines if line.startswith("flags")).partition(":")[2].split()
    return "x86_64_v3" if set(flags) >= _V3 else None


def make_stand_ins(folder: Path) -> Path:
    """Make the wheels of auto from stand-ins of a CPU wheel and CUDA wheels; return their folder."""
    wheels = [
        write_built_wheel(folder / "dist", TABLE.target(backend, HERE.name), marker=backend)
        for backend in ("cpu", *CUDA)
    ]
    out = folder / "dist" / "auto"
    copies, unused = plan(wheels, TABLE)
    assert unused == []
    whole = [copy for copy in copies if not copy.is_subset]
    make(whole, out, TABLE, [], Progress(), now=datetime.now(UTC))
    for copy in copies:
        if copy.is_subset:
            # a stand-in cannot compute: what is tested here is which wheel is chosen
            write_report(relabel(copy, out, TABLE.auto), backend="auto", platform=HERE.name)
    return out


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("auto")
    make_stand_ins(folder)
    env = isolated(folder)
    update(folder / "dist", folder, env)
    return update(folder / "dist" / "auto", folder, env)


@pytest.fixture(params=["json", "html"])
def served(request: pytest.FixtureRequest, site: Path, tmp_path: Path) -> Iterator[Served]:
    """Serve both kinds of pages (installers take JSON), then HTML alone, as GitHub Pages does."""
    copy = tmp_path / "served"
    shutil.copytree(site, copy)
    if request.param == "html":
        for page in copy.rglob("index.v1_json"):
            page.unlink()
    with Served(copy, tmp_path / "requests.log", isolated(tmp_path)) as running:
        yield running


def run(args: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path) -> None:
    done = subprocess.run(
        [str(arg) for arg in args],
        env=dict(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"


def chosen(folder: Path) -> tuple[str, str | None]:
    """Return the backend that lies in a folder of packages, and the variant label of its wheel."""
    info = json.loads((folder / "llama_cpp" / "_build_info.json").read_bytes())
    assert info["version"] == "0.3.100+auto"
    (dist_info,) = folder.glob("llama_cpp_python-*.dist-info")
    assert dist_info.name == "llama_cpp_python-0.3.100+auto.dist-info"
    variant = dist_info / "variant.json"
    labels = list(json.loads(variant.read_bytes())["variants"]) if variant.is_file() else [None]
    (label,) = labels
    return info["backend"], label


def uv_pip_install(
    served: Served, tmp_path: Path, env: Mapping[str, str], uv: Path | None = None
) -> Path:
    command: list[str | Path] = [sys.executable, "-m", "uv"] if uv is None else [uv]
    target = tmp_path / "packages"
    command += ["pip", "install", "--no-config", "--target", target, "--python", sys.executable]
    command += ["--index-url", served.index("auto"), "llama-cpp-python>=0.3,<0.4"]
    run(command, env={**isolated(tmp_path), **env}, cwd=tmp_path)
    return target


def fallback() -> tuple[str, str | None]:
    return "cpu", level_variant()


@pytest.mark.parametrize(
    ("driver", "gpu", "label"),
    [
        pytest.param("13.0", None, "cu130", id="13.0"),
        pytest.param("13.0", "8.6", "cu130", id="13.0-ampere"),
        # CUDA 13 has nothing for a GTX 1080, however new its driver is
        pytest.param("13.0", "6.1", "cu128_old_gpus", id="13.0-pascal"),
        pytest.param("12.8", "6.1", "cu128_old_gpus", id="12.8-pascal"),
        pytest.param("12.4", "6.1", "cu124", id="12.4-pascal"),
        pytest.param("13.0", "9.0", "cu130", id="13.0-hopper"),
        pytest.param("13.0", "12.0", "cu130", id="13.0-blackwell"),
        pytest.param("12.8", "12.0", "cu128", id="12.8-blackwell"),
        pytest.param("12.8", None, "cu128", id="12.8"),
        pytest.param("12.4", None, "cu124", id="12.4"),
        pytest.param("12.3", None, "cu121", id="12.3"),
        pytest.param("12.1", None, "cu121", id="12.1"),
        pytest.param("11.8", None, None, id="11.8"),
        pytest.param("", None, None, id="no-driver"),
    ],
)
def test_uv_picks_by_driver_and_gpu(
    driver: str, gpu: str | None, label: str | None, served: Served, tmp_path: Path
) -> None:
    env = {**VARIANTS, DRIVER: driver, **({} if gpu is None else {GPU: gpu})}

    found = chosen(uv_pip_install(served, tmp_path, env))

    expected = fallback() if label is None else (label.partition("_")[0], label)
    assert found == expected


def test_uv_picks_by_cpu_level(served: Served, tmp_path: Path) -> None:
    packages = uv_pip_install(served, tmp_path, {**VARIANTS, DRIVER: ""})

    assert chosen(packages) == fallback()
    libraries = {path.name for path in (packages / "llama_cpp" / "lib").iterdir()}
    older = {f"libggml-cpu-{name}.so" for name in ("sse42", "ivybridge", "piledriver")}
    there = {f"libggml-cpu-{name}.so" for name in HERE.cpu_variants}
    assert libraries & older == (set() if level_variant() else older & there)


def test_one_small_file_tells_uv_what_there_is(served: Served, tmp_path: Path) -> None:
    uv_pip_install(served, tmp_path, {**VARIANTS, DRIVER: "12.8"})

    paths = [request.path.rpartition("/")[2] for request in served.requests()]
    assert paths.count("llama_cpp_python-0.3.100%2Bauto-variants.json") == 1
    wheels = [path for path in paths if path.endswith(".whl")]
    tag = TABLE.target("cu128", HERE.name).wheel_tag
    assert wheels == [f"llama_cpp_python-0.3.100%2Bauto-py3-none-{tag}-cu128.whl"]


def test_uv_without_the_preview_gets_the_plain_wheel(served: Served, tmp_path: Path) -> None:
    assert chosen(uv_pip_install(served, tmp_path, {DRIVER: "12.8"})) == ("cpu", None)


def test_a_uv_project_locks_the_plain_wheel(served: Served, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "downstream"\nversion = "1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["llama-cpp-python>=0.3,<0.4"]\n'
        f'[[tool.uv.index]]\nname = "auto"\nurl = "{served.index("auto")}"\ndefault = true\n',
        encoding="utf-8",
    )

    env = {**isolated(tmp_path), "UV_PYTHON": sys.executable}
    run([sys.executable, "-m", "uv", "sync"], env=env, cwd=project)

    (packages,) = (project / ".venv").rglob("site-packages")
    assert chosen(packages) == ("cpu", None)


@pytest.mark.network
def test_an_older_uv_gets_the_plain_wheel(served: Served, tmp_path: Path) -> None:
    older = Installer(name="uv", version="0.9.30")
    assert older.version != NEWEST_UV
    uv = program(provided(older), "uv")

    # without the preview feature: it does not start where that names what it does not know
    packages = uv_pip_install(served, tmp_path, {DRIVER: "12.8"}, uv)

    assert chosen(packages) == ("cpu", None)


def test_pip_gets_the_plain_wheel(served: Served, tmp_path: Path) -> None:
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install"]
    pip += ["--index-url", served.index("auto"), "llama-cpp-python>=0.3,<0.4"]

    run(pip, env=isolated(tmp_path), cwd=tmp_path)

    (packages,) = folder.rglob("site-packages")
    assert chosen(packages) == ("cpu", None)


@pytest.mark.build
def test_the_finished_wheel_becomes_a_plain_and_a_smaller_one(wheel: Path, tmp_path: Path) -> None:
    out = tmp_path / "auto"
    command: list[str | Path] = [sys.executable, "-m", "ci", "auto", wheel, "--out", out]
    command += ["--python", sys.executable]
    run(command, env=os.environ, cwd=ROOT)
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    start = f"llama_cpp_python-0.3.100+auto-py3-none-{HERE.wheel_tag}"
    labels = [copy.variant.label for copy in plan([wheel], TABLE)[0] if copy.variant]
    wheels = [f"{start}.whl", *(f"{start}-{label}.whl" for label in labels)]
    assert sorted(made) == sorted([*wheels, *(f"{name}.smoke.json" for name in wheels)])
    for name in wheels:
        report = json.loads(made[f"{name}.smoke.json"])
        assert (report["wheel"], report["backend"], report["passed"]) == (name, "auto", True)

    run(command, env=os.environ, cwd=ROOT)

    assert {path.name: path.read_bytes() for path in out.iterdir()} == made
    # the index takes them as they are
    assert (update(out, tmp_path, isolated(tmp_path)) / "whl" / "auto").is_dir()
