"""Wheels as files: reading, RECORD, and writing the same bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ci.errors import WheelError
from ci.wheel import library_names, read_wheel, split_variant, write_wheel

NAME = "llama_cpp_python-0.3.100+cpu-py3-none-manylinux_2_17_x86_64.whl"
INFO = "llama_cpp_python-0.3.100+cpu.dist-info"
FILES = {
    "llama_cpp/__init__.py": b"x = 1\n",
    "llama_cpp/lib/libllama.so": b"\x7fELF",
    f"{INFO}/METADATA": b"Metadata-Version: 2.4\nName: llama-cpp-python\nVersion: 0.3.100+cpu\n",
    f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-manylinux_2_17_x86_64\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    write_wheel(path, FILES)
    return path


def rewritten(path: Path, changes: dict[str, bytes | None]) -> Path:
    """The archive with other files, its RECORD as it was."""
    with zipfile.ZipFile(path) as archive:
        files: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    files.update(changes)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def test_a_written_wheel_is_read_back(wheel: Path) -> None:
    read = read_wheel(wheel)
    assert {name: data for name, data in read.files.items() if not name.endswith("RECORD")} == FILES
    assert (str(read.version), read.label) == ("0.3.100+cpu", "cpu")
    assert read.tags == ("py3-none-manylinux_2_17_x86_64",)
    assert list(read.libraries) == ["llama_cpp/lib/libllama.so"]
    assert read.record_problems() == []


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / NAME, tmp_path / "b" / NAME
    for path, order in ((first, list(FILES)), (second, list(reversed(FILES)))):
        path.parent.mkdir()
        write_wheel(path, {name: FILES[name] for name in order})
    assert first.read_bytes() == second.read_bytes()


def test_record_comes_last_and_libraries_are_executable(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    assert entries[-1].filename == f"{INFO}/RECORD"
    modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in entries}
    assert modes["llama_cpp/lib/libllama.so"] == 0o755
    assert modes["llama_cpp/__init__.py"] == 0o644
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"llama_cpp/__init__.py": b"x = 2\n"}, "RECORD has another hash of llama_cpp/__init__.py"),
        ({"llama_cpp/extra.py": b""}, "RECORD does not list llama_cpp/extra.py"),
        (
            {"llama_cpp/lib/libllama.so": None},
            "RECORD lists llama_cpp/lib/libllama.so, which is not in the wheel",
        ),
        ({f"{INFO}/RECORD": b"a,b\n"}, "RECORD has a line of 2 fields: a,b"),
        ({f"{INFO}/RECORD": None}, f"there is no {INFO}/RECORD"),
    ],
    ids=["changed", "extra", "lost", "malformed", "none"],
)
def test_a_wrong_record_is_seen(
    wheel: Path, changes: dict[str, bytes | None], problem: str
) -> None:
    assert problem in read_wheel(rewritten(wheel, changes)).record_problems()


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -30])
def test_a_truncated_wheel_is_said_to_be_damaged(wheel: Path, keep: int) -> None:
    wheel.write_bytes(wheel.read_bytes()[:keep])
    with pytest.raises(WheelError, match=r"manylinux_2_17_x86_64\.whl is damaged: "):
        read_wheel(wheel)


def test_flipped_bytes_are_seen(wheel: Path) -> None:
    data = bytearray(wheel.read_bytes())
    at = data.index(b"llama_cpp/__init__.py") + len("llama_cpp/__init__.py") + 2
    data[at] ^= 0xFF
    wheel.write_bytes(bytes(data))
    with pytest.raises(WheelError, match="is damaged: "):
        read_wheel(wheel)


def test_a_wheel_without_metadata_is_refused(wheel: Path) -> None:
    with pytest.raises(WheelError, match=r"has no llama_cpp_python.*/METADATA"):
        read_wheel(rewritten(wheel, {f"{INFO}/METADATA": None}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("llama.zip", "llama.zip is not the name of a wheel"),
        ("numpy-2.0.0-py3-none-any.whl", "numpy-2.0.0-py3-none-any.whl is a wheel of numpy"),
        (NAME, "there is no "),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(WheelError) as caught:
        read_wheel(tmp_path / name)
    assert message in caught.value.what


def test_a_failed_write_leaves_the_old_wheel(wheel: Path) -> None:
    before = wheel.read_bytes()
    with pytest.raises(TypeError):
        write_wheel(wheel, {**FILES, "llama_cpp/bad.py": None})  # type: ignore[dict-item]
    assert wheel.read_bytes() == before
    assert [entry.name for entry in wheel.parent.iterdir()] == [NAME]


@pytest.mark.parametrize(
    ("system", "names"),
    [
        ("linux", ["libggml.so", "libggml-base.so", "libggml-metal.so"]),
        ("macos", ["libggml.dylib", "libggml-base.dylib", "libggml-metal.so"]),
        ("windows", ["ggml.dll", "ggml-base.dll", "ggml-metal.dll"]),
    ],
)
def test_library_names(system: str, names: list[str]) -> None:
    assert library_names(["ggml", "ggml-base", "ggml-metal"], system) == names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (NAME, (NAME, None)),
        (NAME.replace(".whl", "-cu128.whl"), (NAME, "cu128")),
        (NAME.replace(".whl", "-x86_64_v3.whl"), (NAME, "x86_64_v3")),
        (NAME.replace("-py3", "-1-py3"), (NAME.replace("-py3", "-1-py3"), None)),
        (NAME.replace("-py3", "-1-py3").replace(".whl", "-cu128.whl"), ("", "cu128")),
        (NAME.replace(".whl", "-CU.whl"), (NAME.replace(".whl", "-CU.whl"), None)),
        ("notes.txt", ("notes.txt", None)),
    ],
    ids=["plain", "cuda", "level", "build-tag", "both", "no-label", "no-wheel"],
)
def test_a_variant_label_is_split_off(name: str, parts: tuple[str, str | None]) -> None:
    plain, label = parts
    assert split_variant(name) == (plain or NAME.replace("-py3", "-1-py3"), label)


def test_a_variant_is_read_like_any_wheel(tmp_path: Path) -> None:
    path = tmp_path / NAME.replace(".whl", "-cu128.whl")
    write_wheel(path, FILES)
    read = read_wheel(path)
    assert (read.variant, read.label, read.path.name) == ("cu128", "cpu", path.name)
    assert read.tags == ("py3-none-manylinux_2_17_x86_64",)
    assert read.record_problems() == []
