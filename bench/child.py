"""A child process that answers questions, a line of JSON each."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import machine
from ci.errors import BuildError


class Child:
    """This side's end of the line to a process; used in a ``with`` statement.

    Attributes:
        nice: its priority, see :func:`bench.machine.put_first`.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        title: str,
        env: Mapping[str, str],
        cwd: Path | None = None,
        cure: str = "read its last lines above",
    ) -> None:
        """Start it.

        Args:
            command: the program and its arguments.
            title: what it is called where it fails.
            env: its environment.
            cwd: its folder.
            cure: what to do where it fails.
        """
        self._title = title
        self._cure = cure
        # a file and not a pipe: a full pipe would stop the child
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            start_new_session=True,
        )
        self.nice = machine.put_first(self._process.pid)

    def send(self, **question: object) -> None:
        """Have it begin with an answer.

        Raises:
            BuildError: it has ended; its last lines are in the message.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def receive(self) -> dict[str, object]:
        """Wait for the answer and return it.

        Raises:
            BuildError: it has ended; its last lines are in the message.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        answer: dict[str, object] = json.loads(line)
        return answer

    def ask(self, **question: object) -> dict[str, object]:
        """Send a question and return the answer.

        Raises:
            BuildError: it has ended; its last lines are in the message.
        """
        self.send(**question)
        return self.receive()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    def _failure(self) -> BuildError:
        code = self._process.wait()
        self._errors.seek(0)
        printed = self._errors.read().decode("utf-8", "replace").strip().splitlines()[-10:]
        self.close()
        return BuildError(
            f"{self._title} ended with exit code {code}"
            + "".join(f"\n  | {line}" for line in printed),
            cure=self._cure,
        )
