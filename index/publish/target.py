"""Where a site can go: what every kind of target does, and what it says when it has done it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from index.publish.past import Past
    from index.publish.tree import Tree

    # Called with what the target has, before anything is written there; raises to stop.
    Approve: TypeAlias = Callable[[Past], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a publish did; ``sent`` files of ``size`` bytes were not there before.

    ``served`` is the folder on this machine that has the tree now, None where there is none;
    ``back`` says how to go back; ``notes`` are lines for the person who published.
    """

    sent: int
    size: int
    served: Path | None
    back: str
    notes: tuple[str, ...] = ()


class Target(Protocol):
    """One place that a site is published to."""

    @property
    def name(self) -> str:
        """The place as a person knows it."""

    def put(self, tree: Tree, approve: Approve) -> Outcome:
        """Publish a tree; whoever reads meanwhile has the old or the new one.

        Raises:
            PublishError: It was not published, or only in part; running it again goes on.
        """

    def go_back(self) -> str:
        """Serve the tree again that was there before, and say which one that is.

        Raises:
            UsageError: This kind of target keeps no tree, or has none.
        """
