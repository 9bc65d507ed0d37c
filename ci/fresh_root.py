"""Fresh root: the README's commands as an ordinary user, on a Debian with nothing prepared."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ci import paths
from ci.debian import find_mirror
from ci.errors import NetworkError, ToolchainError, ToolMissingError, UsageError
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.smoke_report import report_path

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "git", "python3", "python3-venv")

# what the README says is not needed; a root that has one of them proves nothing
ABSENT = (
    *("cc", "gcc", "g++", "c++", "clang", "clang++", "zig", "ld", "strip", "make", "cmake"),
    *("ninja", "pip", "pipx", "uv", "nox", "curl", "wget", "docker", "podman"),
)

_CHECKOUT = "llama-cpp-python"
_TAIL = 30
_FIRST_UID = 2001

# the network of this machine, which the root shares; everything else of its environment stays out
_PASSED = re.compile(
    r"SSL_CERT_FILE|SSL_CERT_DIR|PIP_CERT|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|GIT_SSL_CAINFO"
    r"|PIP_INDEX_URL|UV_DEFAULT_INDEX|UV_INDEX_URL"
    r"|(?i:(?:https?|all|no)_proxy)"
)
_SYSTEM_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")

_COMMAND = re.compile(r"^<!-- command: ([a-z]+) -->\n+```(?:sh|console)?\n(.+)\n```$", re.MULTILINE)

# in namespaces of their own: mounts and left-over processes end with the command
_UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
_ENTER = """
set -e
root=$1 uid=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
exec chroot --userspec="$uid:$uid" --groups= "$root" "$@"
"""


@dataclass(frozen=True, kw_only=True)
class ProvenWheel:
    """A wheel that a command left in ``dist/``; ``passed`` is what its smoke report says."""

    name: str
    size: int
    sha256: str
    interpreters: tuple[str, ...]
    passed: bool


@dataclass(frozen=True, kw_only=True)
class CommandResult:
    """One command, run by a user of its own in a clone of its own; ``tail`` is its last lines."""

    command: str
    passed: bool
    exit_code: int
    seconds: float
    log: str
    tail: tuple[str, ...]
    wheels: tuple[ProvenWheel, ...]


@dataclass(frozen=True, kw_only=True)
class FreshRootReport:
    """What was run where: ``packages`` were asked for, ``absent`` was looked for and not found."""

    commit: str
    debian: str
    python: str
    git: str
    packages: tuple[str, ...]
    absent: tuple[str, ...]
    passed: bool
    commands: tuple[CommandResult, ...]


def fresh_root(
    progress: Progress,
    *,
    commands: list[str],
    folder: Path,
    keep: bool = False,
    mirror: str | None = None,
) -> FreshRootReport:
    """Run each command in a fresh Debian, by a new user in a new clone of this checkout's HEAD.

    Each has a home and caches of its own, so that each is proven to work by itself. The root is
    ``folder/root`` (deleted afterwards unless ``keep``); ``folder/report.json`` and one log per
    command stay. The bootstrapped root is kept in the user's cache folder for the next time.

    Raises:
        ToolMissingError: not root, no debootstrap, or no mirror of Debian is known.
        NetworkError: debootstrap could not bring the packages.
        ToolchainError: a command failed; the report is written all the same.
    """
    _require_tools()
    folder = folder.absolute()
    root = folder / "root"
    if root.exists():
        raise UsageError(f"{root} exists", cure=f"delete it (rm -rf {root}) or name another folder")
    commit = run(["git", "-C", paths.ROOT, "rev-parse", "HEAD"]).strip()
    if run(["git", "-C", paths.ROOT, "status", "--porcelain"]):
        progress.warn(f"what is not committed is not in the clone of {commit[:12]}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _unpack_root(progress, root, mirror)
        environment = network_environment(os.environ)
        _copy_network_files(environment, root)
        absent = _require_absent(root)
        results = [
            _run_as_new_user(progress, root, number, command, environment)
            for number, command in enumerate(commands, start=1)
        ]
        report = FreshRootReport(
            commit=commit,
            debian=(root / "etc" / "debian_version").read_text(encoding="utf-8").strip(),
            python=_ask(root, "python3", "--version"),
            git=_ask(root, "git", "--version"),
            packages=PACKAGES,
            absent=absent,
            passed=all(result.passed for result in results),
            commands=tuple(results),
        )
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    place = folder / "report.json"
    place.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    _summarise(progress, report, place)
    return report


def require_passed(report: FreshRootReport) -> None:
    """Raise what failed, if anything did.

    Raises:
        ToolchainError: a command ended with an error, or left a wheel that is not proven.
    """
    failed = [result for result in report.commands if not result.passed]
    if failed or not report.commands:
        raise ToolchainError(
            f"on a fresh Debian {report.debian}, as an ordinary user:"
            + ("" if failed else " no command was run")
            + "".join(
                f"\n  {result.command}\n  ended with exit code {result.exit_code}"
                + ("" if result.exit_code else " but left no proven wheel in dist/")
                + "".join(f"\n  | {line}" for line in result.tail)
                for result in failed
            ),
            cure=f"read the log: {', '.join(result.log for result in failed)}"
            if failed
            else "name a command",
        )


def readme_commands(text: str) -> dict[str, str]:
    """Return the README's commands by name: one line fenced below ``<!-- command: NAME -->``.

    Raises:
        UsageError: it has none.
    """
    found = {match[1]: match[2] for match in _COMMAND.finditer(text)}
    if not found:
        raise UsageError(
            "README.md has no command to run",
            cure="write `<!-- command: build -->` above the fenced line",
        )
    return found


def network_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say how this machine reaches the network."""
    return {name: value for name, value in sorted(environ.items()) if _PASSED.fullmatch(name)}


def _require_tools() -> None:
    if sys.platform != "linux":
        raise ToolMissingError(
            "a fresh Debian needs Linux", cure="run it on a Linux machine, as root"
        )
    if os.geteuid() != 0:
        raise ToolMissingError(
            "only root can make a fresh root: debootstrap, chroot and mount need it",
            cure=f"run it with sudo: sudo {shlex.quote(sys.executable)} -m ci fresh-root",
        )
    for tool, package in (
        ("debootstrap", "debootstrap"),
        ("chroot", "coreutils"),
        ("unshare", "util-linux"),
        ("tar", "tar"),
    ):
        if shutil.which(tool) is None:
            raise ToolMissingError(
                f"there is no {tool} on this machine", cure=f"Debian: apt install {package}"
            )


def _unpack_root(progress: Progress, root: Path, mirror: str | None) -> None:
    """Unpack the bootstrapped root from the cache, where it is put first if it is not there."""
    tarball = paths.cache_folder() / "fresh-root" / f"{SUITE}-{'-'.join(PACKAGES)}.tar.gz"
    if not tarball.is_file():
        _bootstrap(progress, tarball, root, mirror)
        return
    progress.step(f"unpacking {tarball.name}")
    root.mkdir()
    run(["tar", "-xzf", tarball, "--numeric-owner", "-C", root])


def _bootstrap(progress: Progress, tarball: Path, root: Path, mirror: str | None) -> None:
    uri = mirror or find_mirror()
    if uri is None:
        raise ToolMissingError(
            "found no mirror of Debian in this machine's apt sources",
            cure="name one with --mirror URL",
        )
    progress.step(f"bootstrapping Debian {SUITE} with {', '.join(PACKAGES)}")
    options = ("--variant=minbase", f"--include={','.join(PACKAGES)}")
    try:
        run([*_UNSHARE[:2], "debootstrap", *options, SUITE, root, uri])
    except ProcessError as error:
        last = "".join(f"\n  | {line}" for line in error.tail[-5:])
        raise NetworkError(
            f"debootstrap failed:{last}",
            cure="check the network and the mirror, or name another with --mirror URL",
        ) from error
    tarball.parent.mkdir(parents=True, exist_ok=True)
    partial = tarball.with_name(f".{tarball.name}.part")
    archives = "./var/cache/apt/archives/*.deb"
    run(["tar", "-czf", partial, "--numeric-owner", f"--exclude={archives}", "-C", root, "."])
    partial.replace(tarball)


def _copy_network_files(environment: Mapping[str, str], root: Path) -> None:
    """Copy what name resolution and TLS read, to the same paths inside the root."""
    for name in (*_SYSTEM_FILES, *environment.values()):
        source = Path(name)
        if source.is_absolute() and source.is_file():
            target = root / source.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(source, target)


def _require_absent(root: Path) -> tuple[str, ...]:
    folders = [root / "usr" / name for name in ("bin", "sbin", "local/bin", "local/sbin")]
    present = [name for name in ABSENT if any((folder / name).exists() for folder in folders)]
    if present:
        raise ToolchainError(
            f"the root is not bare: it has {', '.join(present)}",
            cure="delete fresh-root/ in the cache folder and run the command again",
        )
    return ABSENT


def _ask(root: Path, *command: str) -> str:
    return run(["chroot", root, *command]).strip()


def _run_as_new_user(
    progress: Progress, root: Path, number: int, command: str, environment: Mapping[str, str]
) -> CommandResult:
    user, uid = f"person{number}", str(_FIRST_UID + number)
    run(["chroot", root, "useradd", "--create-home", "--uid", uid, "--shell", "/bin/bash", user])
    home = Path("/home") / user
    checkout = root / home.relative_to("/") / _CHECKOUT
    run(["git", "clone", "-q", paths.ROOT.as_uri(), checkout])
    run(["chroot", root, "chown", "-R", f"{uid}:{uid}", home / _CHECKOUT])

    # no LANG: a fresh Debian has no locales
    variables = {
        "HOME": str(home),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        **environment,
    }
    enter = [*_UNSHARE, "sh", "-c", _ENTER, "enter", str(root), uid]
    enter += ["env", "-i", f"--chdir={home / _CHECKOUT}"]
    enter += [f"{name}={value}" for name, value in variables.items()]
    log = root.parent / f"command{number}.log"
    tail: list[str] = []
    exit_code = 0
    progress.step(f"as {user}: {command}")
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as out:

        def show(line: str) -> None:
            out.write(f"{line}\n")
            out.flush()
            tail.append(line)
            progress.console.print(f"  | {line}", markup=False)

        try:
            run([*enter, "/bin/sh", "-c", command], on_line=show)
        except ProcessError as error:
            exit_code = error.returncode
    wheels = _proven_wheels(checkout / "dist")
    return CommandResult(
        command=command,
        passed=exit_code == 0 and bool(wheels) and all(wheel.passed for wheel in wheels),
        exit_code=exit_code,
        seconds=round(time.monotonic() - start, 1),
        log=str(log),
        tail=tuple(tail[-_TAIL:]),
        wheels=wheels,
    )


def _proven_wheels(dist: Path) -> tuple[ProvenWheel, ...]:
    wheels: list[ProvenWheel] = []
    for wheel in sorted(dist.glob("*.whl")):
        content = wheel.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        place = report_path(wheel)
        proof = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        wheels.append(
            ProvenWheel(
                name=wheel.name,
                size=len(content),
                sha256=sha256,
                interpreters=tuple(each["version"] for each in proof.get("interpreters", ())),
                passed=proof.get("passed", False) and proof["sha256"] == sha256,
            )
        )
    return tuple(wheels)


def _summarise(progress: Progress, report: FreshRootReport, place: Path) -> None:
    rows = [
        ("system", f"Debian {report.debian}, {report.python}, {report.git}"),
        ("commit", report.commit),
        ("not there", ", ".join(report.absent)),
    ]
    for result in report.commands:
        word = "ok" if result.passed else f"FAILED (exit code {result.exit_code})"
        rows.append((f"{result.seconds:.0f} s {word}", result.command))
        for wheel in result.wheels:
            proof = f"proven on {', '.join(wheel.interpreters)}" if wheel.passed else "NOT proven"
            rows.append(("", f"{wheel.name}, {wheel.size:,} bytes, sha256 {wheel.sha256}, {proof}"))
    rows.append(("report", str(place)))
    progress.summary("the README's commands in a fresh root", rows)
