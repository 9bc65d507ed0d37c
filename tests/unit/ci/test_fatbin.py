"""Code for GPUs: containers of nvcc's and of clang's, made here byte by byte, and damaged ones."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.fatbin import DeviceCode, FatbinError, architecture_order, read_device_code
from ci.library import read_library
from tests.device_code import bundle, container, entry

ZSTD = any(
    importlib.util.find_spec(name.split(".")[0]) and importlib.util.find_spec(name)
    for name in ("compression.zstd", "backports.zstd")
)


def read(*sections: bytes) -> DeviceCode:
    return read_device_code([memoryview(section) for section in sections])


@pytest.mark.parametrize(
    ("made", "architecture"),
    [
        pytest.param(entry(75), "75", id="machine code"),
        pytest.param(entry(90, kind=1), "90-virtual", id="PTX"),
        pytest.param(entry(90, flags=0x108011), "90a", id="for that GPU alone, compressed"),
        pytest.param(entry(120, flags=0x1108011), "120a", id="Blackwell"),
        pytest.param(entry(120, flags=0x1208011), "120f", id="for that family"),
        pytest.param(entry(120, kind=1, flags=0x108011), "120a-virtual", id="PTX for that GPU"),
        pytest.param(entry(50, flags=0x2041), "50", id="CUDA 12.1 on Windows"),
        pytest.param(entry(90, header=72, flags=0x102011), "90a", id="CUDA 12.4"),
        pytest.param(entry(86, kind=16), "86", id="machine code of the other kind"),
        pytest.param(entry(120, header=112, flags=0x1108011), "120a", id="a longer header"),
    ],
)
def test_an_entry_is_called_as_in_the_table(made: bytes, architecture: str) -> None:
    assert read(container(made)) == DeviceCode(sizes={architecture: 8}, containers=1)


def test_bytes_by_architecture_over_all_containers() -> None:
    section = (
        container(entry(75, payload=16), entry(90, payload=24), entry(90, kind=1))
        + bytes(40)
        + container(entry(75, payload=32), entry(90, payload=8), entry(90, kind=1))
        + bytes(512)
    )
    code = read(section)
    assert code == DeviceCode(sizes={"75": 48, "90": 32, "90-virtual": 16}, containers=2)
    assert code.architectures == ("75", "90", "90-virtual")


def test_a_container_that_lacks_an_architecture_is_counted() -> None:
    whole = container(entry(75), entry(90))
    assert read(whole + container(entry(90)) + whole, whole).lacking == {"75": 1}


def test_no_code_at_all() -> None:
    assert read() == read(bytes(64)) == DeviceCode()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        pytest.param(
            container(entry(75)) + b"\0\0\0\0else",
            "there is no container of code for GPUs at 0x5c",
            id="something else behind it",
        ),
        pytest.param(
            container(entry(75))[:-1],
            "the container of code for GPUs at 0x0 is cut off",
            id="cut off in the payload",
        ),
        pytest.param(
            container(entry(75)) + container(entry(75))[:30],
            "the container of code for GPUs at 0x58 is cut off",
            id="cut off in an entry",
        ),
        pytest.param(
            container(entry(75), version=2), "containers of version 2 are not known", id="version"
        ),
        pytest.param(
            container(entry(75, kind=3)), "entries of kind 3 are not known", id="kind of entry"
        ),
        pytest.param(
            container(entry(75, header=64).replace(struct.pack("<I", 64), bytes(4))),
            "an entry has a header of 0 bytes",
            id="an entry without a header, which would never end",
        ),
        pytest.param(
            b"CCOB" + struct.pack("<HHIIQ", 2, 1, 9999, 1, 0) + b"cut",
            "the container of code for GPUs at 0x0 is cut off",
            id="a compressed bundle cut off",
        ),
        pytest.param(
            b"CCOB" + struct.pack("<HHIQ", 1, 1, 1, 0),
            "compressed bundles of version 1 are not known",
            id="a compressed bundle without its size",
        ),
        pytest.param(
            b"CCOB" + struct.pack("<HHIIQ", 2, 7, 25, 1, 0) + b"x",
            "compressed bundles of method 7 are not known",
            id="another compression",
        ),
        pytest.param(
            b"CCOB" + struct.pack("<HHIIQ", 2, 0, 32, 1, 0) + b"not zlib",
            "a compressed bundle does not unpack: Error -3 while decompressing data:"
            " incorrect header check",
            id="damaged compressed data",
        ),
    ],
)
def test_what_is_not_known_is_said(section: bytes, message: str) -> None:
    with pytest.raises(FatbinError, match=f"^{re.escape(message)}$"):
        read(section)


HIP = {"hipv4-amdgcn-amd-amdhsa--gfx1100": 100, "hipv4-amdgcn-amd-amdhsa--gfx90a:xnack+": 50}
HOST = {"host-x86_64-unknown-linux-gnu": 0}


def compressed(data: bytes, *, version: int, method: int = 0) -> bytes:
    packed = zlib.compress(data)
    sizes = "<IIQ" if version == 2 else "<QQQ"
    size = 8 + struct.calcsize(sizes) + len(packed)
    return struct.pack("<4sHH", b"CCOB", version, method) + (
        struct.pack(sizes, size, len(data), 0) + packed
    )


@pytest.mark.parametrize(
    "pack",
    [
        pytest.param(lambda data: data, id="as it is"),
        pytest.param(lambda data: compressed(data, version=2), id="compressed by clang 19 to 21"),
        pytest.param(lambda data: compressed(data, version=3), id="compressed by clang 22"),
    ],
)
def test_bundles_of_clang(pack: Callable[[bytes], bytes]) -> None:
    section = (pack(bundle({**HOST, **HIP})) + bytes(96)) * 3
    assert read(section) == DeviceCode(sizes={"gfx1100": 300, "gfx90a:xnack+": 150}, containers=3)


def test_a_compressed_bundle_of_something_else() -> None:
    with pytest.raises(FatbinError, match="holds something else than a bundle"):
        read(compressed(b"no bundle", version=2))


def test_zstd_is_read_or_counted_as_unread() -> None:
    # a frame of one stored block (RFC 8878, 3.1.1): what clang 21 writes, but for the compression
    data = bundle(HIP)
    frame = b"\x28\xb5\x2f\xfd\x60" + struct.pack("<H", len(data) - 256)
    frame += (len(data) << 3 | 1).to_bytes(3, "little") + data
    head = struct.pack("<4sHHIIQ", b"CCOB", 2, 1, 24 + len(frame), len(data), 0)
    known = DeviceCode(sizes={"gfx1100": 100, "gfx90a:xnack+": 50}, containers=1)
    assert read(head + frame) == (known if ZSTD else DeviceCode(containers=1, unread=1))


def test_sorted_as_people_count() -> None:
    names = ["120a", "90-virtual", "gfx1100", "75", "90", "gfx90a", "100"]
    assert sorted(names, key=architecture_order) == [
        *("75", "90", "90-virtual", "gfx90a", "100", "120a", "gfx1100"),
    ]


def nvcc() -> Path:
    folders = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    folders += sorted(map(str, Path("/usr/local").glob("cuda-*")), reverse=True)
    found = [Path(folder, "bin", "nvcc") for folder in folders if folder]
    there = next((path for path in found if path.is_file()), shutil.which("nvcc"))
    if there is None or shutil.which("g++") is None:
        pytest.skip("there is no nvcc with g++ (set CUDA_HOME)")
    return Path(there)


@pytest.mark.build
@pytest.mark.parametrize("compression", ["none", "size"])
def test_what_nvcc_makes(tmp_path: Path, compression: str) -> None:
    compiler = nvcc()
    for name in ("one", "two"):
        tmp_path.joinpath(f"{name}.cu").write_text(
            f"__global__ void {name}(float *x, int n) {{ int i = threadIdx.x; if (i < n) x[i] *= 2; }}"
            f'\nextern "C" void run_{name}(float *x, int n) {{ {name}<<<1, 256>>>(x, n); }}\n'
        )
    asked = {"compute_75": "sm_75", "compute_90": "[sm_90,compute_90]", "compute_120a": "sm_120a"}
    library = tmp_path / "libboth.so"
    subprocess.run(
        [
            *(compiler, "-shared", "-Xcompiler", "-fPIC", "--cudart", "none"),
            *(f"-gencode=arch={arch},code={code}" for arch, code in asked.items()),
            *(f"-compress-mode={compression}", "-o", library, "one.cu", "two.cu"),
        ],
        cwd=tmp_path,
        check=True,
    )
    data = library.read_bytes()
    found = read_library(data)
    assert found is not None
    code = read(*(data[start : start + size] for start, size in found.device_code))
    assert code.architectures == ("75", "90", "90-virtual", "120a")
    assert (code.containers, code.lacking) == (2, {})
    # a cubin of one kernel is some kilobytes
    assert (code.sizes["75"] < 5_000) == (compression == "size")
