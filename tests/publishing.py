"""What tests of publishing stand on: small sites, and real servers of this machine."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from ci.table import load_table
from index import catalogue
from index.publish.tree import Tree, read_tree
from index.site import build
from tests.wheels import write_report, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from index.publish.objects import S3
    from index.publish.target import Target

ROOT: Final = Path(__file__).resolve().parent.parent
PLATFORM: Final = "manylinux_2_17_x86_64"
TIME: Final = "2026-11-21T12:00:00Z"
KEYS: Final = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def write_site(
    folder: Path,
    versions: Sequence[str] = ("0.3.100+cpu",),
    *,
    padding: int = 0,
    files: dict[str, str] | None = None,
) -> Path:
    """Make ``folder/site`` of wheels of these versions, in this order, and return it.

    ``padding`` is how many bytes of noise each wheel has; a wheel that is there stays.
    """
    dist, site = folder / "dist", folder / "site"
    for version in versions:
        if any(dist.glob(f"llama_cpp_python-{version}-*.whl")):
            continue
        noise = random.Random(version).randbytes(padding).hex()[:padding]
        wheel = write_wheel(
            dist,
            files
            or {"llama_cpp/__init__.py": f'__version__ = "{version}"\n', "llama_cpp/noise": noise},
            version=version,
            platform=PLATFORM,
        )
        backend = version.partition("+")[2].partition(".")[0]
        write_report(wheel, backend=backend)
        catalogue.add(folder / "catalogue.jsonl", [wheel], table=load_table(), upload_time=TIME)
    history = (folder / "catalogue.jsonl").read_bytes()
    entries = catalogue.load(folder / "catalogue.jsonl")
    build(entries, site, table=load_table(), wheels=[dist], history=history)
    return site


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def whole(folder: Path) -> Tree:
    """Read a tree that is served, which fails where it is not whole."""
    return read_tree(folder)


def published_by_now(target: Target, site: Path) -> None:
    """Publish without a process of its own and without verifying anything."""
    target.put(read_tree(site), lambda _: None)


def publishing(*arguments: str | Path, site: Path, **variables: str) -> subprocess.Popen[str]:
    """Start ``python -m index publish`` in a group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "index", "publish", "--site", site, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def publish(*arguments: str | Path, site: Path, status: int = 0, **variables: str) -> str:
    """Run it to its end and return what it printed."""
    process = publishing(*arguments, site=site, **variables)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == status, printed
    return printed


def wait_for_work(process: subprocess.Popen[str]) -> float:
    """Wait until a publish begins to write; return when, as `time.monotonic` says it."""
    assert process.stdout is not None
    read: list[str] = []
    for line in process.stdout:
        read.append(line)
        if "project pages change" in line:
            return time.monotonic()
    raise AssertionError("".join(read))


def kill(process: subprocess.Popen[str]) -> bool:
    """Kill a command with all that it started; False where it had ended before."""
    alive = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return alive


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """An S3-compatible server with one bucket, readable by everybody."""

    url: str
    bucket: str
    client: S3

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a command that writes there."""
        return KEYS


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Run moto's server."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        client = boto3.client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                client.create_bucket(Bucket="wheels", ACL="public-read")
                break
            except (BotoCoreError, ClientError):
                assert server.poll() is None, (folder / "moto.log").read_text()
                assert time.monotonic() < deadline, (folder / "moto.log").read_text()
                time.sleep(0.05)
        yield S3Server(url=url, bucket="wheels", client=client)
        client.close()
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def rsync_daemon(folder: Path, *, munge: bool = False) -> Iterator[tuple[str, Path]]:
    """Run a real rsync daemon; give the module's address and its folder."""
    if shutil.which("rsync") is None:
        pytest.skip("there is no rsync (Debian: apt install rsync)")
    port, module = free_port(), folder / "module"
    module.mkdir()
    config = folder / "rsyncd.conf"
    config.write_text(
        f"port = {port}\naddress = 127.0.0.1\nuse chroot = no\n"
        f"log file = {folder}/rsyncd.log\nreverse lookup = no\n"
        + ("uid = root\ngid = root\n" if os.geteuid() == 0 else "")
        + f"[index]\npath = {module}\nread only = no\nmunge symlinks = {'yes' if munge else 'no'}\n"
    )
    server = subprocess.Popen(
        ["rsync", "--daemon", "--no-detach", f"--config={config}"], start_new_session=True
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"rsync://127.0.0.1:{port}/index", module
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)
