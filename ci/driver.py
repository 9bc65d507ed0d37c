"""The driver: a small C program that computes with a wheel's libraries where no Python runs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ci import paths, zig
from ci.errors import ToolMissingError
from ci.process import ProcessError, run
from ci.table import Platform, Target
from ci.wheel import read_wheel

SOURCE = paths.ROOT / "tests" / "smoke" / "driver.c"
# of llama.cpp; the program needs no more of it
_INCLUDES = ("include", "ggml/include")
_TIMEOUT_S = 1800.0


def compile_driver(
    platform: Platform, folder: Path, *, tree: Path = paths.TREE, source: Path = SOURCE
) -> Path:
    """Compile the driver for a platform by ziglang, with llama.cpp's headers; return the program.

    Args:
        platform: what it runs on.
        folder: made if missing; the program is ``driver`` there, ``driver.exe`` for Windows.
        tree: the source tree of llama.cpp that the wheel was built from.
        source: the C file.

    Raises:
        ToolMissingError: ziglang does not compile for the platform.
        ProcessError: it does not compile; the compiler's words are in it.
    """
    if platform.zig_target is None:
        raise ToolMissingError(
            f"ziglang does not compile for {platform.name}",
            cure="prove the wheel on such a machine: nox -s smoke",
        )
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / ("driver.exe" if platform.system == "windows" else "driver")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", platform.zig_target]
    command += ["-std=gnu11", "-O1", "-g0", "-Wall", "-Wextra", "-Werror"]
    if platform.system == "linux":
        # a program of musl's would be static, which has no dlopen
        command += ["-dynamic", "-ldl"]
    command += [f"-I{tree / name}" for name in _INCLUDES]
    # what zig compiles of its own for a system, it compiles once
    env = {
        "ZIG_GLOBAL_CACHE_DIR": str(zig.cache_folder(paths.cache_folder() / "zig")),
        "ZIG_LOCAL_CACHE_DIR": str(folder / "zig"),
    }
    run([*command, "-o", str(program), str(source)], env=env)
    return program


def unpack_libraries(wheel: Path, folder: Path) -> Path:
    """Write a wheel's libraries into ``folder`` as they would be installed; return their folder."""
    for name, data in read_wheel(wheel).libraries.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o755)
    return folder / "llama_cpp" / "lib"


def drive(
    wheel: Path,
    target: Target,
    models: Path,
    folder: Path,
    *,
    emulator: Sequence[str | Path] = (),
    env: Mapping[str, str] | None = None,
    brief: Sequence[str] | None = None,
    tree: Path = paths.TREE,
) -> dict[str, object]:
    """Compute the known answers with a wheel's libraries; return what was seen, passed or not.

    Args:
        wheel: the finished wheel.
        target: what it claims to be.
        models: folder of the tiny models and their answers.
        folder: for the program and the unpacked libraries; made if missing.
        emulator: a command to run the program under.
        env: variables on top of this process's own.
        brief: names of the models to use; without it every language model is.
        tree: the source tree of llama.cpp that the wheel was built from.

    Returns:
        One of the smoke report's ``interpreters``.

    Raises:
        ToolchainError: the program cannot be compiled.
    """
    program = compile_driver(target.platform, folder, tree=tree)
    libraries = unpack_libraries(wheel, folder / "wheel")
    known = json.loads((models / "answers.json").read_text(encoding="utf-8"))["models"]
    seen: dict[str, list[str]] = {"devices": [], "libraries": []}
    tokens, failures, used = 0, [], []
    start = time.monotonic()
    for name, model in known.items():
        if model["kind"] != "llama" or (brief is not None and name not in brief):
            continue
        used.append(name)
        length = max(len(case["tokens"]) for case in model["greedy"])
        prompts = [",".join(map(str, case["prompt"])) for case in model["greedy"]]
        command = [*emulator, program, libraries, models / model["file"], str(length), *prompts]
        try:
            answer = json.loads(run(command, env=env, timeout=_TIMEOUT_S).splitlines()[-1])
        except ProcessError as error:
            said = [line for line in error.tail if line and not line.startswith("{")]
            failures.append(f"{name}: {' / '.join(said[-3:]) or error.what}")
            continue
        seen = {key: answer[key] for key in seen}
        for case, found in zip(model["greedy"], answer["answers"], strict=True):
            if found != case["tokens"]:
                what = f"{name}: tokens after {case['prompt_text']!r}"
                failures.append(f"{what}: expected {case['tokens']}, found {found}")
            tokens += len(found)
    greedy = f"{tokens} tokens of {len(used)} models" if used else "there is no model"
    checks = [
        *_seen_checks(seen, target),
        _check("greedy tokens", [*failures, *([] if used else [greedy])], greedy, start),
    ]
    return {
        "version": "C driver",
        "tag": "c",
        "implementation": "C",
        "free_threaded": False,
        "passed": all(check["passed"] for check in checks),
        "device": "; ".join(seen["devices"]) or None,
        "cpu_variant": _variant(seen["libraries"]),
        "checks": checks,
    }


def _seen_checks(seen: Mapping[str, list[str]], target: Target) -> list[dict[str, object]]:
    stems = [_stem(name) for name in seen["libraries"]]
    doubled = [
        f"{stems.count(stem)} copies of {stem} are mapped"
        for stem in ("ggml-base", "ggml", "llama")
        if stems.count(stem) != 1
    ]
    cpu = any(device.startswith("CPU: ") for device in seen["devices"])
    checks = [
        _check("libraries", doubled, ", ".join(seen["libraries"])),
        _check("devices", [] if cpu else ["there is no CPU"], "; ".join(seen["devices"])),
    ]
    variants = target.platform.cpu_variants
    if variants:
        picked = _variant(seen["libraries"])
        wrong = [] if picked and _stem(picked)[len("ggml-cpu-") :] in variants else [f"{picked}"]
        checks.append(_check("cpu variant", wrong, str(picked)))
    return checks


def _check(
    name: str, failures: Sequence[str], detail: str, start: float | None = None
) -> dict[str, object]:
    seconds = 0.0 if start is None else round(time.monotonic() - start, 4)
    passed = not failures
    return {
        "name": name,
        "passed": passed,
        "seconds": seconds,
        "detail": detail if passed else "; ".join(failures),
    }


def _variant(libraries: Sequence[str]) -> str | None:
    return next((name for name in libraries if _stem(name).startswith("ggml-cpu-")), None)


def _stem(name: str) -> str:
    # no suffix by pathlib: armv8.0_1 has a dot
    file = PurePosixPath(name).name.removeprefix("lib")
    for suffix in (".so", ".dylib", ".dll"):
        file = file.removesuffix(suffix)
    return file
