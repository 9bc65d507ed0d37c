"""Provision: pins that are read strictly, folders that are looked over, errors that name a cure."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ci.debian import MIRROR_VARIABLE, bring_package, debian_mirror
from ci.errors import NetworkError, TableError, ToolMissingError, UsageError, VendorError
from ci.host import installs_here
from ci.pins import compiling_host, load_pins
from ci.progress import Progress
from ci.provision import bring_toolkit, find_pin
from ci.table import load_table
from tests.static_server import serving

VULKAN = load_table().target("vulkan", "manylinux_x86_64")
PROGRESS = Progress(Console(width=2000, file=io.StringIO()))

PIN = """
schema = 2
[[toolkit]]
name = "Vulkan SDK"
version = "1.4.309"
suite = "trixie"
[toolkit.host.linux_x86_64.packages]
"pool/main/a/a_1_amd64.deb" = "SHA"
"""


@pytest.fixture(autouse=True)
def no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VULKAN_SDK", "CUDA_HOME", "CUDA_PATH", "ROCM_PATH"):
        monkeypatch.delenv(variable, raising=False)


def pins_file(folder: Path, text: str) -> Path:
    path = folder / "toolkits.toml"
    path.write_text(text, encoding="utf-8")
    return path


def write_sdk(folder: Path, *, version: tuple[int, int, int] = (1, 4, 309)) -> Path:
    major, minor, patch = version
    files = {
        "include/vulkan/vulkan.hpp": "",
        "include/vulkan/vulkan_core.h": f"#define VK_HEADER_VERSION {patch}\n"
        f"#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, {major}, {minor},"
        " VK_HEADER_VERSION)\n"
        "VKAPI_ATTR VkResult VKAPI_CALL vkCreateInstance(\n",
        "lib/libvulkan.so.1": "",
        "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake": "",
        "bin/glslc": "#!/bin/sh\necho a shader compiler\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "bin/glslc").chmod(0o755)
    return folder


def test_every_pinned_toolkit_serves_a_target() -> None:
    pins = load_pins()
    for platform in ("manylinux_x86_64", "manylinux_aarch64", "win_amd64"):
        pin = find_pin(load_table().target("vulkan", platform), pins)
        assert pin is not None
        assert (pin.name, pin.version, pin.suite) == ("Vulkan SDK", "1.4.309", "trixie")
        assert {host: len(pieces.packages) for host, pieces in pin.host.items()} == {
            "linux_x86_64": 8,
            "linux_aarch64": 8,
        }


def test_a_crossed_target_is_compiled_with_this_machine_s_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    targets = [load_table().target("vulkan", name) for name in ("manylinux_aarch64", "win_amd64")]
    monkeypatch.setattr("ci.host.here", lambda: ("linux", "x86_64", "glibc"))
    assert [compiling_host(target) for target in targets] == ["linux_x86_64"] * 2
    monkeypatch.setattr("ci.host.here", lambda: ("linux", "aarch64", "glibc"))
    assert [compiling_host(target) for target in targets] == ["linux_aarch64"] * 2
    # nothing is pinned for a Mac, and nothing of CUDA crosses
    monkeypatch.setattr("ci.host.here", lambda: ("macos", "arm64", None))
    assert [compiling_host(target) for target in targets] == [None] * 2
    assert compiling_host(load_table().target("cu130", "win_amd64")) == "windows_x86_64"


@pytest.mark.skipif(sys.platform != "linux", reason="it crosses from a Linux")
@pytest.mark.parametrize(
    ("platform", "loader"),
    [("win_amd64", "libvulkan-1.a"), ("manylinux_aarch64", "libvulkan.so.1")],
)
def test_an_sdk_of_this_machine_compiles_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, loader: str
) -> None:
    target = load_table().target("vulkan", platform)
    if installs_here(target.platform):
        pytest.skip("this machine is one")
    monkeypatch.setattr("ci.paths.BUILD", tmp_path / "build")
    sdk = write_sdk(tmp_path)
    # nothing is linked with this machine's own loader
    (sdk / "lib/libvulkan.so.1").unlink()
    toolkit = bring_toolkit(PROGRESS, target, installed=sdk)
    folder = tmp_path / "build" / target.name / "loader"
    assert toolkit.defines == {
        "Vulkan_INCLUDE_DIR": f"{sdk}/include",
        "Vulkan_LIBRARY": f"{folder}/{loader}",
        "Vulkan_GLSLC_EXECUTABLE": f"{sdk}/bin/glslc",
        "SPIRV-Headers_DIR": f"{sdk}/share/cmake/SPIRV-Headers",
        "GGML_VULKAN_SHADERS_GEN_TOOLCHAIN": f"{folder}/here.cmake",
    }


@pytest.mark.parametrize(
    ("backend", "platform", "own", "compatible"),
    [
        ("cu130", "manylinux_x86_64", "13.0.88", "13.0.88"),
        ("cu130", "win_amd64", "13.0.88", "13.0.88"),
        ("cu124", "manylinux_aarch64", "12.4.131", "12.4.131"),
        ("cu121", "manylinux_x86_64", None, "12.4.131"),
        ("cu128", "manylinux_x86_64", None, "12.4.131"),
        ("cu128", "win_amd64", None, None),
        ("rocm6x", "manylinux_x86_64", "6.4.3", "6.4.3"),
        ("rocm7x", "manylinux_x86_64", "7.2.4", "7.2.4"),
    ],
)
def test_the_pin_of_a_backend_or_a_compatible_one(
    backend: str, platform: str, own: str | None, compatible: str | None
) -> None:
    target = load_table().target(backend, platform)
    pins = load_pins()
    found = [find_pin(target, pins), find_pin(target, pins, compatible=True)]
    assert [pin and pin.version for pin in found] == [own, compatible]


def test_clang_compiles_what_it_is_pinned_for_and_only_when_asked_to() -> None:
    pins = load_pins()
    found = find_pin(load_table().target("cu128", "manylinux_x86_64"), pins, clang=True)
    assert found is not None
    assert (found.version, found.front_end) == ("12.8.93", "clang")
    with pytest.raises(ToolMissingError) as caught:
        bring_toolkit(PROGRESS, load_table().target("cu124", "manylinux_x86_64"), clang=True)
    assert caught.value.what == (
        "cu124-manylinux_x86_64: ci/toolkits.toml has no CUDA 12.4 that clang compiles with for"
        " Linux x86-64 (glibc 2.17 and newer)"
    )
    assert caught.value.cure.startswith("leave --clang away: ")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("suite", "suiet", "toolkit.0.suiet: Unexpected keyword argument"),
        ("Vulkan SDK", "Vulcan", "toolkit.0.name: Input should be 'none'"),
        ("linux_x86_64", "amiga", "toolkit.0.host.amiga.[key]: Input should be"),
        ("schema = 2", "schema = 1", "schema: Input should be 2"),
        ("SHA", "0" * 63, "Vulkan SDK 1.4.309, linux_x86_64: pool/main/a/a_1_amd64.deb"),
        ("pool/main/a", "../pool", "linux_x86_64: ../pool/a_1_amd64.deb"),
        ("[[toolkit]]", "[[toolkit", "toolkits.toml: "),
    ],
)
def test_a_wrong_pin_is_said(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = PIN.replace(old, new).replace("SHA", "0" * 64)
    with pytest.raises(TableError) as caught:
        load_pins(pins_file(tmp_path, text))
    assert problem in str(caught.value)
    assert "\n  -> mend toolkits.toml; the keys are the fields" in str(caught.value)


def test_an_installed_sdk_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sdk = write_sdk(tmp_path / "with spaces", version=(1, 4, 321))
    monkeypatch.setenv("VULKAN_SDK", str(sdk))
    toolkit = bring_toolkit(PROGRESS, VULKAN)
    assert (toolkit.label(VULKAN), toolkit.folder) == ("Vulkan SDK 1.4.321", sdk)
    assert toolkit.defines == {
        "Vulkan_INCLUDE_DIR": f"{sdk}/include",
        "Vulkan_LIBRARY": f"{sdk}/lib/libvulkan.so.1",
        "Vulkan_GLSLC_EXECUTABLE": f"{sdk}/bin/glslc",
        "SPIRV-Headers_DIR": f"{sdk}/share/cmake/SPIRV-Headers",
    }


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        bring_toolkit(PROGRESS, VULKAN, installed=tmp_path / "no")
    assert str(caught.value) == (
        f"--toolkit: there is no folder {tmp_path / 'no'}\n  -> check the path"
    )


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("include/vulkan/vulkan.hpp", "the headers (include/vulkan/vulkan.hpp)"),
        ("lib/libvulkan.so.1", "the loader (libvulkan.so.1)"),
        ("bin/glslc", "the shader compiler (bin/glslc)"),
        (
            "share/cmake/SPIRV-Headers/SPIRV-HeadersConfig.cmake",
            "SPIR-V's headers (share/cmake/SPIRV-Headers)",
        ),
    ],
)
def test_an_incomplete_sdk_is_named(tmp_path: Path, missing: str, part: str) -> None:
    sdk = write_sdk(tmp_path)
    (sdk / missing).unlink()
    with pytest.raises(UsageError) as caught:
        bring_toolkit(PROGRESS, VULKAN, installed=sdk)
    assert caught.value.what == f"--toolkit: {sdk} is not a whole Vulkan SDK, it lacks {part}"
    assert caught.value.cure.endswith(
        "or leave --toolkit and VULKAN_SDK away: the pinned one is brought"
    )


@pytest.mark.parametrize(
    "version", [(1, 3, 239), (1, 4, 300), (1, 5, 400)], ids=["1.3.239", "1.4.300", "1.5.400"]
)
def test_an_sdk_of_the_wrong_version(tmp_path: Path, version: tuple[int, int, int]) -> None:
    sdk = write_sdk(tmp_path, version=version)
    with pytest.raises(UsageError) as caught:
        bring_toolkit(PROGRESS, VULKAN, installed=sdk)
    said = ".".join(map(str, version))
    assert caught.value.what == (
        f"--toolkit: {sdk} is Vulkan {said}; vulkan is built with 1.4 from 1.4.309 on"
    )


def test_a_shader_compiler_that_does_not_run(tmp_path: Path) -> None:
    sdk = write_sdk(tmp_path)
    (sdk / "bin/glslc").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    with pytest.raises(ToolMissingError, match="bin/glslc does not run: "):
        bring_toolkit(PROGRESS, VULKAN, installed=sdk)


def test_a_platform_without_a_pin_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    # Windows itself: there is an SDK for it, and none that could be brought
    monkeypatch.setattr("ci.host.here", lambda: ("windows", "x86_64", None))
    windows = load_table().target("vulkan", "win_amd64")
    with pytest.raises(ToolMissingError) as caught:
        bring_toolkit(PROGRESS, windows)
    assert str(caught.value) == (
        "vulkan-win_amd64 needs the toolkit Vulkan SDK 1.4, and ci/toolkits.toml has none for"
        " Windows x64\n  -> install the Vulkan SDK and name its folder with --toolkit PATH or VULKAN_SDK"
    )


def test_a_machine_without_a_pin_for_what_crosses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci.host.here", lambda: ("macos", "arm64", None))
    with pytest.raises(ToolMissingError) as caught:
        bring_toolkit(PROGRESS, load_table().target("vulkan", "manylinux_aarch64"))
    assert str(caught.value) == (
        "vulkan-manylinux_aarch64 needs the toolkit Vulkan SDK 1.4, and ci/toolkits.toml has none for"
        " a build on macos (arm64)\n"
        "  -> install the Vulkan SDK and name its folder with --toolkit PATH or VULKAN_SDK"
    )


def test_without_a_mirror_the_cure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    with pytest.raises(ToolMissingError) as caught:
        bring_toolkit(PROGRESS, VULKAN)
    assert caught.value.what == "found no mirror of Debian in this machine's apt sources"
    assert f"name one in {MIRROR_VARIABLE}" in caught.value.cure
    assert "--toolkit PATH" in caught.value.cure


@pytest.mark.parametrize(
    ("uris", "mirror"),
    [
        ("'http://mirror.example/debian/dists/bookworm/InRelease' x 0", "http://mirror.example/debian"),
        ("'http://mirror.example/ubuntu/dists/noble/InRelease' x 0", None),
    ],
)  # fmt: skip
def test_the_mirror_is_that_of_apt(uris: str, mirror: str | None) -> None:
    assert debian_mirror(uris) == mirror


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "debian"
    folder.mkdir()
    with serving(folder) as url:
        yield url, folder


def test_a_package_is_brought_once_and_checked(mirror: tuple[str, Path], tmp_path: Path) -> None:
    url, served = mirror
    (served / "a_1.deb").write_bytes(b"package")
    sha256 = hashlib.sha256(b"package").hexdigest()
    cache = tmp_path / "cache"
    place = bring_package(PROGRESS, url, "a_1.deb", sha256, cache)
    assert place.read_bytes() == b"package"
    (served / "a_1.deb").unlink()
    assert bring_package(PROGRESS, url, "a_1.deb", sha256, cache) == place

    with pytest.raises(NetworkError) as gone:
        bring_package(PROGRESS, url, "b_1.deb", sha256, cache)
    assert gone.value.what == "b_1.deb is no longer there: the server answers 404"
    assert gone.value.cure == (
        "a newer one took its place: write its name and sha256 into ci/toolkits.toml"
    )

    (served / "c_1.deb").write_bytes(b"something else")
    with pytest.raises(VendorError, match=r"^c_1.deb has sha256 [0-9a-f]{64}, the pin says"):
        bring_package(PROGRESS, url, "c_1.deb", sha256, cache)
    assert [path.name for path in cache.iterdir()] == ["a_1.deb"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_pinned_packages_are_unpacked_and_never_installed(
    mirror: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, served = mirror
    root = tmp_path / "package"
    write_sdk(root / "usr")
    control = root / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text(
        "Package: a\nVersion: 1\nArchitecture: amd64\nMaintainer: Nobody <no@one.example>\n"
        "Description: a stand-in\n",
        encoding="utf-8",
    )
    # stands for the loader: runs what it is given after its own option
    loader = root / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text('#!/bin/sh\nshift 2\nexec "$@"\n', encoding="utf-8")
    loader.chmod(0o755)
    package = served / "pool" / "a_1_amd64.deb"
    package.parent.mkdir()
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, package], check=True)
    sha256 = hashlib.sha256(package.read_bytes()).hexdigest()
    pin = PIN.replace("pool/main/a/", "pool/").replace("SHA", sha256)
    pins = load_pins(pins_file(tmp_path, pin))
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(MIRROR_VARIABLE, url)

    toolkit = bring_toolkit(PROGRESS, VULKAN, pins=pins)
    assert toolkit.version == "1.4.309"
    assert toolkit.folder.parent == tmp_path / "cache" / "toolkits"
    glslc = toolkit.defines["Vulkan_GLSLC_EXECUTABLE"]
    assert glslc == f"{toolkit.folder}/bin/glslc"
    said = subprocess.run([glslc], check=True, capture_output=True, text=True).stdout
    assert said == "a shader compiler\n"
    package.unlink()
    assert bring_toolkit(PROGRESS, VULKAN, pins=pins) == toolkit
