"""Which copy of the package this is, from site-packages made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llama_cpp
from llama_cpp._doctor import installation

PACKAGE = Path(llama_cpp.__file__).resolve().parent


def dist_info(site: Path, name: str, version: str, **files: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "site-packages"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    return place


def test_a_wheel_elsewhere_on_the_path_is_not_this_copy(site: Path) -> None:
    dist_info(
        site,
        "llama_cpp_python",
        "0.3.100+cu128",
        INSTALLER="uv\n",
        WHEEL="Wheel-Version: 1.0\nTag: py3-none-manylinux_2_17_x86_64\n",
        RECORD="llama_cpp/__init__.py,,\n",
    )
    found = installation.installation()
    assert found.package == str(PACKAGE)
    (other,) = [each for each in found.others if each.folder == str(site)]
    assert (other.version, other.label, other.installer) == ("0.3.100+cu128", "cu128", "uv")
    assert other.tags == ("py3-none-manylinux_2_17_x86_64",)
    assert not other.editable


def test_an_editable_install_owns_its_checkout(site: Path) -> None:
    url = PACKAGE.parent.as_uri()
    dist_info(
        site,
        "llama-cpp-python",
        "0.3.100",
        direct_url__json=json.dumps({"url": url, "dir_info": {"editable": True}}),
    )
    own = installation.installation().distribution
    assert own is not None
    assert (own.url, own.editable, own.label) == (url, True, None)


def test_an_editable_install_of_another_checkout_is_another(site: Path) -> None:
    dist_info(
        site,
        "llama-cpp-python",
        "0.3.100",
        direct_url__json=json.dumps(
            {"url": "file:///elsewhere/main", "dir_info": {"editable": True}}
        ),
    )
    assert str(site) in [each.folder for each in installation.installation().others]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"dir_info": 5}'])
def test_a_damaged_direct_url_is_none(site: Path, text: str) -> None:
    dist_info(site, "llama-cpp-python", "0.3.100", direct_url__json=text)
    (other,) = [each for each in installation.installation().others if each.folder == str(site)]
    assert (other.url, other.editable) == (None, False)


def test_strangers_in_the_same_folder(tmp_path: Path) -> None:
    dist_info(tmp_path, "llama-cpp-python", "0.3.100+cpu", RECORD="llama_cpp/__init__.py,,\n")
    dist_info(tmp_path, "llama_cpp_python_cuda", "0.2.9", RECORD="llama_cpp/llama.py,,\n")
    dist_info(tmp_path, "requests", "2.34.2", RECORD="requests/__init__.py,,\n")
    dist_info(tmp_path, "broken", "1")
    assert installation._foreign(tmp_path) == ("llama-cpp-python-cuda 0.2.9",)
