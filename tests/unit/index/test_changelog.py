from __future__ import annotations

import pytest

from index.changelog import RELEASES, releases_of


def only(body: str) -> str:
    (release,) = releases_of(f"# Changelog\n\nIntroduction.\n\n## 1.0 (`today`)\n\n{body}\n")
    assert release.title == "1.0 (today)"
    return str(release.body)


def test_one_release_per_heading_of_the_second_level() -> None:
    releases = releases_of("# Changelog\n\n## 2\n\n- new\n\n### Fixed\n\n- old\n\n## 1\n\nFirst.\n")

    assert [(release.title, str(release.body)) for release in releases] == [
        (
            "2",
            "<ul>\n<li>new</li>\n</ul>\n<h4>Fixed</h4>\n<ul>\n<li>old</li>\n</ul>\n",
        ),
        ("1", "<p>First.</p>\n"),
    ]


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        pytest.param("`a` & *b*", "<p><code>a</code> &amp; <em>b</em></p>\n", id="inline"),
        pytest.param(
            "[site](https://example.org/x)",
            '<p><a href="https://example.org/x">site</a></p>\n',
            id="link",
        ),
        pytest.param("see [the *notes*](NOTES.md).", "<p>see the <em>notes</em>.</p>\n", id="dead"),
        pytest.param(
            "[x](javascript:alert)", "<p>[x](javascript:alert)</p>\n", id="javascript-link"
        ),
        pytest.param("![a cat](https://example.org/c.png)!", "<p>a cat!</p>\n", id="image"),
        pytest.param(
            "a <script>x</script>", "<p>a &lt;script&gt;x&lt;/script&gt;</p>\n", id="html"
        ),
        pytest.param("<script>\nx\n</script>", "<p>&lt;script&gt;\nx\n&lt;/script&gt;</p>\n", id="block"),
    ],
)  # fmt: skip
def test_nothing_in_a_release_can_ask_for_something_outside(markdown: str, html: str) -> None:
    assert only(markdown) == html


def test_the_newest_releases_only() -> None:
    releases = releases_of("".join(f"## {n}\n\nx\n\n" for n in range(RELEASES + 5, 0, -1)))

    assert [release.title for release in releases] == [str(n) for n in range(RELEASES + 5, 5, -1)]


def test_a_changelog_without_releases() -> None:
    assert releases_of("# Changelog\n\nNothing yet.\n") == ()
