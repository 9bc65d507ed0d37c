"""The table of indirect symbols, the UUID and the signature of what zig links for macOS."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ci.errors import WheelError
from ci.macho import read_binary, signature_problems, with_indirect_symbols
from ci.repair import repair
from ci.table import load_table
from ci.wheel import read_wheel, write_wheel
from tests.wheels import write_built_wheel

ARM, INTEL = "aarch64-macos.12.0", "x86_64-macos.12.0"
LOCAL = "INDIRECT_SYMBOL_LOCAL"
# on ARM the library's own variable has a place among its pointers, for another file may have had it
SOURCES = {
    "theirs.c": "int shared = 2;\nint theirs(int x) { return x + 39; }\n",
    "own.c": '__attribute__((visibility("hidden"))) int own = 1;\n',
    "llama.c": "extern int own, shared, theirs(int);\n"
    "int *llama_own(void) { return &own; }\n"
    "int llama(void) { return theirs(own) + shared; }\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ziglang", reason="the package ziglang links these")
    made = tmp_path_factory.mktemp("dylibs")
    for name, text in SOURCES.items():
        (made / name).write_text(text, encoding="utf-8")
    return made


def zig(folder: Path, target: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-g0", "-O1", *arguments]
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def linked(folder: Path, target: str) -> bytes:
    out = folder / f"libllama-{target}.dylib"
    if not out.exists():
        shared = ("-dynamiclib", "-nostdlib", "-Xlinker", "-S", "-Xlinker", "-x")
        objects = []
        for name in ("llama", "own"):
            objects.append(f"{name}-{target}.o")
            zig(folder, target, "-c", f"{name}.c", "-o", objects[-1])
        theirs = f"libtheirs-{target}.dylib"
        zig(folder, target, *shared, "theirs.c", "-install_name", f"@rpath/{theirs}", "-o", theirs)
        named = ("-install_name", "@rpath/libllama.dylib", "-Wl,-rpath,@loader_path")
        zig(folder, target, *shared, *objects, theirs, *named, "-o", out.name)
    return out.read_bytes()


def table(data: bytes) -> dict[str, list[str]]:
    """Return the symbols' names by section, as a disassembler reads them."""
    binary = read_binary(data)
    assert binary is not None
    command = binary.dynamic_symbol_command
    assert command is not None
    entries = struct.unpack_from(
        f"<{command.nb_indirect_symbols}I", data, command.indirect_symbol_offset
    )
    symbols = [each.name for each in binary.symbols]
    names = [LOCAL if each == 0x80000000 else str(symbols[each]) for each in entries]
    sizes = {"__stubs": 12, "__got": 8, "__la_symbol_ptr": 8}
    return {
        str(section.name): names[section.reserved1 :][: section.size // sizes[str(section.name)]]
        for section in binary.sections
        if section.name in sizes
    }


def identity(data: bytes) -> bytes:
    binary = read_binary(data)
    assert binary is not None
    command = binary.uuid
    assert command is not None
    return bytes(command.uuid)


def with_entries(data: bytes, entries: dict[int, int]) -> bytes:
    """Return a library as another link would have left its table of indirect symbols."""
    binary = read_binary(data)
    assert binary is not None
    command = binary.dynamic_symbol_command
    assert command is not None
    made = bytearray(data)
    for number, entry in entries.items():
        struct.pack_into("<I", made, command.indirect_symbol_offset + 4 * number, entry)
    return bytes(made)


def test_each_entry_is_what_is_bound_at_its_place(folder: Path) -> None:
    data = linked(folder, ARM)
    made = with_indirect_symbols(data)
    assert table(made) == {
        "__stubs": ["_theirs"],
        "__got": [LOCAL, "dyld_stub_binder", "_shared"],
        "__la_symbol_ptr": ["_theirs"],
    }
    assert len(made) == len(data)
    assert with_indirect_symbols(made) == made


def test_two_links_become_the_same_bytes(folder: Path) -> None:
    data = linked(folder, ARM)
    made = with_indirect_symbols(data)
    for entries in ({4: 0}, {4: 0x41068B41}, {0: 3, 1: 3, 2: 3, 3: 3, 4: 0xFFFFF900}):
        assert with_indirect_symbols(with_entries(data, entries)) == made
    # of other bytes it is another one, and one that says of itself that it is made of bytes
    assert identity(made) != identity(data)
    assert uuid.UUID(bytes=identity(made)).version == 3


def test_what_is_right_stays_as_it_is(folder: Path) -> None:
    data = linked(folder, INTEL)
    assert with_indirect_symbols(data) == data
    assert with_indirect_symbols(b"\x7fELF") == b"\x7fELF"


def test_a_name_that_is_in_no_table_of_symbols(folder: Path) -> None:
    data = bytearray(linked(folder, ARM))
    binary = read_binary(bytes(data))
    assert binary is not None
    assert binary.symbol_command is not None
    start, size = binary.symbol_command.strings_offset, binary.symbol_command.strings_size
    place = bytes(data).index(b"_shared", start, start + size)
    data[place : place + 7] = b"_hidden"
    made = with_indirect_symbols(bytes(data))
    assert table(made)["__got"] == [LOCAL, "dyld_stub_binder", LOCAL]


def test_other_stubs_than_lazy_pointers(folder: Path) -> None:
    data = bytearray(linked(folder, ARM))
    # the section's size, after two names of 16 bytes and the address
    place = bytes(data).index(b"__stubs\0") + 16 + 16 + 8
    struct.pack_into("<Q", data, place, 0)
    with pytest.raises(WheelError, match="has 0 stubs for 1 lazy pointers"):
        with_indirect_symbols(bytes(data))


def test_the_signature_is_of_the_new_bytes(folder: Path) -> None:
    data = linked(folder, ARM)
    assert list(signature_problems("it", data)) == []
    assert list(signature_problems("it", with_indirect_symbols(data))) == []
    assert list(signature_problems("it", with_entries(data, {4: 3}))) == [
        "it was changed after it was signed, in 1 of 4 pages: macOS ends a process that runs it"
    ]


def test_a_library_without_a_signature(folder: Path) -> None:
    assert list(signature_problems("it", linked(folder, INTEL))) == []
    data = bytearray(linked(folder, ARM))
    binary = read_binary(bytes(data))
    assert binary is not None
    signature = binary.code_signature
    assert signature is not None
    # of no parts, of a part beyond its end, with too many pages, more bytes than there are, and hashes
    # of a kind that there is not
    wrong = {8: 0, 16: 1 << 30, 20 + 28: 1 << 31, 20 + 32: 1 << 31, 20 + 36: 0x63 << 24}
    for place, value in wrong.items():
        changed = bytearray(data)
        struct.pack_into(">I", changed, signature.data_offset + place, value)
        assert list(signature_problems("it", bytes(changed))) == [
            "it has a signature that vouches for none of its bytes"
        ]
    # the last load command is the signature's
    commands, size = struct.unpack_from("<2I", data, 16)
    struct.pack_into("<2I", data, 16, commands - 1, size - 16)
    assert list(signature_problems("it", bytes(data))) == [
        "it is not signed: Apple silicon loads no library without a signature"
    ]


@pytest.mark.skipif(sys.platform == "darwin", reason="there delocate repairs what Apple links")
def test_repair_writes_the_table(folder: Path, tmp_path: Path) -> None:
    target = load_table().target("cpu", "macosx_arm64")
    read = read_wheel(write_built_wheel(tmp_path, target))
    built = tmp_path / "linked" / read.path.name
    built.parent.mkdir()
    data = linked(folder, ARM)
    about = read.files["llama_cpp/_build_info.json"].replace(b"{", b'{"toolkit": null, ', 1)
    libraries = dict.fromkeys(read.libraries, data)
    write_wheel(built, {**read.files, **libraries, "llama_cpp/_build_info.json": about})
    repaired = read_wheel(repair(built, target, tmp_path / "repaired"))
    assert set(repaired.libraries.values()) == {with_indirect_symbols(data)}
