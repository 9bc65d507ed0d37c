from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import pytest

from ci.errors import CatalogueError
from ci.table import load_table
from index.catalogue import Entry
from index.dependencies import Dependency, dependency_projects, load, updated, write
from index.page import project_pages
from index.report import Host, Interpreter, Proof

if TYPE_CHECKING:
    from pathlib import Path

TABLE = load_table()
TAGS = {
    "manylinux_x86_64": "manylinux_2_17_x86_64",
    "manylinux_aarch64": "manylinux_2_17_aarch64",
    "win_amd64": "win_amd64",
}
PROOF = Proof(
    sha256="c" * 64,
    source=None,
    date="2026-11-21T02:00:00Z",
    host=Host(system="Linux", machine="x86_64", libc="glibc 2.36", cpu="Xeon"),
    interpreters=(
        Interpreter(
            version="3.13.1",
            tag="cp313",
            implementation="CPython",
            free_threaded=False,
            device="CPU",
            cpu_variant="libggml-cpu-haswell.so",
            checks=("import",),
        ),
    ),
)


def entry(
    *requires: str,
    version: str = "0.3.100",
    platform: str = "manylinux_x86_64",
    yanked: str | None = None,
) -> Entry:
    return Entry(
        name=f"llama_cpp_python-{version}+cu128-py3-none-{TAGS[platform]}.whl",
        project="llama-cpp-python",
        version=f"{version}+cu128",
        backend="cu128",
        platform=platform,
        sha256="a" * 64,
        size=10,
        upload_time="2026-11-21T12:00:00Z",
        requires_python=">=3.9",
        requires=requires,
        metadata_sha256="b" * 64,
        report=PROOF,
        variant=None,
        yanked=yanked,
        url=None,
    )


def wheel(
    project: str, version: str, *requires: str, tag: str = "py3-none-any", yanked: str | None = None
) -> Dependency:
    name = f"{project.replace('-', '_')}-{version}-{tag}.whl"
    return Dependency(
        project=project,
        version=version,
        name=name,
        url=f"https://files.example/{project}/{name}",
        sha256="d" * 64,
        size=100,
        upload_time="2026-10-01T08:00:00Z",
        requires_python=">=3.8",
        metadata_sha256="e" * 64,
        requires=requires,
        yanked=yanked,
    )


def sdist(project: str, version: str) -> Dependency:
    name = f"{project}-{version}.tar.gz"
    return replace(
        wheel(project, version),
        name=name,
        url=f"https://files.example/{name}",
        metadata_sha256=None,
    )


def shown(entries: list[Entry], dependencies: list[Dependency]) -> dict[str, list[str]]:
    projects = dependency_projects(entries, dependencies, table=TABLE)
    return {project.name: [file.name for file in project.files] for project in projects}


def test_only_versions_that_the_requirement_admits() -> None:
    known = [wheel("runtime", version) for version in ("12.9", "12.10", "13.0", "11.8", "12.11rc1")]

    assert shown([entry("runtime>=12.1,<13")], known) == {
        # 12.11rc1 was taken in once, perhaps for a wheel that pinned it: it stays
        "runtime": [
            "runtime-12.9-py3-none-any.whl",
            "runtime-12.10-py3-none-any.whl",
            "runtime-12.11rc1-py3-none-any.whl",
        ]
    }


def test_only_files_that_a_platform_of_the_backend_can_use() -> None:
    tags = ("manylinux2014_x86_64", "manylinux2014_aarch64", "win_amd64", "macosx_11_0_arm64")
    known = [wheel("blas", "12.0", tag=f"py3-none-{tag}") for tag in tags]
    entries = [entry("blas"), entry("blas", platform="win_amd64")]

    assert shown(entries, known) == {
        "blas": [
            "blas-12.0-py3-none-manylinux2014_x86_64.whl",
            "blas-12.0-py3-none-win_amd64.whl",
        ]
    }


def test_requirements_are_followed_to_the_end() -> None:
    known = [
        wheel("a", "1", "b[fast]>=2; python_version >= '3.9'", "never; python_version < '3'"),
        wheel("b", "2", "c; extra == 'fast'", "d; extra == 'slow'", "a"),
        wheel("b", "1", "d"),
        wheel("c", "1"),
        wheel("d", "1"),
        wheel("never", "1"),
        wheel("other", "1"),
    ]

    assert list(shown([entry("A")], known)) == ["a", "b", "c"]


def test_all_extras_of_our_wheels_are_followed() -> None:
    known = [wheel("fastapi", "1"), wheel("uvicorn", "1")]
    requires = ("fastapi; extra == 'server'", "llama-cpp-python[server]; extra == 'all'")

    assert list(shown([entry(*requires)], known)) == ["fastapi"]


def test_what_a_marker_wants_elsewhere_is_there_for_who_locks_for_every_machine() -> None:
    tags = ("manylinux2014_x86_64", "win_amd64", "macosx_11_0_arm64")
    known = [
        *(wheel("windows", "1", "below", tag=f"py3-none-{tag}") for tag in tags),
        *(wheel("below", "1", tag=f"py3-none-{tag}") for tag in tags),
        *(wheel("nowhere", "1", tag=f"py3-none-{tag}") for tag in tags),
    ]
    requires = ("windows; sys_platform == 'win32'", "nowhere; sys_platform == 'plan9'")

    assert shown([entry(*requires)], known) == {
        "below": ["below-1-py3-none-win_amd64.whl"],
        "nowhere": [f"nowhere-1-py3-none-{tag}.whl" for tag in sorted(tags)],
        "windows": ["windows-1-py3-none-win_amd64.whl"],
    }


def test_a_wheel_can_do_without_what_is_wanted_elsewhere() -> None:
    assert shown([entry("windows; sys_platform == 'win32'")], []) == {}

    with pytest.raises(CatalogueError, match="no file of it for win_amd64 is known"):
        shown([entry("windows; sys_platform == 'win32'", platform="win_amd64")], [])


def test_every_version_of_our_wheels_counts() -> None:
    known = [wheel("runtime", "12.1"), wheel("runtime", "13.1")]
    entries = [entry("runtime<13", version="0.3.99"), entry("runtime>=13")]

    assert shown(entries, known) == {
        "runtime": ["runtime-12.1-py3-none-any.whl", "runtime-13.1-py3-none-any.whl"]
    }


def test_an_sdist_that_was_taken_in_stays() -> None:
    assert shown([entry("a")], [sdist("a", "1"), wheel("a", "2")]) == {
        "a": ["a-1.tar.gz", "a-2-py3-none-any.whl"]
    }


def test_wheels_that_need_nothing_bring_no_pages() -> None:
    assert shown([entry()], [wheel("a", "1")]) == {}


def test_a_requirement_that_nothing_serves() -> None:
    with pytest.raises(CatalogueError) as caught:
        shown([entry("blas>=13", platform="win_amd64")], [wheel("blas", "12")])

    assert str(caught.value) == (
        "llama_cpp_python-0.3.100+cu128-py3-none-win_amd64.whl requires blas>=13, and no file of it"
        " for win_amd64 is known\n"
        "  -> run `python -m index dependencies`, which asks the package index for it"
    )


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([entry("gone", yanked="does not start")], id="of-a-yanked-wheel"),
        pytest.param([entry("gone; extra == 'server'")], id="of-an-extra"),
    ],
)
def test_a_requirement_that_may_stay_open(entries: list[Entry]) -> None:
    assert shown(entries, []) == {}


def test_a_requirement_at_an_address_is_refused() -> None:
    with pytest.raises(CatalogueError, match="requires a at an address, which no index can carry"):
        shown([entry("a @ https://example.org/a-1-py3-none-any.whl")], [])


def test_pages_say_all_that_is_known_and_escape_it() -> None:
    known = replace(
        wheel("a", "1", yanked='breaks <everything> & "more"'),
        url="https://files.example/a%2Bb/a-1-py3-none-any.whl",
    )
    (project,) = dependency_projects([entry("a==1")], [known], table=TABLE)

    pages = project_pages("whl/cu128", project)

    assert pages["whl/cu128/a/index.html"].decode().splitlines()[9:11] == [
        '    <a href="https://files.example/a%2Bb/a-1-py3-none-any.whl#sha256='
        + "d" * 64
        + '" data-requires-python="&gt;=3.8" data-core-metadata="sha256='
        + "e" * 64
        + '" data-size="100" data-upload-time="2026-10-01T08:00:00Z"'
        ' data-yanked="breaks &lt;everything&gt; &amp; &#34;more&#34;">'
        "a-1-py3-none-any.whl</a><br>",
        "  </body>",
    ]
    assert json.loads(pages["whl/cu128/a/index.v1_json"]) == {
        "meta": {"api-version": "1.4"},
        "name": "a",
        "versions": ["1"],
        "files": [
            {
                "filename": "a-1-py3-none-any.whl",
                "url": "https://files.example/a%2Bb/a-1-py3-none-any.whl",
                "hashes": {"sha256": "d" * 64},
                "requires-python": ">=3.8",
                "core-metadata": {"sha256": "e" * 64},
                "size": 100,
                "upload-time": "2026-10-01T08:00:00Z",
                "yanked": 'breaks <everything> & "more"',
            }
        ],
    }


def test_the_order_of_the_file_does_not_matter() -> None:
    known = [wheel("a", version, "b") for version in ("2", "10", "1")] + [wheel("b", "1")]

    assert dependency_projects([entry("a")], known, table=TABLE) == dependency_projects(
        [entry("a")], known[::-1], table=TABLE
    )


# ---- the file --------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dependencies.jsonl"
    one, two = wheel("a", "1", "b>=1"), sdist("b", "1")

    write(path, [one])
    write(path, [two])

    assert load(path) == (one, two)
    assert [item.name for item in tmp_path.iterdir()] == ["dependencies.jsonl"]


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert load(tmp_path / "none.jsonl") == ()


def test_the_last_line_about_a_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "dependencies.jsonl"
    first = replace(wheel("a", "1"), size=None)
    moved = replace(first, url=f"https://elsewhere.example/{first.name}", yanked="broken", size=100)

    write(path, [first, moved])

    assert load(path) == (moved,)


def test_what_an_upstream_says_later() -> None:
    known = wheel("a", "1")
    said = replace(
        known, url="https://b.example/a", size=None, upload_time=None, yanked="", requires=("x",)
    )

    assert updated(known, said) == replace(known, url="https://b.example/a", yanked="")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"sha256": "f" * 64}, "only its place and yanked may change", id="bytes"),
        pytest.param({"requires": ["x"]}, "only its place and yanked may change", id="requires"),
        pytest.param({"size": 7}, "only its place and yanked may change", id="size"),
    ],
)
def test_a_later_line_that_says_something_else(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "dependencies.jsonl"
    said = asdict(wheel("a", "1"))
    path.write_text(f"{json.dumps(said)}\n{json.dumps(said | changes)}\n", encoding="utf-8")

    with pytest.raises(CatalogueError) as caught:
        load(path)

    assert caught.value.what == f"{path}:2: a-1-py3-none-any.whl is there already, and {message}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {
                "project": "llama-cpp-python",
                "name": "llama_cpp_python-1-py3-none-any.whl",
                "url": "https://files.example/llama_cpp_python-1-py3-none-any.whl",
            },
            "llama_cpp_python-1-py3-none-any.whl: llama-cpp-python is ours: its files are in the"
            " catalogue, and nowhere else",
            id="our-own-name",
        ),
        pytest.param(
            {"project": "b"},
            "a-1-py3-none-any.whl: b 1 does not follow from the file name",
            id="another-project",
        ),
        pytest.param(
            {"name": "a.zip"},
            "a.zip: not the name of a wheel or an sdist (",
            id="no-version",
        ),
        pytest.param(
            {"url": "http://files.example/a-1-py3-none-any.whl"},
            "a-1-py3-none-any.whl: the address must begin with https:// (http://files.example)",
            id="http",
        ),
        pytest.param(
            {"url": "https://me:secret@files.example/a-1-py3-none-any.whl"},
            "a-1-py3-none-any.whl: the address holds a name or a password, which everybody would"
            " read",
            id="password",
        ),
        pytest.param(
            {"url": "https://files.example/b-1-py3-none-any.whl"},
            "a-1-py3-none-any.whl: the address ends with another file name (b-1-py3-none-any.whl)",
            id="another-file",
        ),
        pytest.param(
            {"requires": ["b @ https://example.org/b.zip"]},
            "a-1-py3-none-any.whl: it requires b at an address, which no index can carry",
            id="direct",
        ),
        pytest.param({"sha256": "x"}, "sha256: String should match pattern", id="sha256"),
        pytest.param({"extra": 1}, "extra: Unexpected keyword argument", id="unknown-key"),
    ],
)
def test_a_line_that_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "dependencies.jsonl"
    path.write_text(f"{json.dumps(asdict(wheel('a', '1')) | changes)}\n", encoding="utf-8")

    with pytest.raises(CatalogueError) as caught:
        load(path)

    assert caught.value.what.startswith(f"{path}:1: {message}")


def test_loopback_may_do_without_tls(tmp_path: Path) -> None:
    path = tmp_path / "dependencies.jsonl"
    here = replace(wheel("a", "1"), url="http://127.0.0.1:8000/a-1-py3-none-any.whl")

    write(path, [here])

    assert load(path) == (here,)


def test_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "dependencies.jsonl"
    write(path, [wheel("a", "1"), wheel("b", "1")])
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(CatalogueError) as caught:
        load(path)

    assert str(caught.value) == (
        f"{path}:2: the line is cut off (no newline)\n"
        "  -> restore the file from its version control, then run `python -m index dependencies`"
    )
