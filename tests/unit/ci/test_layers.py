"""Layers: whiteouts, links, what may never leave the image, each as the specification says it."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ci.errors import UsageError, VendorError
from ci.layers import ImageTree
from tests.image_registry import Packing, layer, packed


def tree(folder: Path, *layers: Mapping[str, str] | bytes) -> ImageTree:
    paths = []
    for number, one in enumerate(layers):
        path = folder / f"layer-{number}"
        path.write_bytes(one if isinstance(one, bytes) else layer(one))
        paths.append(path)
    return ImageTree(paths)


def unpacked(
    image: ImageTree, folder: Path, *wanted: str, left_out: Sequence[str] = ()
) -> dict[str, str]:
    """Unpack, and return texts and links by path."""
    out = folder / "out"
    out.mkdir()
    image.unpack(wanted, out, left_out=left_out)
    return {
        path.relative_to(out).as_posix(): (
            f"-> {path.readlink()}" if path.is_symlink() else path.read_text(encoding="utf-8")
        )
        for path in sorted(out.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("packing", ["gzip", "zstd", "tar"])
def test_one_folder_of_an_image_is_unpacked(tmp_path: Path, packing: Packing) -> None:
    files = {"opt/cuda/bin/nvcc": "nvcc", "opt/cuda/version": "12", "etc/passwd": "no"}
    image = tree(tmp_path, layer(files, packing))
    assert unpacked(image, tmp_path, "opt/cuda") == {
        "opt/cuda/bin/nvcc": "nvcc",
        "opt/cuda/version": "12",
    }
    modes = [
        (tmp_path / "out/opt/cuda" / name).stat().st_mode & 0o777
        for name in ("bin/nvcc", "version")
    ]
    assert modes == [0o755, 0o644]


def test_a_layer_of_several_packed_parts_is_read_whole(tmp_path: Path) -> None:
    content = layer({"opt/a": "a" * 5000, "opt/b": "b"}, "tar")
    half = len(content) // 2
    for packing in ("gzip", "zstd"):
        folder = tmp_path / packing
        folder.mkdir()
        parts = packed(content[:half], packing) + packed(content[half:], packing)
        if packing == "zstd":
            # a frame to skip, as builders put an index of the layer at its end
            parts += b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"toc"
        assert unpacked(tree(folder, parts), folder, "opt") == {"opt/a": "a" * 5000, "opt/b": "b"}


LOWER = {
    "opt/cuda/": "",
    "opt/cuda/old": "old",
    "opt/cuda/lib/a": "a",
    "opt/cuda/lib/b": "b",
    "opt/cuda/lib/deep/c": "c",
}


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        pytest.param({"opt/cuda/old": "new"}, {"old": "new", "lib/a": "a", "lib/b": "b", "lib/deep/c": "c"}, id="the later one wins"),
        pytest.param({"opt/cuda/.wh.old": ""}, {"lib/a": "a", "lib/b": "b", "lib/deep/c": "c"}, id="a whiteout of a file"),
        pytest.param({"opt/cuda/.wh.lib": ""}, {"old": "old"}, id="a whiteout of a folder"),
        pytest.param({"opt/cuda/lib/.wh..wh..opq": ""}, {"old": "old"}, id="an opaque whiteout"),
        pytest.param({"opt/cuda/lib/.wh..wh..opq": "", "opt/cuda/lib/d": "d"}, {"old": "old", "lib/d": "d"}, id="opaque, then a file"),
        pytest.param({"opt/cuda/lib/d": "d", "opt/cuda/lib/.wh..wh..opq": ""}, {"old": "old", "lib/d": "d"}, id="a file, then opaque"),
        pytest.param({"opt/cuda/lib/deep/": "", "opt/cuda/lib/deep/d": "d", "opt/cuda/lib/.wh..wh..opq": ""}, {"old": "old", "lib/deep/d": "d"}, id="opaque reaches into a folder said anew"),
        pytest.param({"opt/cuda/.wh.lib": "", "opt/cuda/lib/d": "d"}, {"old": "old", "lib/d": "d"}, id="away, then anew"),
        pytest.param({"opt/cuda/lib": "file"}, {"old": "old", "lib": "file"}, id="a file in a folder's place"),
        pytest.param({"opt/cuda/lib": "-> old"}, {"old": "old", "lib": "-> old"}, id="a link in a folder's place"),
        pytest.param({"opt/cuda/old/": "", "opt/cuda/old/x": "x"}, {"old/x": "x", "lib/a": "a", "lib/b": "b", "lib/deep/c": "c"}, id="a folder in a file's place"),
        pytest.param({"opt/cuda/.wh.nothing": "", "opt/cuda/.wh..wh.plnk": ""}, {"old": "old", "lib/a": "a", "lib/b": "b", "lib/deep/c": "c"}, id="whiteouts of nothing"),
        pytest.param({"opt/cuda/lib/": ""}, {"old": "old", "lib/a": "a", "lib/b": "b", "lib/deep/c": "c"}, id="a folder said again"),
        pytest.param({"./opt/cuda/./old": "dots", "/opt/cuda/lib/a": "root"}, {"old": "dots", "lib/a": "root", "lib/b": "b", "lib/deep/c": "c"}, id="other spellings of a path"),
    ],
)  # fmt: skip
def test_later_layers_change_earlier_ones(
    tmp_path: Path, upper: Mapping[str, str], left: Mapping[str, str]
) -> None:
    found = unpacked(tree(tmp_path, LOWER, upper), tmp_path, "opt/cuda")
    assert found == {f"opt/cuda/{name}": text for name, text in left.items()}


def test_what_was_taken_away_may_come_back(tmp_path: Path) -> None:
    image = tree(tmp_path, LOWER, {"opt/.wh.cuda": ""}, {"opt/cuda/lib/a": "third"})
    assert unpacked(image, tmp_path, "opt/cuda") == {"opt/cuda/lib/a": "third"}


def test_files_below_a_link_lie_where_it_leads(tmp_path: Path) -> None:
    image = tree(
        tmp_path, {"usr/lib/": "", "lib": "-> usr/lib"}, {"lib/a.so": "a"}, {"lib/.wh.b": ""}
    )
    assert image.find("lib/a.so") == "usr/lib/a.so"
    assert unpacked(image, tmp_path, "usr/lib") == {"usr/lib/a.so": "a"}


def test_links_are_followed_within_the_image(tmp_path: Path) -> None:
    image = tree(
        tmp_path,
        {
            "usr/local/cuda": "-> /etc/alternatives/cuda",
            "etc/alternatives/cuda": "-> /usr/local/cuda-12.8",
            "usr/local/cuda-12.8/include": "-> targets/linux/include",
            "usr/local/cuda-12.8/targets/linux/include/cuda.h": "cuda",
            "usr/local/cuda-12.8/lib/libc.so": "-> libc.so.1",
            "usr/local/cuda-12.8/lib/libc.so.1": "-> ../../../../opt/real/libc.so.1.2",
            "usr/local/cuda-12.8/bin/self": "-> /usr/local/cuda/version",
            "usr/local/cuda-12.8/version": "12.8",
            "usr/local/cuda-12.8/gone": "-> /etc/passwd",
            "usr/local/cuda-12.8/up": "-> ../../../../../../../opt/real/libc.so.1.2",
            "opt/real/libc.so.1.2": "libc",
            "opt/real/other": "not asked for",
        },
    )
    assert image.find("/usr/local/cuda") == "usr/local/cuda-12.8"
    assert image.find("/usr/local/cuda/include/cuda.h") == (
        "usr/local/cuda-12.8/targets/linux/include/cuda.h"
    )
    assert image.find("/usr/local/cuda/no") is None
    assert unpacked(image, tmp_path, "usr/local/cuda-12.8") == {
        "opt/real/libc.so.1.2": "libc",
        "usr/local/cuda-12.8/bin/self": "-> ../version",
        "usr/local/cuda-12.8/gone": "-> ../../../etc/passwd",
        "usr/local/cuda-12.8/include": "-> targets/linux/include",
        "usr/local/cuda-12.8/lib/libc.so": "-> libc.so.1",
        "usr/local/cuda-12.8/lib/libc.so.1": "-> ../../../../opt/real/libc.so.1.2",
        "usr/local/cuda-12.8/targets/linux/include/cuda.h": "cuda",
        "usr/local/cuda-12.8/up": "-> ../../../opt/real/libc.so.1.2",
        "usr/local/cuda-12.8/version": "12.8",
    }
    out = tmp_path / "out"
    assert not (out / "usr/local/cuda-12.8/gone").exists()
    for path in out.rglob("*"):
        if path.is_symlink():
            assert Path(os.path.normpath(path.parent / path.readlink())).is_relative_to(out)


def test_a_link_to_a_folder_brings_the_folder(tmp_path: Path) -> None:
    image = tree(
        tmp_path,
        {"opt/cuda/lib64": "-> /usr/lib64/cuda", "usr/lib64/cuda/deep/a": "a", "usr/b": "b"},
    )
    assert unpacked(image, tmp_path, "opt/cuda") == {
        "opt/cuda/lib64": "-> ../../usr/lib64/cuda",
        "usr/lib64/cuda/deep/a": "a",
    }


def test_hard_links_share_their_bytes(tmp_path: Path) -> None:
    image = tree(
        tmp_path,
        {"usr/bin/a": "one", "opt/b": "=> usr/bin/a", "opt/l": "-> b", "opt/k": "=> ./opt/l"},
        # the file is another one now, the link still the first
        {"usr/bin/a": "two"},
        {"opt/c": "=> /opt/b"},
    )
    assert unpacked(image, tmp_path, "opt", "usr") == {
        "opt/b": "one",
        "opt/c": "one",
        "opt/k": "-> b",
        "opt/l": "-> b",
        "usr/bin/a": "two",
    }
    out = tmp_path / "out"
    assert (out / "opt/b").samefile(out / "opt/c")
    assert (out / "opt/b").stat().st_mode & 0o777 == 0o755


def test_what_is_left_out_by_its_name(tmp_path: Path) -> None:
    files = {"opt/lib/liba.so": "-> liba.so.1", "opt/lib/liba.so.1": "a", "opt/lib/b": "b"}
    found = unpacked(tree(tmp_path, files), tmp_path, "opt", left_out=["liba.*"])
    assert found == {"opt/lib/b": "b"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"opt/../../evil": "x"}, "a layer of the image names a file outside of it: opt/../../evil"),
        ({"../evil": "x"}, "a layer of the image names a file outside of it: ../evil"),
        ({"opt/a": "=> opt/none"}, "a layer of the image has a hard link to nothing: opt/a (opt/none)"),
        ({"opt/d/": "", "opt/a": "=> opt/d"}, "a layer of the image has a hard link to nothing: opt/a (opt/d)"),
        ({"opt/a": "a", "opt/a/b": "b"}, "a layer of the image has files below /opt/a, which is no folder"),
        ({"a": "-> b", "b": "-> a", "a/c": "c"}, "a layer of the image has files below /a, which is no folder"),
    ],
)  # fmt: skip
def test_what_no_builder_makes_is_refused(
    tmp_path: Path, files: Mapping[str, str], said: str
) -> None:
    with pytest.raises(VendorError) as caught:
        tree(tmp_path, files)
    assert caught.value.what == said


def test_a_file_through_a_link_out_of_the_image_stays_within(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    image = tree(
        tmp_path,
        {"opt/out": f"-> {victim}", "opt/up": "-> ../../../.."},
        {"opt/out/a": "a", "opt/up/b": "b"},
    )
    unpacked(image, tmp_path, "")
    assert list(victim.iterdir()) == []
    assert (tmp_path / "out" / victim.relative_to("/") / "a").read_text(encoding="utf-8") == "a"
    assert (tmp_path / "out/b").read_text(encoding="utf-8") == "b"


def test_a_device_is_refused_where_it_is_wanted_and_nowhere_else(tmp_path: Path) -> None:
    image = tree(tmp_path, {"dev/null": "#", "opt/a": "a"})
    assert unpacked(image, tmp_path, "opt") == {"opt/a": "a"}
    with pytest.raises(UsageError) as caught:
        image.unpack(["dev"], tmp_path / "other")
    assert caught.value.what == "the image has a device at /dev/null: a toolkit has none"


def test_links_in_a_circle(tmp_path: Path) -> None:
    image = tree(
        tmp_path, {"opt/a": "-> b/x", "opt/b": "-> a/x", "opt/c": "c", "opt/self": "-> self"}
    )
    assert image.find("opt/a") is None
    with pytest.raises(VendorError, match=r"^the image's links go in circles at /opt/[ab]\n"):
        image.unpack(["opt"], tmp_path / "out")


def test_links_that_double_at_every_step_end(tmp_path: Path) -> None:
    bomb = {f"l{number}": f"-> l{number + 1}/../l{number + 1}" for number in range(60)}
    assert tree(tmp_path, bomb).find("l0") is None


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_damaged_layer_is_said(tmp_path: Path, packing: Packing) -> None:
    noise = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(200)).hex()
    content = layer({"opt/a": noise, "opt/b": noise}, packing)
    with pytest.raises(VendorError) as caught:
        tree(tmp_path, content[: len(content) // 2])
    assert caught.value.what.startswith("a layer of the image, layer-0, cannot be unpacked: ")
    with pytest.raises(VendorError, match="layer-0, cannot be unpacked"):
        tree(tmp_path, b"<html>something else</html>" * 100)


def test_long_names_are_whole(tmp_path: Path) -> None:
    out = io.BytesIO()
    long = "opt/" + "x" * 150 + "/" + "y" * 150
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(long)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"z"))
    assert unpacked(tree(tmp_path, gzip.compress(out.getvalue())), tmp_path, "opt") == {long: "z"}
