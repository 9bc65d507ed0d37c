"""The Python for musl: brought by its pins, built once, and where not, said why."""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import lief
import pytest
from rich.console import Console

from ci.debian import MIRROR_VARIABLE
from ci.errors import BuildError, NetworkError, TableError, ToolMissingError, UsageError
from ci.musl_python import bring_pythons, loader_in
from ci.pins import InterpreterPin, LibcPin, Pieces, Pins, load_pins
from ci.progress import Progress
from ci.table import load_table
from tests.static_server import serving

PLATFORM = load_table().platforms["musllinux_x86_64"]

linux_with_tools = pytest.mark.skipif(
    platform.machine() != "x86_64" or not all(map(shutil.which, ("dpkg-deb", "make"))),
    reason="needs dpkg-deb and make, on x86-64",
)

TRUE = shutil.which("true") or ""

# as much of the real ones as a build asks of them; `true` is a program that runs and can be relinked
CONFIGURE = "#!/bin/sh\necho configured with CC=$CC and $LDFLAGS\n"
LIBRARY = "all install:\n\t@echo built a library\n"
PYTHON = """\
all:
altinstall:
\tmkdir -p $(DESTDIR){prefix}/bin
\tcp {true} $(DESTDIR){prefix}/bin/python3.13
"""


def test_what_is_pinned() -> None:
    pins = load_pins()
    assert [(pin.name, pin.version, pin.suite, sorted(pin.host)) for pin in pins.libc] == [
        ("musl", "1.2.3", "bookworm", ["linux_aarch64", "linux_x86_64"]),
        ("musl", "1.2.5", "trixie", ["linux_aarch64", "linux_x86_64"]),
    ]
    (pin,) = pins.interpreter
    assert (pin.name, pin.version, pin.libc) == ("CPython", "3.13.5", "musl")
    assert [path.rpartition("/")[2].partition("_")[0] for path in pin.sources] == [
        "zlib",
        "libffi",
        "python3.13",
    ]


@pytest.mark.parametrize(
    ("path", "sha256"),
    [
        ("pool/main/z/zlib/zlib_1.orig.tar.gz", "0"),
        ("pool/main/z/zlib/zlib_1_amd64.deb", "0" * 64),
        ("pool/../zlib_1.orig.tar.gz", "0" * 64),
        ("https://mirror.example/zlib_1.orig.tar.gz", "0" * 64),
    ],
)
def test_a_source_is_a_path_with_its_sha256(tmp_path: Path, path: str, sha256: str) -> None:
    file = tmp_path / "toolkits.toml"
    file.write_text(
        'schema = 2\ntoolkit = []\n[[interpreter]]\nname = "CPython"\nversion = "3.13.5"\n'
        f'libc = "musl"\n[interpreter.sources]\n"{path}" = "{sha256}"\n',
        encoding="utf-8",
    )
    with pytest.raises(TableError) as caught:
        load_pins(file)
    assert caught.value.what == (
        f"toolkits.toml: not a path or a name with its sha256:\n  CPython 3.13.5: {path}"
    )


@pytest.mark.parametrize("place", ["lib", "usr/lib"])
def test_the_loader_lies_where_the_suite_puts_it(tmp_path: Path, place: str) -> None:
    loader = tmp_path / place / "ld-musl-aarch64.so.1"
    loader.parent.mkdir(parents=True)
    loader.touch()
    assert loader_in(tmp_path, "aarch64") == loader
    with pytest.raises(UsageError) as caught:
        loader_in(tmp_path, "x86_64")
    assert caught.value.what == f"{tmp_path} has no ld-musl-x86_64.so.1"


def test_only_musl_is_pinned() -> None:
    platform = load_table().platforms["manylinux_x86_64"]
    with pytest.raises(UsageError) as caught:
        bring_pythons(Progress(Console(file=io.StringIO())), platform)
    assert caught.value.what == (
        "ci/toolkits.toml has no C library for Linux x86-64 (glibc 2.17 and newer)"
    )


@dataclass(kw_only=True)
class Mirror:
    """Stand-ins for Debian's archives, served on loopback, with pins of them."""

    folder: Path
    cache: Path
    output: io.StringIO = field(default_factory=io.StringIO)
    sources: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    @property
    def progress(self) -> Progress:
        return Progress(Console(width=2000, file=self.output))

    @property
    def pins(self) -> Pins:
        libcs = [
            LibcPin(
                name="musl",
                version=path.split("_")[1],
                suite="bookworm",
                host={"linux_x86_64": Pieces(packages={path: sha256})},
            )
            for path, sha256 in self.packages.items()
        ]
        interpreter = InterpreterPin(
            name="CPython", version="3.13.5", libc="musl", sources=self.sources
        )
        return Pins(schema=2, toolkit=[], libc=libcs, interpreter=[interpreter])

    def add_source(self, name: str, files: dict[str, str]) -> None:
        path = f"pool/{name}_1.orig.tar.gz"
        with tarfile.open(self.folder / path, "w:gz") as archive:
            for member, text in files.items():
                info = tarfile.TarInfo(f"{name}-1/{member}")
                info.size, info.mode = len(text.encode()), 0o755
                archive.addfile(info, io.BytesIO(text.encode()))
        self.sources[path] = hashlib.sha256((self.folder / path).read_bytes()).hexdigest()

    def add_musl(self, version: str) -> None:
        root = self.folder / f"musl-{version}"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "DEBIAN/control").write_text(
            f"Package: musl\nVersion: {version}\nArchitecture: amd64\nDescription: a stand-in\n"
            "Maintainer: Nobody <no@one.example>\n",
            encoding="utf-8",
        )
        (root / "lib").mkdir()
        # the machine's own, so that the stand-in for Python runs on it
        shutil.copy("/lib64/ld-linux-x86-64.so.2", root / "lib/ld-musl-x86_64.so.1")
        path = f"pool/musl_{version}_amd64.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", root, self.folder / path],
            check=True,
            capture_output=True,
        )
        self.packages[path] = hashlib.sha256((self.folder / path).read_bytes()).hexdigest()

    def fill(self, *, zlib: str = LIBRARY) -> None:
        """Serve what a Python is built of."""
        self.add_musl("1.2.3")
        self.add_musl("1.2.5")
        self.add_source("zlib", {"configure": CONFIGURE, "Makefile": zlib})
        self.add_source("libffi", {"configure": CONFIGURE, "Makefile": LIBRARY})
        configure = CONFIGURE + 'sed "s|{prefix}|${2#--prefix=}|" Makefile.in >Makefile\n'
        self.add_source(
            "python3.13", {"configure": configure, "Makefile.in": PYTHON.replace("{true}", TRUE)}
        )


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    folder = tmp_path / "mirror"
    (folder / "pool").mkdir(parents=True)
    monkeypatch.setenv("LLAMA_CPP_PYTHON_CACHE", str(tmp_path / "cache"))
    with serving(folder) as url:
        monkeypatch.setenv(MIRROR_VARIABLE, url)
        yield Mirror(folder=folder, cache=tmp_path / "cache")


@linux_with_tools
def test_a_python_is_built_once_and_linked_to_each_musl(mirror: Mirror) -> None:
    mirror.fill()
    old, new = bring_pythons(mirror.progress, PLATFORM, pins=mirror.pins)
    assert [(each.version, each.musl) for each in (old, new)] == [
        ("3.13.5", "1.2.3"),
        ("3.13.5", "1.2.5"),
    ]
    assert old.program.name == "python3.13"
    assert new.program.parent == old.program.parent
    state = next((mirror.cache / "toolkits").glob("musl-1.2.5-*[0-9a-f]"))
    assert interpreter_of(new.program) == str(state / "lib/ld-musl-x86_64.so.1")
    assert interpreter_of(old.program) == interpreter_of(Path(TRUE))
    assert "building CPython 3.13.5 with musl for x86_64, once" in mirror.output.getvalue()
    left = [path.name for path in mirror.cache.iterdir() if path.name.startswith(".")]
    assert left == []

    for path in (mirror.folder / "pool").iterdir():
        path.unlink()
    again = replace(mirror, output=io.StringIO())
    assert bring_pythons(again.progress, PLATFORM, pins=mirror.pins) == [old, new]
    assert again.output.getvalue() == ""


@linux_with_tools
def test_a_build_that_fails_says_its_last_words_and_leaves_the_log(mirror: Mirror) -> None:
    mirror.fill(zlib="all install:\n\t@echo no such header; false\n")
    with pytest.raises(BuildError) as caught:
        bring_pythons(mirror.progress, PLATFORM, pins=mirror.pins)
    first, *said = caught.value.what.splitlines()
    assert first == "CPython 3.13.5 could not be built with musl"
    assert "  | no such header" in said
    (log,) = mirror.cache.glob("*.log")
    assert caught.value.cure == (
        f"see {log}; without it the wheel can be proven on a machine with musl alone"
    )
    configured, *rest = log.read_text(encoding="utf-8").splitlines()
    assert configured.startswith("$ ./configure --static --prefix=")
    assert rest[0].startswith("configured with CC=")
    assert [path.name for path in mirror.cache.iterdir() if path.is_dir()] == ["toolkits", "zig"]


@linux_with_tools
def test_a_source_that_is_gone_stops_before_anything_is_built(mirror: Mirror) -> None:
    mirror.fill()
    (mirror.folder / "pool/libffi_1.orig.tar.gz").unlink()
    with pytest.raises(NetworkError) as caught:
        bring_pythons(mirror.progress, PLATFORM, pins=mirror.pins)
    assert caught.value.what == ("libffi_1.orig.tar.gz is no longer there: the server answers 404")
    assert "configuring" not in mirror.output.getvalue()


@linux_with_tools
def test_without_make_the_cure_is_to_install_it(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.fill()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("dpkg-deb", "tar"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ToolMissingError) as caught:
        bring_pythons(mirror.progress, PLATFORM, pins=mirror.pins)
    assert str(caught.value) == (
        "there is no make on this machine, to build Python with\n"
        "  -> install it (Debian: apt install make)"
    )


def interpreter_of(program: Path) -> str:
    binary = lief.ELF.parse(program.read_bytes())
    assert binary is not None
    return binary.interpreter
