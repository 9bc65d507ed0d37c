"""Prompts of text and media: their tokens and positions, and their way into a context.

Tokens and positions are two counts: with M-RoPE an image of 16 x 16 tokens has 16 positions. A prompt
is a list with one entry per position, so that it lines up with what a context remembers: a text token
is its id, and a position of an image or audio is a negative number made of the content's hash.
"""

from __future__ import annotations

import ctypes
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _abi, _library, _log
from llama_cpp._engine import PreparedPrompt
from llama_cpp._errors import GenerationError, ValidationError
from llama_cpp._handle import Handle
from llama_cpp._sequence import MediaSpan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_cpp._engine import Prefills
    from llama_cpp._mtmd import Bitmap, Projector

_TOKENIZE_STATUS = {1: "mtmd does not take these parts", 2: "mtmd cannot prepare the media"}
# one entry per position: 31 bits of the hash, never zero
_ENTRY_BITS = 0x7FFFFFFF


class Chunk(NamedTuple):
    """A run of text tokens, or an image or audio (or a part of one) as the model sees it."""

    tokens: tuple[int, ...]
    """Ids of text; empty for media."""
    n_tokens: int
    """Places that it takes in the context's memory."""
    n_positions: int
    """Positions that it takes in the sequence."""
    key: str
    """Of media: what its embeddings depend on, hashed; of text empty."""
    pointer: int
    """The native chunk; belongs to the prompt."""
    entries: tuple[int, ...]
    """One number per position."""


class MediaPrompt(PreparedPrompt):
    """A prompt of text and media, ready for a context of the projector's model.

    Attributes:
        projector: what made it.
        chunks: its parts in order.
    """

    def __init__(
        self,
        projector: Projector,
        parts: Sequence[str | Bitmap],
        *,
        add_special: bool,
        parse_special: bool,
    ) -> None:
        """Tokenize; raises as :meth:`Projector.tokenize` does."""
        self.projector = projector
        vocabulary = projector.model.vocabulary
        # raises what mtmd would not survive: no tokenizer, no begin token where one is added
        vocabulary.tokenize(b"", add_special=add_special, parse_special=parse_special)
        self._lib = lib = _library.load()
        texts = [_utf8(part) if isinstance(part, str) else None for part in parts]
        native = (_abi.mtmd_input_part * max(len(parts), 1))()
        rows = (ctypes.POINTER(_abi.mtmd_input_part) * max(len(parts), 1))()
        # they must live until the call is over
        inputs = [
            _abi.mtmd_input_text(
                text=text, text_len=len(text), add_special=False, parse_special=parse_special
            )
            for text in texts
            if text is not None
        ]
        following = iter(inputs)
        self._identities: dict[int, str] = {}
        _log.clear()
        with projector.lock, _log.kept():
            owner = projector.pointer
            for index, part in enumerate(parts):
                if isinstance(part, str):
                    native[index].text = ctypes.pointer(next(following))
                else:
                    if part.projector is not projector:
                        raise ValidationError("an image was decoded for another projector")
                    native[index].bitmap = part.handle.pointer
                rows[index] = ctypes.pointer(native[index])
            made = lib.mtmd_input_chunks_init()
            if made is None:
                raise GenerationError("mtmd could not make a list of chunks")
            self._handle = Handle("prompt", made, lib.mtmd_input_chunks_free, projector.handle)
            self._handle.close_with(self)
            status = projector.call(
                lib.mtmd_tokenize_from_parts, owner, made, rows, len(parts), add_special
            )
            if status:
                self._handle.close()
                raise ValidationError(
                    _TOKENIZE_STATUS.get(status, f"mtmd failed with status {status}"),
                    log=_log.complaints(),
                )
            self.chunks = tuple(self._chunks(made))
        super().__init__(entry for chunk in self.chunks for entry in chunk.entries)
        self.n_tokens = sum(chunk.n_tokens for chunk in self.chunks)

    def _chunks(self, made: int) -> list[Chunk]:
        lib = self._lib
        chunks: list[Chunk] = []
        for index in range(lib.mtmd_input_chunks_size(made)):
            pointer = lib.mtmd_input_chunks_get(made, index)
            if pointer is None:
                raise GenerationError(f"mtmd has no chunk {index}")
            n_tokens = lib.mtmd_input_chunk_get_n_tokens(pointer)
            n_positions = lib.mtmd_input_chunk_get_n_pos(pointer)
            if lib.mtmd_input_chunk_get_type(pointer) == _abi.MTMD_INPUT_CHUNK_TYPE_TEXT:
                count = ctypes.c_size_t()
                ids = lib.mtmd_input_chunk_get_tokens_text(pointer, ctypes.byref(count))
                tokens = tuple(ids[: count.value]) if count.value else ()
                chunks.append(Chunk(tokens, n_tokens, n_positions, "", pointer, tokens))
            else:
                identity = (lib.mtmd_input_chunk_get_id(pointer) or b"").decode("ascii", "replace")
                key = self._key(identity, n_tokens, n_positions, chunks)
                entries = _entries(key, n_positions)
                chunks.append(Chunk((), n_tokens, n_positions, key, pointer, entries))
        return chunks

    def _key(self, identity: str, n_tokens: int, n_positions: int, before: list[Chunk]) -> str:
        """Name a media chunk: several parts of one image follow each other and are told apart."""
        place = sum(1 for chunk in before if chunk.key)
        same = 0
        while place - same > 0 and self._identities.get(place - same - 1) == identity:
            same += 1
        self._identities[place] = identity
        text = f"{self.projector.key}/{identity}/{same}/{n_tokens}/{n_positions}"
        return sha256(text.encode()).hexdigest()

    def close(self) -> None:
        """Free what mtmd has made of the media; does nothing the second time."""
        self._handle.close()

    def prefill(self, engine: Prefills, *, whole: bool = True) -> int:
        """Compute the prompt in a context, reusing what is in memory; its last token has logits then.

        Args:
            engine: drives a context of the projector's model.
            whole: False leaves the last token to compute.

        Returns:
            How many positions needed no computing.

        Raises:
            ValidationError: it is empty, ends in media, does not fit the context, or an image does not
                fit a batch; or the context is another model's.
            GenerationError: llama.cpp failed.
        """
        context, sequence = engine.context, engine.sequence
        self._check(engine)
        with context.lock:
            context.set_embeddings(wanted=False)
            kept = sequence.keep_prefix(self, self._spans())
            position = 0
            for chunk in self.chunks:
                end = position + chunk.n_positions
                if end > kept:
                    if chunk.key:
                        self._compute(engine, chunk, position)
                    else:
                        stop = -1 if chunk is self.chunks[-1] and not whole else None
                        engine.append(chunk.tokens[max(kept - position, 0) : stop])
                position = end
            return kept

    def _spans(self) -> dict[int, MediaSpan]:
        spans = {}
        position = 0
        for chunk in self.chunks:
            if chunk.key:
                spans[position] = MediaSpan(chunk.key, chunk.n_tokens, chunk.n_positions)
            position += chunk.n_positions
        return spans

    def _check(self, engine: Prefills) -> None:
        context = engine.context
        if context.model is not self.projector.model:
            raise ValidationError("the prompt was made for another model than the context's")
        if not self.chunks or not self.chunks[-1].tokens:
            raise ValidationError(
                "the prompt must end with text: after an image or audio alone there are no logits"
            )
        room = context.n_ctx_seq
        if self.n_tokens >= room:
            raise ValidationError(
                f"the prompt has {self.n_tokens} tokens, the context holds {room} with at least one "
                f"for the answer: give fewer or smaller images (image_max_tokens), or load the model "
                f"with n_ctx={self.n_tokens + 1} or more"
            )
        if not context.causal:
            raise ValidationError(
                "the context attends both ways (attention_type) and cannot generate from images"
            )
        # what sees itself both ways must be computed at once
        most = min(context.n_batch, context.n_ubatch)
        for chunk in self.chunks:
            if (
                chunk.key
                and chunk.n_tokens > most
                and self.projector.uses_non_causal(chunk.pointer)
            ):
                raise ValidationError(
                    f"an image has {chunk.n_tokens} tokens, which this model computes at once, and a "
                    f"batch takes {most}: load the model with n_batch and n_ubatch of at least "
                    f"{chunk.n_tokens}"
                )

    def _compute(self, engine: Prefills, chunk: Chunk, position: int) -> None:
        """Turn media into embeddings and put them into the context's memory."""
        context, sequence, lib = engine.context, engine.sequence, self._lib
        projector = self.projector
        _log.clear()
        with projector.lock:
            _ = self._handle.pointer
            owner = projector.pointer
            if projector.call(lib.mtmd_encode_chunk, owner, chunk.pointer):
                raise GenerationError("mtmd cannot encode the media", log=_log.complaints())
            made = lib.mtmd_get_output_embd(owner)
            end = ctypes.c_int32(position)
            sequence.begin()
            context.forget_outputs()
            target = context.handle.pointer
            try:
                status = lib.mtmd_helper_decode_image_chunk(
                    owner,
                    target,
                    chunk.pointer,
                    made,
                    position,
                    sequence.seq_id,
                    context.n_batch,
                    ctypes.byref(end),
                    _abi.mtmd_helper_post_decode_callback(),
                    None,
                )
            finally:
                lib.llama_set_causal_attn(target, context.causal)
        _log.reraise()
        if status or end.value != position + chunk.n_positions:
            raise GenerationError(
                f"llama.cpp cannot take the media in (status {status}); reset() before going on",
                log=_log.complaints(),
            )
        sequence.extend_media(
            chunk.entries, MediaSpan(chunk.key, chunk.n_tokens, chunk.n_positions)
        )


def _entries(key: str, count: int) -> tuple[int, ...]:
    """Return one negative number per position, made of the key."""
    return tuple(
        -1 - (int(sha256(f"{key}/{index}".encode()).hexdigest()[:8], 16) & (_ENTRY_BITS - 1))
        for index in range(count)
    )


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValidationError(
            f"the text has a lone surrogate at character {error.start}, which is no Unicode text"
        ) from error
