"""Models from a hub: the real huggingface_hub against a server here that speaks the hub's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import gguf
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.build, pytest.mark.network]

REPOSITORY = Path(__file__).parents[2]
REPO_ID = "tiny/llama-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What the server has, what it was asked for, and which file it breaks off once."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[str, str, str | None]] = []
        self.breaks: str | None = None


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if path.startswith(f"/api/models/{REPO_ID}/tree/"):
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in self.hub.files.items()
            ]
            self.send(200, json.dumps(listed).encode(), {"Content-Type": "application/json"}, body)
            return
        self.answer_file(path, body=body)

    def answer_file(self, path: str, *, body: bool) -> None:
        name = path.partition(f"/{REPO_ID}/resolve/main/")[2]
        if name not in self.hub.files:
            self.send(
                404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "none"}, body
            )
            return
        data = self.hub.files[name]
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        start, status = 0, 200
        if (wanted := self.headers.get("Range")) and body:
            start, status = int(wanted.removeprefix("bytes=").partition("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.hub.breaks == name and body and status == 200:
            self.hub.breaks = None
            self.close_connection = True
            self.send(200, data, headers, body, cut=len(data) // 2)
            return
        self.send(status, data[start:], headers, body)

    def send(
        self,
        status: int,
        data: bytes,
        headers: dict[str, str],
        body: bool,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[:cut])


@pytest.fixture(scope="module")
def parts(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tiny llama in two parts."""
    folder = tmp_path_factory.mktemp("parts")
    reader = gguf.GGUFReader(tiny / "llama-f32.gguf")
    for part in range(2):
        writer = gguf.GGUFWriter(folder / f"split-{part + 1:05}-of-00002.gguf", "llama")
        for field in reader.fields.values():
            if part == 0 and not field.name.startswith(("GGUF.", "general.architecture")):
                inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], inner)
        writer.add_uint16("split.no", part)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[part::2]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return {f"parts/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def hub(libraries: Path, tiny: Path, parts: dict[str, bytes]) -> Iterator[tuple[Hub, str]]:
    """A hub, and its address."""
    names = ("llama-q4_0.gguf", "llama-q8_0.gguf", "lora-f32.gguf")
    found = Hub({**{name: (tiny / name).read_bytes() for name in names}, **parts})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": found}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield found, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with huggingface_hub."""
    folder = tmp_path_factory.mktemp("hub")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "huggingface_hub", "numpy"], check=True)
    return python


def run(
    python: Path, code: str, endpoint: str, home: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    own = {
        "PYTHONPATH": str(REPOSITORY),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [python, "-c", f"from llama_cpp import Llama\n{code}"],
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


ANSWER = "print(llm(' morning', max_tokens=5, temperature=0)['choices'][0]['text'])\n"
LOAD = f"llm = Llama.from_pretrained({REPO_ID!r}, {{}}, n_threads=1, verbose=False)\n" + ANSWER


def test_a_pattern_and_the_cache(python: Path, hub: tuple[Hub, str], tmp_path: Path) -> None:
    state, endpoint = hub
    first = run(python, LOAD.format("'*q8_0.gguf'"), endpoint, tmp_path)
    assert first.stdout == " sun lifts\n", first.stderr
    assert [path for method, path, _ in state.asked if method == "GET" and "resolve" in path] == [
        f"/{REPO_ID}/resolve/main/llama-q8_0.gguf"
    ]
    state.asked.clear()
    again = run(python, LOAD.format("'llama-q8_0.gguf'"), endpoint, tmp_path)
    assert again.stdout == " sun lifts\n", again.stderr
    assert [method for method, _, _ in state.asked] == ["HEAD"]
    offline = run(
        python, LOAD.format("'llama-q8_0.gguf'"), "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1"
    )
    assert offline.stdout == " sun lifts\n", offline.stderr


def test_all_parts_and_more_files(python: Path, hub: tuple[Hub, str], tmp_path: Path) -> None:
    _, endpoint = hub
    code = (
        f"llm = Llama.from_pretrained({REPO_ID!r}, 'split-*', ['lora*'], local_dir={str(tmp_path / 'd')!r},"
        " n_threads=1, verbose=False)\n" + ANSWER
    )
    done = run(python, code, endpoint, tmp_path)
    assert done.stdout == " sun lifts\n", done.stderr
    found = sorted(
        path.relative_to(tmp_path / "d").as_posix() for path in (tmp_path / "d").rglob("*.gguf")
    )
    assert found == [
        "lora-f32.gguf",
        "parts/split-00001-of-00002.gguf",
        "parts/split-00002-of-00002.gguf",
    ]


def test_an_interrupted_download_goes_on(
    python: Path, hub: tuple[Hub, str], tmp_path: Path
) -> None:
    state, endpoint = hub
    # huggingface_hub keeps whole chunks of 10 MB
    state.files["large.gguf"] = bytes(range(256)) * (25 << 12)
    state.breaks = "large.gguf"
    code = LOAD.format("'llama-q8_0.gguf', ['large.gguf']")
    done = run(python, code, endpoint, tmp_path)
    assert done.stdout == " sun lifts\n", done.stderr
    ranges = [wanted for method, path, wanted in state.asked if method == "GET" and "large" in path]
    assert ranges == [None, "bytes=10485760-"]
    (found,) = tmp_path.rglob("large.gguf")
    assert found.read_bytes() == state.files["large.gguf"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "'*q*'",
            (
                "llama_cpp._errors.ValidationError: 2 models of tiny/llama-GGUF fit '*q*': "
                "llama-q4_0.gguf, llama-q8_0.gguf; name one of them"
            ),
        ),
        (
            "'none.gguf'",
            (
                "llama_cpp._errors.ModelLoadError: the Hugging Face hub did not give none.gguf of "
                "tiny/llama-GGUF: 404"
            ),
        ),
    ],
)
def test_what_is_not_there(
    python: Path, hub: tuple[Hub, str], tmp_path: Path, name: str, message: str
) -> None:
    done = run(python, LOAD.format(name), hub[1], tmp_path)
    assert done.returncode == 1
    assert message in done.stderr


def test_a_projector(python: Path, hub: tuple[Hub, str], vision: Path, tmp_path: Path) -> None:
    state, endpoint = hub
    data = (vision / "mmproj-gemma3-f32.gguf").read_bytes()
    state.files |= {"mmproj-a-f16.gguf": data, "b/mmproj-a-q8_0.gguf": data}
    code = (
        "from llama_cpp import ModelLoadError, ValidationError\n"
        "from llama_cpp._vision_families import MoondreamChatHandler as H\n"
        f"handler = H.from_pretrained({REPO_ID!r}, 'mmproj*f16.gguf', local_dir='here', verbose=False)\n"
        "print(type(handler).__name__, handler.verbose, handler.clip_model_path)\n"
        f"print(H.from_pretrained({REPO_ID!r}, 'b/mmproj-a-q8_0.gguf', cache_dir='there').verbose)\n"
        "for name in (None, 'c.gguf'):\n"
        "    try:\n"
        f"        H.from_pretrained({REPO_ID!r}, name)\n"
        "    except (ModelLoadError, ValidationError) as error:\n"
        "        print(str(error).partition('\\n')[0])\n"
    )
    done = run(python, f"import os; os.chdir({str(tmp_path)!r})\n{code}", endpoint, tmp_path)
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        f"MoondreamChatHandler False {tmp_path / 'here/mmproj-a-f16.gguf'}",
        "True",
        (
            f"2 models of {REPO_ID} fit '*mmproj*.gguf': b/mmproj-a-q8_0.gguf, mmproj-a-f16.gguf; "
            "name one of them"
        ),
    ], done.stderr
    assert lines[3].startswith(f"the Hugging Face hub did not give c.gguf of {REPO_ID}: ")
    assert len(lines) == 4
    assert (tmp_path / "here/mmproj-a-f16.gguf").read_bytes() == data
    assert list((tmp_path / "there").rglob("mmproj-a-q8_0.gguf"))
