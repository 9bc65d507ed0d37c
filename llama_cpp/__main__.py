"""``python -m llama_cpp [info | doctor | select | rpc-server]``: what is installed, does it fit, what would."""

from __future__ import annotations

import argparse
import errno
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from llama_cpp import _gpu, _library, _remote, _rpc_server, _runtime
from llama_cpp._build_info import build_info
from llama_cpp._errors import LlamaError
from llama_cpp._obstacles import dotted
from llama_cpp._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Union

    Report = dict[str, Union[str, int, "list[Report]", "list[str]", "Report", None]]

INDEX_VARIABLE = "LLAMA_CPP_INDEX_URL"


def report() -> Report:
    """Return what there is to know about the installation.

    Raises:
        LlamaError: the libraries are missing or cannot be loaded.
    """
    build = build_info()
    failures, speaks = _library.module_failures(), _gpu.driver_cuda()
    return {
        "version": build.version if build else __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "build": build._asdict() if build else None,
        "llama_cpp": _library.version(),
        "folder": str(_library.library_folder()),
        "libraries": list(_library.libraries()),
        "cpu_variant": _library.cpu_variant(),
        "devices": [device._asdict() for device in _remote.devices()],
        "modules": sorted({path.name for path in _library.modules().values()} - failures.keys()),
        "unused_modules": dict(failures),
        "runtime": list(_runtime.mapped()),
        "driver_cuda": None if speaks is None else dotted(speaks),
        "obstacles": [each._asdict() for each in _gpu.obstacles()],
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
        no wheel is made for this machine (select), or the server cannot serve (rpc-server). 2: the command line is wrong. 3: the answer
        cannot be written.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help"}):
        given.insert(0, "info")
    options = parser.parse_args(given)
    if options.verb == "info":
        return _print(*_info(options))
    if options.verb == "rpc-server":
        return _rpc_server.serve(options)
    from llama_cpp._doctor import verbs  # noqa: PLC0415 - `info` and imports stay light

    run = {"doctor": verbs.doctor, "select": verbs.select}[options.verb]
    return _print(*run(options))


def _parser() -> argparse.ArgumentParser:
    from llama_cpp._doctor.backends import tools  # noqa: PLC0415 - importing this module stays light

    parser = argparse.ArgumentParser(
        prog="python -m llama_cpp",
        description="Show what llama_cpp was built from and what it finds on this machine; "
        "say whether it fits, and which backend would.",
        epilog="Without a verb: info.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="info | doctor | select | rpc-server")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    site = argparse.ArgumentParser(add_help=False)
    site.add_argument(
        "--index",
        metavar="URL",
        type=_site,
        default=os.environ.get(INDEX_VARIABLE) or None,
        help=f"the site of the index, where it is not the built-in one (or {INDEX_VARIABLE})",
    )
    info = verbs.add_parser(
        "info", parents=[common], help="what was built, and what ggml finds here"
    )
    info.add_argument(
        "--rpc-servers", metavar="HOST:PORT,…", help="and the devices of these servers"
    )
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
    _rpc_server.add_arguments(
        verbs.add_parser("rpc-server", help="lend this machine's devices to other machines")
    )
    return parser


def _site(text: str) -> str:
    """Check the address of a site: what is printed with it is pasted into a shell."""
    if re.fullmatch(r"(https?|file)://[^\s\"'`$\\;&|<>]+", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no address such as https://example.org/")
    return text


def _info(options: argparse.Namespace) -> tuple[int, str, str]:
    try:
        if options.rpc_servers is not None:
            _remote.add_rpc_servers(options.rpc_servers)
        found = report()
    except LlamaError as error:
        return 1, "", f"error: {error}\n"
    if options.json:
        return 0, json.dumps(found, indent=2) + "\n", ""
    return 0, "".join(f"{line}\n" for line in _lines("", found)), ""


def _print(status: int, output: str, error: str) -> int:
    sys.stderr.write(error)
    if sys.stdout is None:  # `>&-`
        return _unwritten("stdout is closed")
    try:
        _write(output)
        sys.stdout.flush()
    except OSError as problem:
        # what is still in the buffer would fail once more, with a traceback, when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # a reader that has seen enough: `| head -1`
        closed = errno.EINVAL if os.name == "nt" else errno.EPIPE
        return status if problem.errno == closed else _unwritten(str(problem))
    return status


def _unwritten(why: str) -> int:
    sys.stderr.write(f"error: the answer cannot be written: {why}; send it somewhere else\n")
    return 3


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
