"""The set of a release is the table's exactly: everything else is named, with its kind."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ci.errors import ReleaseError
from ci.release_set import ReleaseSet, examine, require_pythons, require_whole, wheel_name
from ci.table import load_table
from ci.vendor import load_pin
from tests.releases import VERSION, write_bare_wheel, write_member, write_smoke
from tests.reports import CHECKOUT, record_of, write_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE, PIN = load_table(), load_pin()
CPU = TABLE.target("cpu", "manylinux_x86_64")
MUSL = TABLE.target("cpu", "musllinux_aarch64")
CUDA = TABLE.target("cu130", "manylinux_x86_64")
OTHER = "1" * 40


def look(folder: Path, commit: str | None = CHECKOUT) -> ReleaseSet:
    return examine(folder, [CPU, MUSL, CUDA], TABLE, PIN, version=VERSION, commit=commit)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for target in (CPU, MUSL, CUDA):
        write_member(tmp_path, target)
    return tmp_path


def test_a_whole_set_has_no_problem(folder: Path) -> None:
    found = look(folder)
    assert found.problems == ()
    assert [member.target for member in found.members] == [CPU, MUSL, CUDA]
    assert [proof.level for proof in found.evidence[CUDA.name]] == [
        "configured",
        "built",
        "repaired",
        "loaded",
        "computed",
    ]
    require_whole(found)


def test_files_of_later_steps_and_of_killed_ones_are_no_problem(folder: Path) -> None:
    for name in (
        "SHA256SUMS",
        "release.json",
        "installed.json",
        f"llama_cpp_python-{VERSION}.tar.gz",
    ):
        (folder / name).touch()
    (folder / ".half.whl.part").touch()
    (folder / "auto").mkdir()
    assert look(folder).problems == ()


def missing(folder: Path) -> None:
    (folder / wheel_name(MUSL, VERSION)).unlink()


def stopped(folder: Path) -> None:
    for path in folder.glob(f"{wheel_name(MUSL, VERSION)}*"):
        path.unlink()
    record = record_of(MUSL, level="built")
    place = folder / f"{MUSL.name}.build.json"
    place.write_text(json.dumps(record), encoding="utf-8")


def without_record(folder: Path) -> None:
    (folder / f"{wheel_name(MUSL, VERSION)}.build.json").unlink()


def without_report(folder: Path) -> None:
    (folder / f"{wheel_name(MUSL, VERSION)}.smoke.json").unlink()


def failing(folder: Path) -> None:
    write_smoke(folder / wheel_name(MUSL, VERSION), MUSL, failing="greedy tokens")


def other_bytes(folder: Path) -> None:
    write_bare_wheel(folder, MUSL, marker="other")


def without_gpu(folder: Path) -> None:
    write_smoke(folder / wheel_name(CUDA, VERSION), CUDA, gpu="none")


def other_commit(folder: Path) -> None:
    write_smoke(folder / wheel_name(MUSL, VERSION), MUSL, commit=OTHER)


def dirty(folder: Path) -> None:
    write_build(folder / wheel_name(MUSL, VERSION), MUSL, commit=f"{CHECKOUT}-dirty")


def other_version(folder: Path) -> None:
    (folder / wheel_name(MUSL, "0.3.101")).touch()


def extra_wheel(folder: Path) -> None:
    write_member(folder, TABLE.target("vulkan", "manylinux_x86_64"))


def extra_file(folder: Path) -> None:
    (folder / "note.txt").touch()


def extra_report(folder: Path) -> None:
    (folder / f"{wheel_name(MUSL, '0.3.99')}.smoke.json").touch()


NAME = wheel_name(MUSL, VERSION)


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (
            missing,
            [
                f"missing: {MUSL.name}: there is no {NAME}",
            ],
        ),
        (
            stopped,
            [f"missing: {MUSL.name}: there is no {NAME}; its build stopped when it was built"],
        ),
        (without_record, [f"unfit: {MUSL.name}: there is no build record {NAME}.build.json"]),
        (without_report, [f"unproven: {MUSL.name}: there is no smoke report {NAME}.smoke.json"]),
        (
            failing,
            [
                (
                    f"failing: {MUSL.name}: {NAME}.smoke.json does not say that the wheel passed:"
                    " cp313 greedy tokens"
                )
            ],
        ),
        (
            without_gpu,
            [f"unproven: {CUDA.name}: its smoke test found no GPU, so it has computed on none"],
        ),
        (
            other_commit,
            [f"other commit: {MUSL.name}: it is of 111111111111, the release of {CHECKOUT[:12]}"],
        ),
        (dirty, [f"dirty: {MUSL.name}: the checkout had changes that are in no commit"]),
        (
            other_version,
            [
                (
                    f"other version: {wheel_name(MUSL, '0.3.101')}: it is of version 0.3.101, the"
                    " release of 0.3.100"
                )
            ],
        ),
        (
            extra_wheel,
            [
                (
                    f"extra: {wheel_name(TABLE.target('vulkan', 'manylinux_x86_64'), VERSION)}:"
                    " the release has no such file"
                )
            ],
        ),
        (extra_file, ["extra: note.txt: the release has no such file"]),
        (
            extra_report,
            [
                (
                    f"other version: {wheel_name(MUSL, '0.3.99')}.smoke.json: it is of version 0.3.99,"
                    " the release of 0.3.100"
                )
            ],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_named(
    folder: Path, change: Callable[[Path], None], problems: list[str]
) -> None:
    change(folder)
    assert [str(problem) for problem in look(folder).problems] == problems


def test_a_record_about_other_bytes_is_named(folder: Path) -> None:
    other_bytes(folder)
    (problem,) = look(folder).problems
    assert problem.kind == "unfit"
    assert problem.detail.startswith(
        f"{NAME}.build.json is about another wheel than the one beside it"
    )


def test_all_problems_are_raised_at_once(folder: Path) -> None:
    missing(folder)
    extra_file(folder)
    with pytest.raises(ReleaseError) as caught:
        require_whole(look(folder))
    assert caught.value.exit_code == 13
    assert caught.value.what == (
        f"{folder} is not the release 0.3.100 of {CHECKOUT[:12]}: 2 problems\n"
        f"  missing: {MUSL.name}: there is no {NAME}\n"
        "  extra: note.txt: the release has no such file"
    )


def test_every_python_is_asked_for_but_of_musl(folder: Path) -> None:
    with pytest.raises(ReleaseError) as caught:
        require_pythons(look(folder), TABLE)
    # the stand-ins' reports are of 3.13
    others = ", ".join(name for name in TABLE.interpreters.all if name != "3.13")
    assert caught.value.what.splitlines()[1:] == [
        f"  {CPU.name} is not proven on Python {others}",
        f"  {CUDA.name} is not proven on Python {others}",
    ]
    for target in (CPU, CUDA):
        path = folder / f"{wheel_name(target, VERSION)}.smoke.json"
        report = json.loads(path.read_text("utf-8"))
        (run,) = report["interpreters"]
        report["interpreters"] = [
            {**run, "tag": f"cp{name.replace('.', '')}"} for name in TABLE.pythons(target.platform)
        ]
        path.write_text(json.dumps(report), encoding="utf-8")
    require_pythons(look(folder), TABLE)


def test_without_a_commit_all_must_be_of_one(folder: Path) -> None:
    write_member(folder, CUDA, commit=OTHER)
    found = look(folder, commit=None)
    assert found.commit == CHECKOUT
    assert [(problem.kind, problem.name) for problem in found.problems] == [
        ("other commit", CUDA.name)
    ]


def test_another_llama_cpp_is_unfit(folder: Path) -> None:
    found = examine(
        folder,
        [CPU, MUSL, CUDA],
        TABLE,
        replace(PIN, commit=OTHER),
        version=VERSION,
        commit=CHECKOUT,
    )
    assert {problem.kind for problem in found.problems} == {"unfit"}
    assert found.members == ()


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as caught:
        look(tmp_path / "nothing")
    assert caught.value.what == f"there is no folder {tmp_path / 'nothing'}"
