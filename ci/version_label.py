"""scikit-build-core's provider of the version: ``0.3.100``, or ``0.3.100+cu128`` with a label.

Read by the build backend alone, from the checkout or an sdist; so it imports nothing of ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_VERSION_FILE = Path("llama_cpp/_version.py")
_LABEL = re.compile(r"[a-z0-9]+(?:[.][a-z0-9]+)*")


def dynamic_metadata(
    settings: Mapping[str, object], project: Mapping[str, object]
) -> dict[str, str]:
    """Return the version of ``llama_cpp/_version.py`` with ``LLAMA_CPP_VERSION_LABEL`` (PEP 440).

    Raises:
        ValueError: the label is not a local version label, or there is no version.
    """
    del project
    if settings:
        raise ValueError(f"there are no settings for the version: {sorted(settings)}")
    match = re.search(r'^__version__ = "([^"]+)"$', _VERSION_FILE.read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"{_VERSION_FILE} has no __version__")
    label = os.environ.get("LLAMA_CPP_VERSION_LABEL", "")
    if not label:
        return {"version": match[1]}
    if not _LABEL.fullmatch(label):
        raise ValueError(f"LLAMA_CPP_VERSION_LABEL={label!r} is not a version label like cu128")
    return {"version": f"{match[1]}+{label}"}
