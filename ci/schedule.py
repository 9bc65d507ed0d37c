"""What the pipeline builds when, and what a job of it runs in."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import ConfigDict, StringConstraints
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid", strict=True)

Subset: TypeAlias = Literal["release", "pr", "monthly"]
SUBSETS: Final[tuple[Subset, ...]] = get_args(Subset)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Subsets:
    """What each workflow builds: patterns of targets' names."""

    release: list[str]
    pr: list[str]
    monthly: list[str]

    def patterns(self, name: Subset) -> tuple[str, ...]:
        """Return the patterns of the subset called ``name``."""
        return tuple({"release": self.release, "pr": self.pr, "monthly": self.monthly}[name])

    def problems(self, targets: Collection[str]) -> Iterator[str]:
        """Yield what is wrong with them, given the names of all targets."""
        for name in SUBSETS:
            for pattern in self.patterns(name):
                if not any(fnmatchcase(target, pattern) for target in targets):
                    yield f"  subset.{name}: {pattern!r} matches no target"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Container:
    """An image that a job runs in, by its digest, and options for the engine that runs it."""

    image: Annotated[str, StringConstraints(pattern=r"^[^@ ]+@sha256:[0-9a-f]{64}$")]
    options: str
