"""Fake wheels, small and valid, from a dict; and smoke reports about them."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from typing import TYPE_CHECKING

from ci.wheel import library_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ci.table import Target

COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"
MANYLINUX = "manylinux2014_x86_64.manylinux_2_17_x86_64"

_EPOCH = (2026, 1, 1, 0, 0, 0)


def write_wheel(
    folder: Path,
    files: Mapping[str, str] | None = None,
    *,
    version: str = "0.3.100+cpu",
    platform: str = MANYLINUX,
    tag: str | None = None,
    project: str = "llama-cpp-python",
    dist_info: str | None = None,
    metadata: Mapping[str, str | None] | None = None,
) -> Path:
    """Write a wheel into ``folder`` and return its path; equal arguments give equal bytes.

    ``files`` are contents by path. ``tag`` replaces ``py3-none-<platform>`` in the file name;
    ``dist_info`` is the folder that the metadata is in, where it is not the right one;
    ``metadata`` overrides fields of METADATA (None leaves one out).
    """
    distribution = f"{project.replace('-', '_')}-{version}"
    tag = f"py3-none-{platform}" if tag is None else tag
    fields: dict[str, str | None] = {
        "Metadata-Version": "2.4",
        "Name": project,
        "Version": version,
        "Summary": "A stand-in",
        "Requires-Python": ">=3.9",
        **(metadata or {}),
    }
    info = f"{distribution}.dist-info" if dist_info is None else dist_info
    interpreter, abi, platforms = tag.split("-")
    tags = "".join(f"Tag: {interpreter}-{abi}-{each}\n" for each in platforms.split("."))
    contents = {
        **(files or {"llama_cpp/__init__.py": f'__version__ = "{version}"\n'}),
        f"{info}/METADATA": "".join(f"{k}: {v}\n" for k, v in fields.items() if v is not None),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\n{tags}",
    }
    record = "".join(
        f"{name},{_record_hash(text)},{len(text.encode())}\n" for name, text in contents.items()
    )
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{distribution}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in contents.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=_EPOCH), text)
    return path


def _record_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def write_report(
    wheel: Path,
    *,
    backend: str = "cpu",
    platform: str = "manylinux_x86_64",
    passed: bool = True,
    changes: Mapping[str, object] | None = None,
) -> Path:
    """Write the smoke report of a wheel beside it; ``changes`` replaces its top-level keys."""
    content = wheel.read_bytes()
    report: dict[str, object] = {
        "schema": 1,
        "wheel": wheel.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "backend": backend,
        "platform": platform,
        "date": "2026-11-21T02:00:00Z",
        "host": {"system": "Linux", "machine": "x86_64", "libc": "glibc 2.36", "cpu": "Xeon"},
        "passed": passed,
        **({} if backend == "cpu" else {"gpu": {"device": "GPU0: a stand-in"}}),
        "interpreters": [
            {
                "version": "3.13.1",
                "tag": "cp313",
                "implementation": "CPython",
                "free_threaded": False,
                "passed": passed,
                "device": "CPU",
                "cpu_variant": "libggml-cpu-haswell.so",
                "checks": [
                    {"name": "import", "passed": True, "seconds": 0.1, "detail": ""},
                    {"name": "tokens", "passed": passed, "seconds": 0.2, "detail": "4 runs"},
                ],
            }
        ],
        **(changes or {}),
    }
    path = wheel.with_name(f"{wheel.name}.smoke.json")
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def write_proven_wheel(
    folder: Path, *, backend: str = "cpu", platform: str = MANYLINUX, version: str | None = None
) -> Path:
    """Write a wheel of a backend and a report that says that it passed."""
    wheel = write_wheel(folder, version=version or f"0.3.100+{backend}", platform=platform)
    last = platform.rsplit(".", 1)[-1]
    system = last.split("_")[0].rstrip("0123456789")
    machine = next(m for m in ("x86_64", "aarch64", "arm64", "amd64") if last.endswith(m))
    write_report(wheel, backend=backend, platform=f"{system}_{machine}")
    return wheel


def write_built_wheel(folder: Path, target: Target, *, marker: str = "") -> Path:
    """Write a wheel of a target with what a build puts into one, and a report that it passed.

    It holds build info, an SBOM, stand-ins of the libraries, and ``marker``, which
    makes its bytes others.
    """
    backend, platform = target.backend.name, target.platform
    version = f"0.3.100+{backend}"
    stems = ["llama", *(f"ggml-cpu-{name}" for name in platform.cpu_variants)]
    component = {
        "name": "llama-cpp-python",
        "purl": f"pkg:pypi/llama-cpp-python@0.3.100%2B{backend}",
        "version": version,
    }
    bom = {"bomFormat": "CycloneDX", "metadata": {"component": component}}
    info = f"llama_cpp_python-{version}.dist-info"
    wheel = write_wheel(
        folder,
        {
            "llama_cpp/__init__.py": f'marker = "{marker}"\n',
            # the spaces are CMake's
            "llama_cpp/_build_info.json": f'{{\n  "backend" : "{backend}",\n  "compiler" : "zig 0.17.0",\n'
            f'  "llama_cpp_commit" : "{COMMIT}",\n'
            f'  "llama_cpp_version" : "0.5.0-dev",\n  "version" : "{version}"\n}}\n',
            **{
                f"llama_cpp/lib/{library}": f"stand-in {library}"
                for library in library_names(stems, platform.system)
            },
            f"{info}/sboms/llama-cpp-python.cdx.json": f"{json.dumps(bom, indent=2)}\n",
        },
        version=version,
        platform=target.wheel_tag,
    )
    write_report(wheel, backend=backend, platform=platform.name)
    return wheel
