"""What a person sees while the toolchain works: steps, files, elapsed time, a summary."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar

# ninja's default NINJA_STATUS; the name of the object's source is what a person recognises
_NINJA = re.compile(r"^\[(\d+)/(\d+)\] (?:.* )?(\S+)$")
_EVERY_S = 10.0


class Progress:
    """Steps and bars on a terminal; plain lines, one per ten seconds, anywhere else."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._start

    def step(self, text: str) -> None:
        """Say that a step begins."""
        self.console.print(f"[bold]\\[{self.elapsed:6.1f} s][/bold] {_plain(text)}")

    def warn(self, text: str) -> None:
        """Say something that must not be missed."""
        self.console.print(f"[bold yellow]WARNING[/bold yellow] {_plain(text)}")

    def fail(self, text: str) -> None:
        """Say why nothing goes on."""
        self.console.print(f"[bold red]ERROR[/bold red] {_plain(text)}")

    def summary(self, title: str, rows: list[tuple[str, str]]) -> None:
        """Print two columns; nothing is folded, so that a hash can be copied."""
        width = max(len(name) for name, _ in rows)
        self.console.print(f"[bold]{_plain(title)}[/bold]")
        for name, value in rows:
            self.console.print(f"  {_plain(name):{width}}  {_plain(value)}")

    @contextmanager
    def bytes(self, title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Yield a function to call with the number of bytes that have arrived."""
        if not self.console.is_terminal:
            yield lambda _: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Bar(*columns, TimeElapsedColumn(), console=self.console, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)

    @contextmanager
    def compiling(self, title: str) -> Iterator[Callable[[str], None]]:
        """Yield a function to call with each line that ninja prints; it shows file n of m."""
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            with Bar(
                *columns,
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[file]}"),
                console=self.console,
                transient=True,
            ) as bar:
                task = bar.add_task(title, total=None, file="")

                def show(line: str) -> None:
                    match = _NINJA.match(line)
                    if match:
                        bar.update(
                            task,
                            completed=int(match[1]),
                            total=int(match[2]),
                            file=_source_name(match[3]),
                        )

                yield show
            return
        last = 0.0

        def say(line: str) -> None:
            nonlocal last
            match = _NINJA.match(line)
            if match and (match[1] == match[2] or self.elapsed - last >= _EVERY_S):
                last = self.elapsed
                self.step(f"{title}: {match[1]} of {match[2]} ({_source_name(match[3])})")

        yield say


def _source_name(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(".o").removesuffix(".obj")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
