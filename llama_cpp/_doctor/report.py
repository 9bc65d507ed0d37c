"""The doctor's and select's answers as text for people and as JSON for machines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_cpp._doctor.findings import BUILD_FINDINGS
from llama_cpp._doctor.nvidia import not_there
from llama_cpp._gpu_code import architecture_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_cpp._doctor.accelerators import Vulkan
    from llama_cpp._doctor.advice import Choice
    from llama_cpp._doctor.backends import Step
    from llama_cpp._doctor.build_tools import Tool
    from llama_cpp._doctor.facts import Facts
    from llama_cpp._doctor.findings import Finding

SCHEMA = 1
_GIB = 1 << 30
_MISSING = "not found"


def plain(value: object) -> object:
    """Return named tuples, mappings and sequences as what JSON has."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def doctor_record(facts: Facts, findings: Sequence[Finding], *, fits: bool) -> dict[str, object]:
    """Return the doctor's answer for machines; keys are only ever added within a schema."""
    record = plain(facts)
    assert isinstance(record, dict)
    del record["published"]
    return {"schema": SCHEMA, "fits": fits, **record, "findings": plain(list(findings))}


def select_record(choice: Choice, tool: str, steps: Sequence[Step]) -> dict[str, object]:
    """Return select's answer for machines."""
    return {
        "schema": SCHEMA,
        "backend": choice.backend,
        "why": choice.why,
        "index": choice.url,
        "passed_over": [{"backend": name, "why": words} for name, words in choice.passed_over],
        "tool": tool,
        "steps": plain(list(steps)),
    }


def doctor_text(facts: Facts, findings: Sequence[Finding]) -> str:
    """Return the doctor's answer for people."""
    of_builds = [each for each in findings if each.id in BUILD_FINDINGS]
    others = [each for each in findings if each.id not in BUILD_FINDINGS]
    lines = [
        *_section("System", _system(facts)),
        "",
        *_section("Accelerators", _accelerators(facts)),
        "",
        *_section("Installed", _installed(facts)),
        "",
        *_section("Source build (only where you compile it yourself)", _build(facts)),
        *_findings(of_builds),
        "",
        "Findings",
        *_findings(others),
        "",
    ]
    wrong = [each.id for each in others if each.level in {"warning", "error"}]
    verdict = f"To be mended: {', '.join(wrong)}." if wrong else "Nothing is to be mended."
    return "\n".join([*lines, verdict]) + "\n"


def _section(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    return [title, *(f"  {name + ':':<14} {value}" for name, value in rows)]


def _findings(findings: Sequence[Finding]) -> list[str]:
    lines: list[str] = []
    for each in findings:
        lines.append(f"  {each.level + ':':<9} {each.id}: {each.message}")
        if each.cure:
            lines.append(f"    -> {each.cure}")
        lines += [f"    {line}" for line in steps_text(each.steps)]
    return lines


def select_text(choice: Choice, tool: str, reason: str, steps: Sequence[Step]) -> str:
    """Return select's answer for people."""
    lines = [f"{choice.backend}: {choice.why}"]
    lines += [f"  (not {name}: {words})" for name, words in choice.passed_over]
    lines += [f"index: {choice.url}", "", f"With {tool} ({reason}):", *steps_text(steps)]
    return "\n".join(lines) + "\n"


def steps_text(steps: Sequence[Step]) -> list[str]:
    """Return steps as lines: commands to copy, and what goes into which file."""
    lines: list[str] = []
    for step in steps:
        if step.kind == "file":
            lines += [
                f"  in {step.path}:",
                *(f"    {line}".rstrip() for line in step.text.splitlines()),
            ]
        else:
            lines += [f"  {line}" for line in step.text.splitlines()]
    return lines


def _system(facts: Facts) -> list[tuple[str, str]]:
    system = facts.system
    emulated = "" if system.machine == system.native_machine else f" on {system.native_machine}"
    libc = f"{system.libc} {_dotted(system.libc_version)}" if system.libc else "none to mind"
    variant = facts.trial.cpu_variant
    level = f", {system.cpu_level}" if system.cpu_level else ""
    runs = f"; ggml runs {variant}" if variant else ""
    threading = ", free-threaded" if system.free_threaded else ""
    return [
        ("system", f"{system.release}, {system.machine}{emulated}"),
        ("libc", libc),
        ("CPU", f"{system.cpu}{level}{runs}"),
        ("Python", f"{system.python}, {system.bits}-bit{threading} ({system.executable})"),
        ("tool", f"{facts.project.tool} ({facts.project.reason})"),
    ]


def _accelerators(facts: Facts) -> list[tuple[str, str]]:
    found = facts.accelerators
    nvidia = found.nvidia
    driver = _MISSING if nvidia.problem is None else f"broken: {nvidia.problem}"
    if nvidia.source is not None:
        speaks = f", CUDA {_dotted(nvidia.cuda)}" if nvidia.cuda else ""
        driver = f"{nvidia.driver or 'version unknown'}{speaks} (says {nvidia.source})"
    rows = [("NVIDIA driver", driver)]
    for gpu in nvidia.gpus:
        compute = f"compute {_dotted(gpu.compute)}, " if gpu.compute else ""
        rows.append(("GPU", f"{gpu.name}, {compute}{_memory(gpu.memory_total)}"))
    toolkits = [f"{each.version} in {each.folder}" for each in found.toolkits]
    packages = [f"{each.name} {each.version}" for each in found.runtime_packages]
    rows.append(("CUDA", "; ".join([*toolkits, *packages]) or _MISSING))
    rocm = found.rocm
    rows.append(("ROCm", f"{rocm.version or '?'} in {rocm.folder}" if rocm.folder else _MISSING))
    rows += [("GPU", f"{gpu.name}, {gpu.architecture}") for gpu in rocm.gpus]
    rows.append(("Vulkan", _vulkan(found.vulkan)))
    rows += [
        ("device", f"{each.name}, {each.kind}, Vulkan {each.api}, {_memory(each.memory_total)}")
        for each in found.vulkan.devices
    ]
    if facts.system.name == "macos":
        rows.append(("Metal", "yes" if found.metal else "none"))
    if found.adapters:
        rows.append(("on the bus", ", ".join(found.adapters)))
    return rows


def _vulkan(found: Vulkan) -> str:
    if found.problem is None or (found.loader is None and not_there(found.problem)):
        return found.loader or _MISSING
    return f"{found.loader or 'broken'} ({found.problem})"


def _installed(facts: Facts) -> list[tuple[str, str]]:
    here, own = facts.installation, facts.installation.distribution
    by = f", installed by {own.installer}" if own and own.installer else ""
    rows = [
        ("version", f"{own.version if own else here.version}{by}"),
        ("folder", here.package),
    ]
    if own and own.tags:
        rows.append(("wheel", ", ".join(own.tags)))
    if own and own.url:
        rows.append(("from", f"{own.url}{' (editable)' if own.editable else ''}"))
    build = here.build
    if build is None:
        rows.append(("build", here.build_problem or "nothing was built here"))
    else:
        rows += [
            ("backend", build.backend),
            (
                "llama.cpp",
                f"{build.llama_cpp_version or '?'}, commit {build.llama_cpp_commit or '?'}",
            ),
            ("compiler", build.compiler),
            *([("toolkit", build.toolkit)] if build.toolkit else []),
            *(
                [("GPU code", ", ".join(build.gpu_architectures))]
                if build.gpu_architectures
                else []
            ),
            ("options", " ".join(f"{name}={value}" for name, value in build.defines.items())),
        ]
    rows += [
        ("device", f"{each.name}, {each.description}, {_memory(each.memory_total)}")
        for each in facts.trial.devices
    ]
    rows += [("runtime", path) for path in facts.trial.runtime]
    rows += [("not loaded", f"{name}: {words}") for name, words in facts.trial.unused_modules]
    return rows


def _build(facts: Facts) -> list[tuple[str, str]]:
    tools = facts.build_tools
    compiler, nvcc = tools.compiler, tools.nvcc
    computes = [gpu.compute for gpu in facts.accelerators.nvidia.gpus if gpu.compute]
    names = ";".join(sorted({architecture_name(compute) for compute in computes}))
    rows = [
        ("build backend", f"scikit-build-core {tools.scikit_build_core or _MISSING}"),
        ("CMake", _tool(tools.cmake)),
        ("Ninja", _tool(tools.ninja)),
        (
            "C++ compiler",
            f"{compiler.kind} {compiler.version or '?'} ({compiler.path})"
            if compiler
            else _MISSING,
        ),
        ("nvcc", _tool(nvcc)),
        ("git", _tool(tools.git)),
        ("temporary", tools.temporary_folder or _MISSING),
    ]
    if names:
        rows.append(("GPU code", f"-DCMAKE_CUDA_ARCHITECTURES={names}"))
    rows += [(name, value) for name, value in facts.environment.items()]
    return rows


def _tool(tool: Tool | None) -> str:
    return _MISSING if tool is None else f"{tool.version or '?'} ({tool.path})"


def _memory(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size else "the host's memory"


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version)
