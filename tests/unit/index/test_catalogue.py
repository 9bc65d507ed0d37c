from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from ci.errors import CatalogueError, PublishError, SmokeError, ToolchainError, WheelError
from ci.table import load_table
from index import catalogue
from index.staging import locked
from tests.wheels import MANYLINUX, write_proven_wheel, write_report, write_wheel

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_table()
NOON = "2026-11-21T12:00:00Z"
EVENING = "2026-11-21T20:00:00Z"


def add(file: Path, *wheels: Path, upload_time: str = NOON) -> catalogue.Added:
    return catalogue.add(file, wheels, table=TABLE, upload_time=upload_time)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalogue.jsonl"


def test_one_line_says_all_about_a_wheel(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)

    add(file, wheel)

    report = wheel.with_name(f"{wheel.name}.smoke.json")
    assert file.read_bytes().count(b"\n") == 1
    assert json.loads(file.read_bytes()) == {
        "name": wheel.name,
        "project": "llama-cpp-python",
        "version": "0.3.100+cpu",
        "backend": "cpu",
        "platform": "manylinux_x86_64",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "size": wheel.stat().st_size,
        "upload_time": NOON,
        "requires_python": ">=3.9",
        "requires": [],
        "metadata_sha256": hashlib.sha256(
            b"Metadata-Version: 2.4\nName: llama-cpp-python\nVersion: 0.3.100+cpu\n"
            b"Summary: A stand-in\nRequires-Python: >=3.9\n"
        ).hexdigest(),
        "report": {
            "sha256": hashlib.sha256(report.read_bytes()).hexdigest(),
            "source": None,
            "date": "2026-11-21T02:00:00Z",
            "host": {"system": "Linux", "machine": "x86_64", "libc": "glibc 2.36", "cpu": "Xeon"},
            "interpreters": [
                {
                    "version": "3.13.1",
                    "tag": "cp313",
                    "implementation": "CPython",
                    "free_threaded": False,
                    "device": "CPU",
                    "cpu_variant": "libggml-cpu-haswell.so",
                    "checks": ["import", "tokens"],
                    "emulator": None,
                }
            ],
        },
        "variant": None,
        "yanked": None,
        "url": None,
    }


def test_what_was_added_is_loaded(tmp_path: Path, file: Path) -> None:
    added = add(file, write_proven_wheel(tmp_path), write_proven_wheel(tmp_path, backend="cu128"))

    assert catalogue.load(file) == added.new
    assert [entry.backend for entry in added.new] == ["cpu", "cu128"]


def test_a_missing_catalogue_is_empty(file: Path) -> None:
    assert catalogue.load(file) == ()


def test_appends_and_keeps_what_was_there(tmp_path: Path, file: Path) -> None:
    add(file, write_proven_wheel(tmp_path))
    before = file.read_bytes()

    added = add(file, write_proven_wheel(tmp_path, backend="cu128"), upload_time=EVENING)

    assert file.read_bytes().startswith(before)
    assert [(entry.backend, entry.upload_time) for entry in catalogue.load(file)] == [
        ("cpu", NOON),
        ("cu128", EVENING),
    ]
    assert [entry.backend for entry in added.new] == ["cu128"]


def test_the_same_bytes_again_change_nothing(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)
    first = add(file, wheel)
    before = file.read_bytes()

    again = add(file, wheel, wheel, upload_time=EVENING)

    assert file.read_bytes() == before
    assert again.new == ()
    assert again.known == first.new


def test_a_wheel_named_twice_is_added_once(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)

    add(file, wheel, wheel)

    assert len(catalogue.load(file)) == 1


def test_a_known_name_with_other_bytes_is_refused(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)
    old = add(file, wheel).new[0].sha256
    before = file.read_bytes()
    write_wheel(tmp_path, {"llama_cpp/__init__.py": "changed = True\n"})
    write_report(wheel)
    new = hashlib.sha256(wheel.read_bytes()).hexdigest()

    with pytest.raises(CatalogueError) as caught:
        add(file, write_proven_wheel(tmp_path, backend="cu128"), wheel)

    assert str(caught.value) == (
        f"{wheel}: the catalogue knows this name with other bytes"
        f" (sha256 {old}, this one has {new})\n"
        "  -> a published name never changes: raise the version or give a new label (+cpu.1);"
        " for a try, another --catalogue"
    )
    assert file.read_bytes() == before


def test_a_respin_is_a_new_label(tmp_path: Path, file: Path) -> None:
    add(file, write_proven_wheel(tmp_path))
    add(file, write_proven_wheel(tmp_path, version="0.3.100+cpu.1"))

    assert [(entry.version, entry.backend) for entry in catalogue.load(file)] == [
        ("0.3.100+cpu", "cpu"),
        ("0.3.100+cpu.1", "cpu"),
    ]


def test_a_label_that_is_no_backend_is_refused(tmp_path: Path, file: Path) -> None:
    wheel = write_wheel(tmp_path, version="0.3.100+turbo")

    with pytest.raises(CatalogueError) as caught:
        add(file, wheel)

    assert caught.value.what == f"{wheel}: the label +turbo names no backend of the table"
    assert caught.value.cure.startswith("the backends are: cpu, metal, cu121, ")
    assert not file.exists()


def test_a_wheel_for_some_gpus_alone_is_refused(tmp_path: Path, file: Path) -> None:
    wheel = write_wheel(tmp_path, version="0.3.100+cu130.sm90", platform="manylinux_2_28_x86_64")

    with pytest.raises(CatalogueError) as caught:
        add(file, wheel)

    assert caught.value.what == f"{wheel} is for some GPUs alone (+cu130.sm90)"
    assert caught.value.cure == (
        "install it as a file: from an index it would be taken for every GPU; build the backend"
        " without --archs for that"
    )
    assert not file.exists()


def test_a_target_that_the_table_has_not_is_refused(tmp_path: Path, file: Path) -> None:
    wheel = write_wheel(tmp_path, version="0.3.100+metal", platform="win_amd64")

    with pytest.raises(CatalogueError) as caught:
        add(file, wheel)

    assert caught.value.what == f"{wheel}: the table has no metal wheel for win_amd64"
    assert caught.value.cure == "metal exists on: macosx_arm64"


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        pytest.param(lambda wheel: wheel.write_bytes(b"PK"), WheelError, id="truncated-wheel"),
        pytest.param(lambda wheel: wheel.unlink(), WheelError, id="missing-wheel"),
        pytest.param(
            lambda wheel: wheel.with_name(f"{wheel.name}.smoke.json").unlink(),
            SmokeError,
            id="missing-report",
        ),
        pytest.param(
            lambda wheel: write_report(wheel, backend="cu128", passed=False),
            SmokeError,
            id="failed-report",
        ),
    ],
)
def test_one_refused_wheel_refuses_all(
    tmp_path: Path, file: Path, spoil: object, error: type[ToolchainError]
) -> None:
    good = write_proven_wheel(tmp_path)
    bad = write_proven_wheel(tmp_path, backend="cu128")
    assert callable(spoil)
    spoil(bad)

    with pytest.raises(error):
        add(file, good, bad)

    assert not file.exists()


def test_a_line_that_was_cut_off(tmp_path: Path, file: Path) -> None:
    add(file, write_proven_wheel(tmp_path), write_proven_wheel(tmp_path, backend="cu128"))
    file.write_bytes(file.read_bytes()[:-40])
    before = file.read_bytes()

    with pytest.raises(CatalogueError) as caught:
        add(file, write_proven_wheel(tmp_path, backend="cu126"))

    assert str(caught.value) == (
        f"{file}:2: the line is cut off (no newline)\n"
        "  -> restore the file from its version control; if the line is the last and was cut off,"
        " delete it and add its wheel again"
    )
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"size": "9"}, "size: Input should be a valid integer", id="type"),
        pytest.param({"size": 0}, "size: Input should be greater than 0", id="size"),
        pytest.param({"colour": "red"}, "colour: Unexpected keyword argument", id="unknown-key"),
        pytest.param({"sha256": "00"}, "sha256: String should match pattern", id="sha256"),
        pytest.param({"upload_time": "today"}, "upload_time: String should match", id="time"),
        pytest.param({"url": "ftp://x/y.whl"}, "url: String should match pattern", id="url"),
        pytest.param({"name": "x.whl"}, "x.whl: not the file name of a wheel", id="name"),
        pytest.param(
            {"backend": "cu128"},
            "llama_cpp_python-0.3.100+cpu-py3-none-win_amd64.whl: backend 'cu128' does not follow"
            " from the file name",
            id="backend",
        ),
        pytest.param(
            {"version": "0.3.101+cpu"},
            "llama_cpp_python-0.3.100+cpu-py3-none-win_amd64.whl: version '0.3.101+cpu' does not"
            " follow from the file name",
            id="version",
        ),
    ],
)
def test_a_malformed_line(
    tmp_path: Path, file: Path, change: dict[str, object], message: str
) -> None:
    add(file, write_proven_wheel(tmp_path))
    good = file.read_bytes()
    add(file, write_proven_wheel(tmp_path, platform="win_amd64"))
    line = json.loads(file.read_bytes().splitlines()[1])
    file.write_bytes(good + json.dumps({**line, **change}).encode() + b"\n")

    with pytest.raises(CatalogueError) as caught:
        catalogue.load(file)

    assert caught.value.what.startswith(f"{file}:2: {message}")


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b"\xff\n", b'{"name": "x"\n'])
def test_a_line_that_is_no_entry(tmp_path: Path, file: Path, line: bytes) -> None:
    add(file, write_proven_wheel(tmp_path))
    file.write_bytes(file.read_bytes() + line)

    with pytest.raises(CatalogueError) as caught:
        catalogue.load(file)

    assert caught.value.what.startswith(f"{file}:2: ")


def test_a_name_that_is_there_twice(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)
    add(file, wheel)
    line = json.loads(file.read_bytes())
    again = json.dumps({**line, "size": line["size"] + 1}).encode() + b"\n"
    file.write_bytes(file.read_bytes() + again)

    with pytest.raises(CatalogueError) as caught:
        catalogue.load(file)

    assert caught.value.what == (
        f"{file}:2: {wheel.name} is there already, and only yanked and url may change"
    )


def test_yank_and_back(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)
    other = write_proven_wheel(tmp_path, backend="cu128")
    add(file, wheel, other)
    before = file.read_bytes()

    (yanked,) = catalogue.yank(file, [wheel.name], reason="wrong answers on Zen 5")
    text = file.read_bytes()
    assert yanked.yanked == "wrong answers on Zen 5"
    assert [entry.yanked for entry in catalogue.load(file)] == ["wrong answers on Zen 5", None]
    assert text.startswith(before)

    (back,) = catalogue.yank(file, ["0.3.100+cpu"], reason=None)
    assert back.yanked is None
    assert [entry.yanked for entry in catalogue.load(file)] == [None, None]
    assert file.read_bytes().startswith(text)
    assert [entry.name for entry in catalogue.load(file)] == [wheel.name, other.name]


def test_a_version_means_all_its_wheels(tmp_path: Path, file: Path) -> None:
    wheels = [write_proven_wheel(tmp_path, platform=tag) for tag in (MANYLINUX, "win_amd64")]
    add(file, *wheels)

    changed = catalogue.yank(file, ["0.3.100+cpu", wheels[0].name], reason="")

    assert {entry.name for entry in changed} == {wheel.name for wheel in wheels}
    assert all(entry.yanked == "" for entry in catalogue.load(file))


def test_yanking_twice_writes_nothing(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)
    add(file, wheel)
    catalogue.yank(file, [wheel.name], reason="bad")
    before = file.read_bytes()

    assert catalogue.yank(file, [wheel.name], reason="bad") == ()
    assert file.read_bytes() == before


def test_yanking_what_is_not_there(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)
    add(file, wheel)
    before = file.read_bytes()

    with pytest.raises(CatalogueError) as caught:
        catalogue.yank(file, [wheel.name, "0.3.100"], reason="bad")

    assert str(caught.value) == (
        f"{file}: no wheel and no version is called 0.3.100\n"
        "  -> the versions in it are: 0.3.100+cpu"
    )
    assert file.read_bytes() == before


def test_a_yanked_wheel_is_still_known(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)
    add(file, wheel)
    catalogue.yank(file, [wheel.name], reason="bad")

    assert add(file, wheel).known[0].yanked == "bad"


def test_leaves_nothing_beside_the_catalogue(tmp_path: Path) -> None:
    file = tmp_path / "index" / "catalogue.jsonl"
    add(file, write_proven_wheel(tmp_path / "dist"))

    assert [path.name for path in file.parent.iterdir()] == ["catalogue.jsonl"]


def test_two_commands_at_the_same_time(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)

    with locked(file.parent), pytest.raises(PublishError) as caught:
        add(file, wheel)

    assert caught.value.what == f"{file.parent}: another index command is writing there"
    assert not file.exists()
    add(file, wheel)
    assert len(catalogue.load(file)) == 1


def test_where_the_wheels_were_uploaded(tmp_path: Path, file: Path) -> None:
    wheel = write_proven_wheel(tmp_path)

    catalogue.add(
        file, [wheel], table=TABLE, upload_time=NOON, base_url="https://example.org/files/"
    )

    (entry,) = catalogue.load(file)
    assert entry.url == f"https://example.org/files/{wheel.name}"


def test_a_gpu_wheel_that_met_no_gpu_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.jsonl"
    wheel = write_proven_wheel(tmp_path, backend="vulkan")
    write_report(wheel, backend="vulkan", changes={"gpu": {"device": "none"}})
    with pytest.raises(SmokeError, match="the wheel was not proven on a GPU"):
        add(file, wheel)
    assert not file.exists()
