"""``python -m llama_cpp rpc-server``: lends this machine's devices to other machines."""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import os
import signal
import socket
import sys
import threading
from typing import NamedTuple

from llama_cpp import _library, _remote
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._threads import default_threads

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 50052


class _Lent(NamedTuple):
    """A device that is offered."""

    name: str
    pointer: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's options."""
    parser.add_argument(
        "--host",
        default=DEFAULT_HOST,
        help=f"the address of this machine to listen on ({DEFAULT_HOST}: this machine alone)",
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help=f"{DEFAULT_PORT}; 0 takes a free one"
    )
    parser.add_argument(
        "--device",
        metavar="NAME,NAME",
        help="lend these; without it the GPUs, or the CPU where there is none",
    )
    parser.add_argument("--threads", type=_threads, metavar="N", help="threads of the CPU device")


def serve(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM.

    Returns:
        1: it cannot serve; stderr says why. Ended by a signal the process exits with 0 from here,
        because the native server has no way to be stopped.
    """
    try:
        host = _numeric(options.host)
        lent = _lent(options.device)
        start = _remote.function("ggml_backend_rpc_start_server")
        port = _free_port(host, options.port)
    except LlamaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if not ipaddress.ip_address(host).is_loopback:
        sys.stderr.write(
            f"warning: {host} is open to other machines. The RPC protocol has no password and no "
            "encryption, and whoever connects can take this process over: use it in a network "
            "that you trust, never on the internet.\n"
        )
    threads = options.threads or default_threads().generation
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: ended.set())
    stopped_by_itself = threading.Event()

    def run() -> None:
        pointers = (ctypes.c_void_p * len(lent))(*(device.pointer for device in lent))
        start(f"{host}:{port}".encode(), None, threads, len(lent), pointers)
        stopped_by_itself.set()
        ended.set()

    threading.Thread(target=run, name="rpc-server", daemon=True).start()
    _wait_for_listener(host, port, ended)
    if not ended.is_set():
        names = ", ".join(device.name for device in lent)
        sys.stdout.write(
            f"lending {names} on {host}:{port} to one client at a time; Ctrl-C ends it\n"
        )
        sys.stdout.flush()
    # with a timeout, or Windows would not see Ctrl-C
    while not ended.wait(0.5):
        pass
    if stopped_by_itself.is_set():
        sys.stderr.write(f"error: ggml's server ended by itself; is {host}:{port} taken?\n")
        return 1
    sys.stdout.flush()
    # the server's thread is inside of native code and would be there for ever
    os._exit(0)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")


def _threads(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= 512:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of threads from 1 to 512")


def _numeric(host: str) -> str:
    """Return the IPv4 address of a host: ggml's server takes nothing else."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValidationError(
            f"--host {host}: no IPv4 address is known for it; give one of this machine's, or "
            "0.0.0.0 for all of them"
        ) from error
    return str(found[0][4][0])


def _free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0, after trying it: ggml would only say that it failed."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as ggml does it; on Windows the option would let two servers have one port
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise LlamaError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port, "
                "or the --host of this machine"
            ) from error
        return int(probe.getsockname()[1])


def _wait_for_listener(host: str, port: int, ended: threading.Event) -> None:
    """Wait until the port is listened on, so that who reads our line may connect at once.

    Asked without connecting, which would be a client: on Linux a second socket may be bound until
    somebody listens. Other systems refuse it either way, so that nothing is waited for there.
    """
    for _ in range(500 if sys.platform == "linux" else 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return
        if ended.wait(0.01):
            return


def _lent(names: str | None) -> list[_Lent]:
    """Return the devices to lend.

    Raises:
        ValidationError: there is none of that name.
    """
    lib = _library.load()
    found = {device.name: device for device in _library.devices()}
    if names is None:
        chosen = [name for name, device in found.items() if device.kind in {"GPU", "IGPU"}]
        chosen = chosen or [name for name, device in found.items() if device.kind == "CPU"]
    else:
        chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    lent = []
    for name in chosen:
        pointer = lib.ggml_backend_dev_by_name(name.encode()) if name in found else None
        if pointer is None:
            raise ValidationError(
                f"--device {name}: there is no such device; choose from {', '.join(found)}"
            )
        lent.append(_Lent(name, pointer))
    return lent
