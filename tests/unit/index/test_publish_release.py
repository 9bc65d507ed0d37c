"""A release on GitHub: a stand-in server that speaks the documented part of its API."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest

from ci.errors import PublishError, UsageError
from index.publish.release import GitHub, parse_github

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELEASES: Final = "/repos/me/wheels/releases"
NAME: Final = "llama_cpp_python-0.3.100+cpu-py3-none-manylinux_2_17_x86_64.whl"


@dataclass(kw_only=True)
class State:
    """What the stand-in has; ``trouble`` are answers that it gives first: (method, status, …)."""

    releases: list[dict[str, Any]] = field(default_factory=list)
    assets: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    trouble: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    # The next upload stores so many bytes, as an asset that is not complete, and answers 502.
    starter: bool = False
    digests: bool = True
    rename: str | None = None
    number: int = 0

    def next_number(self) -> int:
        self.number += 1
        return self.number


class Handler(BaseHTTPRequestHandler):
    state: State

    def answer(
        self, status: int, body: object = None, headers: dict[str, str] | None = None
    ) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def handle_one(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        state = self.state
        state.requests.append(f"{self.command} {address.path}")
        assert self.headers["Authorization"] == "Bearer secret"
        assert self.headers["X-GitHub-Api-Version"] == "2022-11-28"
        if state.trouble and state.trouble[0][0] == self.command:
            _, status, headers = state.trouble.pop(0)
            self.answer(status, {"message": headers.pop("message", "trouble")}, headers)
        elif self.command == "GET" and address.path == RELEASES:
            self.answer(200, self.page(state.releases, query))
        elif self.command == "GET" and address.path.endswith("/assets"):
            number = int(address.path.split("/")[-2])
            self.answer(200, self.page(state.assets[number], query))
        elif self.command == "POST" and address.path == RELEASES:
            number = state.next_number()
            release = {
                "id": number,
                "upload_url": f"{self.server_url}/upload{RELEASES}/{number}/assets{{?name,label}}",
                **json.loads(body),
            }
            state.releases.append(release)
            state.assets[number] = []
            self.answer(201, release)
        elif self.command == "PATCH":
            number = int(address.path.split("/")[-1])
            release = next(each for each in state.releases if each["id"] == number)
            release.update(json.loads(body))
            self.answer(200, release)
        elif self.command == "DELETE":
            number = int(address.path.split("/")[-1])
            for assets in state.assets.values():
                assets[:] = [asset for asset in assets if asset["id"] != number]
            self.answer(204)
        elif self.command == "POST" and address.path.startswith("/upload/"):
            self.upload(int(address.path.split("/")[-2]), query["name"], body)
        else:
            self.answer(404, {"message": "Not Found"})

    def page(self, items: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
        size, number = int(query["per_page"]), int(query["page"])
        return items[(number - 1) * size : number * size]

    def upload(self, number: int, name: str, body: bytes) -> None:
        state = self.state
        if any(asset["name"] == name for asset in state.assets[number]):
            self.answer(
                422, {"message": "Validation Failed", "errors": [{"code": "already_exists"}]}
            )
            return
        asset: dict[str, Any] = {
            "id": state.next_number(),
            "name": state.rename or name,
            "state": "starter" if state.starter else "uploaded",
            "size": 0 if state.starter else len(body),
        }
        if state.digests:
            digest = None if state.starter else f"sha256:{hashlib.sha256(body).hexdigest()}"
            asset["digest"] = digest
        state.assets[number].append(asset)
        if state.starter:
            state.starter = False
            self.answer(502, {"message": "Bad Gateway"})
        else:
            self.answer(201, asset)

    @property
    def server_url(self) -> str:
        return f"http://{self.headers['Host']}"

    do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # noqa: N815  # the base's names

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def waited() -> list[float]:
    return []


@pytest.fixture
def github(state: State, waited: list[float]) -> Iterator[GitHub]:
    handler = type("Bound", (Handler,), {"state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        yield GitHub(
            repository="me/wheels",
            tag="v0.3.100",
            token="secret",
            api=url,
            server="https://github.example",
            pause=waited.append,
        )
        server.shutdown()
        thread.join()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name, content in ((NAME, b"wheel"), (f"{NAME}.metadata", b"metadata")):
        (tmp_path / name).write_bytes(content)
        found[name] = tmp_path / name
    return found


def stored(state: State) -> dict[str, tuple[str, int]]:
    return {
        asset["name"]: (asset["state"], asset["size"])
        for assets in state.assets.values()
        for asset in assets
    }


WHOLE: Final = {NAME: ("uploaded", 5), f"{NAME}.metadata": ("uploaded", 8)}


def test_a_release_is_a_draft_until_every_file_is_there(
    github: GitHub, state: State, files: dict[str, Path]
) -> None:
    assert github.put(files) == (NAME, f"{NAME}.metadata")
    assert stored(state) == WHOLE
    assert state.releases[0]["tag_name"] == "v0.3.100"
    assert state.releases[0]["draft"] is False
    assert state.requests == [
        f"GET {RELEASES}",
        f"POST {RELEASES}",
        f"GET {RELEASES}/1/assets",
        f"POST /upload{RELEASES}/1/assets",
        f"POST /upload{RELEASES}/1/assets",
        f"PATCH {RELEASES}/1",
    ]
    assert github.base_url == "https://github.example/me/wheels/releases/download/v0.3.100"
    assert github.put(files) == ()


def test_a_draft_can_stay_one(github: GitHub, state: State, files: dict[str, Path]) -> None:
    replace(github, draft=True).put(files)
    assert state.releases[0]["draft"] is True
    # The next run finds it in the list, where a draft is, and publishes it.
    assert github.put(files) == ()
    assert len(state.releases) == 1
    assert state.releases[0]["draft"] is False


def test_a_release_beyond_the_first_page_is_found(
    github: GitHub, state: State, files: dict[str, Path]
) -> None:
    github.put(files)
    state.releases[:0] = [{"id": 1000 + n, "tag_name": f"v{n}"} for n in range(150)]
    assert github.put(files) == ()


def test_a_half_uploaded_file_is_sent_again(
    github: GitHub, state: State, files: dict[str, Path], waited: list[float]
) -> None:
    state.starter = True
    assert github.put(files) == (NAME, f"{NAME}.metadata")
    assert stored(state) == WHOLE
    assert waited == [1.0]
    assert f"DELETE {RELEASES}/assets/2" in state.requests


def test_a_half_uploaded_file_of_a_killed_run_is_sent_again(
    github: GitHub, state: State, files: dict[str, Path]
) -> None:
    github.put(files)
    asset = state.assets[1][0]
    asset |= {"state": "starter", "size": 0, "digest": None}
    assert github.put(files) == (NAME,)
    assert stored(state) == WHOLE


def test_an_upload_whose_answer_was_lost_is_not_sent_twice(
    github: GitHub, state: State, files: dict[str, Path]
) -> None:
    """The server stored it and then answered 500: the next look finds it."""
    github.put({NAME: files[NAME]})
    state.trouble = [("POST", 500, {})]
    metadata = files[f"{NAME}.metadata"]
    state.assets[1].append(
        {
            "id": 77,
            "name": metadata.name,
            "state": "uploaded",
            "size": 8,
            "digest": f"sha256:{hashlib.sha256(b'metadata').hexdigest()}",
        }
    )
    before = len(state.requests)
    # As if the listing had been read before: the upload is tried.
    release = state.releases[0]
    github._upload(release, metadata.name, metadata)
    assert [line.split()[0] for line in state.requests[before:]] == ["POST", "GET"]
    assert stored(state) == WHOLE


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (500, {}, [2.0]),
        (429, {"retry-after": "7"}, [7.0]),
        (403, {"retry-after": "30"}, [30.0]),
        (403, {"message": "You have exceeded a secondary rate limit."}, [60.0]),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, [1.0]),
    ],
    ids=["server error", "retry-after", "forbidden for now", "secondary limit", "primary limit"],
)
def test_it_waits_when_it_is_told_to(
    github: GitHub,
    state: State,
    files: dict[str, Path],
    waited: list[float],
    status: int,
    headers: dict[str, str],
    seconds: list[float],
) -> None:
    state.trouble = [("GET", status, dict(headers))]
    github.put(files)
    assert stored(state) == WHOLE
    assert waited == seconds


def test_a_limit_in_the_middle_of_the_uploads(
    github: GitHub, state: State, files: dict[str, Path], waited: list[float]
) -> None:
    state.releases = [
        {
            "id": 9,
            "tag_name": "v0.3.100",
            "upload_url": f"{github.api}/upload{RELEASES}/9/assets{{?name}}",
        }
    ]
    state.assets[9] = []
    state.trouble = [("POST", 429, {"retry-after": "5"}), ("POST", 503, {})]
    assert github.put(files) == (NAME, f"{NAME}.metadata")
    assert stored(state) == WHOLE
    assert waited == [5.0, 1.0, 2.0, 1.0]


def test_it_stops_when_waiting_does_not_help(
    github: GitHub, state: State, files: dict[str, Path], waited: list[float]
) -> None:
    state.trouble = [("GET", 401, {"message": "Bad credentials"})]
    with pytest.raises(PublishError) as info:
        github.put(files)
    assert info.value.what.endswith("/repos/me/wheels/releases: 401 Bad credentials")
    assert waited == []
    state.trouble = [("GET", 503, {})] * 6
    with pytest.raises(PublishError, match="503 trouble"):
        github.put(files)
    assert waited == [2.0] * 5


@pytest.mark.parametrize("digests", [True, False], ids=["digests", "sizes"])
def test_other_bytes_are_refused(
    github: GitHub, state: State, files: dict[str, Path], digests: bool
) -> None:
    state.digests = digests
    github.put(files)
    files[NAME].write_bytes(b"wheel, another")
    with pytest.raises(PublishError) as info:
        github.put(files)
    assert (
        f"github:me/wheels@v0.3.100: {NAME} is there with other bytes (5 bytes" in info.value.what
    )
    assert info.value.cure == "a published name never changes: give a new label"


def test_a_name_that_github_changes_is_said(
    github: GitHub, state: State, files: dict[str, Path]
) -> None:
    state.rename = "llama_cpp_python-0.3.100.cpu.whl"
    with pytest.raises(PublishError) as info:
        github.put(files)
    assert f"GitHub calls {NAME} llama_cpp_python-0.3.100.cpu.whl" in info.value.what


@pytest.mark.parametrize(
    "text", ["github:me/wheels", "github:wheels@v1", "github:a/b/c@v1", "github:/x@v"]
)
def test_what_names_no_release(text: str) -> None:
    with pytest.raises(UsageError) as info:
        parse_github(text, environment={"GITHUB_TOKEN": "secret"})
    assert info.value.what == f"{text}: names no release"


def test_token_and_addresses_come_from_the_environment() -> None:
    with pytest.raises(UsageError, match="GITHUB_TOKEN is not set"):
        parse_github("github:me/wheels@v1", environment={})
    environment = {"GITHUB_TOKEN": "secret", "GITHUB_API_URL": "https://ghe.example/api/v3"}
    found = parse_github("github:me/wheels@v1", environment=environment)
    assert (found.api, found.token) == ("https://ghe.example/api/v3", "secret")
    assert "secret" not in repr(found)
