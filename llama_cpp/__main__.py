"""``python -m llama_cpp [info | doctor | select]``: what is installed, whether it fits, what would."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llama_cpp import _library
from llama_cpp._build_info import build_info
from llama_cpp._errors import LlamaError
from llama_cpp._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Union

    from llama_cpp._advice import Choice

    Report = dict[str, Union[str, int, "list[Report]", "list[str]", "Report", None]]

INDEX_VARIABLE = "LLAMA_CPP_INDEX_URL"
# gives a choice between the CPU and another backend
_EXTRAS = "uv-extras"


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


def attempt() -> Report:
    """Return :func:`report`, or ``{"problem": …}`` where the libraries cannot be loaded."""
    try:
        return report()
    except LlamaError as error:
        return {"problem": str(error)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb, ``info`` where none is given.

    Returns:
        0: all is well. 1: the libraries cannot be loaded (info), something is to be mended (doctor),
        or no wheel is made for this machine (select). 2: the command line is wrong.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help"}):
        given.insert(0, "info")
    options = parser.parse_args(given)
    if options.verb == "doctor":
        return _doctor(options)
    if options.verb == "select":
        return _select(options)
    return _info(options)


def _parser() -> argparse.ArgumentParser:
    from llama_cpp._backends import tools  # noqa: PLC0415 - importing this module stays light

    parser = argparse.ArgumentParser(
        prog="python -m llama_cpp",
        description="Show what llama_cpp was built from and what it finds on this machine; "
        "say whether it fits, and which backend would.",
        epilog="Without a verb: info.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="info | doctor | select")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    site = argparse.ArgumentParser(add_help=False)
    site.add_argument(
        "--index",
        metavar="URL",
        default=os.environ.get(INDEX_VARIABLE),
        help=f"the site of the index, where it is not the built-in one (or {INDEX_VARIABLE})",
    )
    verbs.add_parser("info", parents=[common], help="what was built, and what ggml finds here")
    doctor = verbs.add_parser(
        "doctor", parents=[common, site], help="does it fit this machine? What mends it?"
    )
    doctor.add_argument(
        "--model", metavar="FILE", type=Path, help="a GGUF file: do the libraries know it?"
    )
    select = verbs.add_parser(
        "select", parents=[common, site], help="the best backend for this machine, and its index"
    )
    select.add_argument("--backend", metavar="NAME", help="this one, rather than the best")
    select.add_argument(
        "--tool", choices=[tool.name for tool in tools()], help="the tool you install with"
    )
    select.add_argument("--url", action="store_true", help="print the index URL alone")
    return parser


def _info(options: argparse.Namespace) -> int:
    try:
        found = report()
    except LlamaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in _lines("", found)))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from llama_cpp import _report  # noqa: PLC0415 - `info` and imports stay light
    from llama_cpp._doctor import examine, to_mend  # noqa: PLC0415
    from llama_cpp._facts import gather  # noqa: PLC0415

    facts = gather(options.model, options.index)
    findings = examine(facts)
    broken = to_mend(findings)
    if options.json:
        record = _report.doctor_record(facts, findings, fits=not broken)
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        _write(_report.doctor_text(facts, findings))
    return 1 if broken else 0


def _select(options: argparse.Namespace) -> int:
    from llama_cpp import _report  # noqa: PLC0415 - `info` and imports stay light
    from llama_cpp._backends import install_steps  # noqa: PLC0415
    from llama_cpp._installation import installation  # noqa: PLC0415
    from llama_cpp._project import current_project  # noqa: PLC0415

    own = installation().distribution
    project = current_project(own.installer if own else None)
    tool, reason = (options.tool, "as you asked") if options.tool else project[:2]
    try:
        choice = _choice(options)
    except KeyError as error:
        sys.stderr.write(f"error: {error.args[0]}\n")
        return 2
    if choice.backend is None or choice.url is None:
        sys.stderr.write(f"error: {choice.why}\n")
        return 1
    if tool == _EXTRAS and choice.backend == "cpu":
        sys.stderr.write(
            f"error: {_EXTRAS} gives a choice between cpu and another backend: name that one with "
            "--backend\n"
        )
        return 2
    site = choice.url[: -len(f"/whl/{choice.backend}/")]
    steps = install_steps(tool, choice.backend, site)
    if options.json:
        record = _report.select_record(choice, tool, steps)
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    elif options.url:
        sys.stdout.write(f"{choice.url}\n")
    else:
        _write(_report.select_text(choice, tool, reason, steps))
    return 0


def _choice(options: argparse.Namespace) -> Choice:
    from llama_cpp._accelerators import accelerators  # noqa: PLC0415
    from llama_cpp._advice import choose, forced  # noqa: PLC0415
    from llama_cpp._backends import backends  # noqa: PLC0415
    from llama_cpp._system import system  # noqa: PLC0415

    published = backends()
    published = published._replace(site=options.index or published.site)
    here = system()
    if options.backend is None:
        return choose(here, accelerators(here, os.environ), published)
    if published.named(options.backend) is None:
        names = ", ".join(each.name for each in published.all)
        raise KeyError(f"there is no backend {options.backend!r}: choose one of {names}")
    return forced(options.backend, here, published)


def _write(text: str) -> None:
    """Print, also where the terminal's encoding lacks a character of a GPU's or folder's name."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))


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
