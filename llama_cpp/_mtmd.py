"""Images and audio for a language model: the projector beside it, and what it makes of them.

A projector (mmproj) is a second model that turns an image or audio into embeddings of the language
model. It hangs on the language model's handle, is used under its own lock, and is closed with it.
"""

from __future__ import annotations

import ctypes
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _abi, _library, _log
from llama_cpp._arguments import check_integer
from llama_cpp._assertions import FailedAssertionError, guarded
from llama_cpp._errors import GenerationError, LlamaError, ModelLoadError, ValidationError
from llama_cpp._handle import Handle
from llama_cpp._image_header import check_media
from llama_cpp._interrupts import deferred
from llama_cpp._model import Model, _Owner
from llama_cpp._projector_file import WHAT, read_projector
from llama_cpp._threads import default_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import RLock

    from llama_cpp._media_prompt import MediaPrompt

# more than any model makes of an image; pixels per token times this stays below 2**31
_MOST_IMAGE_TOKENS = 1 << 16


class ProjectorParams(NamedTuple):
    """How to load a projector; names as in ``struct mtmd_context_params``."""

    use_gpu: bool = True
    """Compute it on the GPU, where there is one."""
    n_threads: int | None = None
    """None asks the affinity mask and the cgroup."""
    image_min_tokens: int = -1
    """Fewest tokens of an image, where the model has a choice; -1 takes the file's."""
    image_max_tokens: int = -1
    """Most tokens of an image, where the model has a choice; -1 takes the file's."""
    flash_attn: bool | None = None
    """None lets llama.cpp decide."""
    warmup: bool = True
    """Compute an empty image while loading: memory is reserved then, and not at the first image."""

    def check(self) -> None:
        """Raise :class:`ValidationError` for what overflows or excludes each other."""
        if self.n_threads is not None:
            check_integer("n_threads", self.n_threads, 1, _abi.GGML_MAX_N_THREADS)
        for name in ("image_min_tokens", "image_max_tokens"):
            if getattr(self, name) != -1:
                check_integer(name, getattr(self, name), 1, _MOST_IMAGE_TOKENS)
        if -1 not in {self.image_min_tokens, self.image_max_tokens} and (
            self.image_min_tokens > self.image_max_tokens
        ):
            raise ValidationError(
                f"image_min_tokens is {self.image_min_tokens}, more than image_max_tokens, "
                f"{self.image_max_tokens}"
            )


class Projector(_Owner):
    """A multimodal projector for one language model.

    One lock guards it: every method may be called from any thread, and waits for its turn.
    """

    def __init__(
        self,
        model: Model,
        path: str | os.PathLike[str],
        params: ProjectorParams = ProjectorParams(),  # noqa: B008 - frozen
    ) -> None:
        """Load a projector.

        Args:
            model: the language model that it belongs to.
            path: its GGUF file, usually called ``mmproj-*.gguf``.
            params: how to load it.

        Raises:
            ModelLoadError: the file is missing, damaged, no projector, or another model's.
            ValidationError: a parameter is out of range.
            LlamaError: the model cannot compute.
        """
        params.check()
        self.model = model
        self.path = Path(path)
        self.params = params
        if model.params.vocab_only:
            raise LlamaError("the model was loaded with vocab_only=True and cannot compute")
        read_projector(self.path)
        self._lib = lib = _library.load()
        native = lib.mtmd_context_params_default()
        native.use_gpu = params.use_gpu
        native.print_timings = False
        native.n_threads = params.n_threads or default_threads().batch
        native.warmup = params.warmup
        native.image_min_tokens = params.image_min_tokens
        native.image_max_tokens = params.image_max_tokens
        if params.flash_attn is not None:
            native.flash_attn_type = int(params.flash_attn)
        _log.clear()
        with model.handle.lock, deferred() as interrupt:
            owner = model.handle.pointer
            progress = _abi.mtmd_progress_callback(lambda _part, _data: not interrupt.pressed)
            native.progress_callback = progress
            try:
                pointer = guarded(lib.mtmd_init_from_file, os.fsencode(self.path), owner, native)
            except FailedAssertionError as error:
                raise ModelLoadError(
                    f"{WHAT} file {self.path} is damaged, or not what this llama.cpp takes: {error}"
                ) from None
            if pointer is not None:
                self._broken = broken = list[str]()

                def free(pointer: int) -> None:
                    # a thread that was stopped in the middle may still look at it
                    if not broken:
                        lib.mtmd_free(pointer)

                self._handle = Handle("projector", pointer, free, model.handle)
                self._handle.close_with(self)
        _log.reraise()
        if pointer is None:
            raise ModelLoadError(
                f"llama.cpp cannot use {self.path} as the {WHAT} of {model.path}; "
                "its own words follow",
                log=_log.complaints(),
            )
        self.lock: RLock = self._handle.lock
        self.supports_vision: bool = lib.mtmd_support_vision(pointer)
        self.supports_audio: bool = lib.mtmd_support_audio(pointer)
        self.sample_rate: int = lib.mtmd_get_audio_sample_rate(pointer)
        """Of audio, in Hz; -1 where the projector takes none."""
        self.mrope: bool = lib.mtmd_decode_use_mrope(pointer)
        """Whether positions have several dimensions: an image has fewer of them than tokens then."""
        self.key = sha256(repr((str(self.path.resolve()), params)).encode()).hexdigest()
        """What an image's tokens depend on besides the image."""

    @property
    def handle(self) -> Handle:
        """The native projector's owner; its ``pointer`` is for a call made under :attr:`lock`."""
        return self._handle

    @property
    def pointer(self) -> int:
        """The native projector, for a call that is made now under :attr:`lock`.

        Raises:
            LlamaError: it is closed, or was broken by an assertion.
        """
        if self._broken:
            raise LlamaError(
                f"{self.path} cannot be used any more, llama.cpp gave up on it: {self._broken[0]}"
            )
        return self._handle.pointer

    def call(self, function: Callable[..., int], *arguments: object) -> int:
        """Return what a native function returns that ggml may end the process in.

        Raises:
            GenerationError: it would have; the projector cannot be used any more.
        """
        try:
            return guarded(function, *arguments)
        except FailedAssertionError as error:
            self._broken.append(str(error))
            raise GenerationError(
                f"llama.cpp gave up on {self.path}, which is damaged or not what it takes, and which "
                f"cannot be used any more: {error}"
            ) from None

    def bitmap(self, data: bytes) -> Bitmap:
        """Decode an image or audio.

        Args:
            data: a PNG, JPEG, GIF (its first frame) or BMP file; or, where the projector takes audio,
                a WAV, MP3 or FLAC file.

        Raises:
            ValidationError: it is none of these, damaged, too large, or not what the projector takes.
        """
        return Bitmap(self, data)

    def tokenize(
        self, parts: Sequence[str | Bitmap], *, add_special: bool, parse_special: bool = True
    ) -> MediaPrompt:
        """Turn text and media into a prompt.

        Args:
            parts: in order; a text, or an image or audio that stands there.
            add_special: add the begin and end tokens that the model asks for.
            parse_special: read control tokens spelled in the texts as such.

        Raises:
            ValidationError: a bitmap is another projector's, a text is no Unicode text, or the model
                has no tokenizer.
            GenerationError: mtmd failed.
        """
        from llama_cpp._media_prompt import MediaPrompt  # noqa: PLC0415 - it builds on this module

        return MediaPrompt(self, parts, add_special=add_special, parse_special=parse_special)

    def uses_non_causal(self, chunk: int) -> bool:
        """Return whether the tokens of a native chunk see each other both ways."""
        with self.lock:
            return self._lib.mtmd_decode_use_non_causal(self.pointer, chunk)


class Bitmap(_Owner):
    """A decoded image or audio.

    Attributes:
        key: SHA-256 of the file's content.
        is_audio: whether it is audio.
        width: pixels; of audio: samples.
        height: pixels; of audio: 1.
    """

    def __init__(self, projector: Projector, data: bytes) -> None:
        """Decode ``data``; raises as :meth:`Projector.bitmap` does."""
        kind = check_media(data)
        if kind.is_audio and not projector.supports_audio:
            raise ValidationError(f"{projector.path.name} takes no audio ({kind.name} was given)")
        if not kind.is_audio and not projector.supports_vision:
            raise ValidationError(f"{projector.path.name} takes no images ({kind.name} was given)")
        self.projector = projector
        self.key = sha256(data).hexdigest()
        lib = _library.load()
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        _log.clear()
        with projector.lock, _log.kept():
            made = lib.mtmd_helper_bitmap_init_from_buf(
                projector.pointer,
                buffer,
                len(data),
                False,
                lib.mtmd_helper_init_opt_default(),
            )
            if made.video_ctx is not None:
                lib.mtmd_helper_video_free(made.video_ctx)
            if made.bitmap is not None:
                self._handle = Handle("image", made.bitmap, lib.mtmd_bitmap_free, projector.handle)
                self._handle.close_with(self)
        if made.bitmap is None:
            raise ValidationError(
                f"the {kind.name} of {len(data)} bytes is damaged and cannot be decoded",
                log=_log.complaints(),
            )
        self.is_audio: bool = lib.mtmd_bitmap_is_audio(made.bitmap)
        self.width: int = lib.mtmd_bitmap_get_nx(made.bitmap)
        self.height: int = lib.mtmd_bitmap_get_ny(made.bitmap)
        # mtmd asserts on a single sample
        if made.video_ctx is not None or self.width < 1 + self.is_audio or self.height < 1:
            self.close()
            raise ValidationError(f"the {kind.name} of {len(data)} bytes is empty")

    @property
    def handle(self) -> Handle:
        """The native bitmap's owner."""
        return self._handle
