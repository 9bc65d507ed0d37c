"""Relabelling: what changes in a finished wheel, what must not, and what proves the copy."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from variantlib.api import VariantDescription, VariantProperty, make_variant_dist_info
from variantlib.models.variant_info import ProviderInfo, VariantInfo

from ci.errors import SmokeError, UsageError, WheelError
from ci.host import host_platform
from ci.interpreters import choose_interpreters
from ci.progress import Progress
from ci.relabel import Copy, Made, make, plan, relabel
from ci.smoke_report import report_path
from ci.table import Target, load_table
from ci.variants import WheelVariant
from ci.wheel import Wheel, read_wheel, write_wheel
from tests.wheels import COMMIT, write_built_wheel, write_report

TABLE = load_table()
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LINUX = "manylinux_2_17_x86_64"
CUDA_LINUX = "manylinux_2_28_x86_64"
OLD = "llama_cpp_python-0.3.100+cpu.dist-info"
NEW = "llama_cpp_python-0.3.100+auto.dist-info"
SBOM = "sboms/llama-cpp-python.cdx.json"
# what a v3 machine never picks
OLDER = ("sse42", "sandybridge", "ivybridge", "piledriver")


def built(
    folder: Path, backend: str = "cpu", platform: str = "manylinux_x86_64", marker: str = ""
) -> Path:
    return write_built_wheel(folder, TABLE.target(backend, platform), marker=marker)


def copy_of(path: Path, *, label: str | None = "auto", variant: WheelVariant | None = None) -> Copy:
    source = read_wheel(path)
    (target,) = (
        target
        for target in TABLE.targets
        if (target.backend.name, f"py3-none-{target.wheel_tag}") == (source.label, source.tags[0])
    )
    return Copy(source=source, target=target, label=label, variant=variant)


def relabelled(copy: Copy, folder: Path) -> Wheel:
    folder.mkdir(exist_ok=True)
    return read_wheel(relabel(copy, folder, TABLE.auto))


def edited(path: Path, name: str, content: bytes | None) -> Path:
    """The wheel with one file changed or left out, proven again."""
    files = {**read_wheel(path).files, name: content}
    write_wheel(path, {key: data for key, data in files.items() if data is not None})
    write_report(path)
    return path


def make_here(copies: list[Copy], folder: Path, interpreters: tuple[str, ...] = ()) -> list[Made]:
    chosen = choose_interpreters(list(interpreters), TABLE.interpreters.all)
    return make(copies, folder, TABLE, chosen, Progress(), now=NOW)


def whole(folder: Path, marker: str = "") -> list[Copy]:
    """The copies of a CPU wheel and a CUDA wheel that need no proof of their own."""
    wheels = [built(folder, "cpu", marker=marker), built(folder, "cu126", marker=marker)]
    return [copy for copy in plan(wheels, TABLE)[0] if not copy.is_subset]


def test_everything_that_names_the_version_names_the_new_one(tmp_path: Path) -> None:
    source = read_wheel(built(tmp_path))

    wheel = relabelled(copy_of(source.path), tmp_path / "out")

    assert wheel.path.name == f"llama_cpp_python-0.3.100+auto-py3-none-{LINUX}.whl"
    assert wheel.record_problems() == []
    assert {name.split("/")[0] for name in wheel.files} == {"llama_cpp", NEW}
    assert wheel.metadata["Version"] == "0.3.100+auto"
    component = json.loads(wheel.files[f"{NEW}/{SBOM}"])["metadata"]["component"]
    assert component["version"] == "0.3.100+auto"
    assert component["purl"] == "pkg:pypi/llama-cpp-python@0.3.100%2Bauto"
    assert json.loads(wheel.files["llama_cpp/_build_info.json"]) == {
        "backend": "cpu",
        "llama_cpp_commit": COMMIT,
        "llama_cpp_version": "0.5.0-dev",
        "version": "0.3.100+auto",
        "compiler": "zig 0.17.0",
    }
    assert not [name for name, data in wheel.files.items() if b"0.3.100+cpu" in data]


def test_everything_else_is_the_same_byte_by_byte(tmp_path: Path) -> None:
    source = read_wheel(built(tmp_path, "cu126"))
    (copy,) = plan([source.path], TABLE)[0]

    wheel = relabelled(copy, tmp_path / "out")

    before = {name.replace("+cu126.dist", "+auto.dist"): x for name, x in source.files.items()}
    changed = {name for name, data in before.items() if wheel.files[name] != data}
    assert changed == {
        "llama_cpp/_build_info.json",
        f"{NEW}/METADATA",
        f"{NEW}/RECORD",
        f"{NEW}/{SBOM}",
    }
    assert set(wheel.files) - set(before) == {f"{NEW}/variant.json"}
    assert wheel.libraries == source.libraries


def test_only_the_field_of_the_metadata_is_changed(tmp_path: Path) -> None:
    head = b"Metadata-Version: 2.4\nName: llama-cpp-python\nVersion: 0.3.100+cpu\nSummary: x\n"
    body = b"\nVersion: 0.3.100+cpu\n\xc3\xa9 pip install llama-cpp-python==0.3.100+cpu\n"
    source = edited(built(tmp_path), f"{OLD}/METADATA", head + body)

    wheel = relabelled(copy_of(source), tmp_path / "out")

    assert wheel.files[f"{NEW}/METADATA"] == head.replace(b"+cpu", b"+auto") + body


def test_without_a_label_it_is_what_the_package_index_takes(tmp_path: Path) -> None:
    copies, _ = plan([built(tmp_path), built(tmp_path, "cu126")], TABLE, label=None)

    (made,) = make_here(copies, tmp_path / "out")

    assert made.path.name == f"llama_cpp_python-0.3.100-py3-none-{LINUX}.whl"
    wheel = read_wheel(made.path)
    assert (wheel.metadata["Version"], wheel.record_problems()) == ("0.3.100", [])
    sbom = wheel.files["llama_cpp_python-0.3.100.dist-info/sboms/llama-cpp-python.cdx.json"]
    purl = json.loads(sbom)["metadata"]["component"]["purl"]
    assert purl == "pkg:pypi/llama-cpp-python@0.3.100"
    assert json.loads(report_path(made.path).read_bytes())["backend"] == "cpu"


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    first = relabelled(copy_of(built(tmp_path / "a")), tmp_path / "one")
    second = relabelled(copy_of(built(tmp_path / "b")), tmp_path / "two")

    assert first.path.read_bytes() == second.path.read_bytes()


def test_a_variant_says_what_variantlib_would_say(tmp_path: Path) -> None:
    (copy,) = plan([built(tmp_path, "cu126")], TABLE)[0]

    wheel = relabelled(copy, tmp_path / "out")

    assert wheel.path.name == f"llama_cpp_python-0.3.100+auto-py3-none-{CUDA_LINUX}-cu126.whl"
    assert (wheel.variant, wheel.label) == ("cu126", "auto")
    version = VariantProperty(namespace="nvidia", feature="cuda_version_lower_bound", value="12.6")
    providers = {
        "nvidia": ProviderInfo(
            requires=["nvidia-variant-provider>=0.0.1,<1"],
            plugin_api="nvidia_variant_provider.plugin:NvidiaVariantPlugin",
        ),
        "x86_64": ProviderInfo(requires=["x86-64-variant-provider>=0.2.1,<1"]),
    }
    expected = make_variant_dist_info(
        VariantDescription(properties=[version], label="cu126"),
        VariantInfo(namespace_priorities=["nvidia", "x86_64"], providers=providers),
    )
    assert wheel.files[f"{NEW}/variant.json"].decode() == expected


def test_a_subset_leaves_out_what_its_machines_never_pick(tmp_path: Path) -> None:
    source = read_wheel(built(tmp_path))
    (copy,) = (copy for copy in plan([source.path], TABLE)[0] if copy.is_subset)

    wheel = relabelled(copy, tmp_path / "out")

    assert wheel.path.name == f"llama_cpp_python-0.3.100+auto-py3-none-{LINUX}-x86_64_v3.whl"
    gone = {f"llama_cpp/lib/libggml-cpu-{name}.so" for name in OLDER}
    assert set(source.libraries) - set(wheel.libraries) == gone
    assert wheel.libraries == {n: x for n, x in source.libraries.items() if n not in gone}
    assert "llama_cpp/lib/libggml-cpu-x64.so" in wheel.libraries
    assert wheel.record_problems() == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            f"{OLD}/METADATA",
            b"Version: 0.3.99+cpu\n",
            r"METADATA of .* does not say 0\.3\.100\+cpu",
        ),
        ("llama_cpp/_build_info.json", None, "has no llama_cpp/_build_info.json"),
        (
            "llama_cpp/_build_info.json",
            b'{"backend": "cu126", "version": "0.3.100+cpu"}',
            "the build info of .* says backend cu126",
        ),
        (
            "llama_cpp/_build_info.json",
            b'{"backend": "cpu", "version": "0.3.99+cpu"}',
            r"the build info of .* does not say version 0\.3\.100\+cpu",
        ),
    ],
    ids=["metadata", "no-build-info", "backend", "version"],
)
def test_a_wheel_that_contradicts_itself_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    copy = copy_of(edited(built(tmp_path), name, content))

    with pytest.raises(WheelError, match=message):
        make_here([copy], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_library_that_is_to_be_left_out_must_be_there(tmp_path: Path) -> None:
    source = edited(built(tmp_path), "llama_cpp/lib/libggml-cpu-sse42.so", None)
    (copy,) = (copy for copy in plan([source], TABLE)[0] if copy.is_subset)

    with pytest.raises(
        WheelError, match=r"has no llama_cpp/lib/libggml-cpu-sse42\.so to leave out"
    ):
        relabel(copy, tmp_path, TABLE.auto)


def test_a_variant_is_not_relabelled_again(tmp_path: Path) -> None:
    (copy,) = plan([built(tmp_path, "cu126")], TABLE)[0]
    variant = relabelled(copy, tmp_path / "out")
    again = Copy(source=variant, target=copy.target, label="auto.1")

    with pytest.raises(WheelError, match="is a wheel variant already\n  -> relabel the wheel it"):
        relabel(again, tmp_path, TABLE.auto)


def test_the_report_is_the_source_s_and_names_it(tmp_path: Path) -> None:
    (copy,) = plan([built(tmp_path, "cu126")], TABLE)[0]

    (made,) = make_here([copy], tmp_path / "out")

    proof = json.loads(report_path(copy.source.path).read_bytes())
    wheel = read_wheel(made.path)
    assert json.loads(report_path(made.path).read_bytes()) == {
        **proof,
        "wheel": f"llama_cpp_python-0.3.100+auto-py3-none-{CUDA_LINUX}-cu126.whl",
        "sha256": wheel.sha256,
        "size": wheel.size,
        "backend": "auto",
        "source": {
            "wheel": f"llama_cpp_python-0.3.100+cu126-py3-none-{CUDA_LINUX}.whl",
            "sha256": copy.source.sha256,
            "payload": "the same libraries and modules; only labels differ",
        },
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (None, "has no smoke report beside it"),
        ({"sha256": "0" * 64}, "is about another wheel than the one beside it"),
        ({"wheel": "other.whl"}, "is about another wheel than the one beside it"),
        ({"passed": False}, "does not say that the wheel passed"),
        ({"interpreters": []}, "does not say that the wheel passed"),
    ],
    ids=["none", "other-bytes", "other-name", "failed", "nothing-proven"],
)
def test_what_is_not_proven_is_not_relabelled(
    tmp_path: Path, changes: dict[str, object] | None, message: str
) -> None:
    source = built(tmp_path)
    if changes is None:
        report_path(source).unlink()
    else:
        write_report(source, changes=changes)

    with pytest.raises(SmokeError, match=message) as caught:
        make_here([copy_of(source)], tmp_path / "out")
    assert caught.value.cure == f"prove it with `nox -s smoke -- {source}`"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_report_that_is_no_json_says_so(tmp_path: Path) -> None:
    source = built(tmp_path)
    report_path(source).write_text("{", encoding="utf-8")

    with pytest.raises(SmokeError, match=r"\.whl\.smoke\.json is not a smoke report: "):
        make_here([copy_of(source)], tmp_path / "out")


def test_what_is_there_already_stays_untouched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = make_here(whole(tmp_path), out)
    stamps = {path: path.stat().st_mtime_ns for path in out.iterdir()}

    second = make_here(whole(tmp_path), out)

    assert [one.new for one in first] == [True, True]
    assert [one.new for one in second] == [False, False]
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == stamps
    assert len(stamps) == 4


def test_another_source_replaces_wheel_and_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_here(whole(tmp_path), out)

    made = make_here(whole(tmp_path, marker="other"), out)

    assert [one.new for one in made] == [True, True]
    for one in made:
        report = json.loads(report_path(one.path).read_bytes())
        assert report["sha256"] == read_wheel(one.path).sha256


def test_a_missing_report_is_written_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second = make_here(whole(tmp_path), out)
    report_path(first.path).unlink()

    assert [one.new for one in make_here(whole(tmp_path), out)] == [True, False]
    assert report_path(first.path).is_file()
    assert second.path.is_file()


def test_a_smaller_wheel_must_pass_itself(tmp_path: Path) -> None:
    platform = host_platform(TABLE)
    variant = WheelVariant(
        label="small", properties={"x86_64": {"level": ["v3"]}}, without=(platform.cpu_variants[1],)
    )
    copy = copy_of(built(tmp_path, platform=platform.name), variant=variant)

    # the stand-in cannot compute
    with pytest.raises(SmokeError, match=r"-small\.whl failed its smoke test"):
        make_here([copy], tmp_path / "out", (sys.executable,))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_smaller_wheel_of_another_platform_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies, _ = plan([built(tmp_path, platform="win_amd64")], TABLE)

    (made,) = make_here(copies, tmp_path / "out")

    assert made.path.name == "llama_cpp_python-0.3.100+auto-py3-none-win_amd64.whl"
    assert (
        "WARNING left out llama_cpp_python-0.3.100+auto-py3-none-win_amd64-x86_64_v3.whl: it must"
        " be proven on Windows x64"
    ) in capsys.readouterr().err


def names(targets: list[Target], folder: Path) -> tuple[list[str], list[str]]:
    wheels = [write_built_wheel(folder, target) for target in targets]
    copies, unused = plan(wheels, TABLE)
    return [copy.name.split("-py3-none-")[1] for copy in copies], unused


def test_the_plan_is_what_the_table_says(tmp_path: Path) -> None:
    targets = [
        TABLE.target(backend, "manylinux_x86_64") for backend in ("cpu", "cu121", "cu130", "vulkan")
    ]

    assert names(targets, tmp_path) == (
        [
            f"{LINUX}-x86_64_v3.whl",
            f"{LINUX}.whl",
            f"{CUDA_LINUX}-cu121.whl",
            f"{CUDA_LINUX}-cu130.whl",
        ],
        [f"llama_cpp_python-0.3.100+vulkan-py3-none-{LINUX}.whl"],
    )


def test_on_apple_silicon_metal_is_the_plain_wheel(tmp_path: Path) -> None:
    targets = [TABLE.target(backend, "macosx_arm64") for backend in ("cpu", "metal")]

    assert names(targets, tmp_path) == (
        ["macosx_12_0_arm64.whl"],
        ["llama_cpp_python-0.3.100+cpu-py3-none-macosx_12_0_arm64.whl"],
    )


def test_two_wheels_that_would_become_one_are_refused(tmp_path: Path) -> None:
    wheels = [built(tmp_path / "a"), built(tmp_path / "b", marker="other")]

    with pytest.raises(UsageError, match=r"would both become llama_cpp_python-0\.3\.100\+auto-"):
        plan(wheels, TABLE)
