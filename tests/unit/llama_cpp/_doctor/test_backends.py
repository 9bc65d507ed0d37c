"""The published backends and each tool's commands, as the package carries them."""

from __future__ import annotations

import pytest

from llama_cpp import __version__
from llama_cpp._doctor.backends import backends, index_url, install_steps, tools

SITE = "https://host.example/"


def test_backends() -> None:
    published = backends()
    assert published.site.endswith("/")
    cu128 = published.named("cu128")
    assert cu128 is not None
    assert (cu128.family, cu128.toolkit, cu128.title) == ("cuda", (12, 8), "NVIDIA CUDA 12.8")
    assert "120a" in cu128.architectures
    assert "manylinux_2_28_x86_64" in cu128.wheel_tags


def test_a_respun_label_is_its_backend() -> None:
    assert backends().named("cu128.1") == backends().named("cu128")
    assert backends().named("cu999") is None
    assert backends().named(None) is None


@pytest.mark.parametrize("site", [SITE, SITE.rstrip("/")])
def test_index_urls(site: str) -> None:
    assert index_url(site, "cu128") == "https://host.example/whl/cu128/"


@pytest.mark.parametrize("tool", [tool.name for tool in tools()])
def test_every_tools_steps_are_filled_in(tool: str) -> None:
    steps = install_steps(tool, "cu128", SITE)
    text = "\n".join(step.text for step in steps)
    assert "$" not in text
    assert "https://host.example/whl/cu128/" in text
    assert __version__ in text
    assert {step.kind for step in steps} <= {"command", "file"}
    assert all(step.path for step in steps if step.kind == "file")


def test_an_unknown_tool() -> None:
    with pytest.raises(KeyError):
        install_steps("rye", "cpu", SITE)
