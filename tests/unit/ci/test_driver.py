"""The C driver: what it says of a right wheel, of a wrong answer, and of a library that is not there."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import lief
import pytest

from ci.driver import compile_driver, drive, unpack_libraries
from ci.errors import ToolMissingError
from ci.process import ProcessError, run
from ci.table import load_table
from ci.wheel import read_wheel
from ci.wheel import write_wheel as write_archive
from tests.wheels import write_wheel

TABLE = load_table()
TARGET = TABLE.target("cpu", "manylinux_x86_64")

here = pytest.mark.skipif(
    sys.platform != "linux", reason="the driver of the wheel in dist/ is for Linux"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_driver(TARGET.platform, tmp_path_factory.mktemp("driver"))


def greedy(name: str, model: dict[str, object]) -> dict[str, object]:
    return {"models": {name: {**model, "kind": "llama", "file": f"{name}.gguf"}}}


@here
@pytest.mark.build
def test_the_wheel_gives_every_known_answer(wheel: Path, tiny: Path, tmp_path: Path) -> None:
    found = drive(wheel, TARGET, tiny, tmp_path)
    checks = found.pop("checks")
    assert isinstance(checks, list)
    answers = json.loads((tiny / "answers.json").read_text(encoding="utf-8"))["models"]
    cases = [
        case for model in answers.values() if model["kind"] == "llama" for case in model["greedy"]
    ]
    models = sum(model["kind"] == "llama" for model in answers.values())
    variant = found.pop("cpu_variant")
    assert found.pop("device") == checks[1]["detail"]
    assert found == {
        "version": "C driver",
        "tag": "c",
        "implementation": "C",
        "free_threaded": False,
        "passed": True,
    }
    assert [(check["name"], check["passed"]) for check in checks] == [
        ("libraries", True),
        ("devices", True),
        ("cpu variant", True),
        ("greedy tokens", True),
    ]
    assert checks[2]["detail"] == variant
    tokens = sum(len(case["tokens"]) for case in cases)
    assert checks[3]["detail"] == f"{tokens} tokens of {models} models"


@here
@pytest.mark.build
def test_a_wrong_token_fails_and_is_named(wheel: Path, tiny: Path, tmp_path: Path) -> None:
    answers = json.loads((tiny / "answers.json").read_text(encoding="utf-8"))["models"]
    case = answers["llama-q8_0"]["greedy"][0]
    wrong = {**case, "tokens": [*case["tokens"][:-1], 7]}
    models = tmp_path / "models"
    models.mkdir()
    (models / "llama-q8_0.gguf").write_bytes((tiny / "llama-q8_0.gguf").read_bytes())
    text = json.dumps(greedy("llama-q8_0", {"greedy": [wrong]}))
    (models / "answers.json").write_text(text, encoding="utf-8")
    found = drive(wheel, TARGET, models, tmp_path / "scratch")
    checks = found["checks"]
    assert isinstance(checks, list)
    assert found["passed"] is False
    assert checks[-1]["detail"] == (
        f"llama-q8_0: tokens after '': expected {wrong['tokens']}, found {case['tokens']}"
    )


@here
@pytest.mark.build
def test_a_wheel_without_a_library_fails(wheel: Path, tiny: Path, tmp_path: Path) -> None:
    lacking = tmp_path / wheel.name
    files = read_wheel(wheel).files
    write_archive(lacking, {k: v for k, v in files.items() if k != "llama_cpp/lib/libggml.so"})
    found = drive(lacking, TARGET, tiny, tmp_path / "scratch", brief=["llama-f16"])
    checks = found["checks"]
    assert isinstance(checks, list)
    place = tmp_path / "scratch" / "wheel" / "llama_cpp" / "lib" / "libggml.so"
    assert checks[-1] == {
        "name": "greedy tokens",
        "passed": False,
        "seconds": checks[-1]["seconds"],
        "detail": f"llama-f16: driver: {place}: cannot open shared object file:"
        " No such file or directory",
    }
    assert (found["passed"], found["device"], found["cpu_variant"]) == (False, None, None)


@here
@pytest.mark.build
def test_no_model_is_no_proof(wheel: Path, tiny: Path, tmp_path: Path) -> None:
    found = drive(wheel, TARGET, tiny, tmp_path, brief=[])
    checks = found["checks"]
    assert isinstance(checks, list)
    assert found["passed"] is False
    assert checks[-1]["detail"] == "there is no model"


@here
@pytest.mark.build
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "driver: give FOLDER MODEL LENGTH TOKEN,TOKEN... [TOKEN,... ...]"),
        (["{lib}", "{lib}/no.gguf", "4", "1"], "driver: {lib}/no.gguf does not load"),
        (["{lib}", "{tiny}/llama-f16.gguf", "4", "1,x"], "driver: not a list of tokens: 1,x"),
    ],
    ids=["no-arguments", "no-model", "no-tokens"],
)
def test_a_mistake_is_said(
    driver: Path, wheel: Path, tiny: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    folder = unpack_libraries(wheel, tmp_path)
    with pytest.raises(ProcessError) as caught:
        run([driver, *(each.format(lib=folder, tiny=tiny) for each in arguments)])
    assert caught.value.returncode == 1
    assert caught.value.tail[-1] == says.format(lib=folder, tiny=tiny)


@pytest.mark.build
@pytest.mark.parametrize(
    ("zig_target", "system", "needed"),
    [
        ("x86_64-linux-gnu.2.17", "linux", {"libdl.so.2", "libc.so.6"}),
        ("x86_64-linux-musl", "linux", {"libc.so"}),
        ("x86_64-windows-gnu", "windows", {"KERNEL32.dll", "api-ms-win-crt-"}),
    ],
)
def test_it_needs_nothing_but_the_system(
    tmp_path: Path, zig_target: str, system: Literal["linux", "windows"], needed: set[str]
) -> None:
    platform = replace(TARGET.platform, zig_target=zig_target, system=system)
    binary = lief.parse(compile_driver(platform, tmp_path).read_bytes())
    assert isinstance(binary, lief.ELF.Binary | lief.PE.Binary)
    found = {str(name) for name in binary.libraries}
    assert {name for name in found if not name.startswith("api-ms-win-crt-")} | {
        "api-ms-win-crt-" for name in found if name.startswith("api-ms-win-crt-")
    } == needed


def test_a_platform_that_zig_does_not_compile_for(tmp_path: Path) -> None:
    platform = replace(TABLE.target("cpu", "macosx_arm64").platform, zig_target=None)
    with pytest.raises(ToolMissingError) as caught:
        compile_driver(platform, tmp_path)
    assert caught.value.what == "ziglang does not compile for macosx_arm64"
    assert caught.value.cure == "prove the wheel on such a machine: nox -s smoke"


def test_libraries_lie_where_an_installer_puts_them(tmp_path: Path) -> None:
    stand_in = write_wheel(
        tmp_path, {"llama_cpp/lib/libllama.so": "llama", "llama_cpp/__init__.py": ""}
    )
    folder = unpack_libraries(stand_in, tmp_path / "unpacked")
    assert folder == tmp_path / "unpacked" / "llama_cpp" / "lib"
    assert [path.name for path in folder.parent.rglob("*") if path.is_file()] == ["libllama.so"]
    assert (folder / "libllama.so").read_text(encoding="utf-8") == "llama"
