"""Build records: written whole or not at all, and how far a build came is read off what it left."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ci.compiler import CacheStats
from ci.errors import BuildError, WheelError
from ci.host import cpu_name
from ci.process import run
from ci.record import (
    Compilation,
    Stopwatch,
    checkout_commit,
    read_record,
    record_path,
    recording,
    write_record,
)
from ci.table import load_table
from tests.reports import record_of, write_reported_wheel
from tests.wheels import COMMIT

NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
VULKAN = load_table().target("vulkan", "manylinux_x86_64")
COMPILATION = Compilation(
    engine="host",
    toolkit_source="the pinned toolkit",
    seconds=61.5,
    cpu_seconds=118.2,
    cache_hits=1,
    cache_misses=2,
)
NINJA_LOG = """\
# ninja log v7
0\t900\t1732150800\tCMakeFiles/ggml-vulkan.dir/a.cpp.o\t1f
0\t950\t1732150801\tCMakeFiles/ggml-vulkan.dir/b.cpp.o\t2f
960\t990\t1732150802\tbin/libggml-vulkan.so\t3f
0\t910\t1732150803\tCMakeFiles/ggml-vulkan.dir/a.cpp.o\t4f
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "file").write_text("1", encoding="utf-8")
    for command in (
        ["init", "-q"],
        ["add", "file"],
        ["-c", "user.name=a", "-c", "user.email=a@a.example", "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    return root


def configure(build: Path, *, generated: bool = True) -> Path:
    """Leave what CMake leaves of a Vulkan build."""
    folder = build / VULKAN.name / "cmake"
    folder.mkdir(parents=True)
    info = {
        "llama_cpp_commit": COMMIT,
        "llama_cpp_version": "0.5.0-dev",
        "compiler": "zig 0.17.0",
        "toolkit": "Vulkan SDK 1.4.309",
        "gpu_architectures": [],
        "defines": {"GGML_VULKAN": "ON"},
    }
    (folder / "_build_info.json").write_text(json.dumps(info), encoding="utf-8")
    if generated:
        (folder / "build.ninja").touch()
    return folder


def test_a_finished_wheel_has_a_record_beside_it(tmp_path: Path, checkout: Path) -> None:
    build, out = tmp_path / "build", tmp_path / "out"
    out.mkdir()
    (out / f"{VULKAN.name}.build.json").touch()

    with recording(VULKAN, out, now=NOW, build=build, root=checkout) as record:
        (configure(build) / ".ninja_log").write_text(NINJA_LOG, encoding="utf-8")
        wheel = write_reported_wheel(out, VULKAN, toolkit="Vulkan SDK 1.4.309")
        place = record(wheel, COMPILATION)

    assert place == record_path(wheel)
    assert sorted(path.name for path in out.iterdir()) == [wheel.name, f"{wheel.name}.build.json"]
    found = read_record(place)
    head = run(["git", "-C", checkout, "rev-parse", "HEAD"])
    assert (found.target, found.level, found.commit) == (VULKAN.name, "repaired", head)
    assert (found.date, found.cpu) == ("2026-11-21T01:00:00Z", cpu_name())
    assert (found.compiler, found.toolkit) == ("zig 0.17.0", "Vulkan SDK 1.4.309")
    assert found.units == 2
    assert found.compilation == COMPILATION
    assert found.wheel is not None
    assert (found.wheel.name, found.wheel.size) == (wheel.name, wheel.stat().st_size)
    assert [(module.name, module.size) for module in found.modules] == [("libggml-vulkan.so", 8)]


def test_a_module_that_was_compiled_before_has_the_units_of_then(
    tmp_path: Path, checkout: Path
) -> None:
    with recording(VULKAN, tmp_path, now=NOW, build=tmp_path, root=checkout) as record:
        place = record(write_reported_wheel(tmp_path, VULKAN), COMPILATION)
    assert read_record(place).units == 3


@pytest.mark.parametrize(
    ("reached", "level"),
    [
        pytest.param("nothing", None, id="before-cmake"),
        pytest.param("errors", None, id="cmake-fails"),
        pytest.param("configured", "configured", id="the-compiler-fails"),
        pytest.param("built", "built", id="the-check-fails"),
    ],
)
def test_a_build_that_fails_says_how_far_it_came(
    tmp_path: Path, checkout: Path, reached: str, level: str | None
) -> None:
    build, out = tmp_path / "build", tmp_path / "out"
    # of an earlier build: not this one's merit
    configure(build)
    (build / VULKAN.name / "built").mkdir()
    (build / VULKAN.name / "built" / "a.whl").touch()

    def fail() -> None:
        with recording(VULKAN, out, now=NOW, build=build, root=checkout):
            if reached != "nothing":
                configure(build, generated=reached != "errors")
            if reached == "built":
                write_reported_wheel(
                    build / VULKAN.name / "built", VULKAN, toolkit="Vulkan SDK 1.4.309"
                )
            raise BuildError("the compiler failed", cure="mend it")

    with pytest.raises(BuildError, match="the compiler failed"):
        fail()

    if level is None:
        assert not out.exists()
        return
    assert [path.name for path in out.iterdir()] == [f"{VULKAN.name}.build.json"]
    found = read_record(out / f"{VULKAN.name}.build.json")
    assert (found.level, found.toolkit) == (level, "Vulkan SDK 1.4.309")
    assert (found.compilation, found.wheel, found.units) == (None, None, None)


def test_the_commit_says_whether_the_checkout_was_changed(tmp_path: Path, checkout: Path) -> None:
    head = run(["git", "-C", checkout, "rev-parse", "HEAD"])
    assert checkout_commit(checkout) == head
    (checkout / "other").touch()
    assert checkout_commit(checkout) == f"{head}-dirty"
    archive = tmp_path / "archive"
    archive.mkdir()
    assert checkout_commit(archive) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"commit": "9012bb2"}, "  commit: String should match pattern"),
        ({"level": "computed"}, "  level: Input should be 'configured', 'built' or 'repaired'"),
        ({"date": "yesterday"}, "  date: String should match pattern"),
        ({"schema": 2}, "  schema: Input should be 1"),
        ({"speed": 1}, "  speed: Unexpected keyword argument"),
        ({"units": "3"}, "  units: Input should be a valid integer"),
        ({"wheel": {"name": "a.whl"}}, "  wheel.sha256: Field required"),
    ],
)
def test_a_malformed_record_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = tmp_path / "a.build.json"
    path.write_text(json.dumps(record_of(VULKAN, **changes)), encoding="utf-8")
    with pytest.raises(WheelError) as caught:
        read_record(path)
    assert caught.value.what.startswith("a.build.json is no build record:\n")
    assert message in caught.value.what
    assert caught.value.cure == "build the wheel again: nox -s build"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.build.json"
    path.write_text(json.dumps(record_of(VULKAN)), encoding="utf-8")
    record = read_record(path)
    other = write_record(tmp_path / "new" / "b.build.json", record)
    assert read_record(other) == record
    assert [each.name for each in other.parent.iterdir()] == ["b.build.json"]


def test_the_stopwatch_counts_children_and_the_server_of_the_cache() -> None:
    watch = Stopwatch()
    subprocess.run([sys.executable, "-c", "for n in range(3_000_000): pass"], check=True)
    alone = watch.cpu_seconds(CacheStats(hits=0, misses=0, seconds=0.0))
    together = watch.cpu_seconds(CacheStats(hits=0, misses=0, seconds=100.0))
    assert alone is not None
    assert together is not None
    assert 0.01 < alone < 60
    assert together == alone + 100
    assert watch.seconds > 0
    assert watch.cpu_seconds(CacheStats(hits=0, misses=0)) is None
    assert watch.cpu_seconds(None) is None
    stats = CacheStats(hits=2, misses=1, seconds=100.0)
    assert watch.compilation("host", stats, "pinned", seconds=61.54) == Compilation(
        engine="host",
        toolkit_source="pinned",
        seconds=61.5,
        cpu_seconds=round(together, 1),
        cache_hits=2,
        cache_misses=1,
    )


@pytest.mark.build
def test_the_wheel_in_dist_has_its_record_beside_it(wheel: Path) -> None:
    record = read_record(record_path(wheel))
    content = wheel.read_bytes()
    assert record.wheel is not None
    assert record.wheel.name == wheel.name
    assert record.wheel.sha256 == hashlib.sha256(content).hexdigest()
    assert (record.target.partition("-")[0], record.level) == ("cpu", "repaired")
    assert record.compilation is not None
    assert record.compilation.seconds > 0
