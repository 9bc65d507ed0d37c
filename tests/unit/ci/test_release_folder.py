"""A release folder is whole or not there, says what it is, and any change in it is found."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ci.errors import ReleaseError
from ci.installed import Installed, Run, Wheel, write_installed
from ci.release_folder import assemble, read_contents, verify
from ci.release_pages import notes_page
from ci.release_set import ReleaseSet, examine, wheel_name
from ci.table import load_table
from ci.vendor import load_pin
from tests.releases import VERSION, write_bare_wheel, write_member, write_smoke
from tests.reports import CHECKOUT, write_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE, PIN = load_table(), load_pin()
CPU = TABLE.target("cpu", "manylinux_x86_64")
CUDA = TABLE.target("cu130", "manylinux_x86_64")
NAME = wheel_name(CPU, VERSION)
CHANGELOG = f"# Changelog\n\n## {VERSION} (unreleased)\n\n- a line\n\n## 0.3.99\n\n- an older one\n"
DERIVED = "it is not what follows from the records and reports"
LEFT_OUT = {"cpu-win_amd64": "not asked for"}


def look(folder: Path) -> ReleaseSet:
    return examine(folder, [CPU, CUDA], TABLE, PIN, version=VERSION, commit=CHECKOUT)


def write_release(folder: Path) -> Path:
    wheels = folder / "wheels"
    members = [write_member(wheels, target) for target in (CPU, CUDA)]
    auto = wheels / "auto"
    auto.mkdir()
    shutil.copy(members[0], auto / "llama_cpp_python-0.3.100+auto-py3-none-any.whl")
    (auto / "llama_cpp_python-0.3.100+auto-py3-none-any.whl.smoke.json").write_text("{}")
    run = Run(
        installer="pip",
        version="26.3",
        tag="cp313",
        python="3.13.1",
        computed=True,
        passed=True,
        detail="import",
    )
    write_installed(
        wheels / "installed.json",
        Installed(
            passed=True,
            wheels=[
                Wheel(wheel=each.file.name, sha256=each.file.sha256, runs=[run])
                for each in look(wheels).members
            ],
        ),
    )
    sdist = folder / f"llama_cpp_python-{VERSION}.tar.gz"
    sdist.write_bytes(b"an sdist")
    return assemble(
        look(wheels),
        folder / "release",
        sdist=sdist,
        changelog=CHANGELOG,
        table=TABLE,
        pin=PIN,
        left_out=LEFT_OUT,
    )


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_it_holds_the_wheels_and_what_they_rest_on(release: Path) -> None:
    wheels = [NAME, wheel_name(CUDA, VERSION)]
    auto = "auto/llama_cpp_python-0.3.100+auto-py3-none-any.whl"
    assert names(release) == sorted(
        [
            *(
                f"{name}{suffix}"
                for name in wheels
                for suffix in ("", ".build.json", ".smoke.json")
            ),
            *(auto, f"{auto}.smoke.json"),
            *("SHA256SUMS", "costs.json", "costs.md", "installed.json", "notes.md", "proof.md"),
            *("release.json", f"llama_cpp_python-{VERSION}.tar.gz"),
        ]
    )
    assert (release / "notes.md").read_text() == "- a line\n"
    proof = (release / "proof.md").read_text()
    assert "- `cpu-win_amd64`: not asked for\n" in proof
    cells = ["computed" if series == "3.13" else "–" for series in [*TABLE.interpreters.all, "C"]]
    assert f"| `{CPU.name}` | repaired | {' | '.join(cells)} |" in proof.splitlines()
    contents = read_contents(release)
    assert (contents.version, contents.commit) == (VERSION, CHECKOUT)
    assert list(contents.wheels) == [CPU.name, CUDA.name]
    assert contents.left_out == LEFT_OUT


def test_sha256sum_accepts_it(release: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"],
        cwd=release,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_same_set_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = write_release(tmp_path / "one"), write_release(tmp_path / "two")
    assert (first / "SHA256SUMS").read_bytes() == (second / "SHA256SUMS").read_bytes()


def test_verify_accepts_it(release: Path) -> None:
    verified = verify(release, TABLE, PIN)
    assert (verified.contents.version, verified.files) == (VERSION, len(names(release)) - 1)


def changed_byte(folder: Path) -> None:
    (folder / "notes.md").write_text("- another line\n")


def gone(folder: Path) -> None:
    (folder / "costs.md").unlink()


def unlisted(folder: Path) -> None:
    (folder / "auto" / "more.whl").touch()


def resum(folder: Path) -> None:
    """Write the sums anew, as somebody would who has changed a file on purpose."""
    files = [name for name in names(folder) if name != "SHA256SUMS"]
    done = subprocess.run(
        ["sha256sum", *files], cwd=folder, check=True, capture_output=True, text=True
    )
    (folder / "SHA256SUMS").write_text(done.stdout)


def other_report(folder: Path) -> None:
    write_smoke(folder / NAME, CPU, failing="greedy tokens")
    resum(folder)


def without_bill(folder: Path) -> None:
    wheel = write_bare_wheel(folder, CPU, bill=False)
    write_build(wheel, CPU)
    write_smoke(wheel, CPU)
    resum(folder)


def other_costs(folder: Path) -> None:
    text = (folder / "costs.json").read_text()
    (folder / "costs.json").write_text(text.replace("61.5", "6.5"))
    resum(folder)


def not_installed(folder: Path) -> None:
    content = json.loads((folder / "installed.json").read_text())
    content["passed"] = False
    (folder / "installed.json").write_text(json.dumps(content))
    resum(folder)


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (changed_byte, ["notes.md: it has other bytes than SHA256SUMS says"]),
        (
            gone,
            [
                "costs.md: SHA256SUMS names it, and it is not there",
                f"costs.md: {DERIVED}",
            ],
        ),
        (unlisted, ["auto/more.whl: SHA256SUMS does not name it"]),
        (
            other_report,
            [
                (
                    f"failing: {CPU.name}: {NAME}.smoke.json does not say that the wheel passed: cp313"
                    " greedy tokens"
                ),
            ],
        ),
        (
            without_bill,
            [
                f"{NAME}: release.json is about another wheel",
                f"{NAME}: it has no SBOM that names llama.cpp's commit",
                *(f"{name}: {DERIVED}" for name in ("release.json", "costs.json", "proof.md")),
            ],
        ),
        (other_costs, [f"costs.json: {DERIVED}"]),
        (not_installed, ["installed.json: not every installation gave the known answers"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_verify_finds_what_was_changed(
    release: Path, change: Callable[[Path], None], problems: list[str]
) -> None:
    # a hard link of the set's own file must not be written to
    for name in names(release):
        (release / f"{name}.copy").write_bytes((release / name).read_bytes())
        (release / f"{name}.copy").replace(release / name)
    change(release)
    with pytest.raises(ReleaseError) as caught:
        verify(release, TABLE, PIN)
    first, *rest = caught.value.what.splitlines()
    assert first.startswith(f"{release} is not what it says: {len(rest)} problem")
    assert [line.strip() for line in rest] == problems


def test_a_set_that_is_not_whole_leaves_the_former_release(release: Path) -> None:
    before = (release / "SHA256SUMS").read_bytes()
    wheels = release.with_name("wheels")
    (wheels / f"{NAME}.smoke.json").unlink()
    with pytest.raises(ReleaseError):
        assemble(
            look(wheels),
            release,
            sdist=wheels / NAME,
            changelog=CHANGELOG,
            table=TABLE,
            pin=PIN,
            left_out={},
        )
    assert (release / "SHA256SUMS").read_bytes() == before


def test_what_a_killed_run_left_is_replaced(release: Path) -> None:
    before = (release / "SHA256SUMS").read_bytes()
    half = release.with_name(".release.part")
    half.mkdir()
    (half / "half.whl").write_bytes(b"half")
    sdist = release.parent / f"llama_cpp_python-{VERSION}.tar.gz"
    found = look(release.with_name("wheels"))
    assemble(
        found, release, sdist=sdist, changelog=CHANGELOG, table=TABLE, pin=PIN, left_out=LEFT_OUT
    )
    assert (release / "SHA256SUMS").read_bytes() == before
    assert sorted(path.name for path in release.parent.iterdir()) == [
        f"llama_cpp_python-{VERSION}.tar.gz",
        "release",
        "wheels",
    ]


def test_a_folder_without_contents_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as caught:
        verify(tmp_path, TABLE, PIN)
    assert caught.value.what == f"{tmp_path} has no release.json"


def test_a_release_of_a_newer_table_is_told(release: Path) -> None:
    without = replace(
        TABLE, backends={name: each for name, each in TABLE.backends.items() if name != "cu130"}
    )
    with pytest.raises(ReleaseError) as caught:
        verify(release, without, PIN)
    assert f"  {CUDA.name}: the table has no such target" in caught.value.what.splitlines()


@pytest.mark.parametrize("version", ["0.3.10", "0.3.98"])
def test_a_version_without_notes_is_an_error(version: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        notes_page(CHANGELOG, version)
    assert caught.value.what == f"CHANGELOG.md says nothing of {version}"
