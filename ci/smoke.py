"""Smoke test: the finished wheel in a fresh environment per interpreter, against known answers."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from ci import paths
from ci.installation import (
    CLEAN,
    Dependencies,
    install,
    make_environment,
    plan_dependencies,
    python_of,
)
from ci.interpreters import Interpreter
from ci.loading import can_load, prove_loading
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.smoke_report import device_of, report_of
from ci.table import Target
from ci.wheel import read_wheel

_SCRIPT = paths.ROOT / "tests" / "smoke" / "run.py"
_GPU_SCRIPT = _SCRIPT.with_name("gpu.py")
_THROUGHPUT_SCRIPT = _SCRIPT.with_name("throughput.py")
_SCRIPT_OPTIONS = ("-I", "-X", "faulthandler")
# a GPU in software compiles a shader for seconds at its first use
_TIMEOUT_S = 1800.0

# ggml passes over a Vulkan device that is a CPU (Mesa's lavapipe) unless it is named: good enough to
# prove a wheel on where there is no other
_SOFTWARE_DEVICE = {"vulkan": {"GGML_VK_VISIBLE_DEVICES": "0"}}


def write_models(folder: Path) -> None:
    """Write the tiny models and their answers (``tests/tiny``) into ``folder``."""
    run([sys.executable, "-m", "tests.tiny", folder], cwd=paths.ROOT)


def smoke(
    path: Path,
    target: Target,
    interpreters: Sequence[Interpreter],
    progress: Progress,
    *,
    now: datetime,
    index: str | None = None,
    runtime: bool = False,
) -> dict[str, object]:
    """Prove a wheel on each interpreter and return the report, whether or not all passed.

    ``index`` is where the wheel's dependencies are; without it pip's own configuration says. With
    ``runtime`` the module of a wheel that finds no driver is loaded with its runtime's packages, some
    hundred megabytes, and a stand-in for the driver.
    """
    wheel = read_wheel(path)
    dependencies = plan_dependencies(wheel, target)
    if not dependencies.installed:
        progress.step(f"without {', '.join(dependencies.declared)}: {dependencies.reason}")
    gpu = target.family.smoke == "gpu"
    throughput: dict[str, object] | None = None
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        scratch = Path(folder)
        models = scratch / "models"
        write_models(models)

        def prove(interpreter: Interpreter) -> dict[str, object]:
            result = prove_on(
                path,
                interpreter,
                scratch / interpreter.tag,
                models,
                target=target,
                dependencies=dependencies,
                index=index,
                brief=interpreter is not interpreters[0],
            )
            word = "ok" if result["passed"] else "FAILED"
            progress.step(f"smoke test on Python {interpreter.version}: {word}")
            if interpreter is not interpreters[0]:
                # a GPU's runtime is large, and the next one comes with its own
                shutil.rmtree(scratch / interpreter.tag, ignore_errors=True)
            return result

        # what a GPU's driver compiles for the first one it keeps for the others
        first = 1 if gpu else 0
        results = [prove(interpreter) for interpreter in interpreters[:first]]
        # each one is mostly the start of interpreters; more at once only disturbs their timing
        with ThreadPoolExecutor(max_workers=2) as pool:
            results += pool.map(prove, interpreters[first:])
        if gpu and results and isinstance(results[0].get("gpu"), list):
            throughput = _throughput(scratch, interpreters[0], results[0])
        module = None
        if runtime and not dependencies.installed and can_load(target):
            module = prove_loading(wheel, target, interpreters[0], models, progress)
            results[0] = _joined(results[0], module)
    if gpu:
        progress.step(f"GPU device: {device_of(results)}")
    return report_of(
        wheel, target, results, now, dependencies=dependencies, throughput=throughput, module=module
    )


def _joined(result: Mapping[str, object], module: Mapping[str, object]) -> dict[str, object]:
    """Return an interpreter's result with the checks of the module in it."""
    checks = [result["checks"], module["checks"]]
    return {
        **result,
        "passed": bool(result["passed"]) and bool(module["passed"]),
        "checks": [check for each in checks if isinstance(each, list) for check in each],
    }


def _throughput(
    scratch: Path, interpreter: Interpreter, result: dict[str, object]
) -> dict[str, object] | None:
    """Measure in the environment of one proof, alone on the machine; its check joins the proof's."""
    folder = scratch / interpreter.tag
    model = scratch / "noise.gguf"
    run([sys.executable, "-m", "tests.tiny.noise", model], cwd=paths.ROOT)
    environment, checks = result["environment"], result["checks"]
    assert isinstance(environment, dict)
    assert isinstance(checks, list)
    python = python_of(folder / "env")
    command = (python, *_SCRIPT_OPTIONS, _THROUGHPUT_SCRIPT, "--model", model)
    answer = _answer(command, folder, {**CLEAN, **environment}, "gpu throughput")
    found = answer["checks"]
    assert isinstance(found, list)
    checks += found
    result["passed"] = bool(result["passed"]) and bool(answer["passed"])
    throughput = answer.get("throughput")
    if not isinstance(throughput, dict):
        return None
    return {**throughput, "interpreter": interpreter.version}


def prove_on(
    wheel: Path,
    interpreter: Interpreter,
    folder: Path,
    models: Path,
    *,
    target: Target | None = None,
    dependencies: Dependencies | None = None,
    index: str | None = None,
    brief: bool = False,
) -> dict[str, object]:
    """Install a wheel into a fresh environment in ``folder`` and run the smoke scripts there.

    A ``target`` whose family is proven on a GPU gets the GPU's checks as well. Without
    ``dependencies`` the wheel has none. ``brief`` is for a GPU on which another interpreter has
    proven every quantisation: two of them will do. The result is one of the report's
    ``interpreters``.
    """
    dependencies = dependencies or Dependencies(declared=(), installed=True, reason="")
    try:
        python = make_environment(interpreter, folder / "env")
        came = install(python, wheel, folder, dependencies, index=index)
    except ProcessError as error:
        return broken(interpreter, "install", error)
    result = examine(python, interpreter, folder, models, target=target, brief_gpu=brief)
    return {**result, "dependencies": came} if dependencies.declared else result


def examine(
    python: Path,
    interpreter: Interpreter,
    folder: Path,
    models: Path,
    *,
    target: Target | None = None,
    brief: bool = False,
    brief_gpu: bool = False,
    env: Mapping[str, str] = CLEAN,
    timeout: float = _TIMEOUT_S,
) -> dict[str, object]:
    """Run the smoke scripts in an environment that the wheel is installed in.

    Args:
        python: the environment's program.
        interpreter: what it is an environment of.
        folder: to work in.
        models: of `write_models`.
        target: one whose family is proven on a GPU gets the GPU's checks as well.
        brief: one model of each kind of arithmetic, for an emulator.
        brief_gpu: the same on a GPU.
        env: variables of the scripts.
        timeout: seconds that each of them may take.

    Returns:
        One of the report's ``interpreters``.
    """
    script = (python, *_SCRIPT_OPTIONS)
    with_models = ("--models", models)
    shortly = ("--brief",) if brief else ()
    answer = _answer((*script, _SCRIPT, *with_models, *shortly), folder, env, "install", timeout)
    # under wine it is another patch release of the same series
    result = {**nothing_yet(interpreter), **answer, "tag": interpreter.tag}
    if target is None or target.family.smoke != "gpu":
        return result
    shortly = ("--brief",) if brief or brief_gpu else ()
    command = (*script, _GPU_SCRIPT, *with_models, *shortly)
    gpu = _answer(command, folder, env, "gpu", timeout)
    found = [gpu]
    environment: dict[str, str] = {}
    software = _SOFTWARE_DEVICE.get(target.family.name, {})
    if gpu.get("gpu") is None and software and not set(software) & set(os.environ):
        again = _answer(command, folder, {**env, **software}, "gpu", timeout)
        # else it has found the same once more
        if again.get("gpu") is not None or not again["passed"]:
            found.append(again)
            environment = dict(software)
    checks = [result["checks"], *(each["checks"] for each in found)]
    return {
        **result,
        "passed": bool(result["passed"]) and all(each["passed"] for each in found),
        "gpu": found[-1].get("gpu"),
        "environment": environment,
        "checks": [check for each in checks if isinstance(each, list) for check in each],
    }


def nothing_yet(interpreter: Interpreter) -> dict[str, object]:
    """Return one of the report's ``interpreters`` on which nothing was shown."""
    return {
        "version": interpreter.version,
        "tag": interpreter.tag,
        "implementation": "CPython",
        "free_threaded": interpreter.free_threaded,
        "passed": False,
        "device": None,
        "cpu_variant": None,
        "emulator": None,
        "checks": [],
    }


def broken(interpreter: Interpreter, name: str, error: ProcessError) -> dict[str, object]:
    """Return one of the report's ``interpreters`` on which a step failed."""
    return {**nothing_yet(interpreter), "checks": [_broken(name, error)]}


def _answer(
    command: Sequence[str | Path],
    folder: Path,
    env: Mapping[str, str],
    name: str,
    timeout: float = _TIMEOUT_S,
) -> dict[str, object]:
    """Run a smoke script and return what it found; a check called ``name`` failed if it broke."""
    out = folder / "result.json"
    out.unlink(missing_ok=True)
    try:
        run([*command, "--json", out], cwd=folder, env=env, timeout=timeout)
    except ProcessError as error:
        if not out.is_file():
            return {"passed": False, "checks": [_broken(name, error)]}
    answer: dict[str, object] = json.loads(out.read_text(encoding="utf-8"))
    return answer


def _broken(name: str, error: ProcessError) -> dict[str, object]:
    tail = " / ".join(error.tail[-3:])
    return {"name": name, "passed": False, "seconds": 0.0, "detail": tail}
