"""Folders: the checkout, what it builds into, and the cache outside of it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "vendor"
TREE = VENDOR / "llama.cpp"
BUILD = ROOT / "build"
DIST = ROOT / "dist"
OWN = DIST / "own"


def cache_folder() -> Path:
    """Return the folder for downloads and compiled objects; deleting it costs only time.

    ``LLAMA_CPP_PYTHON_CACHE`` names another one.
    """
    chosen = os.environ.get("LLAMA_CPP_PYTHON_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("llama-cpp-python")
