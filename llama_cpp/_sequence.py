"""What a context remembers of a sequence, mirrored: so that a shared beginning is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llama_cpp._context import Context


class MediaSpan(NamedTuple):
    """An image or audio in a sequence; its positions are negative numbers among the tokens."""

    key: str
    """What its embeddings depend on, hashed."""
    n_tokens: int
    """Places in the context's memory."""
    n_positions: int
    """Positions in the sequence; with M-RoPE fewer."""


class CachedSequence:
    """What a context remembers of one sequence, so that a shared beginning is computed once."""

    def __init__(self, context: Context, seq_id: int = 0) -> None:
        """Mirror sequence ``seq_id``, which is empty now."""
        self._context = context
        self._seq_id = seq_id
        self._tokens: list[int] = []
        self._media: dict[int, MediaSpan] = {}
        # drafted tokens that are in memory after the known ones, and may turn out wrong
        self._ahead: list[int] = []
        # True while the context may know other tokens than this mirror: from before a decode until
        # it is noted, so that an exception or Ctrl-C at any point in between is seen here.
        self._unsure = False
        # True from a change that the application made in the memory itself, until it is empty
        self._foreign = False

    @property
    def seq_id(self) -> int:
        """Its number in the context."""
        return self._seq_id

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens in the context's memory, in order."""
        return self._tokens

    @property
    def n_cells(self) -> int:
        """Places taken in the context's memory: an image may take more of them than positions."""
        hidden = sum(span.n_tokens - span.n_positions for span in self._media.values())
        return len(self._tokens) + hidden

    def clear(self) -> None:
        """Forget everything, in the mirror and in the context."""
        self._tokens = []
        self._media = {}
        self._ahead = []
        self._context.remove(self._seq_id, 0)
        self._unsure = self._foreign = False

    def settle(self) -> None:
        """Forget drafted tokens that were not confirmed."""
        if self._ahead:
            self._unsure = True
            if self._context.remove(self._seq_id, len(self._tokens)):
                self._ahead = []
                self._unsure = False
            else:
                self.clear()

    def keep_prefix(
        self, prompt: Sequence[int], media: Mapping[int, MediaSpan] | None = None
    ) -> int:
        """Forget what does not begin ``prompt``; return how many of its tokens need no computing.

        At least the last token is always left to compute, because its logits are needed.

        Args:
            prompt: one entry per position.
            media: the prompt's images and audio by position; None takes those in memory for its own.
        """
        self.settle()
        if self._unsure or self._foreign:
            self.clear()
        cached = self._tokens
        shared = self._before_other_media(shared_length(cached, prompt[:-1]), media)
        if shared == 0:
            self.clear()
        elif shared < len(cached):
            self._unsure = True
            if self._context.remove(self._seq_id, shared) and self._window_reaches(shared):
                del cached[shared:]
                self._media = {at: span for at, span in self._media.items() if at < shared}
                self._unsure = False
            else:
                # a recurrent state cannot go back, and a window may have lost what is needed
                self.clear()
                shared = 0
        return shared

    def copy_prefix(self, source: CachedSequence, length: int) -> bool:
        """Begin with the first ``length`` tokens of another sequence of the same context.

        What this one had is forgotten.

        Returns:
            False where the memory cannot cut a copy there (a recurrent state, a sliding window that
            has moved on): this sequence is empty then, or as it was.
        """
        source.settle()
        if source._unsure or source._foreign or not source._window_reaches(length):
            return False
        self.clear()
        self._unsure = True
        self._context.copy(source._seq_id, self._seq_id)
        if length < len(source._tokens) and not self._context.remove(self._seq_id, length):
            self.clear()
            return False
        self._tokens = source._tokens[:length]
        self._media = {at: span for at, span in source._media.items() if at < length}
        self._unsure = False
        return True

    def begin(self) -> None:
        """Note that tokens of this sequence are about to be computed."""
        self._unsure = True

    def distrust(self) -> None:
        """Note that the memory was changed by others: all of it is to be computed again."""
        self._foreign = True

    def extend(self, tokens: Sequence[int]) -> None:
        """Note that ``tokens`` were computed."""
        self._tokens.extend(tokens)
        self._unsure = False

    def extend_drafted(self, token: int, drafted: Sequence[int]) -> None:
        """Note that ``token`` was computed, and guesses of what follows it after it."""
        self._ahead = list(drafted)
        self.extend((token,))

    def confirm(self, token: int) -> bool:
        """Return whether ``token`` is what was drafted next; it counts as known then."""
        if self._ahead[:1] != [token]:
            return False
        self._tokens.append(self._ahead.pop(0))
        return True

    def extend_media(self, entries: Sequence[int], span: MediaSpan) -> None:
        """Note that an image or audio was computed, which ``entries`` stand for."""
        self._media[len(self._tokens)] = span
        self.extend(entries)

    def settled(self) -> tuple[list[int], dict[int, MediaSpan]]:
        """Return the tokens in memory, and the media among them by position; nothing is unsure then."""
        self.settle()
        if self._unsure or self._foreign:
            self.clear()
        return list(self._tokens), dict(self._media)

    def restore(self, tokens: Sequence[int], media: Mapping[int, MediaSpan]) -> None:
        """Note that a state was loaded into the context: these tokens, with these media."""
        self._tokens = list(tokens)
        self._media = dict(media)
        self._ahead = []
        self._unsure = self._foreign = False

    def _before_other_media(self, shared: int, media: Mapping[int, MediaSpan] | None) -> int:
        """Return where sharing ends: never within media, nor behind media that only look alike."""
        for at, span in self._media.items():
            if at < shared and (
                at + span.n_positions > shared or (media is not None and media.get(at) != span)
            ):
                shared = at
        return shared

    def _window_reaches(self, position: int) -> bool:
        """Whether a sliding attention window at ``position`` finds all its tokens in memory."""
        window = self._context.model.n_swa
        if not window or not position:
            return True
        # -1 where the layers with a window have nothing left, though the others may
        return 0 <= self._context.first_position(self._seq_id) <= max(0, position - window)


def shared_length(left: Sequence[object], right: Sequence[object]) -> int:
    """Return how many tokens, or characters, two sequences have in common at their beginning."""
    for index, (one, other) in enumerate(zip(left, right)):
        if one != other:
            return index
    return min(len(left), len(right))
