"""Apple's SDK, which Metal's module is compiled with: from Xcode or from its command line tools.

The command line tools are enough. ggml's shaders are embedded as source and compiled by Metal on the
user's machine, so that the compiler ``metal``, which Xcode alone has, is not asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ci.errors import ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.table import Target
from ci.toolkit import Toolkit

VARIABLE = "DEVELOPER_DIR"
_INSTALL = "xcode-select --install"
# With an older SDK ggml-metal compiles, but leaves out residency sets without a word: the system then
# takes a model's memory from the GPU after a pause, and the next token waits for it.
_OLDEST = (15, 0)


def selected_folder() -> Path:
    """Return the developer folder that this Mac compiles with: what ``xcode-select -p`` says.

    Raises:
        ToolMissingError: there is none, or this is no Mac.
    """
    if shutil.which("xcode-select") is None:
        raise ToolMissingError(
            "there is no xcode-select: this is no Mac",
            cure="build Metal's module on macOS; here build another backend (`--backend cpu`)",
        )
    try:
        return Path(run(["xcode-select", "-p"], timeout=60).strip())
    except ProcessError as error:
        raise ToolMissingError(
            f"neither Xcode nor its command line tools are installed: {_last(error)}",
            cure=_INSTALL,
        ) from error


def look_over(folder: Path, target: Target, where: str) -> Toolkit:
    """Look Apple's developer tools over and return their SDK of macOS as a toolkit.

    Args:
        folder: ``/Applications/Xcode.app``, the ``Contents/Developer`` in it, or
            ``/Library/Developer/CommandLineTools``.
        target: what is to be compiled.
        where: what named the folder, for the messages.

    Raises:
        UsageError: the folder is none of them.
        ToolMissingError: clang or the SDK in it is missing, too old, or not licensed.
    """
    inside = folder / "Contents" / "Developer"
    developer = inside if inside.is_dir() else folder
    if not (developer / "usr" / "bin").is_dir():
        raise UsageError(
            f"{where}: {folder} holds no developer tools of Apple (there is no usr/bin in it)",
            cure="give /Applications/Xcode.app or /Library/Developer/CommandLineTools, or leave"
            f" --toolkit and {VARIABLE} away: what `xcode-select -p` says is taken",
        )
    env = {VARIABLE: str(developer)}
    compilers = {
        "CMAKE_C_COMPILER": _xcrun(["--find", "clang"], env, where),
        "CMAKE_CXX_COMPILER": _xcrun(["--find", "clang++"], env, where),
    }
    sdk = Path(_xcrun(["--sdk", "macosx", "--show-sdk-path"], env, where))
    version = _xcrun(["--sdk", "macosx", "--show-sdk-version"], env, where)
    numbers = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if numbers < _OLDEST:
        raise ToolMissingError(
            f"{where}: {developer} has the SDK of macOS {version}; {target.name} is built with"
            f" {_OLDEST[0]} or newer",
            cure="install a newer Xcode, or newer command line tools: sudo rm -rf"
            f" /Library/Developer/CommandLineTools, then {_INSTALL}",
        )
    if not (sdk / "System/Library/Frameworks/Metal.framework").is_dir():
        raise ToolMissingError(
            f"{where}: the SDK {sdk} has no Metal.framework", cure=f"install it anew: {_INSTALL}"
        )
    return Toolkit(
        name="macOS SDK",
        version=version,
        folder=developer,
        source=where,
        defines={**compilers, "CMAKE_OSX_SYSROOT": str(sdk)},
        env=env,
    )


def _xcrun(arguments: list[str], env: Mapping[str, str], where: str) -> str:
    try:
        return run(["xcrun", *arguments], env=env, timeout=120).strip()
    except ProcessError as error:
        said = _last(error)
        cure = "sudo xcodebuild -license accept" if "license" in said else _INSTALL
        command = " ".join(["xcrun", *arguments])
        raise ToolMissingError(f"{where}: `{command}` says: {said}", cure=cure) from error


def _last(error: ProcessError) -> str:
    return next((line for line in reversed(error.tail) if line.strip()), "nothing")
