"""The report of a smoke test: a JSON file beside the wheel, bound to its bytes by their sha256."""

from __future__ import annotations

import json
import platform as python_platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ci.errors import SmokeError
from ci.host import cpu_name
from ci.installation import Dependencies
from ci.record import checkout_commit
from ci.table import Target
from ci.wheel import Wheel


def report_of(
    wheel: Wheel,
    target: Target,
    results: Sequence[Mapping[str, object]],
    now: datetime,
    *,
    dependencies: Dependencies,
    throughput: Mapping[str, object] | None = None,
    module: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return the report of a smoke test: bound to the wheel's bytes, whether or not all passed.

    Args:
        wheel: the finished file.
        target: what it is.
        results: what was seen, per interpreter; each says the emulator that it ran under, if any.
        now: UTC.
        dependencies: what was installed with it.
        throughput: of a GPU.
        module: what was seen of a GPU's module without a GPU.
    """
    libc, libc_version = python_platform.libc_ver()
    gpu: dict[str, object] = {}
    if target.family.smoke == "gpu":
        device = device_of(results)
        gpu = {"device": device}
        if device != "none":
            gpu |= {"devices": results[0]["gpu"], "throughput": throughput}
        if module is not None:
            gpu["module"] = {
                "driver": "a stand-in without a device",
                "runtime": module["runtime"],
                "mapped": module["mapped"],
            }
    return {
        "schema": 1,
        "wheel": wheel.path.name,
        "sha256": wheel.sha256,
        "size": wheel.size,
        "backend": target.backend.name,
        "platform": target.platform.name,
        "commit": checkout_commit(),
        "date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host": {
            "system": python_platform.system(),
            "machine": python_platform.machine(),
            "libc": f"{libc} {libc_version}".strip(),
            "cpu": cpu_name(),
        },
        "dependencies": {
            "declared": list(dependencies.declared),
            "installed": dependencies.installed,
            "reason": dependencies.reason,
        },
        **({"gpu": gpu} if gpu else {}),
        "passed": bool(results) and all(result["passed"] for result in results),
        "interpreters": list(results),
    }


def device_of(results: Sequence[Mapping[str, object]]) -> str:
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
            f"  {called(result)}: {check['name']}: {check['detail']}"
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


def called(result: Mapping[str, object]) -> str:
    """Return what people call one of the report's ``interpreters``: ``Python 3.13.1 free-threaded``.

    What it ran on and under comes after it, where that was another C library or an emulator.
    """
    python = "Python " if result.get("implementation", "CPython") == "CPython" else ""
    kind = " free-threaded" if result.get("free_threaded") else ""
    libc = f" on {result['libc']}" if result.get("libc") else ""
    under = f" under {result['emulator']}" if result.get("emulator") else ""
    return f"{python}{result['version']}{kind}{libc}{under}"


def proven_on(report: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the lines of a summary, one per interpreter that passed."""
    interpreters = report["interpreters"]
    assert isinstance(interpreters, list)
    return [
        (called(result), f"{len(result['checks'])} checks passed, {result['cpu_variant']}")
        for result in interpreters
    ]
