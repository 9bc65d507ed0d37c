from __future__ import annotations

from datetime import UTC, datetime

from bench.requests import Cost, Lock, cost_of, report
from tests.installers.environments import Installer
from tests.installers.served import Request

UV = Installer(name="uv", version="0.13.8")


def request(path: str, size: int, status: int = 200) -> Request:
    return Request(method="GET", path=path, status=status, size=size)


def test_bytes_are_counted_by_what_they_are_of() -> None:
    page = "/whl/cpu/llama-cpp-python/"
    log = [
        request(page, 700),
        request(page, 0, 304),
        request(f"{page}a.whl.metadata", 50),
        request(f"{page}a.whl", 9000, 206),
        request(f"{page}b.whl", 1000),
    ]

    cost = cost_of(log)

    assert cost == Cost(requests=5, page_bytes=700, metadata_bytes=50, wheel_bytes=10_000)
    assert cost.bytes == 10_750


def lock(style: str, wheel_bytes: int, metadata_bytes: int = 29_000) -> Lock:
    return Lock(
        client=UV,
        style="ours" if style == "ours" else "bare",
        versions=10,
        cost=Cost(
            requests=2, page_bytes=999, metadata_bytes=metadata_bytes, wheel_bytes=wheel_bytes
        ),
    )


def test_the_goal_is_about_this_index_alone() -> None:
    date = datetime(2026, 11, 21, tzinfo=UTC)

    met = report([lock("ours", 0), lock("bare", 10**8)], date=date, circumstances={"system": "a"})
    missed = report([lock("ours", 0), lock("ours", 1)], date=date, circumstances={})

    assert (met["most_bytes"], met["goal_bytes"], met["met"]) == (29_999, 30_000, True)
    assert (missed["most_bytes"], missed["met"]) == (30_000, False)
    assert met["system"] == "a"
    assert met["date"] == "2026-11-21T00:00:00Z"
    assert met["locks"] == [
        {
            "client": "uv",
            "client_version": "0.13.8",
            "index": index,
            "versions": 10,
            "requests": 2,
            "bytes": 29_999 + wheels,
            "page_bytes": 999,
            "metadata_bytes": 29_000,
            "wheel_bytes": wheels,
        }
        for index, wheels in (("ours", 0), ("bare", 10**8))
    ]
