"""Devices of other machines, through ggml's RPC backend.

A server's devices are registered with ggml once per process and stay. A model uses them only if it
was asked to (``rpc_servers``).
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING, cast

from llama_cpp import _abi, _library, _log
from llama_cpp._errors import LlamaError, ModelLoadError, ValidationError
from llama_cpp._relay import Address, Relay, ServerError, count_devices, greet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Union

    from llama_cpp._abi import Functions
    from llama_cpp._library import Device

    Servers = Union[str, Sequence[str]]

_lock = threading.Lock()
_relays: dict[Address, Relay] = {}


def parse_servers(servers: Servers) -> tuple[Address, ...]:
    """Read ``"host:port,host:port"``, or a sequence of such, without repetitions.

    Raises:
        ValidationError: an address is none, or there are more than llama.cpp takes.
    """
    if not isinstance(servers, str):
        for each in servers:
            if not isinstance(each, str):
                raise ValidationError(f"rpc_servers has {each!r}; an address is a string")
        servers = ",".join(servers)
    found = dict.fromkeys(_address(text.strip()) for text in servers.split(","))
    if len(found) > _abi.GGML_RPC_MAX_SERVERS:
        raise ValidationError(
            f"rpc_servers has {len(found)} servers; llama.cpp takes at most "
            f"{_abi.GGML_RPC_MAX_SERVERS}"
        )
    return tuple(found)


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not (colon and host and not any(c.isspace() or c in "[]/" for c in host)):
        number = 0
    if not 0 < number < 65536:
        raise ValidationError(
            f"rpc_servers has {text!r}; an address is host:port, such as 192.168.1.2:50052 or "
            "[fe80::2]:50052"
        )
    return Address(host, number)


def function(name: str) -> Callable[..., object]:
    """Return a function of ggml's RPC module from ggml's registry.

    Raises:
        LlamaError: the libraries were built without it, or it cannot be loaded.
    """
    lib = _library.load()
    registry = lib.ggml_backend_reg_by_name(b"RPC")
    address = (
        None if registry is None else lib.ggml_backend_reg_get_proc_address(registry, name.encode())
    )
    if address is None:
        failures = _library.module_failures()
        for file, words in failures.items():
            if "ggml-rpc" in file:
                from llama_cpp._obstacles import (  # noqa: PLC0415 - seldom
                    rpc_not_loaded,
                )

                broken = rpc_not_loaded(file, words)
                raise LlamaError(f"{broken.message}; {broken.cure}")
        raise LlamaError(
            "the RPC backend is not there in these libraries; install a wheel of this package, or "
            "build with GGML_RPC=ON"
        )
    _, restype, argtypes = _abi.PROTOTYPES[name]
    native: Callable[..., object] = ctypes.CFUNCTYPE(restype, *argtypes)(address)
    return native


def connect(servers: Servers) -> tuple[Relay, ...]:
    """Reach each server and register its devices with ggml, the first time.

    Raises:
        ValidationError: an address is none.
        ModelLoadError: a server cannot be used; the text says which and why.
        LlamaError: the libraries have no RPC backend.
    """
    addresses = parse_servers(servers)
    add = function("ggml_backend_rpc_add_server")
    with _lock:
        return tuple(_connect(add, address) for address in addresses)


def _connect(add: Callable[..., object], address: Address) -> Relay:
    known = _relays.get(address)
    if known is not None and known.in_use:
        if known.failure is None:
            return known
        if not known.let_go():
            raise ModelLoadError(
                f"the RPC server {address} was lost ({known.failure}) while a model of this process "
                "used it; close that model, then try again"
            )
    try:
        with greet(address) as connection:
            devices = count_devices(connection)
    except ServerError as error:
        raise ModelLoadError(
            f"the RPC server {address} cannot be used: {error}; start one there with "
            f"`python -m llama_cpp rpc-server --host … --port {address.port}`, and look for a "
            "firewall between"
        ) from error
    if known is not None:
        if known.devices != devices:
            raise ModelLoadError(
                f"the RPC server {address} has {devices} devices now and had {known.devices} "
                "before; start this process anew to use it"
            )
        return known
    relay = Relay(address, devices)
    _log.clear()
    registry = add(relay.endpoint.encode())
    if registry is None or relay.failure is not None:
        raise ModelLoadError(
            f"the RPC server {address} cannot be used: {relay.failure or 'ggml refuses it'}",
            log=_log.complaints(),
        )
    _library.load().ggml_backend_register(cast("int", registry))
    _relays[address] = relay
    return relay


def add_rpc_servers(servers: Servers) -> tuple[Device, ...]:
    """Connect to RPC servers and return their devices, which :func:`devices` shows from now on.

    ``Llama(rpc_servers=…)`` does the same; call this to look at the memory before choosing a split.

    Args:
        servers: ``"host:port,host:port"``, or a sequence of such.

    Raises:
        ValidationError: an address is none.
        ModelLoadError: a server cannot be used; the text says which and why.
        LlamaError: the libraries have no RPC backend.
    """
    relays = connect(servers)
    wanted = {str(relay.address) for relay in relays}
    return tuple(device for device in devices() if device.description in wanted)


def devices() -> tuple[Device, ...]:
    """Return what ggml can compute on, in ggml's order; a device of a server by its address."""
    names = _addresses()
    return tuple(
        device._replace(description=names.get(device.description, device.description))
        for device in _library.devices()
    )


def choose(relays: Sequence[Relay]) -> ctypes.Array[ctypes.c_void_p] | None:
    """Return the list of devices for a model: those of its servers, then this machine's GPUs.

    None leaves the choice to llama.cpp, which is right as long as no server is registered, and no
    GPU is left out.
    """
    lib = _library.load()
    left_out = _library.left_out()
    if not _relays and not left_out:
        return None
    remote: dict[str, list[int]] = {relay.endpoint: [] for relay in _relays.values()}
    local: dict[int, list[int]] = {
        _abi.GGML_BACKEND_DEVICE_TYPE_GPU: [],
        _abi.GGML_BACKEND_DEVICE_TYPE_IGPU: [],
    }
    for index in range(lib.ggml_backend_dev_count()):
        device = lib.ggml_backend_dev_get(index)
        if device is None or device in left_out:
            continue
        text = (lib.ggml_backend_dev_description(device) or b"").decode("utf-8", "replace")
        if text in remote:
            remote[text].append(device)
        elif (kind := lib.ggml_backend_dev_type(device)) in local:
            local[kind].append(device)
    # in llama.cpp's order: servers first, and an integrated GPU only where there is no other
    chosen = [device for relay in relays for device in remote[relay.endpoint]]
    chosen += local[_abi.GGML_BACKEND_DEVICE_TYPE_GPU] or local[_abi.GGML_BACKEND_DEVICE_TYPE_IGPU]
    return _pointers(lib, chosen)


def _pointers(lib: Functions, chosen: list[int]) -> ctypes.Array[ctypes.c_void_p]:
    if len(chosen) > (most := lib.llama_max_devices()):
        raise ValidationError(
            f"the servers and this machine have {len(chosen)} devices; llama.cpp takes {most}: "
            "name fewer servers"
        )
    return (ctypes.c_void_p * (len(chosen) + 1))(*chosen, None)


def lost(relays: Sequence[Relay]) -> str | None:
    """Return which of the servers is lost and why; None while all are there."""
    for relay in relays:
        if relay.failure is not None:
            return f"the RPC server {relay.address} is lost: {relay.failure}"
    return None


def _addresses() -> dict[str, str]:
    return {relay.endpoint: str(relay.address) for relay in _relays.values()}
