"""Trial: installing from a served index by pip and by uv, on every interpreter, and computing."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ci import paths
from ci.errors import ToolMissingError
from ci.host import host_platform
from ci.installation import (
    CLEAN,
    NO_OTHER_INDEX,
    backend_index,
    make_environment,
    pip_of,
    python_of,
)
from ci.installed import Installed, Installer, Run, Wheel
from ci.interpreters import Interpreter
from ci.process import ProcessError, run
from ci.progress import Progress
from ci.release_set import Member, ReleaseSet
from ci.smoke import write_models
from ci.smoke_report import report_path
from ci.table import Table
from ci.wheel import read_wheel

_SMOKE = paths.ROOT / "tests" / "smoke"
_TIMEOUT_S = 1800.0
# what would send uv elsewhere than to the index that it is given
_UV_CLEAN: Mapping[str, str] = {
    **dict.fromkeys(
        ("UV_INDEX", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"), ""
    ),
    "UV_NO_CONFIG": "1",
    "UV_PYTHON_DOWNLOADS": "never",
}


def try_index(
    found: ReleaseSet,
    index: str,
    interpreters: Sequence[Interpreter],
    table: Table,
    progress: Progress,
) -> Installed:
    """Install every wheel of a set from a served index and compare known tokens.

    A wheel for this machine is installed by pip and by uv into a fresh environment per interpreter,
    outside of the checkout, with what it requires where that exists for the interpreter. A wheel for
    another machine is downloaded by pip as for that machine. Either must be the set's very wheel.

    Args:
        found: the set.
        index: the address of the site.
        interpreters: to install on.
        table: the table.
        progress: where steps are told.

    Raises:
        ToolMissingError: there is no uv.
    """
    uv = _uv()
    wheels: list[Wheel] = []
    with tempfile.TemporaryDirectory(prefix="installed-") as name:
        scratch = Path(name)
        home = host_platform(table)
        if any(member.target.platform == home for member in found.members):
            write_models(scratch / "models")
        site = _Site(index=index, version=found.version, uv=uv, scratch=scratch)
        for member in found.members:
            at_home = member.target.platform == home
            if at_home:
                runs = _installed(member, found.folder, site, interpreters)
            else:
                runs = [_downloaded(member, site, interpreters[0])]
            failed = [f"{run.installer} on {run.python}" for run in runs if not run.passed]
            word = f"FAILED ({', '.join(failed)})" if failed else "ok"
            how = "installed and computed" if at_home else "downloaded"
            progress.step(f"{member.target.name} from the index: {how} {len(runs)} times, {word}")
            wheels.append(Wheel(wheel=member.file.name, sha256=member.file.sha256, runs=runs))
    passed = bool(wheels) and all(run.passed for each in wheels for run in each.runs)
    return Installed(passed=passed, wheels=wheels)


@dataclass(frozen=True, kw_only=True)
class _Site:
    """Where to install from, and with what."""

    index: str
    version: str
    uv: str
    scratch: Path

    @property
    def env(self) -> dict[str, str]:
        """Nothing of this machine says where packages come from; caches are shared by the runs."""
        without_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
        return {
            **CLEAN,
            **NO_OTHER_INDEX,
            **_UV_CLEAN,
            "NO_PROXY": without_proxy,
            "PIP_CACHE_DIR": str(self.scratch / "pip"),
            "UV_CACHE_DIR": str(self.scratch / "uv"),
        }


def _installed(
    member: Member, folder: Path, site: _Site, interpreters: Sequence[Interpreter]
) -> list[Run]:
    wheel = folder / member.file.name
    environment = _environment_of(report_path(wheel))
    record = _payload(wheel)
    # it is the same wheel, file by file, and its smoke test was on the GPU on every one of them
    gpu = interpreters[0] if member.target.family.smoke == "gpu" else None
    jobs = [
        partial(
            _install,
            member,
            site,
            installer,
            python,
            scripts=_scripts(gpu=python is gpu),
            record=record,
            environment=environment,
        )
        for python in interpreters
        for installer in _INSTALLERS
    ]
    # mostly the start of interpreters and unpacking; more at once only disturb each other
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda job: job(), jobs))


_INSTALLERS: tuple[Installer, ...] = ("pip", "uv")


def _install(
    member: Member,
    site: _Site,
    installer: Installer,
    interpreter: Interpreter,
    *,
    scripts: Sequence[Path],
    record: Mapping[str, str],
    environment: Mapping[str, str],
) -> Run:
    folder = site.scratch / f"{member.target.name}-{interpreter.tag}-{installer}"
    version = "unknown"
    failed = ""
    checks: list[str] = []
    try:
        python = _made(installer, interpreter, folder / "env", site)
        version = _version(installer, python, site)
        command = _command(installer, python, site, member.target.backend.name)
        wanted = f"llama-cpp-python=={site.version}"
        try:
            run([*command, wanted], cwd=folder, env=site.env, timeout=_TIMEOUT_S)
        except ProcessError as error:
            if not _lacks_a_wheel(error):
                raise
            run([*command, "--no-deps", wanted], cwd=folder, env=site.env, timeout=_TIMEOUT_S)
            checks.append("without what has no wheel for this Python")
        failed = _other_bytes(folder / "env", record)
        for script in scripts:
            found, problem = _computed(python, script, folder, site, environment)
            checks += found
            failed = failed or problem
    except ProcessError as error:
        failed = " / ".join(error.tail[-3:]) or f"exit code {error.returncode}"
    shutil.rmtree(folder, ignore_errors=True)
    return Run(
        installer=installer,
        version=version,
        tag=interpreter.tag,
        python=interpreter.version,
        computed=not failed,
        passed=not failed,
        detail=failed or ", ".join(checks),
    )


def _made(installer: Installer, interpreter: Interpreter, folder: Path, site: _Site) -> Path:
    folder.parent.mkdir(parents=True)
    if installer == "pip":
        return make_environment(interpreter, folder)
    run([site.uv, "venv", "-q", "--no-project", "--python", interpreter.path, folder], env=site.env)
    return python_of(folder)


def _version(installer: Installer, python: Path, site: _Site) -> str:
    if installer == "uv":
        return run([site.uv, "--version"], env=site.env).split()[1]
    return run([*pip_of(python), "--version"], env=site.env).split()[1]


def _command(installer: Installer, python: Path, site: _Site, backend: str) -> list[str]:
    index = backend_index(site.index, backend)
    if installer == "uv":
        command = [site.uv, "pip", "install", "-q", "--python", str(python)]
        return [*command, "--no-build", "--default-index", index]
    return [*pip_of(python), "install", "-q", "--only-binary", ":all:", "--index-url", index]


def _lacks_a_wheel(error: ProcessError) -> bool:
    """Say whether it was only that something required exists for other Pythons alone."""
    text = "\n".join(error.tail)
    ours = "llama-cpp-python" in text and "No matching distribution found for llama" in text
    words = ("No matching distribution found for", "no wheels with a matching", "no solution found")
    return not ours and any(word.lower() in text.lower() for word in words)


def _scripts(*, gpu: bool) -> list[Path]:
    return [_SMOKE / name for name in ("run.py", *(["gpu.py"] if gpu else []))]


def _computed(
    python: Path, script: Path, folder: Path, site: _Site, environment: Mapping[str, str]
) -> tuple[list[str], str]:
    """Run a smoke script in short; return the names of its checks, and what failed."""
    out = folder / f"{script.stem}.json"
    command: list[str | Path] = [python, "-I", "-X", "faulthandler", script, "--brief"]
    command += ["--models", site.scratch / "models", "--json", out]
    env = {**CLEAN, **environment}
    try:
        run(command, cwd=folder, env=env, timeout=_TIMEOUT_S)
    except ProcessError as error:
        if not out.is_file():
            return [], f"{script.name}: {' / '.join(error.tail[-3:])}"
    answer = json.loads(out.read_text(encoding="utf-8"))
    failed = [
        f"{each['name']}: {each['detail']}" for each in answer["checks"] if not each["passed"]
    ]
    return [each["name"] for each in answer["checks"]], "; ".join(failed)


def _environment_of(report: Path) -> dict[str, str]:
    """Return the variables that the wheel's own smoke test needed to see its device."""
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    found = content["interpreters"][0].get("environment") or {}
    return {str(name): str(value) for name, value in found.items()}


def _payload(path: Path) -> dict[str, str]:
    """Return the hashes of the package's files as the wheel's RECORD has them."""
    wheel = read_wheel(path)
    return _hashes(wheel.files[f"{wheel.dist_info}/RECORD"].decode("utf-8"))


def _hashes(record: str) -> dict[str, str]:
    return {
        row[0]: row[1]
        for row in csv.reader(io.StringIO(record))
        if row and row[0].startswith("llama_cpp/")
    }


def _other_bytes(environment: Path, record: Mapping[str, str]) -> str:
    """Say how what is installed differs from the wheel; nothing where it does not."""
    found = list(environment.rglob("llama_cpp_python-*.dist-info/RECORD"))
    if len(found) != 1:
        return f"{len(found)} distributions were installed, not one"
    there = _hashes(found[0].read_text(encoding="utf-8"))
    other = sorted(name for name, digest in record.items() if there.get(name) != digest)
    return f"another wheel was installed: {other[0]} differs" if other else ""


def _downloaded(member: Member, site: _Site, interpreter: Interpreter) -> Run:
    """Download a wheel for another machine by pip, and compare its bytes."""
    folder = site.scratch / member.target.name
    version, failed = "unknown", ""
    try:
        # one environment for all: nothing is installed in it
        python = python_of(site.scratch / "download")
        if not python.exists():
            make_environment(interpreter, site.scratch / "download")
        folder.mkdir()
        version = _version("pip", python, site)
        command = [*pip_of(python), "download", "-q", "--no-deps", "--only-binary", ":all:"]
        command += ["--platform", member.target.wheel_tag, "--implementation", "py"]
        command += ["--abi", "none", "--python-version", interpreter.series.rstrip("t")]
        index = backend_index(site.index, member.target.backend.name)
        command += ["--index-url", index, "--dest", str(folder / "got")]
        run([*command, f"llama-cpp-python=={site.version}"], env=site.env, timeout=_TIMEOUT_S)
        names = sorted(path.name for path in (folder / "got").iterdir())
        if names != [member.file.name]:
            failed = f"pip took {', '.join(names)}"
        else:
            digest = hashlib.sha256((folder / "got" / names[0]).read_bytes()).hexdigest()
            failed = "" if digest == member.file.sha256 else f"it has sha256 {digest}"
    except ProcessError as error:
        failed = " / ".join(error.tail[-3:]) or f"exit code {error.returncode}"
    shutil.rmtree(folder, ignore_errors=True)
    return Run(
        installer="pip",
        version=version,
        tag=interpreter.tag,
        python=interpreter.version,
        computed=False,
        passed=not failed,
        detail=failed or "the very wheel",
    )


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    program = str(beside) if beside.is_file() else shutil.which("uv")
    if program is None:
        raise ToolMissingError(
            "there is no uv to install with", cure="run it as `nox -s release`, which brings it"
        )
    return program
