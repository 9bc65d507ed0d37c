"""What goes to the package index, and where that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.errors import NetworkError, PublishError, UsageError
from ci.progress import Progress
from ci.table import load_table
from ci.upload import Repository, choose_repository, index_of, published, upload, version_of
from tests.wheels import write_report, write_wheel

NOWHERE = Repository(
    arguments=("--repository-url", "http://127.0.0.1:1/"),
    url="http://127.0.0.1:1/",
    index_url="http://127.0.0.1:1/simple/",
)


@pytest.mark.parametrize(
    ("url", "index"),
    [
        ("https://upload.index.example/legacy/", "https://index.example/simple/"),
        ("https://test.index.example/legacy/", "https://test.index.example/simple/"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/simple/"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/simple/"),
        ("https://me:word@host.example/repo/legacy/", "https://host.example/repo/simple/"),
    ],
)
def test_where_installers_read_what_was_uploaded(url: str, index: str) -> None:
    assert index_of(url) == index


def test_a_repository_by_address_and_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWINE_REPOSITORY_URL", raising=False)
    monkeypatch.delenv("TWINE_REPOSITORY", raising=False)
    config = tmp_path / "pypirc"
    config.write_text(
        "[distutils]\nindex-servers =\n  ours\n[ours]\nrepository = https://ours.example/legacy/\n"
    )
    by_name = choose_repository("ours", None, None, config=str(config))
    assert by_name == Repository(
        arguments=("--repository", "ours"),
        url="https://ours.example/legacy/",
        index_url="https://ours.example/simple/",
    )
    by_url = choose_repository(None, "https://a.example/up/", "https://a.example/index/")
    assert by_url == Repository(
        arguments=("--repository-url", "https://a.example/up/"),
        url="https://a.example/up/",
        index_url="https://a.example/index/",
    )
    monkeypatch.setenv("TWINE_REPOSITORY_URL", "https://b.example/legacy/")
    assert choose_repository(None, None, None).url == "https://b.example/legacy/"
    assert choose_repository("ours", None, None, config=str(config)) == by_name


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    config = tmp_path / "pypirc"
    config.write_text("[distutils]\nindex-servers =\n")
    with pytest.raises(UsageError) as info:
        choose_repository("ours", None, None, config=str(config))
    assert info.value.what.startswith("--repository ours: Missing 'ours' section from")
    assert info.value.cure == "give --repository-url, or a name that ~/.pypirc has"


def test_versions_of_file_names() -> None:
    assert str(version_of(Path("llama_cpp_python-0.3.100-py3-none-win_amd64.whl"))) == "0.3.100"
    assert str(version_of(Path("llama_cpp_python-0.3.101.tar.gz"))) == "0.3.101"
    with pytest.raises(UsageError, match=r"other-1\.0\.tar\.gz is an sdist of other"):
        version_of(Path("other-1.0.tar.gz"))
    with pytest.raises(UsageError, match=r"nonsense\.tar\.gz is not the name of an sdist"):
        version_of(Path("nonsense.tar.gz"))


def test_an_index_that_does_not_answer_stops() -> None:
    with pytest.raises(NetworkError) as info:
        published("http://127.0.0.1:1/simple/")
    assert info.value.what.startswith("http://127.0.0.1:1/simple/: what is published there could")


def run(*given: Path, folder: Path) -> None:
    upload(given, NOWHERE, folder, load_table(), Progress(), dry_run=True)


def test_a_wheel_that_has_no_place_there_is_refused_by_name(tmp_path: Path) -> None:
    wheel = write_wheel(
        tmp_path / "dist", version="0.3.100+cu128", platform="manylinux_2_28_x86_64"
    )
    write_report(wheel, backend="cu128")
    with pytest.raises(UsageError) as info:
        run(wheel, folder=tmp_path / "out")
    name = "llama_cpp_python-0.3.100+cu128-py3-none-manylinux_2_28_x86_64.whl"
    assert info.value.what == (
        f"{name} does not go to the package index: it is not its platform's plain wheel"
    )


@pytest.mark.parametrize(
    ("names", "error", "what"),
    [
        ([], UsageError, "there is nothing to upload"),
        (
            ["llama_cpp_python-0.3.100+cpu.tar.gz"],
            PublishError,
            "llama_cpp_python-0.3.100+cpu.tar.gz has a version label, which no package index takes",
        ),
        (
            ["llama_cpp_python-0.3.100.tar.gz", "llama_cpp_python-0.3.101.tar.gz"],
            UsageError,
            "the files are of 2 versions: 0.3.100, 0.3.101",
        ),
    ],
    ids=["nothing", "label", "versions"],
)
def test_what_cannot_be_uploaded(
    tmp_path: Path, names: list[str], error: type[UsageError | PublishError], what: str
) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    for name in names:
        (dist / name).write_bytes(b"")
    with pytest.raises(error) as info:
        run(dist, folder=tmp_path / "out")
    assert info.value.what == what


def test_a_file_that_is_neither(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no wheel and no sdist"):
        run(tmp_path / "absent.zip", folder=tmp_path / "out")
