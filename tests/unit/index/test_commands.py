from __future__ import annotations

import json
from pathlib import Path

import pytest

from ci.errors import TableError
from index.commands import Step, Tool, index_url, load_commands, values_of

CURE = "\n  -> mend commands.json; the keys are the fields of the classes in index/commands.py"


def written(folder: Path, *tools: object, **top: object) -> Path:
    path = folder / "commands.json"
    path.write_text(json.dumps({"schema": 1, "tools": tools, **top}), encoding="utf-8")
    return path


def tool(**changes: object) -> dict[str, object]:
    step = {"kind": "command", "text": "get $index $version+$label"}
    return {"id": "get", "title": "Get", "steps": [step], **changes}


def test_the_commands_of_the_binding_are_well_formed() -> None:
    commands = load_commands()

    assert {"uv", "uv-pip", "pip", "poetry", "pdm", "uv-extras"} <= {t.id for t in commands.tools}
    assert commands.tool("pip").steps[0].kind == "command"
    assert [each.id for each in commands.tools if each.besides_cpu] == ["uv-extras"]


@pytest.mark.parametrize(
    ("version", "label"),
    [
        pytest.param("0.3.100+cu128", "cu128", id="label"),
        pytest.param("0.3.100+cu128.1", "cu128.1", id="respin"),
    ],
)
def test_every_placeholder_is_filled_in(version: str, label: str) -> None:
    step = Step(kind="command", text="$index ${cpu_index} $backend $version+$label $$HOME")

    assert step.filled(values_of(version, backend="cu128", root="https://example.org/a/")) == (
        "https://example.org/a/whl/cu128/ https://example.org/a/whl/cpu/"
        f" cu128 0.3.100+{label} $HOME"
    )


def test_the_address_of_an_index() -> None:
    assert index_url("https://example.org/", "vulkan") == "https://example.org/whl/vulkan/"


def test_a_tool_that_sets_up_the_cpu_beside_a_backend_does_not_fit_the_cpu() -> None:
    both = Tool(id="x", title="x", steps=(Step(kind="command", text="$index $cpu_index"),))
    one = Tool(id="x", title="x", steps=(Step(kind="command", text="$index"),))

    assert (both.fits("cpu"), both.fits("cu128")) == (False, True)
    assert (one.fits("cpu"), one.fits("cu128")) == (True, True)


def test_a_tool_that_is_not_there_is_refused() -> None:
    with pytest.raises(TableError) as caught:
        load_commands().tool("conda")

    assert caught.value.what == "_commands.json: no tool 'conda'"
    assert caught.value.cure.startswith("the tools are: uv, ")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"title": ""}, "tools.0.title: String should have", id="empty"),
        pytest.param({"steps": []}, "tools.0.steps: Tuple should have", id="no-step"),
        pytest.param({"id": "Pip 3"}, "tools.0.id: String should match", id="id"),
        pytest.param({"more": 1}, "tools.0.more: Unexpected keyword argument", id="unknown-key"),
        pytest.param(
            {"steps": [{"kind": "file", "text": "x"}]},
            "tools.0.steps.0: Value error, a file has a path, a command has none",
            id="file-without-path",
        ),
        pytest.param(
            {"steps": [{"kind": "command", "text": "x", "path": "y"}]},
            "tools.0.steps.0: Value error, a file has a path, a command has none",
            id="command-with-path",
        ),
        pytest.param(
            {"steps": [{"kind": "command", "text": "x $indx"}]},
            "tools.0.steps.0: Value error, placeholders are $index, $cpu_index, $backend,"
            " $version, $label; a plain dollar is $$",
            id="unknown-placeholder",
        ),
        pytest.param(
            {"steps": [{"kind": "command", "text": "costs 5 $"}]},
            "tools.0.steps.0: Value error, placeholders are $index,",
            id="lone-dollar",
        ),
    ],
)
def test_a_malformed_tool_is_refused(
    tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    path = written(tmp_path, tool(**changes))

    with pytest.raises(TableError) as caught:
        load_commands(path)

    assert str(caught.value).startswith(f"{path}: {problem}")
    assert str(caught.value).endswith(CURE)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "commands.json"

    with pytest.raises(TableError) as caught:
        load_commands(path)

    assert str(caught.value) == f"{path}: No such file or directory{CURE}"


def test_one_tool_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, tool(), tool())

    with pytest.raises(TableError) as caught:
        load_commands(path)

    assert str(caught.value) == f"{path}: get is there twice{CURE}"


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"schema: Input should be 1"):
        load_commands(written(tmp_path, tool(), schema=2))
