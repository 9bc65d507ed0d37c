"""Answers that begin with thoughts: told apart from what is meant for the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._delta import Delta, begin_of

if TYPE_CHECKING:
    from llama_cpp._delta import Reader


class Thoughts(NamedTuple):
    """A way to write thoughts."""

    opens: str
    closes: str


THOUGHTS = (
    Thoughts("<think>", "</think>"),
    Thoughts("[THINK]", "[/THINK]"),
    Thoughts("<seed:think>", "</seed:think>"),
    Thoughts("<|START_THINKING|>", "<|END_THINKING|>"),
    Thoughts("<|channel>thought", "<channel|>"),
)
# the last of these begins with a token of its own
MARKS = frozenset(mark for thoughts in THOUGHTS for mark in thoughts) | {"<|channel>"}
"""Texts of tokens that thoughts are written with; a model may have them as control tokens."""


def opened(prompt: str) -> Thoughts | None:
    """Return the thoughts that a prompt has begun; None where it ends otherwise."""
    end = prompt.rstrip()
    return next((each for each in THOUGHTS if end.endswith(each.opens)), None)


class ReasoningReader:
    """Splits the thoughts at the beginning off, and leaves the rest to another reader.

    Space around thoughts belongs to neither.
    """

    def __init__(self, rest: Reader, thoughts: Thoughts | None) -> None:
        """Read an answer whose ``thoughts`` the prompt has begun, or None."""
        self._rest = rest
        self._thoughts = thoughts
        self._held = ""
        self._begun = False  # something else than space was thought
        self._over = False

    def push(self, text: str) -> list[Delta]:
        """Return thoughts, then what the other reader finds."""
        self._held += text
        if self._over:
            return self._after()
        if self._thoughts is None and not self._open():
            return self._after() if self._over else []
        assert self._thoughts is not None
        if not self._begun:
            self._held = self._held.lstrip()
        closes = self._thoughts.closes
        end = self._held.find(closes)
        if end >= 0:
            thought = self._held[:end].rstrip()
            self._held = self._held[end + len(closes) :]
            self._over, self._begun = True, False
            return [*_thought(thought), *self._after()]
        thought = self._held[: begin_of(self._held, closes)].rstrip()
        self._held = self._held[len(thought) :]
        self._begun = self._begun or bool(thought)
        return _thought(thought)

    def flush(self) -> list[Delta]:
        """End the answer, which may have been cut within its thoughts."""
        held, self._held = self._held, ""
        if self._thoughts is not None and not self._over:
            return [*_thought(held.rstrip()), *self._rest.flush()]
        if self._over:  # only space is held back then
            return self._rest.flush()
        return [*self._rest.push(held), *self._rest.flush()]

    def _open(self) -> bool:
        """Say whether the answer begins with thoughts; it is certain that not if it is over then."""
        text = self._held.lstrip()
        for thoughts in THOUGHTS:
            if text.startswith(thoughts.opens):
                self._thoughts = thoughts
                self._held = text[len(thoughts.opens) :]
                return True
        if not any(thoughts.opens.startswith(text) for thoughts in THOUGHTS):
            self._over = self._begun = True  # nothing to strip: it is the answer itself
        return False

    def _after(self) -> list[Delta]:
        """Hand on what follows the thoughts, without the space between."""
        if not self._begun:
            self._held = self._held.lstrip()
            self._begun = bool(self._held)
        held, self._held = self._held, ""
        return self._rest.push(held) if held else []


def _thought(text: str) -> list[Delta]:
    return [Delta(reasoning=text)] if text else []
