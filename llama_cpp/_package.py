"""The package's own files, also where an editable install keeps them in two folders."""

from __future__ import annotations

import sys
from pathlib import Path


def package_path(name: str) -> Path:
    """Return where ``name`` (``lib``, ``_build_info.json``) lies, or would lie, in this package.

    An editable install has the sources in the checkout and what was built in site-packages; the
    package's ``__path__`` holds both folders.
    """
    beside = Path(__file__).with_name(name)
    folders = getattr(sys.modules.get("llama_cpp"), "__path__", ())
    found = (Path(folder) / name for folder in folders)
    return next((path for path in found if path.exists()), beside)
