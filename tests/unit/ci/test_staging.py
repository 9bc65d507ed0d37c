"""The staged site is served while it is asked, and not after."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from ci.errors import ReleaseError
from ci.progress import Progress
from ci.release_set import examine
from ci.staging import serving, stage
from ci.table import load_table
from ci.vendor import load_pin
from tests.releases import VERSION, write_member
from tests.reports import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_table()
CPU = TABLE.target("cpu", "manylinux_x86_64")
MUSL = TABLE.target("cpu", "musllinux_aarch64")


def test_a_site_is_served_while_inside(tmp_path: Path) -> None:
    (tmp_path / "whl").mkdir()
    (tmp_path / "index.html").write_text("the first page")
    with serving(tmp_path) as address:
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == b"the first page"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)


def test_what_is_no_site_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as caught, serving(tmp_path):
        pass
    assert caught.value.what == "the index's server said '' and no address"
    assert caught.value.cure == f"try it by hand: python -m index serve --root {tmp_path}"


def test_a_set_that_is_not_whole_is_not_staged(tmp_path: Path) -> None:
    write_member(tmp_path / "wheels", MUSL)
    found = examine(
        tmp_path / "wheels", [CPU, MUSL], TABLE, load_pin(), version=VERSION, commit=CHECKOUT
    )
    with pytest.raises(ReleaseError):
        stage(
            found,
            tmp_path / "site",
            catalogue=tmp_path / "catalogue.jsonl",
            interpreters=[],
            table=TABLE,
            progress=Progress(),
            epoch=0,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["wheels"]


def test_a_folder_that_is_no_site_is_not_replaced(tmp_path: Path) -> None:
    write_member(tmp_path / "wheels", MUSL)
    found = examine(
        tmp_path / "wheels", [MUSL], TABLE, load_pin(), version=VERSION, commit=CHECKOUT
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "letter.txt").write_text("somebody's")
    with pytest.raises(ReleaseError) as caught:
        stage(
            found,
            tmp_path / "site",
            catalogue=tmp_path / "catalogue.jsonl",
            interpreters=[],
            table=TABLE,
            progress=Progress(),
            epoch=0,
        )
    assert caught.value.what.startswith("the index was not staged:\n")
    assert "not a site that this command made" in caught.value.what
    assert (tmp_path / "site" / "letter.txt").read_text() == "somebody's"
