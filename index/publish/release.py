"""A release of a GitHub repository as the place of wheels, through GitHub's REST API.

Source: "REST API endpoints for releases" and "… for release assets", version 2022-11-28, and "Best
practices for using the REST API".
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

import requests

from ci.errors import NetworkError, PublishError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    # What the API answers; every value is read through str() or int().
    Answer: TypeAlias = dict[str, Any]

_API_VERSION: Final = "2022-11-28"
_TRIES: Final = 6
# "Otherwise, wait for at least one minute before retrying", then longer each time.
_PATIENCE: Final = 60.0
_LONGEST: Final = 900.0
_TIMEOUT: Final = (30, 600)


@dataclass(frozen=True, kw_only=True)
class GitHub:
    """A repository (``OWNER/REPO``) and a tag of it; ``api`` and ``server`` are GitHub's addresses.

    ``pause`` waits that many seconds; ``draft`` leaves a release that is made here unpublished.
    """

    repository: str
    tag: str
    token: str = field(repr=False)
    api: str
    server: str
    draft: bool = False
    pause: Callable[[float], None] = time.sleep

    @property
    def base_url(self) -> str:
        """The folder of the files of the published release."""
        return f"{self.server.rstrip('/')}/{self.repository}/releases/download/{quote(self.tag)}"

    @property
    def where(self) -> str:
        """The release as messages name it."""
        return f"github:{self.repository}@{self.tag}"

    def put(self, files: Mapping[str, Path]) -> tuple[str, ...]:
        """Upload what is not there and publish the release; return the names that were sent.

        A release that does not exist is made as a draft and published when every file is there.

        Raises:
            PublishError: A name is there with other bytes, or GitHub refused.
            NetworkError: GitHub could not be reached.
        """
        release = self._find() or self._create()
        number = int(release["id"])
        there = self._assets(number)
        sent = []
        for name, path in sorted(files.items()):
            asset = there.get(name)
            if asset is not None and asset["state"] != "uploaded":
                # "This may leave an empty asset with a state of starter. It can be safely deleted."
                self._delete(asset)
                asset = None
            if asset is None:
                self._upload(release, name, path)
                sent.append(name)
            else:
                self._compare(asset, path)
        if release.get("draft") and not self.draft:
            self._call("PATCH", f"repos/{self.repository}/releases/{number}", json={"draft": False})
        return tuple(sent)

    def _find(self) -> Answer | None:
        # A draft has no tag yet, so it is only in the list.
        for release in self._pages(f"repos/{self.repository}/releases"):
            if release["tag_name"] == self.tag:
                return release
        return None

    def _create(self) -> Answer:
        return self._call(
            "POST",
            f"repos/{self.repository}/releases",
            json={"tag_name": self.tag, "name": self.tag, "draft": True},
        )

    def _assets(self, release: int) -> dict[str, Answer]:
        assets = self._pages(f"repos/{self.repository}/releases/{release}/assets")
        return {str(asset["name"]): asset for asset in assets}

    def _pages(self, path: str) -> list[Answer]:
        found: list[Answer] = []
        while True:
            number = len(found) // 100 + 1
            more = self._request(
                "GET", self._address(path), params={"per_page": 100, "page": number}
            )
            listed = more.json()
            found += listed
            if len(listed) < 100:
                return found

    def _upload(self, release: Answer, name: str, path: Path) -> None:
        # `upload_url` is a template: …/assets{?name,label}
        address = str(release["upload_url"]).partition("{")[0]
        for _ in range(_TRIES):
            with path.open("rb") as file:
                answer = self._request(
                    "POST",
                    address,
                    params={"name": name},
                    data=file,
                    headers={
                        "Content-Type": "application/octet-stream",
                        "Content-Length": str(path.stat().st_size),
                    },
                    good=(201, 422, 502),
                )
            if answer.status_code == 201:
                said = answer.json()
                if said["name"] != name:
                    what = f"{self.where}: GitHub calls {name} {said['name']}"
                    raise PublishError(what, cure="pages cannot link it: publish wheels elsewhere")
                self._compare(said, path)
                return
            # Either may leave an asset of this name behind: half of ours, or all of it.
            there = self._assets(int(release["id"])).get(name)
            if there is not None and there["state"] == "uploaded":
                self._compare(there, path)
                return
            if there is not None:
                self._delete(there)
            elif answer.status_code == 422:
                raise PublishError(f"{self.where}: {name}: {_said(answer)}", cure=_REFUSED)
            self.pause(1.0)
        what = f"{self.where}: {name} could not be uploaded in {_TRIES} tries"
        raise NetworkError(what, cure="run this again: what is there stays")

    def _compare(self, asset: Answer, path: Path) -> None:
        size, digest = path.stat().st_size, asset.get("digest")
        with path.open("rb") as file:
            ours = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if int(asset["size"]) == size and digest in {ours, None}:
            return
        what = (
            f"{self.where}: {path.name} is there with other bytes"
            f" ({asset['size']} bytes, {digest}; ours has {size}, {ours})"
        )
        raise PublishError(what, cure="a published name never changes: give a new label")

    def _delete(self, asset: Answer) -> None:
        path = f"repos/{self.repository}/releases/assets/{int(asset['id'])}"
        self._request("DELETE", self._address(path), good=(204, 404))

    def _call(self, method: str, path: str, *, json: Mapping[str, object]) -> Answer:
        answer: Answer = self._request(method, self._address(path), json=json).json()
        return answer

    def _address(self, path: str) -> str:
        return f"{self.api.rstrip('/')}/{path}"

    def _request(
        self,
        method: str,
        address: str,
        *,
        good: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        json: Mapping[str, object] | None = None,
        data: object = None,
    ) -> requests.Response:
        """Send one request; wait and repeat where GitHub says so or is not well.

        What has a body that was read (``data``) is not repeated here.
        """
        patience = _PATIENCE
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                answer = requests.request(
                    method,
                    address,
                    params=params,
                    json=json,
                    data=data,  # type: ignore[arg-type]  # a file
                    timeout=_TIMEOUT,
                    headers={
                        "Accept": "application/vnd.github+json",
                        "Authorization": f"Bearer {self.token}",
                        "X-GitHub-Api-Version": _API_VERSION,
                        **(headers or {}),
                    },
                )
            except requests.RequestException as error:
                if data is not None:
                    # As if GitHub had said that it lost it: the caller looks what is there.
                    return _lost()
                if last:
                    raise NetworkError(f"{address}: {error}", cure="run this again") from error
                self.pause(2.0**attempt)
                continue
            if answer.ok or answer.status_code in good:
                return answer
            wait = _wait(answer, patience)
            if wait is None or last:
                what = f"{self.where}: {method} {address}: {_said(answer)}"
                raise PublishError(what, cure=_REFUSED)
            self.pause(wait)
            if answer.status_code in {403, 429}:
                patience *= 2
            if data is not None:
                return _lost()
        raise AssertionError


_REFUSED: Final = (
    "see that GITHUB_TOKEN may write contents there, and that the release is not immutable;"
    " then run this again: what was uploaded stays"
)


def _lost() -> requests.Response:
    answer = requests.Response()
    answer.status_code = 502
    return answer


def _said(answer: requests.Response) -> str:
    try:
        message = str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = answer.reason
    return f"{answer.status_code} {message}"


def _wait(answer: requests.Response, patience: float) -> float | None:
    """Return how long to wait before the next try in seconds; None where none will help."""
    status, said = answer.status_code, answer.headers
    if status >= 500:
        return 2.0
    if status not in {403, 429}:
        return None
    if said.get("retry-after", "").isdecimal():
        return min(float(said["retry-after"]), _LONGEST)
    if said.get("x-ratelimit-remaining") == "0" and said.get("x-ratelimit-reset", "").isdecimal():
        return min(max(1.0, float(said["x-ratelimit-reset"]) - time.time()), _LONGEST)
    if status == 429 or "rate limit" in _said(answer).lower():
        return min(patience, _LONGEST)
    return None


def parse_github(text: str, *, environment: Mapping[str, str], draft: bool = False) -> GitHub:
    """Read ``github:OWNER/REPO@TAG``; token and addresses are GitHub Actions' variables.

    Raises:
        UsageError: It is not of this form, or there is no token.
    """
    repository, at, tag = text.removeprefix("github:").partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")) or not at or not tag:
        what = f"{text}: names no release"
        raise UsageError(what, cure="write github:OWNER/REPO@TAG")
    token = environment.get("GITHUB_TOKEN") or environment.get("GH_TOKEN")
    if not token:
        what = "GITHUB_TOKEN is not set"
        raise UsageError(what, cure="give one that may write contents of the repository")
    return GitHub(
        repository=repository,
        tag=tag,
        token=token,
        api=environment.get("GITHUB_API_URL") or "https://api.github.com",
        server=environment.get("GITHUB_SERVER_URL") or "https://github.com",
        draft=draft,
    )
