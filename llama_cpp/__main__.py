"""``python -m llama_cpp``: what this copy was built from, and what it finds on this machine."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from typing import TYPE_CHECKING, Union

from llama_cpp import _library
from llama_cpp._build_info import build_info
from llama_cpp._errors import LlamaError
from llama_cpp._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

Report = dict[str, Union[str, int, "list[Report]", "list[str]", "Report", None]]


def report() -> Report:
    """Return what there is to know about the installation.

    Raises:
        LlamaError: the libraries are missing or cannot be loaded.
    """
    build = build_info()
    return {
        "version": build.version if build else __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "build": build._asdict() if build else None,
        "llama_cpp": _library.version(),
        "folder": str(_library.library_folder()),
        "libraries": list(_library.libraries()),
        "cpu_variant": _library.cpu_variant(),
        "devices": [device._asdict() for device in _library.devices()],
        "unused_modules": dict(_library.module_failures()),
        "system_info": _library.system_info(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 1 where the libraries cannot be loaded."""
    parser = argparse.ArgumentParser(
        prog="python -m llama_cpp",
        description="Show what llama_cpp was built from and what it finds on this machine.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    try:
        found = report()
    except LlamaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    sys.stdout.write("".join(f"{line}\n" for line in _lines("", found)))
    return 0


def _lines(name: str, value: object, indent: str = "") -> list[str]:
    if isinstance(value, dict) and value:
        inner = "" if not name else indent + "  "
        head = [] if not name else [f"{indent}{name}:"]
        return head + [line for key, item in value.items() for line in _lines(key, item, inner)]
    if isinstance(value, (list, tuple)) and value:
        return [f"{indent}{name}:", *(f"{indent}  {_item(item)}" for item in value)]
    return [f"{indent}{name}: {'none' if value in (None, {}, [], ()) else value}"]


def _item(item: object) -> str:
    if isinstance(item, dict):
        return ", ".join(f"{key} {value}" for key, value in item.items())
    return str(item)


if __name__ == "__main__":
    sys.exit(main())
