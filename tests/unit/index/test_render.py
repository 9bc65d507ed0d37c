from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import html5lib
import pytest

from ci.errors import CatalogueError
from ci.table import load_table
from index.catalogue import Entry, line_of
from index.render import render
from index.report import Host, Interpreter, Proof
from index.wheel import Variant

TABLE = load_table()
CPU = Entry(
    name="llama_cpp_python-0.3.100+cpu-py3-none-manylinux_2_17_x86_64.whl",
    project="llama-cpp-python",
    version="0.3.100+cpu",
    backend="cpu",
    platform="manylinux_x86_64",
    sha256="a" * 64,
    size=10_300_000,
    upload_time="2026-11-21T12:00:00Z",
    requires_python=">=3.9",
    requires=(),
    metadata_sha256="b" * 64,
    report=Proof(
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
                checks=("import", "tokens"),
            ),
        ),
    ),
    variant=None,
    yanked=None,
    url=None,
)
OLD = replace(
    CPU,
    name="llama_cpp_python-0.3.99+cpu-py3-none-manylinux_2_17_x86_64.whl",
    version="0.3.99+cpu",
    sha256="d" * 64,
    metadata_sha256="e" * 64,
    size=5,
    requires_python=None,
    yanked="breaks <everything> & more",
)
MAC = replace(
    CPU,
    name="llama_cpp_python-0.3.100+cpu-py3-none-macosx_12_0_arm64.whl",
    platform="macosx_arm64",
    sha256="f" * 64,
)
CUDA = replace(
    CPU,
    name="llama_cpp_python-0.3.100+cu128-py3-none-manylinux_2_17_x86_64.whl",
    version="0.3.100+cu128",
    backend="cu128",
)


def project_page(pages: dict[str, bytes], backend: str = "cpu") -> str:
    return pages[f"whl/{backend}/llama-cpp-python/index.html"].decode()


def project_json(pages: dict[str, bytes]) -> dict[str, list[dict[str, object]]]:
    parsed = json.loads(pages["whl/cpu/llama-cpp-python/index.v1_json"])
    assert isinstance(parsed, dict)
    return parsed


def test_the_project_page_to_the_letter() -> None:
    assert project_page(render([CPU, OLD], table=TABLE)) == (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n'
        "  <head>\n"
        '    <meta charset="utf-8">\n'
        '    <meta name="pypi:repository-version" content="1.4">\n'
        "    <title>Links for llama-cpp-python</title>\n"
        "  </head>\n"
        "  <body>\n"
        "    <h1>Links for llama-cpp-python</h1>\n"
        '    <a href="llama_cpp_python-0.3.99%2Bcpu-py3-none-manylinux_2_17_x86_64.whl'
        f'#sha256={"d" * 64}"'
        f' data-core-metadata="sha256={"e" * 64}"'
        ' data-size="5" data-upload-time="2026-11-21T12:00:00Z"'
        ' data-yanked="breaks &lt;everything&gt; &amp; more">'
        "llama_cpp_python-0.3.99+cpu-py3-none-manylinux_2_17_x86_64.whl</a><br>\n"
        '    <a href="llama_cpp_python-0.3.100%2Bcpu-py3-none-manylinux_2_17_x86_64.whl'
        f'#sha256={"a" * 64}"'
        ' data-requires-python="&gt;=3.9"'
        f' data-core-metadata="sha256={"b" * 64}"'
        ' data-size="10300000" data-upload-time="2026-11-21T12:00:00Z">'
        "llama_cpp_python-0.3.100+cpu-py3-none-manylinux_2_17_x86_64.whl</a><br>\n"
        "  </body>\n"
        "</html>\n"
    )


def test_the_project_page_in_json() -> None:
    assert project_json(render([CPU, OLD], table=TABLE)) == {
        "meta": {"api-version": "1.4"},
        "name": "llama-cpp-python",
        "versions": ["0.3.99+cpu", "0.3.100+cpu"],
        "files": [
            {
                "filename": "llama_cpp_python-0.3.99+cpu-py3-none-manylinux_2_17_x86_64.whl",
                "url": "llama_cpp_python-0.3.99%2Bcpu-py3-none-manylinux_2_17_x86_64.whl",
                "hashes": {"sha256": "d" * 64},
                "size": 5,
                "upload-time": "2026-11-21T12:00:00Z",
                "core-metadata": {"sha256": "e" * 64},
                "yanked": "breaks <everything> & more",
            },
            {
                "filename": "llama_cpp_python-0.3.100+cpu-py3-none-manylinux_2_17_x86_64.whl",
                "url": "llama_cpp_python-0.3.100%2Bcpu-py3-none-manylinux_2_17_x86_64.whl",
                "hashes": {"sha256": "a" * 64},
                "requires-python": ">=3.9",
                "core-metadata": {"sha256": "b" * 64},
                "size": 10300000,
                "upload-time": "2026-11-21T12:00:00Z",
            },
        ],
    }


def test_a_yank_without_a_reason() -> None:
    pages = render([replace(OLD, yanked="")], table=TABLE)

    assert ' data-yanked="">' in project_page(pages)
    assert project_json(pages)["files"][0]["yanked"] is True


def test_the_project_list() -> None:
    pages = render([CPU], table=TABLE)

    assert pages["whl/cpu/index.html"].decode() == (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n'
        "  <head>\n"
        '    <meta charset="utf-8">\n'
        '    <meta name="pypi:repository-version" content="1.4">\n'
        "    <title>Simple index</title>\n"
        "  </head>\n"
        "  <body>\n"
        '    <a href="llama-cpp-python/">llama-cpp-python</a><br>\n'
        "  </body>\n"
        "</html>\n"
    )
    assert json.loads(pages["whl/cpu/index.v1_json"]) == {
        "meta": {"api-version": "1.4"},
        "projects": [{"name": "llama-cpp-python"}],
    }


def test_every_page_of_two_backends_and_none_of_the_others() -> None:
    assert list(render([CUDA, CPU], table=TABLE)) == [
        "404.html",
        "SHA256SUMS",
        "backends.json",
        "catalogue.jsonl",
        "index.html",
        "whl/cpu/index.html",
        "whl/cpu/index.v1_json",
        "whl/cpu/llama-cpp-python/index.html",
        "whl/cpu/llama-cpp-python/index.v1_json",
        "whl/cu128/index.html",
        "whl/cu128/index.v1_json",
        "whl/cu128/llama-cpp-python/index.html",
        "whl/cu128/llama-cpp-python/index.v1_json",
        "whl/index.html",
    ]


def test_a_page_lists_the_wheels_of_its_backend_only() -> None:
    pages = render([CUDA, CPU, MAC], table=TABLE)

    assert project_page(pages, "cpu").count("<a ") == 2
    assert "cu128" not in project_page(pages, "cpu")
    assert project_page(pages, "cu128").count("<a ") == 1


def test_backends_for_machines() -> None:
    said = json.loads(render([CUDA, CPU, OLD, MAC], table=TABLE)["backends.json"])

    assert (said["schema"], said["project"]) == (1, "llama-cpp-python")
    assert [{k: v for k, v in each.items() if k != "wheels"} for each in said["backends"]] == [
        {
            "name": "cpu",
            "title": "CPU",
            "family": "cpu",
            "retired": False,
            "index": "whl/cpu/",
            "newest": "0.3.100+cpu",
        },
        {
            "name": "cu128",
            "title": "NVIDIA CUDA 12.8",
            "family": "cuda",
            "retired": False,
            "index": "whl/cu128/",
            "newest": "0.3.100+cu128",
        },
    ]
    assert [wheel["name"] for wheel in said["backends"][0]["wheels"]] == [
        OLD.name,
        MAC.name,
        CPU.name,
    ]
    assert said["backends"][0]["wheels"][0] == {
        "name": OLD.name,
        "version": "0.3.99+cpu",
        "platform": "manylinux_x86_64",
        "variant": None,
        "sha256": "d" * 64,
        "size": 5,
        "upload_time": "2026-11-21T12:00:00Z",
        "yanked": "breaks <everything> & more",
        "proven_on": ["3.13.1"],
    }


def test_the_hashes_of_all_wheels() -> None:
    assert render([CUDA, CPU], table=TABLE)["SHA256SUMS"].decode() == (
        f"{'a' * 64}  {CPU.name}\n{'a' * 64}  {CUDA.name}\n"
    )


def test_the_catalogue_is_in_the_site() -> None:
    pages = render([CPU], table=TABLE, history=b"as it was read\n")

    assert pages["catalogue.jsonl"] == b"as it was read\n"
    assert render([CPU], table=TABLE)["catalogue.jsonl"] == line_of(CPU)


@pytest.mark.parametrize(
    ("versions", "yanked", "newest"),
    [
        pytest.param(("0.3.99", "0.3.100"), (None, None), "0.3.100+cpu", id="by-number"),
        pytest.param(("0.3.99", "0.3.100"), (None, "bad"), "0.3.99+cpu", id="not-yanked"),
        pytest.param(("0.3.99", "0.3.100"), ("bad", "bad"), "0.3.100+cpu", id="all-yanked"),
    ],
)
def test_the_version_to_recommend(
    versions: tuple[str, ...], yanked: tuple[str | None, ...], newest: str
) -> None:
    entries = [
        replace(
            CPU,
            name=f"llama_cpp_python-{version}+cpu-py3-none-win_amd64.whl",
            version=f"{version}+cpu",
            yanked=reason,
        )
        for version, reason in zip(versions, yanked, strict=True)
    ]

    (backend,) = json.loads(render(entries, table=TABLE)["backends.json"])["backends"]
    assert backend["newest"] == newest


def test_the_order_of_the_catalogue_does_not_matter() -> None:
    assert render([CPU, OLD, MAC, CUDA], table=TABLE) == render([CUDA, MAC, OLD, CPU], table=TABLE)


def test_every_page_is_strict_html() -> None:
    parser = html5lib.HTMLParser(strict=True)

    pages = render([CPU, OLD, MAC, CUDA], table=TABLE, site_url="https://example.org/?<")

    html = [content for name, content in pages.items() if name.endswith(".html")]
    assert len(html) == 7
    for content in html:
        parser.parse(content, transport_encoding="utf-8")


def test_the_legacy_metadata_attribute_is_never_written() -> None:
    for content in render([CPU, OLD, CUDA], table=TABLE).values():
        assert b"dist-info-metadata" not in content


def test_wheels_at_a_base_url() -> None:
    pages = render([CPU], table=TABLE, base_url="https://example.org/a%20b/")
    url = "https://example.org/a%20b/llama_cpp_python-0.3.100%2Bcpu-py3-none-manylinux_2_17_x86_64.whl"

    assert f'<a href="{url}#sha256=' in project_page(pages)
    assert project_json(pages)["files"][0]["url"] == url


def test_the_url_of_an_entry_goes_before_the_base_url() -> None:
    entry = replace(CPU, url=f"https://example.net/x/{CPU.name}")
    pages = render([entry], table=TABLE, base_url="https://example.org")

    assert project_json(pages)["files"][0]["url"] == (
        "https://example.net/x/llama_cpp_python-0.3.100%2Bcpu-py3-none-manylinux_2_17_x86_64.whl"
    )


def test_the_changelog_is_on_the_first_page() -> None:
    pages = render([CPU], table=TABLE, changelog="# Changelog\n\n## 0.3.100\n\n- Faster\n")

    assert "Faster" in pages["index.html"].decode()


def test_variants_have_an_index_beside_the_page() -> None:
    plain = replace(
        CPU,
        name="llama_cpp_python-0.3.100+auto-py3-none-manylinux_2_17_x86_64.whl",
        version="0.3.100+auto",
        backend="auto",
    )
    cuda = replace(
        plain,
        name="llama_cpp_python-0.3.100+auto-py3-none-manylinux_2_17_x86_64-cu128.whl",
        variant=Variant(
            label="cu128", properties={"nvidia": {"cuda_version_lower_bound": ("12.8",)}}
        ),
    )
    pages = render([plain, cuda], table=TABLE)
    page = json.loads(pages["whl/auto/llama-cpp-python/index.v1_json"])

    name = "llama_cpp_python-0.3.100+auto-variants.json"
    (said,) = [file for file in page["files"] if file["filename"] == name]
    folder = said["hashes"]["sha256"][:16]
    assert said["url"] == f"{folder}/{name.replace('+', '%2B')}"
    content = pages[f"whl/auto/llama-cpp-python/{folder}/{name}"]
    assert hashlib.sha256(content).hexdigest() == said["hashes"]["sha256"]
    assert list(json.loads(content)["variants"]) == ["cu128"]
    assert "core-metadata" not in said


def test_an_empty_catalogue_makes_no_site() -> None:
    with pytest.raises(CatalogueError) as caught:
        render([], table=TABLE)

    assert str(caught.value) == (
        "the catalogue has no wheels: there is nothing to build\n"
        "  -> add wheels with `python -m index add dist`"
    )


def test_a_backend_that_left_the_table() -> None:
    entry = replace(CPU, backend="cu999")

    with pytest.raises(CatalogueError) as caught:
        render([entry], table=TABLE)

    assert caught.value.what == (
        "the catalogue has wheels of cu999, the table has no backend of this name"
    )


def test_no_template_is_left_unused() -> None:
    folder = Path(render.__code__.co_filename).parent
    sources = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    templates = [path.name for path in (folder / "templates").iterdir()]

    assert templates
    assert [name for name in templates if f'"{name}"' not in sources] == []
