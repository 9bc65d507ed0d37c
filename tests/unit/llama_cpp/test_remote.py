"""Addresses of RPC servers, and the module that reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llama_cpp import ModelLoadError, ValidationError, _remote
from llama_cpp._model import ModelParams
from llama_cpp._relay import Address

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box:50052", [("box", 50052)]),
        (" 10.0.0.2:1 ,box.lan:65535", [("10.0.0.2", 1), ("box.lan", 65535)]),
        ("[fe80::2]:50052", [("fe80::2", 50052)]),
        (["a:1", "b:2,a:1"], [("a", 1), ("b", 2)]),
    ],
    ids=["one", "two with spaces", "IPv6", "a sequence, one twice"],
)
def test_addresses(text: str | list[str], expected: list[tuple[str, int]]) -> None:
    assert _remote.parse_servers(text) == tuple(Address(*each) for each in expected)


@pytest.mark.parametrize(
    "text", ["", "box", "box:", ":50052", "box:0", "box:65536", "box:-1", "box:x", "fe80::2:1",
             "a b:1", "http://box:1", "box:1,", "box:٣", "box:50052/"],
)  # fmt: skip
def test_no_address(text: str) -> None:
    with pytest.raises(
        ValidationError, match=r"^rpc_servers has '.*'; an address is host:port, such"
    ):
        _remote.parse_servers(text)
    with pytest.raises(ValidationError):
        ModelParams(rpc_servers=(text,)).check()


def test_an_address_is_text() -> None:
    with pytest.raises(ValidationError, match=r"^rpc_servers has 50052; an address is a string$"):
        _remote.parse_servers([50052])  # type: ignore[list-item]


def test_at_most_sixteen_servers() -> None:
    assert len(_remote.parse_servers([f"box:{port}" for port in range(1, 17)])) == 16
    with pytest.raises(
        ValidationError, match=r"^rpc_servers has 17 servers; llama\.cpp takes at most"
    ):
        _remote.parse_servers([f"box:{port}" for port in range(1, 18)])


def test_an_address_as_it_is_written() -> None:
    assert [str(Address("::1", 5)), str(Address("box", 5))] == ["[::1]:5", "box:5"]


@pytest.mark.build
def test_a_host_that_nobody_knows(model_file: Path) -> None:
    from llama_cpp import Llama  # noqa: PLC0415 - import of the package is under test elsewhere

    with pytest.raises(
        ModelLoadError,
        match=r"^the RPC server no-such-host\.invalid:50052 cannot be used: cannot connect: .*; start "
        r"one there with `python -m llama_cpp rpc-server --host … --port 50052`",
    ):
        Llama(model_file, rpc_servers="no-such-host.invalid:50052")
