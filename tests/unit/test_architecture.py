"""The house: imports point down, the noxfile imports nothing of ours, YAML and names are in order."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# what each layer may import of ours; lower ones first
LAYERS = [
    {
        "ci.errors",
    },
    {
        "ci.attached",
        "ci.fatbin",
        "ci.paths",
        "ci.problems",
        "ci.process",
        "ci.progress",
        "ci.project",
        "ci.schedule",
        "ci.table",
        "ci.tarfiles",
        "ci.variants",
        "ci.version_label",
        "ci.zig",
    },
    {
        "ci.abi",
        "ci.architectures",
        "ci.archive",
        "ci.clang_cuda",
        "ci.compiler",
        "ci.cuda",
        "ci.debian",
        "ci.deployment_target",
        "ci.docker_login",
        "ci.download",
        "ci.guest",
        "ci.host",
        "ci.host_compiler",
        "ci.image",
        "ci.installation",
        "ci.instructions",
        "ci.interpreters",
        "ci.layers",
        "ci.library",
        "ci.macho",
        "ci.metal",
        "ci.msvc",
        "ci.windows_python",
        "ci.musl_python",
        "ci.newer",
        "ci.pins",
        "ci.provision",
        "ci.redistributable",
        "ci.registry",
        "ci.rocm",
        "ci.sbom",
        "ci.screen",
        "ci.toolkit",
        "ci.vulkan",
        "ci.vulkan_cross",
        "ci.wheel",
    },
    {
        "ci.check",
        "ci.device_code",
        "ci.driver",
        "ci.emulation",
        "ci.evidence",
        "ci.fresh_root",
        "ci.guest",
        "ci.loading",
        "ci.matrix",
        "ci.module",
        "ci.musl",
        "ci.proof",
        "ci.record",
        "ci.relabel",
        "ci.repair",
        "ci.reports",
        "ci.reproduce",
        "ci.reproduction",
        "ci.smoke",
        "ci.smoke_report",
        "ci.vendor",
        "ci.wine",
    },
    {
        "ci.proving",
    },
    {
        "ci.costs",
        "ci.docs",
        "ci.engine",
        "ci.gpu_wheel",
        "ci.release_pages",
        "ci.release_set",
        "ci.upload",
    },
    {
        "ci.build",
        "ci.bump",
        "ci.installed",
        "ci.release",
        "ci.release_folder",
        "ci.release_verb",
        "ci.staging",
        "ci.trial",
    },
    {
        "ci.command_line",
    },
    {
        "ci.__main__",
    },
]


def modules(package: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imported(path: Path, package: str) -> set[str]:
    """Modules that a file imports, at any depth; relative ones resolved."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(filter(None, [package, base]))
            names.add(base)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def layer(name: str) -> int:
    noun = ".".join(name.split(".")[:2])
    for number, members in enumerate(LAYERS):
        if noun in members:
            return number
    pytest.fail(f"{name} is in no layer: put it into LAYERS where it belongs")


def test_imports_of_the_toolchain_point_down() -> None:
    ours = modules("ci")
    upward = [
        f"{name} imports {other}"
        for name, path in ours.items()
        if name != "ci.__init__"
        for other in imported(path, "ci")
        if other in ours and other.split(".")[1] != name.split(".")[1]
        if layer(other) > layer(name)
    ]
    assert upward == []


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("llama_cpp", {"llama_cpp"}),
        ("index", {"index", "ci.table", "ci.errors"}),
        ("ci", {"ci"}),
    ],
)
def test_packages_keep_apart(package: str, allowed: set[str]) -> None:
    ours = {"ci", "index", "llama_cpp", "bench", "tests"}
    strangers = [
        f"{name} imports {other}"
        for name, path in modules(package).items()
        for other in imported(path, package)
        if other.split(".")[0] in ours
        and not any(other == each or other.startswith(f"{each}.") for each in allowed)
        and other != "ci"
    ]
    assert strangers == []


def test_the_noxfile_imports_nox_alone() -> None:
    of_python = {"__future__", "__future__.annotations", "pathlib", "pathlib.Path"}
    assert imported(ROOT / "noxfile.py", "") == {*of_python, "nox"}


# imported when the first template is rendered, not before
RENDERING = {"llama_cpp._template_bounds"}


def test_the_binding_needs_the_standard_library_alone_to_import() -> None:
    outside = {
        f"{name} imports {other}"
        for name, path in modules("llama_cpp").items()
        if name not in RENDERING
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for other in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
        if other.split(".")[0] in {"numpy", "jinja2", "typing_extensions", "pydantic"}
    }
    assert outside == set()


def test_the_binding_works_without_the_doctor() -> None:
    binding = {
        name: path
        for name, path in modules("llama_cpp").items()
        if not name.startswith("llama_cpp._doctor.") and name != "llama_cpp.__main__"
    }
    assert "llama_cpp._library" in binding
    assert [name for name, path in binding.items() if "_doctor" in path.read_text("utf-8")] == []


@pytest.mark.parametrize("probe", ["nvml", "vulkan"])
def test_what_runs_alone_as_a_file_imports_nothing_of_ours(probe: str) -> None:
    names = imported(ROOT / f"llama_cpp/_doctor/{probe}.py", "llama_cpp._doctor")
    assert [name for name in names if name.split(".")[0] == "llama_cpp"] == []


def test_a_checkout_is_the_same_bytes_on_every_system() -> None:
    """Else the wheel of a platform whose git writes CRLF would be none to add a module to elsewhere."""
    command = ["git", "ls-files", "--eol"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = [line.partition("\t")[0].split() for line in listed.splitlines()]
    assert {tuple(each[2:]) for each in files} == {("attr/-text",)}
    assert {each[0] for each in files} <= {"i/lf", "i/none"}


def test_nothing_committed_is_large_or_names_a_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    names = ("pypi org", "files pythonhosted org", "deb debian org", "registry npmjs org")
    hosts = [name.replace(" ", ".") for name in names]
    for name in filter(None, listed):
        path = ROOT / name
        if not path.is_file():
            continue
        data = path.read_bytes()
        assert len(data) < 400_000, name
        for host in hosts:
            assert host.encode() not in data, f"{name} names {host}"
