"""The compiler cache of all machines: what one has compiled, another takes from a bucket."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.compiler import CacheStats, Compiler, CompilerCache
from tests.publishing import S3Server, s3_server

CC = shutil.which("cc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A bucket as the toolchain action exports it from the pipeline's variables."""
    variables = {
        **server.variables,
        "SCCACHE_BUCKET": server.bucket,
        "SCCACHE_REGION": "us-east-1",
        "SCCACHE_ENDPOINT": server.url,
        "SCCACHE_S3_RW_MODE": "READ_WRITE",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return server


def objects(server: S3Server) -> set[str]:
    """What was compiled; sccache leaves one of its own to see whether it may write."""
    listed = server.client.list_objects_v2(Bucket=server.bucket).get("Contents", [])
    return {each["Key"] for each in listed if not each["Key"].endswith(".sccache_check")}


def compiled_on(
    machine: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[CacheStats, bytes]:
    """Compile a file in a checkout of its own, with nothing in the machine's own cache."""
    assert CC is not None
    machine.mkdir()
    monkeypatch.setenv("SCCACHE_DIR", str(machine / "cache"))
    (machine / "one.c").write_text(text)
    cache = CompilerCache(basedirs=(machine,), compiler=Compiler(name="the system's", defines={}))
    launcher = cache.defines["CMAKE_C_COMPILER_LAUNCHER"]
    with cache.serving():
        subprocess.run(
            [launcher, CC, "-c", machine / "one.c", "-o", machine / "one.o"],
            check=True,
            env={**os.environ, **cache.env},
            cwd=machine,
        )
        return cache.stats(), (machine / "one.o").read_bytes()


@pytest.mark.build
@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_each_object_is_compiled_once_whatever_machine_needs_it(
    bucket: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "int one(void) { return 1; }\n"
    first, compiled = compiled_on(tmp_path / "first", text, monkeypatch)
    second, taken = compiled_on(tmp_path / "second", text, monkeypatch)
    assert (first.hits, first.misses) == (0, 1)
    assert (second.hits, second.misses) == (1, 0)
    assert compiled == taken
    assert len(objects(bucket)) == 1


@pytest.mark.build
@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_a_machine_that_may_only_read_leaves_nothing(
    bucket: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects(bucket)
    monkeypatch.setenv("SCCACHE_S3_RW_MODE", "READ_ONLY")
    stats, _ = compiled_on(tmp_path / "third", "int two(void) { return 2; }\n", monkeypatch)
    assert (stats.hits, stats.misses) == (0, 1)
    assert objects(bucket) == before
