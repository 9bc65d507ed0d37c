"""Many damaged files, one process after another: a case that ends its process is a finding."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

_ROOT: Final = Path(__file__).resolve().parents[2]
# of one case
_PATIENCE_S: Final = 30.0
EXPECTED: Final = frozenset(
    {"used", "ModelLoadError", "ValidationError", "GenerationError", "LlamaError"}
)


@dataclass(frozen=True)
class Finding:
    """A case that did not end as it should."""

    kind: str
    number: int
    ended: str
    """`signal 11`, `exit code 3`, `no answer in 30 s`, or an exception that is not the binding's."""
    words: str = ""
    """The last of what the process wrote."""

    def __str__(self) -> str:
        return f"{self.kind} {self.number}: {self.ended} {self.words}".rstrip()


@dataclass(frozen=True)
class Result:
    """How all cases of a kind ended."""

    kind: str
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def run(
    kind: str,
    *,
    models: Path,
    scratch: Path,
    seed: int,
    count: int,
    first: int = 0,
    told: Callable[[Finding], None] = lambda _: None,
) -> Result:
    """Open `count` cases of a kind.

    Args:
        kind: a key of `tests.fuzz.worker.BASES`.
        models: the folder of the tiny models.
        scratch: a folder for the damaged files; those of findings stay there.
        seed: decides on the damage, with the kind and the number of the case.
        count: how many.
        first: the number of the first case.
        told: called with every finding.
    """
    result = Result(kind=kind)

    def find(number: int, ended: str, words: str = "") -> None:
        found = Finding(kind=kind, number=number, ended=ended, words=words)
        result.findings.append(found)
        told(found)

    following, end = first, first + count
    while following < end:
        with _Process(kind, models, scratch, seed, following, end) as process:
            for line in process.lines():
                words = json.loads(line)
                if "case" in words:
                    following = words["case"]
                    continue
                outcome = words["outcome"]
                result.outcomes[outcome if outcome in EXPECTED else "another exception"] += 1
                if outcome not in EXPECTED:
                    find(following, outcome)
                following += 1
        if following < end:
            result.outcomes[process.ended] += 1
            find(following, process.ended, process.last_words)
            following += 1
    return result


class _Process:
    """A worker that is stopped where a case takes too long."""

    def __init__(
        self, kind: str, models: Path, scratch: Path, seed: int, first: int, last: int
    ) -> None:
        arguments = [str(models), str(scratch), kind, str(seed), str(first), str(last)]
        self._errors = scratch / f"{kind}.stderr"
        self._file = self._errors.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", *arguments],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._file,
            encoding="utf-8",
        )
        self._timer = threading.Timer(_PATIENCE_S, self._stop)
        self.stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._file.close()

    def lines(self) -> Iterator[str]:
        """Give what it says, as it says it."""
        assert self._process.stdout is not None
        self._timer.start()
        for line in self._process.stdout:
            self._timer.cancel()
            yield line
            self._timer = threading.Timer(_PATIENCE_S, self._stop)
            self._timer.start()

    @property
    def ended(self) -> str:
        """How it ended."""
        code = self._process.returncode
        if self.stopped:
            return f"no answer in {_PATIENCE_S:.0f} s"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    @property
    def last_words(self) -> str:
        """The last line that names a place in llama.cpp, or else the last."""
        lines = self._errors.read_text("utf-8", "replace").splitlines()
        named = [line for line in lines if "GGML_ASSERT" in line or ".cpp:" in line]
        return (named or lines or [""])[-1]

    def _stop(self) -> None:
        self.stopped = True
        self._process.kill()
