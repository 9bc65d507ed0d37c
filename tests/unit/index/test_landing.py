from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import html5lib
import pytest

from ci.table import load_table
from index.backends import backends_of
from index.catalogue import Entry
from index.commands import load_commands, values_of
from index.landing import OTHER_VERSIONS, landing
from index.report import Host, Interpreter, Proof
from index.wheel import Variant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ci.table import Table
    from index.commands import Tool

TABLE = load_table()
COMMANDS = load_commands()
ROOT = "https://example.org/wheels/"
RUN = Interpreter(
    version="3.13.1",
    tag="cp313",
    implementation="CPython",
    free_threaded=False,
    device="CPU: Xeon",
    cpu_variant="libggml-cpu-haswell.so",
    checks=("import", "tokens"),
)
PROOF = Proof(
    sha256="c" * 64,
    date="2026-11-20T02:00:00Z",
    host=Host(system="Linux", machine="x86_64", libc="glibc 2.36", cpu="Xeon"),
    interpreters=(replace(RUN, version="3.9.18"), RUN, replace(RUN, free_threaded=True)),
    source=None,
)


def wheel(
    backend: str = "cpu",
    tag: str = "manylinux_2_17_x86_64",
    version: str = "0.3.100",
    *,
    label: str | None = None,
    yanked: str | None = None,
) -> Entry:
    full = f"{version}+{label or backend}"
    name = f"llama_cpp_python-{full}-py3-none-{tag}.whl"
    return Entry(
        name=name,
        project="llama-cpp-python",
        version=full,
        backend=backend,
        platform=re.sub(r"_\d+_\d+_", "_", tag),
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        size=9_883_703,
        upload_time="2026-11-21T12:00:00Z",
        requires_python=">=3.9",
        requires=(),
        metadata_sha256="b" * 64,
        report=PROOF,
        variant=None,
        yanked=yanked,
        url=None,
    )


def page(
    *entries: Entry, root: str = ROOT, changelog: str = "", table: Table = TABLE
) -> tuple[str, ET.Element]:
    """Return the page as text and, from a parser that takes no errors, as a tree."""
    content = landing(
        backends_of(entries, table=table, base_url=None),
        table=table,
        root=root,
        commands=COMMANDS,
        changelog=changelog,
    )
    parser = html5lib.HTMLParser(
        tree=html5lib.getTreeBuilder("etree"), strict=True, namespaceHTMLElements=False
    )
    return content.decode(), parser.parse(content, transport_encoding="utf-8")


def text_of(element: ET.Element | None) -> str:
    assert element is not None
    return " ".join("".join(element.itertext()).split())


def values(tree: ET.Element, group: str) -> list[str]:
    return [each.attrib["value"] for each in tree.findall(f".//input[@name='{group}']")]


def part(tree: ET.Element, backend: str) -> ET.Element:
    found = tree.find(f".//section[@id='install']/div[@data-backend='{backend}']")
    assert found is not None
    return found


def codes(tree: ET.Element, backend: str, tool: str, system: str) -> list[str]:
    """Return the texts that are shown for a choice, to the letter."""
    return [
        "".join(code.itertext())
        for offer in part(tree, backend).findall("./div[@data-systems]")
        if system in offer.attrib["data-systems"].split()
        for code in offer.findall(f"./div[@data-tool='{tool}']//code[@data-step]")
    ]


def rows(tree: ET.Element) -> list[ET.Element]:
    return tree.findall(".//tbody/tr")


def notes(element: ET.Element) -> list[str]:
    return [text_of(each) for each in element.findall("./p[@class='note']")]


MANY = [
    wheel("cpu"),
    wheel("cpu", "macosx_12_0_arm64"),
    wheel("cpu", "win_amd64"),
    wheel("metal", "macosx_12_0_arm64"),
    wheel("cu128"),
    wheel("cu128", "win_amd64"),
]


def test_what_can_be_chosen_is_what_there_are_wheels_of_in_the_tables_order() -> None:
    _, tree = page(*reversed(MANY))

    assert values(tree, "system") == ["manylinux_x86_64", "macosx_arm64", "win_amd64"]
    assert values(tree, "backend") == ["cpu", "metal", "cu128"]
    assert values(tree, "tool") == [tool.id for tool in COMMANDS.tools]
    checked = [each.attrib["value"] for each in tree.findall(".//input[@checked]")]
    assert checked == ["manylinux_x86_64", "cpu", COMMANDS.tools[0].id]


def test_where_the_first_system_has_no_cpu_wheel_another_backend_is_chosen_at_first() -> None:
    _, tree = page(wheel("cpu", "win_amd64"), wheel("vulkan"))

    checked = [each.attrib["value"] for each in tree.findall(".//input[@checked]")]
    assert checked[:2] == ["manylinux_x86_64", "vulkan"]


@pytest.mark.parametrize("tool", COMMANDS.tools, ids=lambda tool: tool.id)
@pytest.mark.parametrize("backend", ["cpu", "cu128"])
def test_the_texts_are_the_commands_filled_in(tool: Tool, backend: str) -> None:
    _, tree = page(*MANY)

    filled = values_of(f"0.3.100+{backend}", backend=backend, root=ROOT)
    expected = [step.filled(filled) for step in tool.steps] if tool.fits(backend) else []
    assert codes(tree, backend, tool.id, "win_amd64") == expected
    assert expected or tool.id == "uv-extras"


def test_a_tool_that_does_not_fit_says_so() -> None:
    _, tree = page(*MANY)

    extras = part(tree, "cpu").find(".//div[@data-tool='uv-extras']")
    assert extras is not None
    assert notes(extras) == [
        "This sets up cpu and another backend to switch between: choose the other one above."
    ]


def test_without_a_cpu_index_no_tool_that_needs_one_is_offered() -> None:
    _, tree = page(wheel("cu128"))

    assert values(tree, "tool") == [t.id for t in COMMANDS.tools if not t.besides_cpu]


def test_a_combination_that_does_not_exist_says_what_does() -> None:
    _, tree = page(*MANY)

    missing = part(tree, "cu128").findall("./p[@data-systems]")
    assert [(each.attrib["data-systems"], text_of(each)) for each in missing] == [
        (
            "macosx_arm64",
            (
                "There is no cu128 wheel for macOS 12 and newer, Apple silicon."
                " Choose one of: cpu, metal."
            ),
        )
    ]
    label = tree.find(".//label/input[@value='metal']/..")
    assert label is not None
    assert label.attrib["data-on"] == "macosx_arm64"


def test_each_system_gets_the_newest_version_that_it_has() -> None:
    _, tree = page(wheel("cu128"), wheel("cu128", "win_amd64", "0.3.99"))

    assert "0.3.100+cu128" in codes(tree, "cu128", "pip", "manylinux_x86_64")[0]
    assert "0.3.99+cu128" in codes(tree, "cu128", "pip", "win_amd64")[0]


def test_a_wheel_that_was_taken_back_is_not_recommended_and_the_reason_is_said() -> None:
    reason = "<script>alert(1)</script> & more"
    text, tree = page(wheel(), wheel(version="0.3.101", yanked=reason))

    assert "0.3.100+cpu" in codes(tree, "cpu", "pip", "manylinux_x86_64")[0]
    assert [text_of(each) for each in tree.findall(".//section/details/summary")] == [
        "0.3.101 1 wheel, some taken back"
    ]
    assert [text_of(each) for each in tree.findall(".//section/details/ul/li")] == [
        "0.3.101+cpu for Linux x86-64 (glibc 2.17 and newer). Taken back: " + reason
    ]
    assert "<script>alert" not in text
    assert "alert(1)</script>" not in text


def test_where_all_was_taken_back_that_is_said_where_it_is_offered() -> None:
    _, tree = page(wheel(yanked=""))

    assert "0.3.100+cpu" in codes(tree, "cpu", "pip", "manylinux_x86_64")[0]
    assert [text_of(each) for each in part(tree, "cpu").findall(".//strong")] == ["Taken back"]
    assert "Taken back" in text_of(rows(tree)[0])


def test_a_respin_is_the_one_to_recommend() -> None:
    _, tree = page(wheel("cu128"), wheel("cu128", label="cu128.1"))

    assert text_of(tree.find(".//h3//code")) == "0.3.100+cu128.1"
    assert [text_of(each) for each in tree.findall(".//section/details/summary")] == [
        "0.3.100 1 wheel"
    ]


def test_the_table_says_what_was_proven() -> None:
    entry = wheel()
    _, tree = page(entry)

    (row,) = rows(tree)
    cells = [text_of(cell) for cell in row]
    assert cells == [
        "Linux x86-64 (glibc 2.17 and newer)",
        f"{entry.name} {entry.sha256}".replace(" ", ""),
        "9.9 MB",
        "2026-11-21",
        (
            "CPython 3.9.18, 3.13.1; CPython free-threaded 3.13.1"
            "Computed on CPU: Xeon (CPU variant haswell)"
            "Linux x86_64, glibc 2.36, Xeon, 2026-11-20"
        ),
    ]
    link = row.find(".//a")
    assert link is not None
    assert link.attrib["href"] == (
        "whl/cpu/llama-cpp-python/llama_cpp_python-0.3.100%2Bcpu-py3-none-manylinux_2_17_x86_64.whl"
    )
    assert "with these checks: import, tokens." in text_of(tree.find(".//main"))


def test_a_wheel_that_lies_somewhere_else_is_linked_there() -> None:
    entry = replace(wheel(), url="https://example.net/x/" + wheel().name)
    _, tree = page(entry)

    link = rows(tree)[0].find(".//a")
    assert link is not None
    assert link.attrib["href"] == "https://example.net/x/" + entry.name.replace("+", "%2B")


def test_a_report_that_names_no_device_is_not_said_to_name_one() -> None:
    runs = (replace(RUN, device=None, cpu_variant=None),)
    _, tree = page(replace(wheel(), report=replace(PROOF, interpreters=runs)))

    assert "Computed on a device that the report does not name" in text_of(rows(tree)[0])


def test_what_ran_under_an_emulator_is_said_to() -> None:
    emulated = replace(RUN, emulator="qemu-aarch64 7.2.22 -cpu max")
    c = replace(RUN, implementation="C", version="C driver", tag="c", emulator="wine 8.0")
    runs = (RUN, emulated, c)
    _, tree = page(replace(wheel(), report=replace(PROOF, interpreters=runs)))

    assert (
        f"CPython {RUN.version}; CPython {RUN.version} under qemu-aarch64 7.2.22 -cpu max;"
        " C driver under wine 8.0"
    ) in text_of(rows(tree)[0])


def test_auto_is_explained_and_lists_its_variants_after_the_plain_wheel() -> None:
    plain = replace(wheel("cpu", label="auto"), backend="auto")
    proof = replace(PROOF, source="a" * 64)
    variants = [
        replace(
            plain,
            name=f"{plain.name[:-4]}-{label}.whl",
            variant=Variant(label=label, properties={}),
            report=proof,
        )
        for label in ("cu128", "cu121")
    ]
    _, tree = page(wheel(), *variants, plain)

    assert values(tree, "backend") == ["cpu", "auto"]
    assert notes(part(tree, "auto"))[0].startswith("auto is the plain CPU wheel with variants")
    assert [text_of(each) for each in part(tree, "auto").findall("./dl/dt[1]")] == [
        "You get",
        "Variant cu121",
        "Variant cu128",
    ]
    assert "relabelled copy" in text_of(rows(tree)[-1])
    assert "relabelled copy" not in text_of(rows(tree)[0])


def test_a_retired_backend_says_so() -> None:
    retired = {**TABLE.backends, "cu121": replace(TABLE.backends["cu121"], platforms=[])}
    _, tree = page(wheel(), wheel("cu121"), table=replace(TABLE, backends=retired))

    assert notes(part(tree, "cu121"))[0] == (
        "Retired. The wheels of cu121 stay where they are, no new ones are built."
    )
    assert notes(part(tree, "cpu")) == []
    assert "cu121 NVIDIA CUDA 12.1, retired" in text_of(tree.find(".//form"))


def test_a_platform_that_the_table_has_dropped_keeps_its_name() -> None:
    platforms = {k: v for k, v in TABLE.platforms.items() if k != "macosx_x86_64"}
    _, tree = page(
        wheel(tag="macosx_12_0_x86_64"), wheel(), table=replace(TABLE, platforms=platforms)
    )

    assert values(tree, "system") == ["manylinux_x86_64", "macosx_x86_64"]
    assert [text_of(row[0]) for row in rows(tree)] == [
        "Linux x86-64 (glibc 2.17 and newer)",
        "macosx_x86_64",
    ]


def test_how_to_find_out_is_said_of_the_families_that_there_are() -> None:
    _, tree = page(wheel(), wheel("cu121"), wheel("cu128"))

    titles = [text_of(each) for each in tree.findall(".//form//dl/dt")]
    assert titles == ["CPU cpu", "NVIDIA CUDA cu121, cu128", "Let it find out"]
    cuda = tree.findall(".//form//dl/dd")[1]
    assert text_of(cuda) == TABLE.families["cuda"].find_out.replace("`", "")
    assert text_of(cuda.find("code")) == "nvidia-smi"


def test_an_unknown_address_is_said_to_be_missing_and_a_known_one_is_not() -> None:
    unknown, tree = page(wheel(), root="")
    known, _ = page(wheel())

    assert text_of(tree.find(".//p[@id='no-root']")) == (
        "Put the address of this page, with a slash at its end, in place of"
        " https://ADDRESS-OF-THIS-PAGE/."
    )
    assert "https://ADDRESS-OF-THIS-PAGE/whl/cpu/" in codes(
        tree, "cpu", "pip", "manylinux_x86_64"
    )[0]  # fmt: skip
    assert "ADDRESS-OF-THIS-PAGE" in unknown
    assert "ADDRESS-OF-THIS-PAGE" not in known
    assert "no-root" not in re.sub(r"<script>.*?</script>", "", known, flags=re.DOTALL)


def test_what_the_script_gets_is_the_same_data() -> None:
    _, tree = page(wheel(), wheel(version="0.3.99", yanked="</script><b>"), wheel("cu128"))

    assert json.loads("".join(tree.findall(".//script")[0].itertext())) == {
        "root": ROOT,
        "versions": {
            "cpu": {
                "manylinux_x86_64": [
                    {"version": "0.3.100+cpu", "yanked": None},
                    {"version": "0.3.99+cpu", "yanked": "</script><b>"},
                ]
            },
            "cu128": {"manylinux_x86_64": [{"version": "0.3.100+cu128", "yanked": None}]},
        },
        "tools": {tool.id: [step.text for step in tool.steps] for tool in COMMANDS.tools},
    }


def test_the_policy_lets_through_this_style_and_this_script_alone() -> None:
    _, tree = page(*MANY)

    meta = tree.find(".//meta[@http-equiv='Content-Security-Policy']")
    assert meta is not None
    hashes = [
        base64.b64encode(hashlib.sha256("".join(each.itertext()).encode()).digest()).decode()
        for each in (tree.findall(".//style")[0], tree.findall(".//script")[1])
    ]
    assert meta.attrib["content"] == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}';"
        " base-uri 'none'; form-action 'none'"
    )
    assert [each for each in tree.iter() if "style" in each.attrib] == []
    assert [name for each in tree.iter() for name in each.attrib if name.startswith("on")] == []


def test_nothing_is_loaded_from_elsewhere() -> None:
    _, tree = page(*MANY, changelog="# C\n\n## 1\n\n![x](https://example.net/x.png)\n")

    assert [each for each in tree.iter() if "src" in each.attrib or each.tag == "link"] == []
    assert "https://example.net" not in ET.tostring(tree, encoding="unicode")


def test_the_changes_are_in_the_page() -> None:
    _, tree = page(wheel(), changelog="# C\n\n## 0.3.100 & more\n\n- `new`\n\n## 0.3.99\n\nx\n")

    changes = tree.findall(".//section[@aria-labelledby='changes-title']/details")
    assert [text_of(each) for each in changes] == ["0.3.100 & more new", "0.3.99 x"]
    assert ["open" in each.attrib for each in changes] == [True, False]


def test_links_to_the_indexes_and_their_json() -> None:
    _, tree = page(wheel(), wheel("cu128"))

    links = {each.attrib["href"] for each in tree.findall(".//a")}
    assert {
        "whl/index.html",
        "whl/cpu/index.html",
        "whl/cu128/llama-cpp-python/index.html",
        "whl/cu128/llama-cpp-python/index.v1_json",
        "backends.json",
        "catalogue.jsonl",
        "SHA256SUMS",
    } <= links


def test_every_control_has_a_label_and_every_table_its_headers() -> None:
    _, tree = page(*MANY)

    assert len(tree.findall(".//input")) == len(tree.findall(".//label/input"))
    assert [text_of(each) for each in tree.findall(".//fieldset/legend")] == [
        "System",
        "Accelerator",
        "Tool",
        "Version",
    ]
    for table in tree.findall(".//table"):
        assert {each.attrib["scope"] for each in table.findall("./thead/tr/th")} == {"col"}
        assert {each.attrib["scope"] for each in table.findall("./tbody/tr/th")} == {"row"}
    ids = [each.attrib["id"] for each in tree.iter() if "id" in each.attrib]
    assert len(ids) == len(set(ids))


def test_a_page_of_many_versions_lists_a_bounded_number() -> None:
    def page_of(count: int) -> tuple[str, ET.Element]:
        return page(*(wheel(version=f"0.3.{n}") for n in range(count)))

    few, _ = page_of(OTHER_VERSIONS + 1)
    many, tree = page_of(1000)

    assert len(tree.findall(".//section/details")) == OTHER_VERSIONS
    assert f"{1000 - 1 - OTHER_VERSIONS} older versions are not listed here" in many
    assert "not listed here" not in few
    assert "0.3.988" not in many
    assert len(many) < len(few) + 500


def test_the_page_is_a_function_of_what_it_is_given() -> None:
    assert page(*MANY)[0] == page(*reversed(MANY))[0]


def combinations(tree: ET.Element) -> Iterable[Sequence[str]]:
    for system in values(tree, "system"):
        for backend in values(tree, "backend"):
            yield system, backend


def test_every_choice_leads_to_a_command_or_to_a_word_why_not() -> None:
    _, tree = page(*MANY)

    for system, backend in combinations(tree):
        said = [
            text_of(each)
            for each in part(tree, backend).findall("./p[@data-systems]")
            if each.attrib["data-systems"] == system
        ]
        assert bool(codes(tree, backend, "pip", system)) != bool(said)
