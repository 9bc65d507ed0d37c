from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from index.__main__ import main
from tests.wheels import write_proven_wheel, write_report, write_wheel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "llama_cpp_python-0.3.100+cpu-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795262400")
    return tmp_path


def test_add_then_build(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_proven_wheel(here / "dist")

    assert main(["add", "dist"]) == 0
    assert main(["add", f"dist/{NAME}"]) == 0
    assert main(["build"]) == 0

    size = sum(path.stat().st_size for path in (here / "site").rglob("*") if path.is_file())
    assert capsys.readouterr().out == (
        f"added   {NAME} (proven on 3.13.1)\n"
        "index/catalogue.jsonl: 1 new, 0 known\n"
        f"known   {NAME}\n"
        "index/catalogue.jsonl: 0 new, 1 known\n"
        f"site: 10 pages, 1 wheels here, 0 linked elsewhere, {size / 1e6:.1f} MB; 12 files are new\n"
    )
    line = json.loads((here / "index" / "catalogue.jsonl").read_bytes())
    assert line["upload_time"] == "2026-11-21T12:00:00Z"


def test_update_does_both(here: Path) -> None:
    write_proven_wheel(here / "dist")

    assert main(["update"]) == 0

    assert (here / "site" / "whl" / "cpu" / "llama-cpp-python" / NAME).is_file()


def test_yank_and_unyank(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_proven_wheel(here / "dist")
    main(["add", "dist"])
    capsys.readouterr()

    assert main(["yank", "--reason", "wrong answers", "0.3.100+cpu"]) == 0
    assert main(["yank", "--reason", "wrong answers", NAME]) == 0
    assert main(["unyank", NAME]) == 0

    assert capsys.readouterr().out == (
        f"yanked  {NAME}\n"
        "index/catalogue.jsonl: 1 changed; `python -m index build` shows it\n"
        "index/catalogue.jsonl: 0 changed; `python -m index build` shows it\n"
        f"back    {NAME}\n"
        "index/catalogue.jsonl: 1 changed; `python -m index build` shows it\n"
    )
    assert len((here / "index/catalogue.jsonl").read_bytes().splitlines()) == 3


def test_a_try_begins_anew(here: Path) -> None:
    options = ["--anew", "--catalogue", "build/catalogue.jsonl"]
    write_proven_wheel(here / "dist", backend="cu128")
    assert main(["update", *options]) == 0
    shutil.rmtree(here / "dist")
    write_proven_wheel(here / "dist")

    assert main(["update", *options]) == 0

    assert sorted(path.name for path in (here / "site/whl").iterdir()) == ["cpu", "index.html"]
    assert len((here / "build/catalogue.jsonl").read_bytes().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            [],
            "error: --anew would forget index/catalogue.jsonl, which is the release's and only"
            " grows\n  -> name a catalogue of your own with --catalogue\n",
            id="release",
        ),
        pytest.param(
            ["--catalogue", "c.jsonl", "--out", "mine"],
            "error: mine: not a site that this command made, so it is not replaced\n",
            id="foreign",
        ),
    ],
)
def test_a_try_forgets_nothing_of_worth(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    write_proven_wheel(here / "dist")
    main(["add", "dist"])
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("mine", encoding="utf-8")
    before = snapshot(here)
    capsys.readouterr()

    assert main(["update", "--anew", *options]) == 2

    assert capsys.readouterr().err.startswith(message)
    assert snapshot(here) == before


def test_options(here: Path) -> None:
    write_proven_wheel(here / "built")

    assert main(["add", "--catalogue", "a/c.jsonl", "built"]) == 0
    arguments = ["build", "--catalogue", "a/c.jsonl", "--wheels", "built", "--out", "b"]
    assert main([*arguments, "--site-url", "https://example.org/"]) == 0

    assert "https://example.org/whl/cpu/" in (here / "b" / "index.html").read_text(encoding="utf-8")


def test_base_url_needs_no_wheels(here: Path) -> None:
    write_proven_wheel(here / "built")

    assert main(["add", "--base-url", "https://example.org/f", "built"]) == 0
    assert main(["build"]) == 0

    page = (here / "site/whl/cpu/llama-cpp-python/index.html").read_text(encoding="utf-8")
    assert '<a href="https://example.org/f/llama_cpp_python-0.3.100%2Bcpu-' in page


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        pytest.param(["add", "none"], 8, "error: none: not the file name of a wheel", id="no-file"),
        pytest.param(
            ["add", "empty"],
            2,
            "error: empty: no wheels there\n  -> build one with `nox -s build`\n",
            id="no-wheels",
        ),
        pytest.param(
            ["build"],
            10,
            "error: index/catalogue.jsonl: no wheels are catalogued there\n"
            "  -> add some with `python -m index add dist`\n",
            id="no-catalogue",
        ),
        pytest.param(
            ["yank", "--reason", "bad", "0.3.100+cpu"],
            10,
            "error: index/catalogue.jsonl: there is no catalogue\n"
            "  -> give the catalogue with --catalogue\n",
            id="yank-nothing",
        ),
        pytest.param(
            ["serve"],
            2,
            "error: site: no site is there\n  -> make one with `nox -s index`, or give --root\n",
            id="no-site",
        ),
    ],
)
def test_an_error_is_a_message_and_a_cure(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    (here / "empty").mkdir()

    assert main(arguments) == status

    assert capsys.readouterr().err.startswith(message)


def test_exit_status_per_kind(here: Path) -> None:
    wheel = write_wheel(here / "dist")
    assert main(["add", "dist"]) == 9
    write_report(wheel)
    assert main(["add", "dist"]) == 0
    write_wheel(here / "dist", {"llama_cpp/__init__.py": "changed = True\n"})
    assert main(["add", "dist"]) == 10
    wheel.write_bytes(b"")
    assert main(["add", "dist"]) == 8


def test_a_disk_that_refuses(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_proven_wheel(here / "dist")
    (here / "index").write_text("a file where a folder is needed", encoding="utf-8")

    assert main(["add", "dist"]) == 11

    assert capsys.readouterr().err.endswith("\n  -> mend that, then run this again\n")


def test_a_source_date_epoch_that_is_no_number(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_proven_wheel(here / "dist")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")

    assert main(["add", "dist"]) == 2

    assert capsys.readouterr().err == (
        "error: SOURCE_DATE_EPOCH is 'yesterday'\n"
        "  -> it must be seconds since 1970, or not be set\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "the following arguments are required: COMMAND", id="nothing"),
        pytest.param(["delete"], "invalid choice: 'delete'", id="command"),
        pytest.param(["build", "--colour"], "unrecognized arguments: --colour", id="option"),
        pytest.param(["add"], "the following arguments are required: WHEEL", id="no-wheel"),
        pytest.param(["serve", "--port", "http"], "invalid int value: 'http'", id="port"),
        pytest.param(
            ["build", "--base-url", "wheels"],
            "'wheels' is not an address of a folder, such as https://example.org/wheels",
            id="url",
        ),
    ],
)
def test_usage_errors(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["add", "build", "update", "yank", "unyank", "serve"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])

    assert caught.value.code == 0
    assert f"usage: python -m index {command} " in capsys.readouterr().out


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file of the site and the catalogue, hidden ones and half-written ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_relative_to(folder / "dist")
    }


def other_metadata(dist: Path) -> None:
    write_report(write_wheel(dist, version="0.3.101+cpu", metadata={"Version": "0.3.102+cpu"}))


def other_name(dist: Path) -> None:
    write_report(write_wheel(dist, version="0.3.101+cpu", metadata={"Name": "llama-cpp"}))


def no_report(dist: Path) -> None:
    write_wheel(dist, version="0.3.101+cpu")


def failed_report(dist: Path) -> None:
    write_report(write_wheel(dist, version="0.3.101+cpu"), passed=False)


def report_of_other_bytes(dist: Path) -> None:
    wheel = write_proven_wheel(dist, version="0.3.101+cpu")
    wheel.write_bytes(write_wheel(dist / "x", {"a": "b"}, version="0.3.101+cpu").read_bytes())


def duplicate(dist: Path) -> None:
    write_report(write_wheel(dist, {"llama_cpp/__init__.py": "changed = True\n"}))


def truncated_wheel(dist: Path) -> None:
    wheel = write_proven_wheel(dist, version="0.3.101+cpu")
    wheel.write_bytes(wheel.read_bytes()[:-60])
    write_report(wheel)


def truncated_line(dist: Path) -> None:
    file = dist.parent / "index" / "catalogue.jsonl"
    file.write_bytes(file.read_bytes()[:-9])


def foreign_key(dist: Path) -> None:
    file = dist.parent / "index" / "catalogue.jsonl"
    file.write_bytes(file.read_bytes().replace(b'{"name"', b'{"colour":"red","name"'))


@pytest.mark.parametrize(
    ("spoil", "status", "message"),
    [
        pytest.param(other_metadata, 8, "METADATA says llama-cpp-python 0.3.102+cpu", id="version"),
        pytest.param(other_name, 8, "METADATA says llama-cpp 0.3.101+cpu", id="name"),
        pytest.param(no_report, 9, "no smoke report", id="no-report"),
        pytest.param(failed_report, 9, "failed on 3.13.1 (tokens)", id="failed-report"),
        pytest.param(report_of_other_bytes, 9, "the report is about another wheel", id="report"),
        pytest.param(duplicate, 10, "the catalogue knows this name with other bytes", id="bytes"),
        pytest.param(truncated_wheel, 8, "truncated or damaged archive", id="truncated-wheel"),
        pytest.param(truncated_line, 10, "catalogue.jsonl:1: the line is cut off", id="line"),
        pytest.param(foreign_key, 10, "colour: Unexpected keyword argument", id="key"),
    ],
)
def test_broken_inputs_stop_and_change_nothing(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    status: int,
    message: str,
) -> None:
    write_proven_wheel(here / "dist")
    assert main(["update"]) == 0
    write_proven_wheel(here / "dist", backend="cu128")
    spoil(here / "dist")
    before = snapshot(here)
    capsys.readouterr()

    assert main(["update"]) == status

    said = capsys.readouterr()
    assert message in said.err
    assert "\n  -> " in said.err
    assert "Traceback" not in said.err
    assert snapshot(here) == before
