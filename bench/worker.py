"""The process that computes with one set of libraries, and this side's end of the line to it.

Every contender runs through the same Python code: the package of the wheel, with
``LLAMA_CPP_LIB_PATH`` set to the contender's libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.child import Child
from ci.errors import BuildError

_SCRIPT = Path(__file__).with_name("computation.py")


@dataclass(frozen=True, kw_only=True)
class Libraries:
    """A folder of llama.cpp's libraries, and the folder that holds the package ``llama_cpp``."""

    name: str
    title: str
    folder: Path
    package: Path


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One measurement: tokens, the seconds they took, and the CPU seconds of all threads."""

    tokens: int
    seconds: float
    cpu_s: float

    @property
    def tokens_per_second(self) -> float:
        """The figure that everybody knows."""
        return self.tokens / self.seconds


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a worker says about its libraries."""

    cpu_variant: str | None
    system_info: str
    parameters: int
    nice: int
    """Its priority, see :func:`bench.machine.put_first`."""


class Worker(Child):
    """A process with one model loaded; used in a ``with`` statement."""

    def __init__(self, libraries: Libraries, model: Path, *, threads: int, batch: int) -> None:
        """Start the process and load the model.

        Args:
            libraries: what it computes with.
            model: a GGUF file.
            threads: for prompt and generation alike.
            batch: most tokens of a prompt or an answer; the context is twice as long.

        Raises:
            BuildError: the libraries or the model cannot be loaded.
        """
        super().__init__(
            [sys.executable, "-P", _SCRIPT],
            title=f"{libraries.title}: the process that computes with {libraries.folder}",
            env=_environment(libraries),
            cure="read its last lines above; a damaged cache is cured by deleting"
            f" {libraries.folder}",
        )
        self.libraries = libraries
        answer = self.ask(verb="load", model=str(model), threads=threads, batch=batch)
        self.facts = Facts(
            cpu_variant=_text(answer["cpu_variant"]),
            system_info=str(answer["system_info"]),
            parameters=int(str(answer["parameters"])),
            nice=self.nice,
        )

    def prompt(self, tokens: int) -> Timing:
        """Compute a prompt in one batch, in an empty context."""
        return self._timing(tokens, self.ask(verb="prompt", tokens=tokens))

    def generate(self, tokens: int) -> Timing:
        """Compute tokens one at a time after a short prompt, whose time does not count."""
        return self._timing(tokens, self.ask(verb="generate", tokens=tokens))

    def _timing(self, tokens: int, answer: dict[str, object]) -> Timing:
        return Timing(
            tokens=tokens, seconds=float(str(answer["seconds"])), cpu_s=float(str(answer["cpu_s"]))
        )


def quantize(libraries: Libraries, source: Path, target: Path, quantisation: str) -> None:
    """Write a quantised copy of a model.

    Args:
        libraries: whose ``llama_model_quantize`` is called.
        source: the F16 file.
        target: the file to write.
        quantisation: the end of an ``LLAMA_FTYPE_MOSTLY_…`` constant's name.

    Raises:
        BuildError: llama.cpp refused.
    """
    call = subprocess.run(
        [sys.executable, "-P", _SCRIPT, source, target, quantisation],
        env=_environment(libraries),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if call.returncode != 0:
        printed = "".join(f"\n  | {line}" for line in call.stderr.splitlines()[-10:])
        raise BuildError(
            f"{source} was not quantised to {quantisation}{printed}",
            cure="make room on the disk, or delete the file to write it anew",
        )


def _environment(libraries: Libraries) -> dict[str, str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        # an OpenMP build must run as its user would run it, and no variant may be forced
        if not name.startswith(("OMP_", "GOMP_", "GGML_", "LLAMA_", "KMP_", "PYTHON"))
    }
    environment["PYTHONPATH"] = str(libraries.package)
    environment["LLAMA_CPP_LIB_PATH"] = str(libraries.folder)
    return environment


def _text(value: object) -> str | None:
    return None if value is None else str(value)
