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
            result = prove_on(path, interpreter, scratch / interpreter.tag, models)
            word = "ok" if result["passed"] else "FAILED"
            progress.step(f"smoke test on Python {interpreter.version}: {word}")
            return result

        # each one is mostly the start of interpreters; more at once only disturbs their timing
        with ThreadPoolExecutor(max_workers=2) as pool:
            results = list(pool.map(prove, interpreters))
    return _report(wheel, target, results, now)


def _report(
    wheel: Wheel, target: Target, results: Sequence[Mapping[str, object]], now: datetime
) -> dict[str, object]:
    libc, libc_version = python_platform.libc_ver()
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
        "passed": bool(results) and all(result["passed"] for result in results),
        "interpreters": list(results),
    }


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


def prove_on(
    wheel: Path,
    interpreter: Interpreter,
    folder: Path,
    models: Path,
    *,
    emulator: Sequence[str | Path] = (),
) -> dict[str, object]:
    """Install a wheel into a fresh environment in ``folder`` and run the smoke script there.

    ``emulator`` is a command to run the script's interpreter under; the installation is native.
    The result is one of the report's ``interpreters``.
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
    out = folder / "result.json"
    try:
        run([interpreter.path, "-I", "-m", "venv", folder / "env"], env=env)
        python = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
        # --no-index: what the wheel needs to run is in the wheel
        pip = (python, "-I", "-m", "pip", "install", "-q", "--disable-pip-version-check")
        run(
            [*pip, "--no-index", "--no-cache-dir", _installable(wheel, folder)],
            env={**env, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""},
        )
        script = (python, "-I", "-X", "faulthandler", _SCRIPT)
        run(
            [*emulator, *script, "--models", models, "--json", out],
            cwd=folder,
            env=env,
            timeout=600,
        )
    except ProcessError as error:
        if not out.is_file():
            tail = " / ".join(error.tail[-3:])
            check = {"name": "install", "passed": False, "seconds": 0.0, "detail": tail}
            return {**result, "checks": [check]}
    answer = json.loads(out.read_text(encoding="utf-8"))
    return {**result, **answer, "version": interpreter.version, "tag": interpreter.tag}


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
