"""More than one machine: two and three processes on the loopback interface, with known answers."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.build, pytest.mark.usefixtures("libraries")]

# answers one JSON line per call; sees nothing of pytest
CLIENT = """
import json, os, signal, sys
import llama_cpp
from llama_cpp import Llama, LlamaError

folder, servers, *options = sys.argv[1:]
with open(os.path.join(folder, "answers.json"), encoding="utf-8") as file:
    models = json.load(file)["models"]


def known(name):
    return models[name]["greedy"]


def load(name="llama-f32", **given):
    given = {"n_gpu_layers": -1, "rpc_servers": servers, "n_threads": 1, "n_threads_batch": 1,
             "verbose": False, **given}
    return Llama(os.path.join(folder, models[name]["file"]), **given)


def exact(llm, answers):
    for each in answers:
        tokens = []
        for token in llm.generate(each["prompt"], temp=0):
            tokens.append(token)
            if len(tokens) == len(each["tokens"]):
                break
        if tokens != each["tokens"]:
            return [each["prompt"], tokens]
    return True


def show(**facts):
    print(json.dumps(facts), flush=True)


def attempt(call):
    try:
        call()
    except LlamaError as error:
        return [type(error).__name__, str(error)]
    return None
"""


@contextmanager
def rpc_server(*options: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server; yield it and its address."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "llama_cpp",
            "rpc-server",
            "--port",
            str(port),
            "--threads",
            "1",
            *options,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        # ggml's own lines may come before ours
        for line in process.stdout:
            if line.startswith("lending"):
                break
        else:
            line = process.communicate()[1]
        match = re.fullmatch(
            r"lending (CPU) on (\S+:\d+) to one client at a time; Ctrl-C ends it\n", line
        )
        assert match is not None, line
        yield process, match[2]
    finally:
        process.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait()


def client(code: str, tiny: Path, servers: str, *options: str) -> list[dict[str, object]]:
    """Run code after CLIENT in a process of its own; return what it showed."""
    result = subprocess.run(
        [sys.executable, "-c", CLIENT + code, str(tiny), servers, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def error_of(shown: dict[str, object]) -> tuple[str, str]:
    """Return the name and the text of the exception that a client shows."""
    error = shown["error"]
    assert isinstance(error, list), shown
    kind, text = error
    return kind, text


def test_tokens_are_exact_on_one_server(tiny: Path) -> None:
    code = """
for name in ("llama-f32", "llama-f16", "llama-q8_0", "llama-q4_0"):
    for layers in (1, 2):
        with load(name, n_gpu_layers=layers) as llm:
            show(model=name, layers=layers, exact=exact(llm, known(name)[:6]))
"""
    with rpc_server() as (_, address):
        shown = client(code, tiny, address)
    assert len(shown) == 8
    assert [each for each in shown if each["exact"] is not True] == []


def test_layers_over_this_machine_and_two_servers(tiny: Path) -> None:
    """Each of the two layers (the second is the output) on each of the servers, or here."""
    code = """
for layers, split in ((2, [1, 1]), (2, [1, 0]), (2, [0, 1]), (1, [1, 1]), (2, None), (0, None)):
    with load(n_gpu_layers=layers, tensor_split=split) as llm:
        show(exact=exact(llm, known("llama-f32")))
show(devices=[(d.name, d.description, d.kind) for d in llama_cpp.devices()])
"""
    with rpc_server() as (_, first), rpc_server() as (_, second):
        *shown, last = client(code, tiny, f"{first},{second}")
    assert shown == [{"exact": True}] * 6
    devices = last["devices"]
    assert isinstance(devices, list)
    assert devices[-2:] == [["RPC0", first, "GPU"], ["RPC1", second, "GPU"]]


def test_the_layers_really_are_on_the_server(tiny: Path) -> None:
    """llama.cpp's own words: which device holds the model, with and without servers."""
    code = """
import logging
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("llama_cpp").addHandler(handler)
logging.getLogger("llama_cpp").setLevel(logging.DEBUG)
for layers in (2, 0):
    del lines[:]
    load(n_gpu_layers=layers, verbose=True).close()
    show(remote=any("RPC0" in line and "model buffer size" in line for line in lines))
del lines[:]
load(n_gpu_layers=2, rpc_servers=None, verbose=True).close()
show(remote=any("RPC0" in line for line in lines))
"""
    with rpc_server() as (_, address):
        shown = client(code, tiny, address)
    # the last model was loaded while the server is known, but did not ask for it
    assert [each["remote"] for each in shown] == [True, False, False]


@pytest.mark.parametrize("victim", [0, 1], ids=["the first of two", "the second"])
def test_a_killed_server_is_an_exception(tiny: Path, victim: int) -> None:
    code = """
llm = load(tensor_split=[1, 1])
seen = []
def generate():
    for token in llm.generate(known("llama-f32")[0]["prompt"], temp=0):
        seen.append(token)
        if len(seen) == 5:
            os.kill(int(options[0]), signal.SIGKILL)
show(error=attempt(generate), right=seen == known("llama-f32")[0]["tokens"][:len(seen)])
show(error=attempt(lambda: llm.create_completion("hello")))
show(error=attempt(load))
llm.close()
show(error=attempt(load))
with load(rpc_servers=None, n_gpu_layers=0) as local:
    show(exact=exact(local, known("llama-f32")))
"""
    with rpc_server() as first, rpc_server() as second:
        process, address = (first, second)[victim]
        during, after, again, gone, local = client(
            code, tiny, f"{first[1]},{second[1]}", str(process.pid)
        )
    lost = (
        rf"the RPC server {address} is lost: .+; close this object, start the server again, then "
        r"load the model once more"
    )
    for each in (during, after):
        kind, text = error_of(each)
        assert kind == "GenerationError"
        assert re.fullmatch(lost, text)
    assert during["right"] is True
    kind, text = error_of(again)
    assert kind == "ModelLoadError"
    assert re.fullmatch(
        rf"the RPC server {address} was lost \(.+\) while a model of this process used it; close "
        r"that model, then try again",
        text,
    )
    kind, text = error_of(gone)
    assert kind == "ModelLoadError"
    assert text.startswith(
        f"the RPC server {address} cannot be used: cannot connect: Connection refused; start one"
    )
    assert local == {"exact": True}


def test_a_server_that_comes_back_is_used_again(tiny: Path) -> None:
    code = """
llm = load()
os.kill(int(options[0]), signal.SIGKILL)
show(error=attempt(lambda: llm.create_completion("hello"))[0])
llm.close()
input()
with load() as again:
    show(exact=exact(again, known("llama-f32")))
"""
    with rpc_server() as (first, address):
        process = subprocess.Popen(
            [sys.executable, "-c", CLIENT + code, str(tiny), address, str(first.pid)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"error": "GenerationError"}
        first.wait()
        with rpc_server(port=int(address.rpartition(":")[2])):
            output, _ = process.communicate("\n", timeout=60)
    assert json.loads(output) == {"exact": True}
    assert process.returncode == 0


def test_a_second_client_waits_for_the_first(tiny: Path) -> None:
    hold = (
        'llm = load()\nshow(ready=True)\ninput()\nshow(exact=exact(llm, known("llama-f32")[:2]))\n'
    )
    with rpc_server() as (_, address):
        first = subprocess.Popen(
            [sys.executable, "-c", CLIENT + hold, str(tiny), address],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert first.stdout is not None
        assert json.loads(first.stdout.readline()) == {"ready": True}
        (refused,) = client("show(error=attempt(load))", tiny, address)
        output, _ = first.communicate("\n", timeout=60)
        (second,) = client('show(exact=exact(load(), known("llama-f32")[:2]))', tiny, address)
    kind, text = error_of(refused)
    assert kind == "ModelLoadError"
    assert text.startswith(
        f"the RPC server {address} cannot be used: it does not answer within 5 s: a server has one "
        "client at a time, and may be busy with another; "
    )
    assert json.loads(output) == {"exact": True}
    assert first.returncode == 0
    assert second == {"exact": True}


def test_two_models_of_a_process_share_a_server(tiny: Path) -> None:
    code = """
with load() as one, load("llama-q8_0") as other:
    show(one=exact(one, known("llama-f32")[:3]), other=exact(other, known("llama-q8_0")[:3]))
"""
    with rpc_server() as (_, address):
        assert client(code, tiny, address) == [{"one": True, "other": True}]


def test_wrong_port(tiny: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
    (shown,) = client("show(error=attempt(load))", tiny, address)
    kind, text = error_of(shown)
    assert kind == "ModelLoadError"
    assert text == (
        f"the RPC server {address} cannot be used: cannot connect: Connection refused; start one "
        f"there with `python -m llama_cpp rpc-server --host … --port {address.rpartition(':')[2]}`, "
        "and look for a firewall between"
    )


def test_info_shows_the_devices_of_servers() -> None:
    with rpc_server() as (_, address):
        result = subprocess.run(
            [sys.executable, "-m", "llama_cpp", "info", "--json", "--rpc-servers", address],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    found = json.loads(result.stdout)["devices"]
    assert [(each["name"], each["description"], each["kind"]) for each in found][-1] == (
        "RPC0",
        address,
        "GPU",
    )
    assert found[-1]["memory_total"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_the_server(number: signal.Signals) -> None:
    with rpc_server() as (process, _):
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def serve(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llama_cpp", "rpc-server", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False, env=dict(os.environ),
    )  # fmt: skip


def test_a_taken_port_is_a_message() -> None:
    with rpc_server() as (_, address):
        port = address.rpartition(":")[2]
        result = serve("--port", port)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: cannot listen on {address}: Address already in use; choose another --port, or the "
        "--host of this machine\n"
    )


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--device", "CUDA7"), 1, "error: --device CUDA7: there is no such device; choose from CPU\n"),
        (("--host", "no.such.invalid"), 1, "error: --host no.such.invalid: no IPv4 address is known"),
        (("--host", "192.0.2.1"), 1, "error: cannot listen on 192.0.2.1:50052: Cannot assign requested"),
        (("--port", "70000"), 2, "'70000' is no port from 0 to 65535"),
        (("--threads", "0"), 2, "'0' is no number of threads from 1 to 512"),
    ],
    ids=["device", "host", "another machine's address", "port", "threads"],
)  # fmt: skip
def test_wrong_options(options: tuple[str, ...], status: int, message: str) -> None:
    result = serve(*options)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_open_address_is_warned_of() -> None:
    with rpc_server("--host", "0.0.0.0") as (process, address):
        assert address.startswith("0.0.0.0:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == (
            "warning: 0.0.0.0 is open to other machines. The RPC protocol has no password and no "
            "encryption, and whoever connects can take this process over: use it in a network that "
            "you trust, never on the internet.\n"
        )
