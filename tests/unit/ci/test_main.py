"""The command line: every mistake is a message with a cure and an exit code, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
VERBS = [
    *("vendor", "build", "repair", "check", "smoke", "matrix", "generate"),
    *("reproduce", "emulate", "fresh-root", "auto", "proof"),
]


def ci(*args: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ci", *map(str, args)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    done = ci(verb, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m ci {verb} ")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["build", "--backend", "cu999"], 2, "unknown backend 'cu999'\n  -> choose one of: cpu"),
        (["build", "--platform", "amiga"], 2, "unknown platform 'amiga'\n  -> choose one of: "),
        (["build", "--backend", "metal"], 2, "there is no metal wheel for manylinux_x86_64"),
        (["build", "--frobnicate"], 2, "unrecognized arguments: --frobnicate"),
        (["build", "--engine", "steam"], 2, "invalid choice: 'steam'"),
        (["build", "--define", "GGML_RPC"], 2, "--define GGML_RPC is not NAME=VALUE"),
        (["build", "--python", "2.7"], 2, "2.7 is not a Python that wheels are proven on"),
        (["build", "--source", "/nowhere"], 4, "there is no /nowhere"),
        (["proof", "frobnicate"], 2, "argument action: invalid choice: 'frobnicate'"),
        (["proof", "add", "/nowhere.smoke.json"], 2, "there is no file /nowhere.smoke.json"),
        (
            ["build", "--backend", "cu130", "--archs", "8.9"],
            2,
            "--archs '8.9': 8.9 is no GPU architecture\n  -> write --archs \"86;89;120a\"",
        ),
        (
            ["build", "--backend", "cu130", "--toolkit", "/usr"],
            2,
            "--toolkit: /usr is not a whole CUDA toolkit, it lacks bin/nvcc",
        ),
        (
            ["build", "--backend", "vulkan", "--compatible-toolkit"],
            2,
            "vulkan-manylinux_x86_64: --compatible-toolkit is for CUDA\n  -> leave it away",
        ),
        (
            ["build", "--backend", "vulkan", "--toolkit", "/nowhere"],
            2,
            "--toolkit: there is no folder /nowhere\n  -> check the path",
        ),
        (
            ["build", "--backend", "vulkan", "--engine", "cibuildwheel"],
            2,
            "vulkan-manylinux_x86_64 is one module more in the CPU wheel: it is compiled on the host",
        ),
        (
            ["build", "--backend", "cu130", "--platform", "win_amd64"],
            5,
            "cu130-win_amd64 is built on Windows x64; this machine is Linux x86-64",
        ),
        (["check", "/nowhere/x.whl"], 8, "x.whl is not the name of a wheel"),
        (["auto", "/nowhere/x.whl"], 8, "x.whl is not the name of a wheel"),
        (["auto", "--label", "cpu"], 2, "'cpu' is neither auto nor such as auto.1"),
        (
            ["smoke", "--index", "http://127.0.0.1:1/"],
            2,
            "--index takes a wheel from an index, so it needs its backend and no wheel's path",
        ),
        (
            ["smoke", "--index", "http://127.0.0.1:1/", "--backend", "metal"],
            2,
            "there is no metal wheel for manylinux_x86_64",
        ),
        (["matrix", "--target", "amiga-*"], 2, "no target matches 'amiga-*'"),
        ([], 2, "the following arguments are required: VERB"),
        (["dance"], 2, "invalid choice: 'dance'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_mistakes(args: list[str], code: int, message: str) -> None:
    done = ci(*args)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_toolkit_that_cannot_be_reached_says_what_else_there_is() -> None:
    nobody = "http://127.0.0.1:9/redist"
    variables = {"LLAMA_CPP_PYTHON_CUDA_REDIST": nobody, "CUDA_HOME": "", "CUDA_PATH": ""}
    done = ci("build", "--backend", "cu128", env=variables)
    assert done.returncode == 6
    assert f"{nobody}/redistrib_12.8.1.json could not be downloaded: " in done.stderr
    assert (
        "\n  -> check the network; LLAMA_CPP_PYTHON_CUDA_REDIST names another server, --toolkit PATH an"
        " installed toolkit; --compatible-toolkit takes one of the package index, where there is one"
    ) in done.stderr


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount on this machine")
    if done.returncode != 0:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.network
def test_a_full_disk_is_said(tiny_disk: Path) -> None:
    """A toolkit that does not fit into the cache: the message, and nothing half-written."""
    variables = {"LLAMA_CPP_PYTHON_CACHE": str(tiny_disk), "CUDA_HOME": "", "CUDA_PATH": ""}
    done = ci("build", "--backend", "cu130", "--archs", "90", env=variables)
    assert done.returncode == 12, done.stderr
    assert f"there is no room left for {tiny_disk}" in done.stderr
    assert "  -> free some, or put the cache on another disk" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tiny_disk.rglob("*") if path.name.endswith(".part")]


def test_without_a_compiler_the_message_names_the_cure() -> None:
    path = f"{Path(sys.executable).parent}"
    done = ci("build", "--compiler", "system", "--engine", "host", env={"PATH": path})
    assert done.returncode == 5
    assert "git is not on this machine" in done.stderr or "no C++ compiler" in done.stderr


def test_without_git_the_message_names_the_cure(tmp_path: Path) -> None:
    done = ci("vendor", env={"PATH": str(tmp_path), "LLAMA_CPP_PYTHON_CACHE": str(tmp_path)})
    assert done.returncode == 5
    assert "git is not on this machine\n  -> install git" in done.stderr


def test_without_a_container_engine_the_message_names_the_cure(tmp_path: Path) -> None:
    for name in ("git", "sh"):
        found = next(Path(d) / name for d in ("/usr/bin", "/bin") if (Path(d) / name).exists())
        (tmp_path / name).symlink_to(found)
    done = ci("build", "--engine", "cibuildwheel", env={"PATH": str(tmp_path)})
    assert done.returncode == 5
    assert "no container engine runs on this machine\n  -> start docker or podman" in done.stderr


def test_a_damaged_wheel_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "llama_cpp_python-0.3.100+cpu-py3-none-manylinux_2_17_x86_64.whl"
    path.write_bytes(b"PK")
    done = ci("smoke", path, "--python", f"3.{sys.version_info[1]}")
    assert done.returncode == 8
    assert "is damaged: File is not a zip file" in done.stderr


@pytest.mark.parametrize("argument", ["--toolkit", "--toolkit-image"])
def test_a_toolkit_for_a_backend_without_one_is_refused(argument: str) -> None:
    done = ci("build", "--backend", "cpu", "--platform", "manylinux_x86_64", argument, "named")
    assert done.returncode == 2
    assert "cpu-manylinux_x86_64 is compiled without a toolkit" in done.stderr
    assert "--backend" in done.stderr


def test_the_matrix_is_json_for_a_workflow() -> None:
    done = ci("matrix", "--format", "github", "--target", "cu130-*")
    assert done.returncode == 0
    assert '"target":"cu130-manylinux_x86_64"' in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_run_through_a_pipe_has_no_colours() -> None:
    assert "\x1b" not in ci("build", "--backend", "cu999").stderr


@pytest.mark.build
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "cancelled"])
def test_a_stopped_build_says_so_and_leaves_nothing_running(
    tmp_path: Path, sent: signal.Signals
) -> None:
    out = tmp_path / "dist"
    env = {**os.environ, "SCCACHE_RECACHE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ci", "build", "--engine", "host", "--out", str(out)],
        cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "compiling: " in line:
            break
    process.send_signal(sent)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 130
    assert "stopped; nothing was left half-written\n  -> run the command again" in rest
    assert "Traceback" not in rest
    assert not out.exists()
    compilers = f"{ROOT}/build/cpu-manylinux_x86_64/compiler/"
    deadline = time.monotonic() + 20
    # what the cache's server was compiling may end in its own time
    while (running := commands_with(compilers)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running == []


def commands_with(text: str) -> list[str]:
    """Command lines of running processes that contain a text."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in line:
                found.append(line)
    return found
