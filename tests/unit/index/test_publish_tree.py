"""A site that is published is whole, and loses nothing of what is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from ci.errors import PublishError, UsageError
from index.publish.past import NOTHING, changed_pages, read_past, refuse_loss
from index.publish.tree import read_pages, read_tree
from index.publish.trial import subjects
from tests.publishing import write_site

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE: Final = "whl/cpu/llama-cpp-python"
NAME: Final = "llama_cpp_python-{}-py3-none-manylinux_2_17_x86_64.whl"
WHEEL: Final = f"{PAGE}/{NAME.format('0.3.100+cpu')}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A site, and the one that follows it."""
    folder = tmp_path_factory.mktemp("made")
    old = shutil.copytree(write_site(folder), folder / "old")
    return old, write_site(folder, ("0.3.100+cpu", "0.3.101+cpu", "0.3.100+cu128"))


@pytest.fixture
def site(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(made[0], tmp_path / "site")


def test_a_site_is_read(site: Path) -> None:
    tree = read_tree(site)
    assert sorted(tree.pages) == [PAGE]
    link = tree.pages[PAGE][0]
    assert (link.name, link.place, link.yanked) == (NAME.format("0.3.100+cpu"), WHEEL, False)
    assert tree.fixed == {WHEEL, f"{WHEEL}.metadata"}
    assert tree.catalogue == (site / "catalogue.jsonl").read_bytes()
    assert tree.size == sum(path.stat().st_size for path in site.rglob("*") if path.is_file())


def test_the_digest_is_of_names_and_contents(made: tuple[Path, Path], site: Path) -> None:
    digest = read_tree(site).digest
    assert digest == read_tree(made[0]).digest
    (site / "404.html").write_text("another")
    assert read_tree(site).digest != digest


def test_no_site_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as info:
        read_tree(tmp_path)
    assert info.value.what == f"{tmp_path}: no site is there"


def damage_wheel(site: Path) -> None:
    (site / WHEEL).write_bytes(b"another")


def lose_wheel(site: Path) -> None:
    (site / WHEEL).unlink()


def lose_metadata(site: Path) -> None:
    (site / f"{WHEEL}.metadata").unlink()


def damage_metadata(site: Path) -> None:
    (site / f"{WHEEL}.metadata").write_bytes(b"Name: another\n")


def lose_html(site: Path) -> None:
    (site / PAGE / "index.html").unlink()


def change_html(site: Path) -> None:
    path = site / PAGE / "index.html"
    path.write_text(path.read_text().replace("#sha256=", "#sha256=0"))


def change_sums(site: Path) -> None:
    (site / "SHA256SUMS").write_text("")


def add_to_the_catalogue(site: Path) -> None:
    with (site / "catalogue.jsonl").open("a") as file:
        file.write('{"name": "lost.whl", "sha256": "00"}\n')


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (damage_wheel, f"{WHEEL}: sha256 "),
        (lose_wheel, f"{PAGE}/ names {WHEEL}, which is not there"),
        (lose_metadata, f"{PAGE}/ names {WHEEL}.metadata, which is not there"),
        (damage_metadata, f"{WHEEL}.metadata: sha256 "),
        (lose_html, f"{PAGE}/index.html is not there, index.v1_json is"),
        (change_html, f"{PAGE}/: index.html and index.v1_json do not name the same: "),
        (change_sums, f"{WHEEL}: sha256 "),
        (add_to_the_catalogue, "lost.whl is in catalogue.jsonl and on no page"),
    ],
)
def test_a_site_that_is_not_whole(site: Path, change: Callable[[Path], None], problem: str) -> None:
    change(site)
    with pytest.raises(PublishError) as info:
        read_tree(site)
    assert info.value.what.startswith(f"{site}: the site is not whole:\n  ")
    assert f"\n  {problem}" in info.value.what
    assert info.value.cure == "make the site again with `nox -s index`; nothing was published"


def test_a_cut_off_catalogue(site: Path) -> None:
    path = site / "catalogue.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(PublishError, match=r"catalogue\.jsonl:1: not a line of a catalogue"):
        read_tree(site)


def test_a_page_that_is_not_json(site: Path) -> None:
    (site / PAGE / "index.v1_json").write_text("{")
    with pytest.raises(PublishError, match=rf"^{PAGE}/index\.v1_json: not a page of an index"):
        read_tree(site)


def test_a_link_out_of_the_tree_is_a_problem(site: Path) -> None:
    path = site / PAGE / "index.v1_json"
    page = json.loads(path.read_bytes())
    page["files"][0]["url"] = "../../../../etc/passwd"
    path.write_text(json.dumps(page))
    with pytest.raises(PublishError) as info:
        read_tree(site)
    assert f"{PAGE}/ names ../etc/passwd, which is not there" in info.value.what


def test_a_symbolic_link_is_refused(site: Path) -> None:
    (site / "secret").symlink_to("/etc/passwd")
    with pytest.raises(PublishError) as info:
        read_tree(site)
    assert info.value.what == f"{site / 'secret'}: not a plain file"


def test_absolute_addresses_are_somewhere_else(site: Path) -> None:
    path = site / PAGE / "index.v1_json"
    page = json.loads(path.read_bytes())
    page["files"][0]["url"] = "https://wheels.example/a%2Bb.whl"
    path.write_text(json.dumps(page))
    assert [link.place for link in read_pages(site)[PAGE]] == [None]


# ---- what is there already -----------------------------------------------------------------------


def test_what_changes(made: tuple[Path, Path]) -> None:
    old, new = made
    tree = read_tree(new)
    assert changed_pages(tree, NOTHING) == (PAGE, "whl/cu128/llama-cpp-python")
    assert changed_pages(tree, read_past(old)) == (PAGE, "whl/cu128/llama-cpp-python")
    assert changed_pages(tree, read_past(new)) == ()


def test_what_follows_loses_nothing(made: tuple[Path, Path]) -> None:
    old, new = made
    refuse_loss(read_tree(new), read_past(old), where="there")
    refuse_loss(read_tree(new), read_past(new), where="there")
    refuse_loss(read_tree(old), NOTHING, where="there")


def test_a_wheel_less_is_refused(made: tuple[Path, Path]) -> None:
    old, new = made
    with pytest.raises(PublishError) as info:
        refuse_loss(read_tree(old), read_past(new), where="there")
    assert info.value.what == (
        f"there: {NAME.format('0.3.101+cpu')} is in its catalogue.jsonl and not in this site's"
    )


def test_a_wheel_less_is_refused_without_a_catalogue(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    """A site as it was before it held its catalogue."""
    old, new = made
    there = shutil.copytree(new, tmp_path / "there")
    (there / "catalogue.jsonl").unlink()
    with pytest.raises(PublishError) as info:
        refuse_loss(read_tree(old), read_past(there), where="there")
    name = NAME.format("0.3.101+cpu")
    assert info.value.what == f"{name} is published on there: {PAGE}/, and this site has lost it"
    page = there / PAGE / "index.v1_json"
    changed = json.loads(page.read_bytes())
    changed["files"][0]["hashes"]["sha256"] = "0" * 64
    page.write_text(json.dumps(changed))
    with pytest.raises(PublishError) as info:
        refuse_loss(read_tree(new), read_past(there), where="there")
    assert "is published on there: " in info.value.what
    assert f"with other bytes (sha256 {'0' * 64}, this site has " in info.value.what


def test_another_order_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    there = shutil.copytree(made[1], tmp_path / "there")
    lines = (there / "catalogue.jsonl").read_bytes().splitlines(keepends=True)
    (there / "catalogue.jsonl").write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(PublishError) as info:
        refuse_loss(read_tree(made[1]), read_past(there), where="there")
    assert info.value.what == (
        "there: its catalogue.jsonl differs in line 1, ours must begin with it (it is append-only)"
    )


def test_a_site_without_a_catalogue_over_one_that_has_one(
    made: tuple[Path, Path], site: Path
) -> None:
    (site / "catalogue.jsonl").unlink()
    with pytest.raises(PublishError, match=r"^there has a catalogue\.jsonl, this site has none"):
        refuse_loss(read_tree(site), read_past(made[0]), where="there")


def test_what_is_tried(made: tuple[Path, Path]) -> None:
    old, new = made
    tree = read_tree(new)
    tried = subjects(tree, read_past(old), tree.pages)
    assert [(subject.page, str(subject.version)) for subject in tried] == [
        (PAGE, "0.3.101+cpu"),
        ("whl/cu128/llama-cpp-python", "0.3.100+cu128"),
    ]
    assert subjects(tree, read_past(old), []) == ()
