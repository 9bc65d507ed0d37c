from __future__ import annotations

import hashlib
import zipfile
from typing import TYPE_CHECKING

import pytest

from ci.errors import WheelError
from index.wheel import Variant, backend_of_label, parse_name, read_wheel
from tests.wheels import write_wheel

if TYPE_CHECKING:
    from pathlib import Path


def test_reads_name_hash_and_metadata(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, metadata={"Requires-Python": "<4,>=3.9"})

    wheel = read_wheel(path)

    assert wheel.name.project == "llama-cpp-python"
    assert wheel.name.version == "0.3.100+cpu"
    assert wheel.name.label == "cpu"
    assert wheel.name.platform == "manylinux_x86_64"
    assert wheel.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert wheel.size == path.stat().st_size
    assert wheel.requires_python == "<4,>=3.9"
    metadata = (
        b"Metadata-Version: 2.4\nName: llama-cpp-python\nVersion: 0.3.100+cpu\n"
        b"Summary: A stand-in\nRequires-Python: <4,>=3.9\n"
    )
    assert wheel.metadata == metadata
    assert wheel.metadata_sha256 == hashlib.sha256(metadata).hexdigest()


def test_requires_python_may_be_missing(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, metadata={"Requires-Python": None})

    assert read_wheel(path).requires_python is None


@pytest.mark.parametrize(
    ("tag", "platform"),
    [
        pytest.param("manylinux_2_17_x86_64", "manylinux_x86_64", id="manylinux"),
        pytest.param("manylinux2014_aarch64", "manylinux_aarch64", id="manylinux-alias"),
        pytest.param("musllinux_1_2_x86_64", "musllinux_x86_64", id="musllinux"),
        pytest.param("macosx_12_0_arm64", "macosx_arm64", id="macos"),
        pytest.param("win_amd64", "win_amd64", id="windows"),
    ],
)
def test_platform_follows_from_the_tag(tag: str, platform: str) -> None:
    name = parse_name(f"llama_cpp_python-0.3.100+cpu-py3-none-{tag}.whl")

    assert name.platform == platform


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param(
            "llama_cpp_python.whl",
            "llama_cpp_python.whl: not the file name of a wheel",
            id="no-wheel",
        ),
        pytest.param(
            "numpy-2.0+cpu-py3-none-win_amd64.whl",
            "numpy-2.0+cpu-py3-none-win_amd64.whl: a wheel of the project numpy, this index is of"
            " llama-cpp-python",
            id="project",
        ),
        pytest.param(
            "llama_cpp_python-0.3.100-py3-none-win_amd64.whl",
            "llama_cpp_python-0.3.100-py3-none-win_amd64.whl: the version 0.3.100 has no label"
            " such as +cpu",
            id="no-label",
        ),
        pytest.param(
            "llama_cpp_python-0.3.100+cpu-1-py3-none-win_amd64.whl",
            "llama_cpp_python-0.3.100+cpu-1-py3-none-win_amd64.whl: it has a build tag, which no"
            " installer picks up as an update",
            id="build-tag",
        ),
        pytest.param(
            "llama_cpp_python-0.03.100+cpu-py3-none-win_amd64.whl",
            "llama_cpp_python-0.03.100+cpu-py3-none-win_amd64.whl: the version must be written"
            " 0.3.100+cpu, not 0.03.100+cpu",
            id="version-spelling",
        ),
        pytest.param(
            "llama_cpp_python-0.3.100+cpu-cp311-cp311-win_amd64.whl",
            "llama_cpp_python-0.3.100+cpu-cp311-cp311-win_amd64.whl: our wheels link no Python, so"
            " the tag must begin with py3-none",
            id="interpreter",
        ),
        pytest.param(
            "llama_cpp_python-0.3.100+cpu-py3-none-any.whl",
            "llama_cpp_python-0.3.100+cpu-py3-none-any.whl: the tag must name exactly one"
            " platform, such as manylinux_2_17_x86_64",
            id="any",
        ),
        pytest.param(
            "llama_cpp_python-0.3.100+cpu-py3-none-win_amd64.manylinux_2_17_x86_64.whl",
            "llama_cpp_python-0.3.100+cpu-py3-none-win_amd64.manylinux_2_17_x86_64.whl: the tag"
            " must name exactly one platform, such as manylinux_2_17_x86_64",
            id="two-platforms",
        ),
    ],
)
def test_refuses_the_name(file: str, message: str) -> None:
    with pytest.raises(WheelError) as caught:
        parse_name(file)

    assert caught.value.what.startswith(message)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        pytest.param(
            {"Version": "0.3.100"},
            "METADATA says llama-cpp-python 0.3.100, the file name llama-cpp-python 0.3.100+cpu",
            id="no-label",
        ),
        pytest.param(
            {"Version": "0.3.100+cu128"},
            "METADATA says llama-cpp-python 0.3.100+cu128,"
            " the file name llama-cpp-python 0.3.100+cpu",
            id="label",
        ),
        pytest.param(
            {"Name": "llama-cpp"},
            "METADATA says llama-cpp 0.3.100+cpu, the file name llama-cpp-python 0.3.100+cpu",
            id="project",
        ),
        pytest.param(
            {"Requires-Python": "three"},
            "METADATA is not valid core metadata ('three' is invalid for 'requires-python')",
            id="requires-python",
        ),
        pytest.param(
            {"Name": None},
            "METADATA is not valid core metadata ('name' is a required field)",
            id="no-name",
        ),
    ],
)
def test_refuses_metadata_that_disagrees(
    tmp_path: Path, metadata: dict[str, str | None], message: str
) -> None:
    path = write_wheel(tmp_path, metadata=metadata)

    with pytest.raises(WheelError) as caught:
        read_wheel(path)

    assert caught.value.what == f"{path}: {message}"


def test_refuses_another_dist_info_folder(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, dist_info="llama_cpp_python-0.3.100.dist-info")

    with pytest.raises(WheelError) as caught:
        read_wheel(path)

    assert caught.value.what == (
        f"{path}: the dist-info folder must be llama_cpp_python-0.3.100+cpu.dist-info,"
        " found ['llama_cpp_python-0.3.100.dist-info']"
    )


def test_refuses_a_missing_metadata(tmp_path: Path) -> None:
    path = tmp_path / "llama_cpp_python-0.3.100+cpu-py3-none-win_amd64.whl"
    info = "llama_cpp_python-0.3.100+cpu.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\n")

    with pytest.raises(WheelError) as caught:
        read_wheel(path)

    assert caught.value.what == f"{path}: {info}/METADATA is missing"


@pytest.mark.parametrize("kept", [0, 10, 400, -1])
def test_refuses_a_truncated_wheel(tmp_path: Path, kept: int) -> None:
    path = write_wheel(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(WheelError) as caught:
        read_wheel(path)

    assert caught.value.what == f"{path}: truncated or damaged archive (File is not a zip file)"
    assert "nox -s build" in caught.value.cure


def test_refuses_changed_bytes_inside(tmp_path: Path) -> None:
    path = write_wheel(tmp_path)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("llama_cpp_python-0.3.100+cpu.dist-info/METADATA")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + 20] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(WheelError, match="truncated or damaged archive"):
        read_wheel(path)


def test_a_missing_wheel_says_so(tmp_path: Path) -> None:
    path = tmp_path / "llama_cpp_python-0.3.100+cpu-py3-none-win_amd64.whl"

    with pytest.raises(WheelError) as caught:
        read_wheel(path)

    assert caught.value.what == f"{path}: no such file"


@pytest.mark.parametrize(
    ("label", "backend"),
    [
        ("cpu", "cpu"),
        ("cpu.1", "cpu"),
        ("cpu.12", "cpu"),
        ("rocm6.4", "rocm6.4"),
        ("rocm6.4.1", "rocm6.4"),
        ("cpu1", None),
        ("cpu.x", None),
        ("rocm6", None),
        ("metal", None),
    ],
)
def test_backend_of_label(label: str, backend: str | None) -> None:
    assert backend_of_label(label, ["cpu", "rocm6.4"]) == backend


TAG = "manylinux_2_17_x86_64"
VARIANT = """{"default-priorities": {"namespace": ["nvidia"]},
 "providers": {"nvidia": {"requires": ["nvidia-variant-provider>=0.0.1"]}},
 "variants": {"cu128": {"nvidia": {"cuda_version_lower_bound": ["12.8"]}}}}"""


def variant_wheel(folder: Path, *, label: str | None = "cu128", content: str | None) -> Path:
    """Write a wheel of auto with this variant.json and this label at the end of its name."""
    info = "llama_cpp_python-0.3.100+auto.dist-info"
    files = {"llama_cpp/__init__.py": ""}
    if content is not None:
        files[f"{info}/variant.json"] = content
    path = write_wheel(folder, files, version="0.3.100+auto", platform=TAG)
    return path if label is None else path.rename(path.with_stem(f"{path.stem}-{label}"))


def test_a_variant_s_name_has_its_label_at_the_end() -> None:
    name = parse_name(f"llama_cpp_python-0.3.100+auto-py3-none-{TAG}-x86_64_v3.whl")

    assert name.file == f"llama_cpp_python-0.3.100+auto-py3-none-{TAG}-x86_64_v3.whl"
    assert (name.version, name.label) == ("0.3.100+auto", "auto")
    assert (name.platform, name.variant) == ("manylinux_x86_64", "x86_64_v3")


def test_a_plain_wheel_is_no_variant(tmp_path: Path) -> None:
    wheel = read_wheel(variant_wheel(tmp_path, label=None, content=None))

    assert (wheel.name.variant, wheel.variant) == (None, None)


def test_a_variant_says_its_properties(tmp_path: Path) -> None:
    wheel = read_wheel(variant_wheel(tmp_path, content=VARIANT))

    assert wheel.name.variant == "cu128"
    assert wheel.variant == Variant(
        label="cu128", properties={"nvidia": {"cuda_version_lower_bound": ("12.8",)}}
    )


@pytest.mark.parametrize(
    ("label", "content", "message"),
    [
        pytest.param("cu128", None, "its name has the variant label cu128, but", id="none"),
        pytest.param(None, VARIANT, "variant.json, but its name has no variant label", id="name"),
        pytest.param("cu124", VARIANT, "specifies label cu128, expected cu124", id="label"),
        pytest.param("cu128", "{", "variant.json: Expecting property name", id="no-json"),
        pytest.param("cu128", "{}", "variant.json: default-priorities", id="empty"),
        pytest.param("cu128", VARIANT.replace("12.8", "12-8"), "must match regex", id="value"),
    ],
)
def test_a_variant_that_contradicts_its_name_is_refused(
    tmp_path: Path, label: str | None, content: str | None, message: str
) -> None:
    path = variant_wheel(tmp_path, label=label, content=content)

    with pytest.raises(WheelError, match=message) as caught:
        read_wheel(path)
    assert caught.value.cure == "make it again with `python -m ci auto`"
