"""The version with and without a label, as the build backend asks for it."""

from __future__ import annotations

import pytest

from ci.version_label import dynamic_metadata
from llama_cpp._version import __version__


def test_without_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CPP_VERSION_LABEL", raising=False)
    assert dynamic_metadata({}, {}) == {"version": __version__}


@pytest.mark.parametrize("label", ["cpu", "cu128", "cu128.1"])
def test_with_a_label(monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    monkeypatch.setenv("LLAMA_CPP_VERSION_LABEL", label)
    assert dynamic_metadata({}, {}) == {"version": f"{__version__}+{label}"}


@pytest.mark.parametrize("label", ["CUDA 12.8", "cu-128", "cu128.", "+cpu", "cu128;rm"])
def test_what_is_no_label_is_refused(monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    monkeypatch.setenv("LLAMA_CPP_VERSION_LABEL", label)
    with pytest.raises(ValueError, match="is not a version label like cu128"):
        dynamic_metadata({}, {})
