"""The software bill of materials inside a wheel (CycloneDX 1.6, PEP 770)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL


@dataclass(frozen=True, kw_only=True)
class Part:
    """Source of somebody else that is compiled into the libraries.

    ``source`` is the file of llama.cpp's tree with its licence; where that is a comment in a
    header, ``marker`` is the comment's first line.
    """

    name: str
    licence: str
    url: str
    source: str
    marker: str | None = None


PARTS = (
    Part(
        name="nlohmann-json",
        licence="MIT",
        url="https://github.com/nlohmann/json",
        source="licenses/LICENSE-jsonhpp",
    ),
    Part(
        name="miniaudio",
        licence="MIT-0",
        url="https://github.com/mackron/miniaudio",
        source="vendor/miniaudio/miniaudio.h",
        marker="This software is available as a choice of",
    ),
    Part(
        name="stb",
        licence="MIT",
        url="https://github.com/nothings/stb",
        source="vendor/stb/stb_image.h",
        marker="This software is available under 2 licenses",
    ),
    Part(
        name="rotate-bits",
        licence="MIT",
        url="https://github.com/jb55/rotate-bits.h",
        source="vendor/hash/rotate-bits/LICENSE.md",
    ),
    Part(
        name="xxhash",
        licence="BSD-2-Clause",
        url="https://github.com/Cyan4973/xxHash",
        source="vendor/hash/xxhash/LICENSE",
    ),
)
# the C++ runtime that a compiler links into each library, by the compiler
_RUNTIMES = {
    "zig": ("libc++", "Apache-2.0 WITH LLVM-exception", "https://libcxx.llvm.org"),
    "gcc": ("libstdc++", "GPL-3.0-or-later WITH GCC-exception-3.1", "https://gcc.gnu.org"),
}
# what a toolkit's headers and device libraries put into a module, by the toolkit
_TOOLKITS = {
    "CUDA": (
        ("cccl", "Apache-2.0 WITH LLVM-exception", "https://github.com/NVIDIA/cccl"),
        ("cuda", "LicenseRef-NVIDIA-CUDA-EULA", "https://docs.nvidia.com/cuda/eula/"),
    ),
    "ROCm": (
        ("rocm-device-libs", "NCSA", "https://github.com/ROCm/llvm-project"),
        ("hip", "MIT", "https://github.com/ROCm/rocm-systems"),
    ),
    "Vulkan SDK": (
        ("vulkan-headers", "Apache-2.0 OR MIT", "https://github.com/KhronosGroup/Vulkan-Headers"),
        ("spirv-headers", "MIT", "https://github.com/KhronosGroup/SPIRV-Headers"),
    ),
}


def render_sbom(
    *,
    version: str,
    llama_cpp_version: str | None,
    llama_cpp_commit: str | None,
    compiler: str,
    toolkit: str | None = None,
) -> str:
    """Return the document as JSON; no serial number, no date: the same wheel, the same bytes.

    ``compiler`` and ``toolkit`` are those of the build info.
    """
    root = Component(
        name="llama-cpp-python",
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref="llama-cpp-python",
        purl=PackageURL("pypi", None, "llama-cpp-python", version),
        licenses=[LicenseExpression("MIT")],
    )
    llama_cpp = Component(
        name="llama.cpp",
        version=llama_cpp_commit or llama_cpp_version or "unknown",
        type=ComponentType.LIBRARY,
        bom_ref="llama.cpp",
        description=f"llama.cpp and ggml {llama_cpp_version or ''}".strip(),
        purl=PackageURL("github", "ggml-org", "llama.cpp", llama_cpp_commit),
        licenses=[LicenseExpression("MIT")],
        external_references=[_vcs("https://github.com/ggml-org/llama.cpp")],
    )
    parts = [(part.name, part.licence, part.url) for part in PARTS]
    parts += [part for name, part in _RUNTIMES.items() if name in compiler]
    parts += [
        part
        for name, more in _TOOLKITS.items()
        if (toolkit or "").startswith(name)
        for part in more
    ]
    components = [
        Component(
            name=name,
            type=ComponentType.LIBRARY,
            bom_ref=name,
            licenses=[LicenseExpression(licence)],
            external_references=[_vcs(url)],
        )
        for name, licence, url in parts
    ]
    bom = Bom(components=[llama_cpp, *components])
    bom.metadata.component = root
    bom.register_dependency(root, [llama_cpp])
    bom.register_dependency(llama_cpp, components)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    document.pop("serialNumber", None)
    document["metadata"].pop("timestamp", None)
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _vcs(url: str) -> ExternalReference:
    return ExternalReference(type=ExternalReferenceType.VCS, url=XsUri(url))
