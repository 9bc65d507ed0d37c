"""Sets of fake wheels as builds leave them: whole enough for the release, the index and installers."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ci.release_set import wheel_name
from ci.wheel import library_names, write_wheel
from tests.reports import CHECKOUT, write_build
from tests.wheels import COMMIT

if TYPE_CHECKING:
    from pathlib import Path

    from ci.table import Target

VERSION = "0.3.100"


def write_bare_wheel(folder: Path, target: Target, *, marker: str = "", bill: bool = True) -> Path:
    """Write a wheel of a target with build info, SBOM and stand-ins of its libraries.

    ``marker`` makes its bytes others; without ``bill`` it has no SBOM.
    """
    backend, platform = target.backend.name, target.platform
    version = f"{VERSION}+{backend}"
    info = {
        "backend": backend,
        "compiler": "zig 0.17.0",
        "defines": {"GGML_NATIVE": "OFF"},
        "gpu_architectures": target.backend.gpu_architectures or [],
        "llama_cpp_commit": COMMIT,
        "llama_cpp_version": "0.5.0-dev",
        "toolkit": None,
        "version": version,
    }
    document = {
        "bomFormat": "CycloneDX",
        "components": [{"name": "llama.cpp", "version": COMMIT}],
        "metadata": {"component": {"name": "llama-cpp-python", "version": version}},
    }
    stems = ["llama", *(f"ggml-cpu-{name}" for name in platform.cpu_variants)]
    stems += target.family.modules
    dist_info = f"llama_cpp_python-{version}.dist-info"
    files = {
        "llama_cpp/__init__.py": f'marker = "{marker}"\n',
        "llama_cpp/_build_info.json": json.dumps(info, indent=1),
        **{f"llama_cpp/lib/{name}": name for name in library_names(stems, platform.system)},
        f"{dist_info}/METADATA": f"Metadata-Version: 2.4\nName: llama-cpp-python\n"
        f"Version: {version}\nSummary: A stand-in\nRequires-Python: >=3.9\n\n",
        f"{dist_info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\n"
        f"Tag: py3-none-{target.wheel_tag}\n",
    }
    if bill:
        files[f"{dist_info}/sboms/llama-cpp-python.cdx.json"] = json.dumps(document)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / wheel_name(target, VERSION)
    write_wheel(path, {name: text.encode() for name, text in files.items()})
    return path


def write_smoke(
    wheel: Path,
    target: Target,
    /,
    *,
    commit: str = CHECKOUT,
    gpu: str | None = "GPU0: a stand-in",
    failing: str | None = None,
) -> Path:
    """Write a wheel's smoke report beside it; ``gpu`` counts for GPU wheels, ``failing`` is a check."""
    content = wheel.read_bytes()
    names = ["import", "greedy tokens"]
    if target.family.smoke == "gpu":
        names += ["no gpu"] if gpu == "none" else ["gpu offload", "gpu tokens"]
    run = {
        "version": "3.13.1",
        "tag": "cp313",
        "implementation": "CPython",
        "free_threaded": False,
        "passed": failing is None,
        "device": "CPU",
        "cpu_variant": None,
        "checks": [
            {"name": name, "passed": name != failing, "seconds": 0.1, "detail": ""}
            for name in names
        ],
    }
    report: dict[str, Any] = {
        "schema": 1,
        "wheel": wheel.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "backend": target.backend.name,
        "platform": target.platform.name,
        "commit": commit,
        "date": "2026-11-21T02:00:00Z",
        "host": {"system": "Linux", "machine": "x86_64", "libc": "glibc 2.36", "cpu": "Xeon"},
        "passed": failing is None,
        "interpreters": [run],
        **({"gpu": {"device": gpu}} if target.family.smoke == "gpu" else {}),
    }
    path = wheel.with_name(f"{wheel.name}.smoke.json")
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def write_member(folder: Path, target: Target, *, commit: str = CHECKOUT, marker: str = "") -> Path:
    """Write a wheel of a release with its record and its passing report; return the wheel."""
    wheel = write_bare_wheel(folder, target, marker=marker)
    write_build(wheel, target, commit=commit)
    write_smoke(wheel, target, commit=commit)
    return wheel
