"""Smoke test: the finished wheel in a fresh environment per interpreter, against known answers."""

from __future__ import annotations

import json
import os
import platform as python_platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from ci import paths
from ci.errors import SmokeError
from ci.interpreters import Interpreter
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.table import Target
from ci.wheel import Wheel, read_wheel, split_variant

_SCRIPT = paths.ROOT / "tests" / "smoke" / "run.py"
_GPU_SCRIPT = _SCRIPT.with_name("gpu.py")

# ggml passes over a Vulkan device that is a CPU (Mesa's lavapipe) unless it is named: good enough to
# prove a wheel on where there is no other
_SOFTWARE_DEVICE = {"vulkan": {"GGML_VK_VISIBLE_DEVICES": "0"}}

# the test must see the wheel, not a checkout, a configuration or a library of this machine
_CLEAN = dict.fromkeys(
    ("PYTHONPATH", "PYTHONHOME", "LLAMA_CPP_LIB_PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV"), ""
)


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
) -> dict[str, object]:
    """Prove a wheel on each interpreter and return the report, whether or not all passed."""
    wheel = read_wheel(path)
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        scratch = Path(folder)
        models = scratch / "models"
        write_models(models)

        def prove(interpreter: Interpreter) -> dict[str, object]:
            place = scratch / interpreter.tag
            result = prove_on(path, interpreter, place, models, target=target)
            word = "ok" if result["passed"] else "FAILED"
            progress.step(f"smoke test on Python {interpreter.version}: {word}")
            return result

        # each one is mostly the start of interpreters; more at once only disturbs their timing
        with ThreadPoolExecutor(max_workers=2) as pool:
            results = list(pool.map(prove, interpreters))
    if target.family.smoke == "gpu":
        progress.step(f"GPU device: {_device(results)}")
    return _report(wheel, target, results, now)


def _report(
    wheel: Wheel, target: Target, results: Sequence[Mapping[str, object]], now: datetime
) -> dict[str, object]:
    libc, libc_version = python_platform.libc_ver()
    gpu = {"gpu": {"device": _device(results)}} if target.family.smoke == "gpu" else {}
    return {
        "schema": 1,
        "wheel": wheel.path.name,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "backend": target.backend.name,
        "platform": target.platform.name,
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host": {
            "system": python_platform.system(),
            "machine": python_platform.machine(),
            "libc": f"{libc} {libc_version}".strip(),
            "cpu": _cpu_name(),
        },
        **gpu,
        "passed": bool(results) and all(result["passed"] for result in results),
        "interpreters": list(results),
    }


def _device(results: Sequence[Mapping[str, object]]) -> str:
    """Return the GPUs that every interpreter computed on, as one text; "none" where there was none."""
    found = [result.get("gpu") for result in results]
    if not found or not all(isinstance(devices, list) for devices in found):
        return "none"
    devices = found[0]
    assert isinstance(devices, list)
    return "; ".join(f"{device['name']}: {device['description']}" for device in devices)


def report_path(wheel: Path) -> Path:
    """Return where the report of a wheel lies: beside it."""
    return wheel.with_name(f"{wheel.name}.smoke.json")


def write_report(wheel: Path, report: Mapping[str, object]) -> Path:
    """Write the report beside the wheel, whole or not at all."""
    place = report_path(wheel)
    partial = place.with_name(f".{place.name}.part")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    partial.replace(place)
    return place


def require_passed(report: Mapping[str, object]) -> None:
    """Raise what failed, if anything did.

    Raises:
        SmokeError: a check failed, or the wheel was proven on no interpreter at all.
    """
    if report["passed"]:
        return
    lines: list[str] = []
    interpreters = report["interpreters"]
    assert isinstance(interpreters, list)
    for result in interpreters:
        lines += [
            f"  Python {result['version']}: {check['name']}: {check['detail']}"
            for check in result["checks"]
            if not check["passed"]
        ]
    raise SmokeError(
        f"{report['wheel']} failed its smoke test"
        + ("" if interpreters else ": there is no interpreter to prove it on")
        + "".join(f"\n{line}" for line in lines),
        cure="run it again on one of them: nox -s smoke -- --python VERSION WHEEL",
    )


def require_gpu(report: Mapping[str, object]) -> None:
    """Raise unless the wheel was proven on a GPU.

    Raises:
        SmokeError: it is no GPU wheel, or an interpreter saw no device.
    """
    gpu = report.get("gpu")
    if not isinstance(gpu, dict):
        raise SmokeError(
            f"{report['wheel']} is no GPU wheel", cure="leave --gpu away, or name a GPU wheel"
        )
    if gpu["device"] == "none":
        raise SmokeError(
            f"{report['wheel']} found no GPU to be proven on",
            cure="run `python -m llama_cpp doctor` where it is installed; for Vulkan a software device"
            " will do (Debian: apt install mesa-vulkan-drivers)",
        )


def prove_on(
    wheel: Path,
    interpreter: Interpreter,
    folder: Path,
    models: Path,
    *,
    target: Target | None = None,
    emulator: Sequence[str | Path] = (),
) -> dict[str, object]:
    """Install a wheel into a fresh environment in ``folder`` and run the smoke scripts there.

    ``emulator`` is a command to run the script's interpreter under; the installation is native.
    A ``target`` whose family is proven on a GPU gets the GPU's checks as well. The result is one
    of the report's ``interpreters``.
    """
    env = {**_CLEAN, "PYTHONDONTWRITEBYTECODE": "1"}
    result: dict[str, object] = {
        "version": interpreter.version,
        "tag": interpreter.tag,
        "implementation": "CPython",
        "free_threaded": interpreter.free_threaded,
        "passed": False,
        "device": None,
        "cpu_variant": None,
        "checks": [],
    }
    python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    try:
        run([interpreter.path, "-I", "-m", "venv", folder / "env"], env=env)
        # --no-index: what the wheel needs to run is in the wheel
        pip = (python, "-I", "-m", "pip", "install", "-q", "--disable-pip-version-check")
        run(
            [*pip, "--no-index", "--no-cache-dir", _installable(wheel, folder)],
            env={**env, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""},
        )
    except ProcessError as error:
        return {**result, "checks": [_broken("install", error)]}
    command = [*emulator, python, "-I", "-X", "faulthandler"]
    answer = _answer([*command, _SCRIPT], models, folder, env, "install")
    result = {**result, **answer, "version": interpreter.version, "tag": interpreter.tag}
    if target is None or target.family.smoke != "gpu":
        return result
    gpu = _answer([*command, _GPU_SCRIPT], models, folder, env, "gpu")
    found = [gpu]
    software = _SOFTWARE_DEVICE.get(target.family.name, {})
    if gpu.get("gpu") is None and software and not set(software) & set(os.environ):
        found.append(_answer([*command, _GPU_SCRIPT], models, folder, {**env, **software}, "gpu"))
        if found[-1].get("gpu") is None:
            found.pop()  # the same once more
    checks = [result["checks"], *(each["checks"] for each in found)]
    return {
        **result,
        "passed": bool(result["passed"]) and all(each["passed"] for each in found),
        "gpu": found[-1].get("gpu"),
        "checks": [check for each in checks if isinstance(each, list) for check in each],
    }


def _answer(
    command: Sequence[str | Path], models: Path, folder: Path, env: Mapping[str, str], name: str
) -> dict[str, object]:
    """Run a smoke script and return what it found; a check called ``name`` failed if it broke."""
    out = folder / "result.json"
    out.unlink(missing_ok=True)
    try:
        run([*command, "--models", models, "--json", out], cwd=folder, env=env, timeout=600)
    except ProcessError as error:
        if not out.is_file():
            return {"passed": False, "checks": [_broken(name, error)]}
    answer: dict[str, object] = json.loads(out.read_text(encoding="utf-8"))
    return answer


def _broken(name: str, error: ProcessError) -> dict[str, object]:
    tail = " / ".join(error.tail[-3:])
    return {"name": name, "passed": False, "seconds": 0.0, "detail": tail}


def _installable(wheel: Path, folder: Path) -> Path:
    """Return the wheel, or a copy in ``folder`` under a name without a variant label."""
    plain, variant = split_variant(wheel.name)
    if variant is None:
        return wheel.resolve()
    # pip knows no variants: "not a valid wheel filename"
    return Path(shutil.copy(wheel, folder / plain))


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return python_platform.processor()
