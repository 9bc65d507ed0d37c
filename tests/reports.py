"""Build records and smoke reports of fake wheels, as a build and a smoke test leave them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from tests.wheels import COMMIT, write_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ci.table import Target

CHECKOUT = "9012bb2ab12f0c1e57098bba43ac29e6e3b677cd"
SHOWN = {
    "cpu": ("import", "greedy tokens"),
    "gpu": ("import", "gpu offload", "gpu tokens"),
    "none": ("import", "no gpu"),
}


def write_reported_wheel(
    folder: Path,
    target: Target,
    *,
    toolkit: str | None = None,
    architectures: Sequence[str] = (),
    llama_cpp: str = COMMIT,
    marker: str = "",
) -> Path:
    """Write a wheel of a target with the build info of a build; ``marker`` makes its bytes others."""
    info = {
        "backend": target.backend.name,
        "version": f"0.3.100+{target.backend.name}",
        "llama_cpp_commit": llama_cpp,
        "llama_cpp_version": "0.5.0-dev",
        "compiler": "zig 0.17.0",
        "toolkit": toolkit,
        "gpu_architectures": list(architectures),
        "defines": {"GGML_NATIVE": "OFF"},
    }
    return write_wheel(
        folder,
        {
            "llama_cpp/__init__.py": f"marker = {marker!r}\n",
            "llama_cpp/_build_info.json": json.dumps(info),
            **{f"llama_cpp/lib/lib{stem}.so": "a module" for stem in target.family.modules},
        },
        version=f"0.3.100+{target.backend.name}",
        platform=target.wheel_tag,
    )


def _file(wheel: Path) -> dict[str, Any]:
    content = wheel.read_bytes()
    return {
        "name": wheel.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }


def write_smoke(
    wheel: Path,
    target: Target,
    /,
    *,
    gpu: str | None = None,
    pythons: Sequence[str] = ("cp313",),
    date: str = "2026-11-21T02:00:00Z",
    commit: str | None = CHECKOUT,
    **changes: Any,
) -> Path:
    """Write the smoke report of a wheel beside it; ``changes`` replaces its top-level keys."""
    file = _file(wheel)
    kind = "cpu" if gpu is None else "none" if gpu == "none" else "gpu"
    checks = [{"name": n, "passed": True, "seconds": 0.1, "detail": "/tmp/x"} for n in SHOWN[kind]]
    report = {
        "schema": 1,
        "wheel": file["name"],
        "sha256": file["sha256"],
        "size": file["size"],
        "backend": target.backend.name,
        "platform": target.platform.name,
        "date": date,
        "commit": commit,
        "host": {"system": "Linux", "machine": "x86_64", "libc": "glibc 2.36", "cpu": "Xeon"},
        **({} if gpu is None else {"gpu": {"device": gpu}}),
        "passed": True,
        "interpreters": [
            {"version": "3.13.1", "tag": tag, "passed": True, "checks": checks} for tag in pythons
        ],
        **changes,
    }
    path = wheel.with_name(f"{wheel.name}.smoke.json")
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def record_of(target: Target, /, **changes: Any) -> dict[str, Any]:
    """Return the build record of a target that CMake has configured; ``changes`` replaces keys."""
    return {
        "schema": 1,
        "target": target.name,
        "level": "configured",
        "commit": CHECKOUT,
        "date": "2026-11-21T01:00:00Z",
        "cpu": "Xeon",
        "llama_cpp_commit": COMMIT,
        "llama_cpp_version": "0.5.0-dev",
        "compiler": "zig 0.17.0",
        "toolkit": None,
        "gpu_architectures": [],
        "defines": {"GGML_NATIVE": "OFF"},
        "units": 3,
        "compilation": None,
        "wheel": None,
        "modules": [],
        **changes,
    }


def write_build(wheel: Path, target: Target, source: str | None = None, /, **changes: Any) -> Path:
    """Write the build record of a finished wheel beside it."""
    compilation = {
        "engine": "host",
        "toolkit_source": source,
        "seconds": 61.5,
        "cpu_seconds": 118.2,
        "cache_hits": 1,
        "cache_misses": 2,
    }
    finished = {"level": "repaired", "compilation": compilation, "wheel": _file(wheel)}
    path = wheel.with_name(f"{wheel.name}.build.json")
    path.write_text(json.dumps(record_of(target, **{**finished, **changes})), encoding="utf-8")
    return path
