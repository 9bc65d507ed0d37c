"""The landing page in a real Chromium: with and without JavaScript, by mouse and by keyboard."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

from ci.table import load_table
from index import catalogue
from index.backends import backends_of
from index.commands import load_commands, values_of
from index.landing import UNKNOWN_ROOT, landing
from index.serve import Server
from index.site import build
from tests.wheels import write_proven_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

ROOT: Final = Path(__file__).resolve().parents[2]
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
TABLE: Final = load_table()
COMMANDS: Final = load_commands()
KNOWN: Final = "https://example.org/wheels/"
OPTIONS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TAGS: Final = {
    "manylinux_x86_64": "manylinux_2_17_x86_64",
    "macosx_arm64": "macosx_12_0_arm64",
    "win_amd64": "win_amd64",
}
# backend: the versions it exists in, and where
WHEELS: Final = {
    "cpu": (("0.3.99", "0.3.100"), tuple(TAGS)),
    "metal": (("0.3.100",), ("macosx_arm64",)),
    "cu121": (("0.3.99", "0.3.100"), ("manylinux_x86_64",)),
    "cu128": (("0.3.99", "0.3.100"), ("manylinux_x86_64", "win_amd64")),
    "cu130": (("0.3.100",), ("manylinux_x86_64", "win_amd64")),
    "vulkan": (("0.3.99", "0.3.100"), ("manylinux_x86_64", "win_amd64")),
}
REASON: Final = "wrong on <script>document.title='broken'</script> & sm_50"
# WCAG 2.2: normal text against what is behind it, level AA
CONTRAST: Final = 4.5

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: apt install chromium)"),
]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A served site, and the addresses of its page with the address known and unknown."""

    url: str
    known: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("landing")
    wheels = [
        write_proven_wheel(
            folder, backend=backend, platform=TAGS[platform], version=f"{version}+{backend}"
        )
        for backend, (versions, platforms) in WHEELS.items()
        for version in versions
        for platform in platforms
    ]
    file = folder / "catalogue.jsonl"
    catalogue.add(file, wheels, table=TABLE, upload_time="2026-11-21T12:00:00Z")
    catalogue.yank(file, ["0.3.99+cu128"], reason=REASON)
    entries = catalogue.load(file)
    out = folder / "site"
    build(entries, out, table=TABLE, wheels=[folder])
    for name, root in (("index.html", ""), ("known.html", KNOWN)):
        content = landing(
            backends_of(entries, table=TABLE, base_url=None),
            table=TABLE,
            root=root,
            commands=COMMANDS,
            changelog=(ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        )
        (out / name).write_bytes(content)
    server = Server(out, port=0, log=lambda _: None)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Site(url=server.url, known=f"{server.url}known.html")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # It starts with an empty profile of its own and removes that at the end.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        try:
            yield chromium
        finally:
            chromium.close()


class Tab:
    """A page, and what its browser complained about and asked for."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        self.complaints.append(message.text)

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)

    def choose(self, group: str, value: str) -> None:
        self.page.locator(f'label:has(input[name="{group}"][value="{value}"])').click()

    def chosen(self) -> dict[str, str]:
        return {
            each: self.page.locator(f'input[name="{each}"]:checked').input_value()
            for each in ("system", "backend", "tool")
        }

    def texts(self) -> list[str]:
        """Return the texts that can be seen and copied, to the letter."""
        return [
            code.text_content() or ""
            for code in self.page.locator("#install [data-step]:visible").all()
        ]

    def fragment(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.page.url).fragment)

    def overflow(self) -> int:
        width = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert isinstance(width, int)
        return width


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url.rstrip("/"))
    found = Tab(context)
    yield found
    context.close()
    assert found.complaints == []
    # A page that is told its own address asks for nothing but itself.
    assert {urlsplit(url).netloc for url in found.requests} == {urlsplit(site.url).netloc}


def documented(tool: str, version: str, *, root: str) -> list[str]:
    backend = version.partition("+")[2]
    filled = values_of(version, backend=backend, root=root)
    return [step.filled(filled) for step in COMMANDS.tool(tool).steps]


def test_the_page_needs_one_request(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url, wait_until="networkidle")

    assert tab.requests == [site.url]


def test_the_browsers_system_is_chosen_at_first(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    assert tab.chosen() == {"system": "manylinux_x86_64", "backend": "cpu", "tool": "uv"}
    assert tab.texts() == documented("uv", "0.3.100+cpu", root=site.url)
    assert tab.fragment() == {}


def test_every_choice_by_mouse_shows_the_documented_commands(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    for backend, (versions, platforms) in WHEELS.items():
        tab.choose("system", platforms[-1])
        tab.choose("backend", backend)
        for tool in COMMANDS.tools:
            tab.choose("tool", tool.id)
            version = f"{versions[-1]}+{backend}"
            expected = documented(tool.id, version, root=site.url) if tool.fits(backend) else []
            assert tab.texts() == expected


def test_the_keyboard_chooses(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    tab.page.keyboard.press("Tab")
    expect(tab.page.locator(".skip")).to_be_focused()
    assert tab.page.locator(".skip").bounding_box() is not None
    for group, presses in (("system", 2), ("backend", 1), ("tool", 2)):
        while tab.page.evaluate("document.activeElement.name || ''") != group:
            tab.page.keyboard.press("Tab")
        focused = tab.page.locator("label:has(:focus-visible)")
        assert focused.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
        for _ in range(presses):
            tab.page.keyboard.press("ArrowDown")

    # metal and cu121 are not there for Windows: the arrow steps over them
    assert tab.chosen() == {"system": "win_amd64", "backend": "cu128", "tool": "pip"}
    assert tab.texts() == documented("pip", "0.3.100+cu128", root=site.url)


def test_the_skip_link_leads_to_the_command(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")

    expect(tab.page.locator("#install")).to_be_focused()
    assert tab.texts() == documented("uv", "0.3.100+cpu", root=site.url)


def test_what_does_not_exist_cannot_be_chosen_or_says_so(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    tab.choose("backend", "cu128")
    tab.choose("system", "macosx_arm64")

    disabled = tab.page.locator('input[name="backend"]:disabled')
    assert [each.input_value() for each in disabled.all()] == ["cu121", "cu130", "vulkan"]
    said = "There is no cu128 wheel for macOS 12 and newer, Apple silicon."
    expect(tab.page.locator("#install .note:visible")).to_have_text(
        f"{said} Choose one of: cpu, metal."
    )
    expect(tab.page.get_by_role("status")).to_contain_text(said)
    assert tab.texts() == []
    tab.choose("backend", "metal")
    assert tab.texts() == documented("uv", "0.3.100+metal", root=site.url)


def test_another_version_is_chosen_and_its_reason_said(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)
    tab.choose("backend", "cu128")
    tab.choose("tool", "pip")

    versions = tab.page.get_by_label("Version", exact=True)
    assert versions.locator("option").all_text_contents() == [
        "0.3.100+cu128 (recommended)",
        "0.3.99+cu128 (taken back)",
    ]
    versions.select_option("0.3.99+cu128")

    assert tab.texts() == documented("pip", "0.3.99+cu128", root=site.url)
    expect(tab.page.locator("#install .note:visible")).to_contain_text(REASON)
    expect(tab.page.locator("#install dl.wheel:visible")).to_have_count(0)
    assert tab.page.title() == "llama-cpp-python: prebuilt wheels"

    tab.choose("backend", "cpu")
    assert tab.texts() == documented("pip", "0.3.99+cpu", root=site.url)
    versions.select_option("0.3.100+cpu")
    assert tab.texts() == documented("pip", "0.3.100+cpu", root=site.url)
    assert "version" not in tab.fragment()


def test_the_choice_is_remembered_in_the_address(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)
    tab.choose("system", "win_amd64")
    tab.choose("backend", "vulkan")
    tab.choose("tool", "poetry")
    tab.page.get_by_label("Version", exact=True).select_option("0.3.99+vulkan")
    address, texts = tab.page.url, tab.texts()

    assert tab.fragment() == {
        "system": ["win_amd64"],
        "backend": ["vulkan"],
        "tool": ["poetry"],
        "version": ["0.3.99+vulkan"],
    }
    tab.page.goto("about:blank")
    tab.page.goto(address)
    assert tab.texts() == texts == documented("poetry", "0.3.99+vulkan", root=site.url)


@pytest.mark.parametrize(
    "fragment",
    [
        pytest.param("#system=amiga&backend=%22%5D&tool=make&version=9", id="unknown"),
        pytest.param("#cu128", id="an-anchor"),
    ],
)
def test_an_address_that_says_nothing_known_changes_nothing(
    tab: Tab, site: Site, fragment: str
) -> None:
    tab.page.goto(f"{site.url}{fragment}")

    assert tab.texts() == documented("uv", "0.3.100+cpu", root=site.url)


@pytest.mark.parametrize(
    ("tool", "step"), [pytest.param("uv", 0, id="file"), pytest.param("pip", 0, id="command")]
)
def test_a_button_copies_the_exact_text(tab: Tab, site: Site, tool: str, step: int) -> None:
    tab.page.goto(site.url)
    tab.choose("backend", "cu128")
    tab.choose("tool", tool)

    tab.page.locator("#install .step button:visible").nth(step).click()

    expect(tab.page.get_by_role("status")).to_contain_text("Copied the ")
    copied = tab.page.evaluate("navigator.clipboard.readText()")
    assert copied == documented(tool, "0.3.100+cu128", root=site.url)[step]


def test_a_hash_is_copied(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    tab.page.locator("table button").first.click()

    expect(tab.page.get_by_role("status")).to_contain_text("Copied the SHA-256 of llama_cpp_python")
    copied = tab.page.evaluate("navigator.clipboard.readText()")
    sums = requests.get(f"{site.url}SHA256SUMS", timeout=10).text
    assert f"{copied}  llama_cpp_python-0.3.100+cpu-" in sums


def test_without_the_clipboards_interface_it_is_copied_all_the_same(tab: Tab, site: Site) -> None:
    # A page that came over http from another machine has no navigator.clipboard.
    tab.page.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'clipboard', {get: () => undefined});"
    )
    tab.page.goto(site.url)

    tab.choose("tool", "pip")
    tab.page.locator("#install .step button:visible").click()

    expect(tab.page.get_by_role("status")).to_have_text("Copied the command.")
    assert tab.page.evaluate("getSelection().toString()") == tab.texts()[0]


def test_a_known_address_stays_as_it_is(tab: Tab, site: Site) -> None:
    tab.page.goto(site.known)

    tab.choose("tool", "uv-pip")

    assert tab.texts() == documented("uv-pip", "0.3.100+cpu", root=KNOWN)


@pytest.mark.parametrize(
    ("platform", "agent", "system"),
    [
        pytest.param("Win32", "Windows NT 10.0; Win64; x64", "win_amd64", id="windows"),
        pytest.param("MacIntel", "Macintosh; Intel Mac OS X 10_15_7", "macosx_arm64", id="mac"),
        pytest.param("Linux x86_64", "X11; Linux x86_64", "manylinux_x86_64", id="linux"),
        pytest.param("Linux armv8l", "Linux; Android 16; Phone", "manylinux_x86_64", id="phone"),
    ],
)
def test_the_system_is_read_off_the_browser(
    browser: Browser, site: Site, platform: str, agent: str, system: str
) -> None:
    context = browser.new_context(user_agent=f"Mozilla/5.0 ({agent}) Gecko/20100101 Firefox/145.0")
    context.add_init_script(
        f"Object.defineProperty(Navigator.prototype, 'platform', {{get: () => '{platform}'}});"
        "Object.defineProperty(Navigator.prototype, 'userAgentData', {get: () => undefined});"
    )
    tab = Tab(context)
    tab.page.goto(site.url)

    assert tab.chosen()["system"] == system
    assert tab.texts() == documented("uv", "0.3.100+cpu", root=site.url)
    assert tab.complaints == []
    context.close()


def test_all_of_it_works_without_javascript(browser: Browser, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = Tab(context)
    tab.page.goto(site.url)

    assert tab.texts() == documented("uv", "0.3.100+cpu", root=UNKNOWN_ROOT)
    expect(tab.page.locator("#no-root")).to_be_visible()
    expect(tab.page.locator("button")).to_have_count(0)
    expect(tab.page.locator("#version")).to_be_hidden()
    tab.choose("system", "win_amd64")
    tab.choose("backend", "cu130")
    tab.choose("tool", "pdm")
    assert tab.texts() == documented("pdm", "0.3.100+cu130", root=UNKNOWN_ROOT)
    expect(tab.page.locator("dl.wheel:visible a")).to_contain_text("+cu130-py3-none-win_amd64")

    tab.choose("system", "macosx_arm64")
    assert tab.texts() == []
    expect(tab.page.locator("#install .none:visible")).to_have_text(
        "There is no cu130 wheel for macOS 12 and newer, Apple silicon. Choose one of: cpu, metal."
    )
    assert tab.requests == [site.url]
    context.close()


def test_a_browser_that_knows_no_has_shows_everything(browser: Browser, site: Site) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = Tab(context)
    # What such a browser does with the rules that it does not know: it drops them.
    tab.page.route(
        site.url,
        lambda route: route.fulfill(
            body=requests.get(site.url, timeout=10)
            .text.replace(":has(", ":unheard-of(")
            .replace("style-src 'sha256-", "style-src 'unsafe-inline' 'x"),
            content_type="text/html",
        ),
    )
    tab.page.goto(site.url)

    everything = [
        text
        for backend in WHEELS
        for tool in COMMANDS.tools
        if tool.fits(backend)
        for text in documented(tool.id, f"0.3.100+{backend}", root=UNKNOWN_ROOT)
    ]
    assert tab.texts() == everything
    assert tab.overflow() == 0
    context.close()


@pytest.mark.parametrize("width", [320, 768])
def test_a_small_screen_does_not_scroll_sideways(browser: Browser, site: Site, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 640})
    tab = Tab(context)
    tab.page.goto(site.url)

    for tool in COMMANDS.tools:
        tab.choose("tool", tool.id)
        assert tab.overflow() == 0
    tab.choose("backend", "cu128")
    for summary in tab.page.locator("summary").all():
        summary.click()
    assert tab.overflow() == 0
    context.close()


# The contrast of each visible text with the nearest background behind it, by WCAG's formula.
_CONTRASTS: Final = """() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => rgb(color).slice(0, 3)
    .map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
    throw new Error("there is no background");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(light);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), walker.currentNode.data.trim()]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in(browser: Browser, site: Site, scheme: str) -> None:
    context = browser.new_context(color_scheme="dark" if scheme == "dark" else "light")
    tab = Tab(context)
    tab.page.goto(site.url)
    for summary in tab.page.locator("summary").all():
        if not summary.evaluate("each => each.parentElement.open"):
            summary.click()

    found = tab.page.evaluate(_CONTRASTS)
    background = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert len(found) > 100
    assert [each for each in found if each[0] < CONTRAST] == []
    assert background == {"light": "rgb(253, 253, 251)", "dark": "rgb(21, 24, 27)"}[scheme]
    context.close()


def test_paper_shows_the_choice_and_no_buttons(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)
    tab.choose("backend", "cu128")
    tab.page.emulate_media(media="print")

    visible = tab.page.locator(".choice:visible").all()
    assert [" ".join(each.inner_text().split()) for each in visible] == [
        "Linux x86-64 (glibc 2.17 and newer)",
        "cu128 NVIDIA CUDA 12.8",
        "uv project",
    ]
    expect(tab.page.locator("button:visible")).to_have_count(0)
    assert tab.texts() == documented("uv", "0.3.100+cu128", root=site.url)


def test_every_link_leads_somewhere(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    links = tab.page.eval_on_selector_all("main a", "all => all.map((each) => each.href)")
    addresses = sorted({urlsplit(link)._replace(fragment="").geturl() for link in links})
    assert len(addresses) > 20
    answers = {url: requests.head(url, timeout=10).status_code for url in addresses}
    assert set(answers.values()) == {200}, answers


def test_what_a_screen_reader_is_told(tab: Tab, site: Site) -> None:
    tab.page.goto(site.url)

    for group in ("System", "Accelerator", "Tool"):
        expect(tab.page.get_by_role("group", name=group, exact=True)).to_be_visible()
    expect(tab.page.get_by_role("radio", name="cu128 NVIDIA CUDA 12.8")).to_be_enabled()
    expect(
        tab.page.get_by_role("radio", name="metal Apple Metal not for this system")
    ).to_be_disabled()
    expect(tab.page.get_by_role("button", name="Copy the command")).to_have_count(1)
    expect(tab.page.get_by_role("region", name="Wheels of cu128")).to_be_visible()
    tab.choose("tool", "pip")
    expect(tab.page.get_by_role("status")).to_have_text(
        "pip, 0.3.100+cpu, Linux x86-64 (glibc 2.17 and newer)"
    )
