"""NVIDIA's archives against a stand-in server of the same layout: three systems, everything that goes wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from ci.__main__ import main
from ci.errors import DiskError, NetworkError, TableError, ToolMissingError, VendorError
from ci.pins import PINS_PATH, Pins, load_pins
from ci.progress import Progress
from ci.provision import PINNED, bring_toolkit
from ci.redistributable import (
    BASE_URL,
    BASE_VARIABLE,
    PLATFORMS,
    RedistributablePin,
    base_url,
    bring_redistributable,
    find_redistributable,
    pin_redistributable,
)
from ci.table import Machine, System, load_table

PROGRESS = Progress(Console(width=2000, file=io.StringIO()))
RECORDED = Path(__file__).with_name("recorded")
TABLE = load_table()

# a file's text, or the target of a symlink after "->"
LINUX = {
    "cuda_nvcc": {"LICENSE": "terms", "bin/nvcc": "nvcc", "nvvm/bin/cicc": "cicc"},
    "cuda_cudart": {
        "LICENSE": "terms",
        "include/cuda.h": "cuda",
        "lib/libcudart.so.12.8.90": "cudart",
        "lib/libcudart.so.12": "-> libcudart.so.12.8.90",
        "lib/libcudart.so": "-> libcudart.so.12",
        "lib/libcudart_static.a": "static",
        "lib/stubs/libcuda.so": "stub",
    },
    "cuda_cccl": {"LICENSE": "terms", "include/cub/cub.cuh": "cub"},
    "libcublas": {
        "LICENSE": "terms",
        "include/cublas_v2.h": "cublas",
        "lib/libcublas.so.12": "cublas",
        "lib/libcublas_static.a": "large",
        "lib/libcublasLt_static_nocallback.a": "large",
    },
}
WINDOWS = {
    "cuda_nvcc": {"LICENSE": "terms", "bin/nvcc.exe": "nvcc"},
    "cuda_cudart": {"LICENSE": "terms", "lib/x64/cudart.lib": "cudart", "include/cuda.h": "cuda"},
    "cuda_cccl": {"LICENSE": "terms", "include/cub/cub.cuh": "cub"},
    "libcublas": {"LICENSE": "terms", "lib/x64/cublas.lib": "cublas"},
}


def tar(name: str, files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        folder = tarfile.TarInfo(name)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}/{path}")
            member.mode = 0o755 if path.startswith(("bin/", "nvvm/bin/")) else 0o644
            if text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text.removeprefix("-> ")
            elif text.startswith("=> "):
                member.type, member.linkname = tarfile.LNKTYPE, text.removeprefix("=> ")
            else:
                member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()) if member.isreg() else None)
    return out.getvalue()


def zipped(name: str, files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/", "")
        for path, text in files.items():
            archive.writestr(f"{name}/{path}", text)
    return out.getvalue()


@dataclass(kw_only=True)
class Server:
    """A server that speaks NVIDIA's layout: a manifest and the archives that it names."""

    folder: Path
    url: str
    manifest: dict[str, object] = field(default_factory=lambda: {"release_label": "12.8.1"})
    asked: list[str] = field(default_factory=list)

    def add(self, component: str, platform: str, files: Mapping[str, str]) -> Path:
        name = f"{component}-{platform}-12.8.90-archive"
        windows = platform.startswith("windows")
        content = zipped(name, files) if windows else tar(name, files)
        suffix = ".zip" if windows else ".tar.xz"
        return self.add_bytes(component, platform, f"{name}{suffix}", content)

    def add_bytes(self, component: str, platform: str, name: str, content: bytes) -> Path:
        path = self.folder / component / platform / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        entry = self.manifest.setdefault(
            component, {"name": component, "license": "CUDA Toolkit", "version": "12.8.90"}
        )
        assert isinstance(entry, dict)
        entry[platform] = {
            "relative_path": f"{component}/{platform}/{name}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "size": str(len(content)),
        }
        return path

    def pin(self, *components: str) -> RedistributablePin:
        """Write the manifest and return the pin of it."""
        content = json.dumps(self.manifest, indent=4).encode()
        (self.folder / "redistrib_12.8.1.json").write_bytes(content)
        return RedistributablePin(
            name="CUDA",
            version="12.8.1",
            manifest=hashlib.sha256(content).hexdigest(),
            components=list(components or LINUX),
        )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "redist"
    folder.mkdir()
    made = Server(folder=folder, url="")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

        def log_request(self, code: object = "-", size: object = "-") -> None:
            del code, size
            made.asked.append(self.path)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    made.url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv(BASE_VARIABLE, f"{made.url}/")
    for platform, components in (
        ("linux-x86_64", LINUX),
        ("linux-sbsa", LINUX),
        ("windows-x86_64", WINDOWS),
    ):
        for component, files in components.items():
            made.add(component, platform, files)
    yield made
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def bring(
    pin: RedistributablePin, cache: Path, system: System = "linux", machine: Machine = "x86_64"
) -> Path:
    return bring_redistributable(PROGRESS, pin, system, machine, cache)


def left_behind(cache: Path) -> list[str]:
    """Name what lies in a cache besides its locks and what was downloaded whole."""
    return sorted(
        path.relative_to(cache).as_posix()
        for path in cache.rglob("*")
        if path.is_file() and path.suffix != ".lock" and ".archives/" not in path.as_posix()
    ) + [path.name for path in cache.rglob("*.part")]


def listing(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    )


# ---- what works ---------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_linux_toolkit(server: Server, tmp_path: Path, machine: Machine) -> None:
    pin = server.pin()
    cache = tmp_path / "with spaces"
    folder = bring(pin, cache, "linux", machine)
    platform = {"x86_64": "linux-x86_64", "aarch64": "linux-sbsa"}[machine]
    assert folder.parent == cache
    assert folder.name.startswith(f"cuda-12.8.1-{platform}-")
    assert listing(folder) == [
        "bin/nvcc",
        "include/cub/cub.cuh",
        "include/cublas_v2.h",
        "include/cuda.h",
        "lib/libcublas.so.12",
        "lib/libcudart.so",
        "lib/libcudart.so.12",
        "lib/libcudart.so.12.8.90",
        "lib/libcudart_static.a",
        "lib/stubs/libcuda.so",
        "lib64",
        "licenses/cuda_cccl/LICENSE",
        "licenses/cuda_cudart/LICENSE",
        "licenses/cuda_nvcc/LICENSE",
        "licenses/libcublas/LICENSE",
        "nvvm/bin/cicc",
    ]
    assert os.access(folder / "bin/nvcc", os.X_OK)
    assert not os.access(folder / "include/cuda.h", os.X_OK)
    assert (folder / "lib64/libcudart.so").read_text() == "cudart"
    assert (folder / "lib/libcudart.so").readlink() == Path("libcudart.so.12")
    # neither archives nor halves remain, and the second time nothing is asked for
    assert sorted(path.name for path in cache.iterdir()) == [folder.name, f"{folder.name}.lock"]
    server.asked.clear()
    assert bring(pin, cache, "linux", machine) == folder
    assert server.asked == []


def test_a_windows_toolkit(server: Server, tmp_path: Path) -> None:
    folder = bring(server.pin(), tmp_path / "cache", "windows", "x86_64")
    assert folder.name.startswith("cuda-12.8.1-windows-x86_64-")
    assert listing(folder) == [
        "bin/nvcc.exe",
        "include/cub/cub.cuh",
        "include/cuda.h",
        "lib/x64/cublas.lib",
        "lib/x64/cudart.lib",
        "licenses/cuda_cccl/LICENSE",
        "licenses/cuda_cudart/LICENSE",
        "licenses/cuda_nvcc/LICENSE",
        "licenses/libcublas/LICENSE",
    ]


def test_a_hard_link_stays_one(server: Server, tmp_path: Path) -> None:
    name = "cuda_nvcc-linux-x86_64-12.8.90-archive"
    files = {"bin/nvcc": "nvcc", "bin/nvcc-again": f"=> {name}/bin/nvcc"}
    server.add("cuda_nvcc", "linux-x86_64", files)
    folder = bring(server.pin("cuda_nvcc"), tmp_path / "cache")
    assert (folder / "bin/nvcc-again").samefile(folder / "bin/nvcc")


def test_another_pin_is_another_folder(server: Server, tmp_path: Path) -> None:
    first = bring(server.pin("cuda_nvcc"), tmp_path / "cache")
    assert bring(server.pin("cuda_nvcc", "cuda_cccl"), tmp_path / "cache") != first


def test_what_is_whole_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    cublas = server.folder / "libcublas/linux-x86_64"
    pin = server.pin("cuda_nvcc", "libcublas")
    cublas.rename(server.folder / "away")
    with pytest.raises(NetworkError, match="the server has no http"):
        bring(pin, tmp_path / "cache")
    (server.folder / "away").rename(cublas)
    server.asked.clear()
    bring(pin, tmp_path / "cache")
    assert [name.rpartition("/")[2] for name in server.asked] == [
        "redistrib_12.8.1.json",
        "libcublas-linux-x86_64-12.8.90-archive.tar.xz",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in of nvcc is a shell script")
def test_a_backend_is_built_with_the_archives_of_its_release(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the pin through server, archives and looking over to what a build is told."""
    nvcc = "#!/bin/sh\necho 'Cuda compilation tools, release 12.8, V12.8.93'\n"
    programs = ("cudafe++", "fatbinary", "ptxas")
    files = {
        "cuda_nvcc": {
            "bin/nvcc": nvcc,
            "nvvm/bin/cicc": "cicc",
            "include/crt/host_config.h": "",
            **{f"bin/{name}": name for name in programs},
        },
        "cuda_cudart": {
            "include/cuda_runtime.h": "",
            "lib/libcudart.so.12": "cudart",
            "lib/libcudart.so": "-> libcudart.so.12",
        },
        "cuda_cccl": {"include/cub/cub.cuh": ""},
        "libcublas": {"include/cublas_v2.h": "", "lib/libcublas.so": "cublas"},
    }
    for component, content in files.items():
        server.add(component, "linux-x86_64", content)
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path / "cache"))
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    pins = Pins(schema=2, toolkit=[], redistributable=[server.pin()])
    toolkit = bring_toolkit(PROGRESS, TABLE.target("cu128", "manylinux_x86_64"), pins=pins)
    assert (toolkit.name, toolkit.version, toolkit.source) == ("CUDA", "12.8.93", PINNED)
    assert toolkit.folder.parent == tmp_path / "cache" / "toolkits"
    assert toolkit.defines["CMAKE_CUDA_COMPILER"] == f"{toolkit.folder}/bin/nvcc"


def test_a_backend_without_any_pin_names_the_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    target = TABLE.target("cu128", "win_amd64")
    with pytest.raises(ToolMissingError) as caught:
        bring_toolkit(PROGRESS, target, pins=Pins(schema=2, toolkit=[]))
    assert str(caught.value) == (
        "cu128-win_amd64 needs the toolkit CUDA 12.8, and ci/toolkits.toml has none for Windows x64\n"
        "  -> pin a release of it (python -m ci pin cuda 12.8.0), or install CUDA 12.8 and name its"
        " folder with --toolkit PATH"
    )


# ---- what goes wrong ----------------------------------------------------------------------------


def test_another_manifest_is_refused(server: Server, tmp_path: Path) -> None:
    pin = server.pin()
    server.manifest["release_date"] = "2026-01-01"
    found = server.pin().manifest
    with pytest.raises(VendorError) as caught:
        bring(pin, tmp_path / "cache")
    assert str(caught.value) == (
        f"redistrib_12.8.1.json has sha256 {found}, the pin says {pin.manifest}\n"
        "  -> the manifest was replaced: do not use it, or look at what changed and pin it anew with"
        " `python -m ci pin cuda 12.8.1`"
    )
    assert left_behind(tmp_path / "cache") == []


def test_a_release_that_does_not_exist(server: Server, tmp_path: Path) -> None:
    pin = server.pin()
    (server.folder / "redistrib_12.8.1.json").unlink()
    with pytest.raises(NetworkError) as caught:
        bring(pin, tmp_path / "cache")
    assert str(caught.value) == (
        f"the server has no {server.url}/redistrib_12.8.1.json\n"
        "  -> see the folder there for the releases that exist"
    )


def test_an_archive_with_other_bytes(server: Server, tmp_path: Path) -> None:
    pin = server.pin()
    path = server.folder / "cuda_cccl/linux-x86_64/cuda_cccl-linux-x86_64-12.8.90-archive.tar.xz"
    content = path.read_bytes()
    path.write_bytes(b"?" + content[1:])
    with pytest.raises(VendorError) as caught:
        bring(pin, tmp_path / "cache")
    assert caught.value.what == (
        f"{path.name} is not the file that the manifest names: sha256"
        f" {hashlib.sha256(path.read_bytes()).hexdigest()}, not {hashlib.sha256(content).hexdigest()}"
    )
    assert left_behind(tmp_path / "cache") == []


def test_an_archive_that_is_too_long_is_not_read_to_its_end(server: Server, tmp_path: Path) -> None:
    pin = server.pin("cuda_nvcc")
    path = server.folder / "cuda_nvcc/linux-x86_64/cuda_nvcc-linux-x86_64-12.8.90-archive.tar.xz"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(VendorError, match="is not the file that the manifest names"):
        bring(pin, tmp_path / "cache")


def test_an_archive_that_is_shorter(server: Server, tmp_path: Path) -> None:
    pin = server.pin("cuda_nvcc")
    path = server.folder / "cuda_nvcc/linux-x86_64/cuda_nvcc-linux-x86_64-12.8.90-archive.tar.xz"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(NetworkError) as caught:
        bring(pin, tmp_path / "cache")
    assert str(caught.value) == (
        f"{path.name} ended after {size - 5:,} of {size:,} bytes\n"
        "  -> run the command again: what is whole is kept"
    )
    assert left_behind(tmp_path / "cache") == []


def test_a_connection_that_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that promises more bytes than it sends before it closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setenv(BASE_VARIABLE, f"http://127.0.0.1:{port}")

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"release')

        thread = threading.Thread(target=serve)
        thread.start()
        pin = RedistributablePin(
            name="CUDA", version="12.8.1", manifest="0" * 64, components=["cuda_nvcc"]
        )
        with pytest.raises(NetworkError) as caught:
            bring(pin, tmp_path / "cache")
        thread.join()
    assert caught.value.what.startswith(
        f"http://127.0.0.1:{port}/redistrib_12.8.1.json could not be downloaded: "
    )
    assert caught.value.cure == (
        f"check the network; {BASE_VARIABLE} names another server, --toolkit PATH an installed toolkit;"
        " --compatible-toolkit takes one of the package index, where there is one"
    )
    assert left_behind(tmp_path / "cache") == []


def test_a_component_that_the_manifest_lacks(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VendorError) as caught:
        bring(server.pin("cuda_nvcc", "libnvvm"), tmp_path / "cache")
    assert str(caught.value) == (
        "redistrib_12.8.1.json has no component libnvvm; it has cuda_cccl, cuda_cudart, cuda_nvcc,"
        " libcublas\n  -> pin it anew with `python -m ci pin cuda 12.8.1`"
    )


def test_a_platform_that_the_component_lacks(server: Server, tmp_path: Path) -> None:
    server.add("cuda_gdb", "linux-x86_64", {"bin/cuda-gdb": "gdb"})
    with pytest.raises(VendorError) as caught:
        bring(server.pin("cuda_gdb"), tmp_path / "cache", "windows", "x86_64")
    assert str(caught.value) == (
        "redistrib_12.8.1.json has no cuda_gdb for windows-x86_64\n"
        "  -> install that toolkit and name its folder with --toolkit PATH"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("relative_path", "../../etc/a.tar.xz"),
        ("relative_path", "/etc/a.tar.xz"),
        ("relative_path", "cuda_nvcc/a.run"),
        ("relative_path", None),
        ("sha256", "0" * 63),
        ("size", "many"),
        ("size", "-1"),
    ],
)
def test_an_entry_that_is_no_archive(
    server: Server, tmp_path: Path, key: str, value: str | None
) -> None:
    entry = server.manifest["cuda_nvcc"]
    assert isinstance(entry, dict)
    entry["linux-x86_64"][key] = value
    with pytest.raises(VendorError, match="says of cuda_nvcc for linux-x86_64 no archive with"):
        bring(server.pin("cuda_nvcc"), tmp_path / "cache")


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"\xff"], ids=["page", "list", "bytes"])
def test_something_else_than_a_manifest(server: Server, tmp_path: Path, content: bytes) -> None:
    (server.folder / "redistrib_12.8.1.json").write_bytes(content)
    pin = RedistributablePin(
        name="CUDA",
        version="12.8.1",
        manifest=hashlib.sha256(content).hexdigest(),
        components=["cuda_nvcc"],
    )
    with pytest.raises(VendorError, match=r"^redistrib_12\.8\.1\.json is not a manifest"):
        bring(pin, tmp_path / "cache")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"../../../out": "x"}, "cuda_nvcc-linux-x86_64-12.8.90-archive/../../../out"),
        ({"lib/out": "-> ../../out"}, "lib/out"),
        ({"lib/out": "-> /etc"}, "lib/out"),
        ({"lib/out": "-> ..", "lib/out/../../out": "x"}, "lib/out/../../out"),
        ({"lib/out": "=> ../../../out"}, "lib/out"),
    ],
    ids=["name", "relative-link", "absolute-link", "through-a-link", "hard-link"],
)
def test_a_tar_that_climbs_out(
    server: Server, tmp_path: Path, files: Mapping[str, str], named: str
) -> None:
    server.add("cuda_nvcc", "linux-x86_64", files)
    with pytest.raises(VendorError) as caught:
        bring(server.pin("cuda_nvcc"), tmp_path / "cache")
    assert caught.value.what.startswith(
        "the archive of cuda_nvcc would write outside of its folder: "
    )
    assert caught.value.what.endswith(named)
    assert left_behind(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize("name", ["../../../out", "a\\..\\out", "C:/out"])
def test_a_zip_that_climbs_out(server: Server, tmp_path: Path, name: str) -> None:
    server.add("cuda_nvcc", "windows-x86_64", {name: "x"})
    with pytest.raises(VendorError, match="would write outside of its folder: "):
        bring(server.pin("cuda_nvcc"), tmp_path / "cache", "windows", "x86_64")
    assert left_behind(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("out"))


def test_a_zip_with_a_link(server: Server, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        member = zipfile.ZipInfo("top/lib/out")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc")
    server.add_bytes("cuda_nvcc", "windows-x86_64", "cuda_nvcc.zip", out.getvalue())
    with pytest.raises(VendorError, match="would write outside of its folder: top/lib/out"):
        bring(server.pin("cuda_nvcc"), tmp_path / "cache", "windows", "x86_64")


def test_two_components_with_one_file(server: Server, tmp_path: Path) -> None:
    server.add("cuda_cccl", "linux-x86_64", {"include/cuda.h": "another"})
    with pytest.raises(VendorError) as caught:
        bring(server.pin("cuda_cudart", "cuda_cccl"), tmp_path / "cache")
    assert caught.value.what == "cuda_cccl and cuda_cudart both have include/cuda.h"
    assert left_behind(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("name", "system"), [("a.tar.xz", "linux"), ("a.zip", "windows")], ids=["tar", "zip"]
)
def test_an_archive_that_was_damaged_before_it_was_pinned(
    server: Server, tmp_path: Path, name: str, system: System
) -> None:
    server.add_bytes("cuda_nvcc", f"{system}-x86_64", name, b"no archive")
    with pytest.raises(VendorError, match=rf"^{name} cannot be unpacked: "):
        bring(server.pin("cuda_nvcc"), tmp_path / "cache", system, "x86_64")
    assert left_behind(tmp_path / "cache") == []


def test_a_truncated_tar_that_was_pinned_so(server: Server, tmp_path: Path) -> None:
    whole = tar("top", {"lib/large": "".join(map(str, range(20_000)))})
    server.add_bytes("cuda_nvcc", "linux-x86_64", "a.tar.xz", whole[: len(whole) // 2])
    with pytest.raises(VendorError, match=r"^a\.tar\.xz cannot be unpacked: "):
        bring(server.pin("cuda_nvcc"), tmp_path / "cache")
    assert left_behind(tmp_path / "cache") == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_disk_that_is_full_while_downloading(server: Server, tmp_path: Path) -> None:
    pin = server.pin("cuda_nvcc")
    cache = tmp_path / "cache"
    folder = bring(pin, cache)
    shutil.rmtree(folder)
    archives = cache / f".{folder.name}.archives"
    archives.mkdir()
    # what is written to it meets the real ENOSPC
    (archives / "cuda_nvcc-linux-x86_64-12.8.90-archive.tar.xz.part").symlink_to("/dev/full")
    with pytest.raises(DiskError) as caught:
        bring(pin, cache)
    assert caught.value.what == f"there is no room left for {cache}"
    assert "LLAMA_CPP_PYTHON_CACHE=FOLDER" in caught.value.cure
    assert left_behind(cache) == []


def limited(size: int, act: Callable[[], object]) -> None:
    """Run something while no file of this process can grow beyond ``size`` bytes."""
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize(
    ("platform", "system"),
    [("linux-x86_64", "linux"), ("windows-x86_64", "windows")],
    ids=["tar", "zip"],
)
def test_a_disk_that_is_full_while_unpacking(
    server: Server, tmp_path: Path, platform: str, system: System
) -> None:
    server.add("cuda_nvcc", platform, {"bin/nvcc": "x" * 1_000_000})
    pin = server.pin("cuda_nvcc")
    cache = tmp_path / "cache"
    with pytest.raises(DiskError, match=r"^there is no room left for "):
        limited(200_000, lambda: bring(pin, cache, system, "x86_64"))
    assert left_behind(cache) == []
    # the archive was whole: with room again nothing is fetched twice
    server.asked.clear()
    assert (bring(pin, cache, system, "x86_64") / "bin/nvcc").stat().st_size == 1_000_000
    assert server.asked == ["/redistrib_12.8.1.json"]


# ---- pins ---------------------------------------------------------------------------------------


def test_every_cuda_backend_has_its_release_pinned() -> None:
    pins = load_pins(PINS_PATH).redistributable
    found = {
        target.name: pin.version if (pin := find_redistributable(target, pins)) else None
        for target in TABLE.targets
        if target.family.name in {"cuda", "vulkan"}
    }
    releases = {
        "cu121": "12.1.1",
        "cu122": "12.2.0",
        "cu123": "12.3.2",
        "cu124": "12.4.1",
        "cu125": "12.5.1",
        "cu126": "12.6.3",
        "cu128": "12.8.1",
        "cu130": "13.0.2",
        "vulkan": None,
    }
    platforms = ("manylinux_x86_64", "manylinux_aarch64", "win_amd64")
    assert found == {
        f"{backend}-{platform}": version
        for backend, version in releases.items()
        for platform in platforms
    }
    assert {pin.version: len(pin.components) for pin in pins}["13.0.2"] == 6


def test_the_real_manifest_of_13_0_has_every_pinned_component(
    server: Server, tmp_path: Path
) -> None:
    """The components that the pin names, as NVIDIA's manifest of 13.0.2 tells them, on three systems."""
    shutil.copyfile(RECORDED / "redistrib_13.0.2.json", server.folder / "redistrib_13.0.2.json")
    path = tmp_path / "toolkits.toml"
    path.write_text("schema = 2\ntoolkit = []\n", encoding="utf-8")
    pin = pin_redistributable(PROGRESS, "13.0.2", path)
    assert pin.components == load_pins(PINS_PATH).redistributable[-1].components
    for (system, machine), platform in PLATFORMS.items():
        suffix = "zip" if system == "windows" else "tar.xz"
        with pytest.raises(NetworkError) as caught:
            bring(pin, tmp_path / "cache", system, machine)
        assert caught.value.what == (
            f"the server has no {server.url}/cuda_nvcc/{platform}/"
            f"cuda_nvcc-{platform}-13.0.88-archive.{suffix}"
        )


PIN = """schema = 2
toolkit = []

# a comment that stays
[[redistributable]]
name = "CUDA"
version = "12.8.0"
manifest = "SHA"
components = ["cuda_nvcc"]

[[redistributable]]
name = "CUDA"
version = "13.0.2"
manifest = "SHA"
components = ["cuda_nvcc"]
""".replace("SHA", "0" * 64)


def test_pinning_replaces_the_release_of_the_same_minor_version(
    server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "toolkits.toml"
    path.write_text(PIN, encoding="utf-8")
    manifest = server.pin().manifest
    pin = pin_redistributable(PROGRESS, "12.8.1", path)
    assert (pin.manifest, pin.components) == (manifest, list(LINUX))
    assert path.read_text(encoding="utf-8") == PIN.replace(
        f'version = "12.8.0"\nmanifest = "{"0" * 64}"\ncomponents = ["cuda_nvcc"]',
        f'version = "12.8.1"\nmanifest = "{manifest}"\n'
        'components = ["cuda_nvcc", "cuda_cudart", "cuda_cccl", "libcublas"]',
        1,
    )
    assert [pin.version for pin in load_pins(path).redistributable] == ["12.8.1", "13.0.2"]
    bring(load_pins(path).redistributable[0], tmp_path / "cache")


def test_pinning_adds_a_new_minor_version(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "toolkits.toml"
    path.write_text(PIN.replace("12.8", "12.9"), encoding="utf-8")
    server.pin()
    pin_redistributable(PROGRESS, "12.8.1", path)
    assert [pin.version for pin in load_pins(path).redistributable] == [
        "12.9.0",
        "13.0.2",
        "12.8.1",
    ]


def test_a_manifest_without_a_platform_is_not_pinned(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "toolkits.toml"
    path.write_text(PIN, encoding="utf-8")
    entry = server.manifest["libcublas"]
    assert isinstance(entry, dict)
    del entry["linux-sbsa"]
    server.pin()
    with pytest.raises(VendorError, match="has no libcublas for linux-sbsa"):
        pin_redistributable(PROGRESS, "12.8.1", path)
    assert path.read_text(encoding="utf-8") == PIN


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("manifest", "manifesto", "redistributable.0.manifesto: Unexpected keyword argument"),
        ('"CUDA"', '"cuda"', "redistributable.0.name: Input should be 'CUDA'"),
        ("0" * 64, "0" * 63, "CUDA 12.8.0: no release (12.8.1), sha256 or name of a component"),
        ("12.8.0", "12.8", "  CUDA 12.8: no release (12.8.1)"),
        ("cuda_nvcc", "../nvcc", "  CUDA 12.8.0"),
        ("[[redistributable]]", "[[redistributable", "toolkits.toml: "),
    ],
)
def test_a_wrong_pin_is_said(tmp_path: Path, old: str, new: str, problem: str) -> None:
    path = tmp_path / "toolkits.toml"
    path.write_text(PIN.replace(old, new), encoding="utf-8")
    with pytest.raises(TableError) as caught:
        load_pins(path)
    assert problem in str(caught.value)
    assert str(caught.value).endswith(
        "\n  -> mend toolkits.toml; the keys are the fields of the classes in ci/pins.py"
    )


def test_the_verb_says_which_release_there_is_none_of(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    before = PINS_PATH.read_text(encoding="utf-8")
    assert main(["pin", "cuda", "12.99.0"]) == NetworkError.exit_code
    assert f"the server has no {server.url}/redistrib_12.99.0.json" in capsys.readouterr().err
    assert PINS_PATH.read_text(encoding="utf-8") == before
    with pytest.raises(SystemExit):
        main(["pin", "cuda", "12.8"])
    assert "'12.8' is not a release such as 12.8.1" in capsys.readouterr().err


def test_the_server_is_nvidias_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    assert base_url() == BASE_URL == "https://developer.download.nvidia.com/compute/cuda/redist"
