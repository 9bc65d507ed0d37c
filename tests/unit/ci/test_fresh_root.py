from __future__ import annotations

import os
from pathlib import Path

import pytest

from ci.debian import debian_mirror
from ci.errors import ToolchainError, ToolMissingError, UsageError
from ci.fresh_root import (
    CommandResult,
    FreshRootReport,
    fresh_root,
    network_environment,
    readme_commands,
    require_passed,
)
from ci.progress import Progress

README = """\
# name

<!-- command: build -->

```sh
python3 -m venv .venv && .venv/bin/nox -s build -- --backend cpu
```

Not a command of ours:

```sh
pip install llama-cpp-python
```

<!-- command: tests -->
```
.venv/bin/nox -s tests
```
"""

SECURITY = "'http://mirror.example/debian-security/dists/bookworm-security/InRelease' s 0 \n"


def report(*results: CommandResult) -> FreshRootReport:
    return FreshRootReport(
        commit="0" * 40,
        debian="12.11",
        python="Python 3.11.2",
        git="git version 2.39.5",
        packages=("git",),
        absent=("cc",),
        passed=bool(results) and all(result.passed for result in results),
        commands=results,
    )


def result(command: str, exit_code: int, *tail: str) -> CommandResult:
    return CommandResult(
        command=command,
        passed=exit_code == 0,
        exit_code=exit_code,
        seconds=1.5,
        log=f"{command}.log",
        tail=tail,
        wheels=(),
    )


def test_commands_are_the_marked_ones() -> None:
    assert readme_commands(README) == {
        "build": "python3 -m venv .venv && .venv/bin/nox -s build -- --backend cpu",
        "tests": ".venv/bin/nox -s tests",
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("```sh\nnox -s build\n```\n", id="no-mark"),
        pytest.param("<!-- command: build -->\n```sh\none\ntwo\n```\n", id="two-lines"),
    ],
)
def test_no_marked_line_is_an_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        readme_commands(text)
    assert str(caught.value) == (
        "README.md has no command to run\n"
        "  -> write `<!-- command: build -->` above the fenced line"
    )


@pytest.mark.parametrize(
    ("printed", "mirror"),
    [
        (
            "'http://mirror.example/debian/dists/bookworm/InRelease' mirror_InRelease 0 \n",
            "http://mirror.example/debian",
        ),
        (
            f"{SECURITY}'https://other.example/pub/debian/dists/sid/InRelease' o 0 \n",
            "https://other.example/pub/debian",
        ),
        ("'http://mirror.example/ubuntu/dists/noble/InRelease' u 0 \n", None),
        ("", None),
    ],
    ids=["first", "not-security", "not-debian", "nothing"],
)
def test_mirror_is_apt_s_own(printed: str, mirror: str | None) -> None:
    assert debian_mirror(printed) == mirror


def test_only_the_network_is_passed_on() -> None:
    environ = {
        "HTTPS_PROXY": "http://proxy.example:3128",
        "LANG": "C.UTF-8",
        "PIP_CERT": "/ca.crt",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_INDEX_URL": "https://index.example/simple",
        "SSL_CERT_FILE": "/ca.crt",
        "VIRTUAL_ENV": "/venv",
        "no_proxy": "localhost",
    }
    assert network_environment(environ) == {
        "HTTPS_PROXY": "http://proxy.example:3128",
        "PIP_CERT": "/ca.crt",
        "PIP_INDEX_URL": "https://index.example/simple",
        "SSL_CERT_FILE": "/ca.crt",
        "no_proxy": "localhost",
    }


def test_passed_report_raises_nothing() -> None:
    require_passed(report(result("build", 0, "done")))


def test_failed_command_is_named_with_its_last_lines() -> None:
    with pytest.raises(ToolchainError) as caught:
        require_passed(report(result("build", 0), result("tests", 7, "E no", "1 failed")))
    assert str(caught.value) == (
        "on a fresh Debian 12.11, as an ordinary user:\n"
        "  tests\n"
        "  ended with exit code 7\n"
        "  | E no\n"
        "  | 1 failed\n"
        "  -> read the log: tests.log"
    )


def test_no_command_at_all_is_no_proof() -> None:
    with pytest.raises(ToolchainError) as caught:
        require_passed(report())
    assert caught.value.what == "on a fresh Debian 12.11, as an ordinary user: no command was run"


def test_ordinary_user_is_told_to_use_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ToolMissingError, match="only root can make a fresh root") as caught:
        fresh_root(Progress(), commands=["true"], folder=tmp_path, keep=False)
    assert caught.value.cure.startswith("run it with sudo: sudo ")
    assert caught.value.cure.endswith(" -m ci fresh-root")
    assert list(tmp_path.iterdir()) == []
