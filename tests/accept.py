"""What clients say that they accept, and the page that they must get, on every host."""

from __future__ import annotations

import pytest

JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
PLAIN = "text/html"

ACCEPT = [
    pytest.param("", PLAIN, id="no-header"),
    pytest.param("*/*", PLAIN, id="anything"),
    pytest.param(JSON, JSON, id="json"),
    pytest.param("application/vnd.pypi.simple.latest+json", JSON, id="latest-json"),
    pytest.param("application/vnd.pypi.simple.latest+html", HTML, id="latest-html"),
    pytest.param(f"{JSON}, {HTML}; q=0.1, text/html; q=0.01", JSON, id="pip"),
    pytest.param(f"{JSON}, {HTML};q=0.2, text/html;q=0.01", JSON, id="uv"),
    pytest.param(f"{HTML}; q=0.5, text/html;q=0.1", HTML, id="html-first"),
    pytest.param("text/html,application/xhtml+xml,*/*;q=0.8", PLAIN, id="browser"),
    pytest.param(f"{JSON};q=0, text/html;q=0.5", PLAIN, id="json-forbidden"),
    pytest.param(f"{JSON};q=0, */*", PLAIN, id="specific-beats-wildcard"),
    pytest.param(f"{JSON};q=0, application/*;q=0.5", HTML, id="specific-beats-type"),
    pytest.param("text/html;q=0.1, application/*", HTML, id="type-wildcard"),
    pytest.param(f"TEXT/HTML;q=0.1, {JSON};Q=0.2", JSON, id="case"),
    pytest.param(f"text/html;q=high, {JSON};q=0.1", JSON, id="bad-quality"),
    pytest.param(f"text/html;q=0.25,{JSON};q=0.3", JSON, id="digits-of-different-number"),
    pytest.param(f"text/html;q=0.301,{JSON};q=0.3", PLAIN, id="third-digit"),
    pytest.param(f"text/html;q=0.999,{JSON};q=1.0", JSON, id="one"),
    pytest.param(f"text/html;q=0.5,{JSON};q=0.5", PLAIN, id="equal"),
    pytest.param(f"text/html;level=1;q=0.4,{JSON};q=0.5", JSON, id="other-parameters"),
    pytest.param("text/*", PLAIN, id="any-text"),
    pytest.param("application/json", None, id="plain-json"),
    pytest.param("text/html;q=0", None, id="nothing-left"),
]
