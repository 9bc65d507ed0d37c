"""A model by the names of llama-cpp-python's internals, over the core's."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from llama_cpp import _abi, _library, _log
from llama_cpp._errors import ValidationError
from llama_cpp._model import Model
from llama_cpp._native_params import model_params, progress

if TYPE_CHECKING:
    from collections.abc import Sequence


class LlamaModel:
    """A model in memory.

    Attributes:
        path_model: its file.
        params: the ``struct llama_model_params`` it was loaded with.
        verbose: whether llama.cpp's lines pass the logger.
    """

    def __init__(
        self, *, path_model: str, params: _abi.llama_model_params, verbose: bool = True
    ) -> None:
        """Load a GGUF file.

        Args:
            path_model: the file; for a split model its first part.
            params: from ``llama_model_default_params()``.
            verbose: False passes only llama.cpp's errors to the logger ``llama_cpp``.

        Raises:
            ModelLoadError: the file is missing, damaged, too new, or refused by llama.cpp.
            ValidationError: a parameter is out of range, or can be given to ``Llama`` only.
        """
        _log.set_verbose(verbose)
        self._core = Model(path_model, model_params(params), progress(params))
        self.path_model = path_model
        self.params = params
        self.verbose = verbose

    @classmethod
    def view(cls, core: Model, *, verbose: bool = True) -> LlamaModel:
        """Return a loaded model by these names; closing either closes both."""
        made = cls.__new__(cls)
        made._core = core  # noqa: SLF001 - its own
        made.path_model = str(core.path)
        made.params = core.native
        made.verbose = verbose
        return made

    @property
    def core(self) -> Model:
        """The model itself."""
        return self._core

    @property
    def model(self) -> int:
        """The native ``struct llama_model *``."""
        return self._core.handle.pointer

    @property
    def vocab(self) -> int:
        """The native ``struct llama_vocab *``."""
        return self._core.vocabulary.pointer

    def close(self) -> None:
        """Free the model and everything made from it; does nothing the second time."""
        self._core.close()

    # -- facts ---------------------------------------------------------------------------------

    def vocab_type(self) -> int:
        """Return ``LLAMA_VOCAB_TYPE_*``."""
        return self._open().vocabulary.type

    def n_vocab(self) -> int:
        """Return the number of token ids."""
        return self._open().vocabulary.size

    def n_ctx_train(self) -> int:
        """Return the context length that it was trained with, in tokens."""
        return self._open().n_ctx_train

    def n_embd(self) -> int:
        """Return the width of its layers."""
        return self._open().n_embd

    def rope_freq_scale_train(self) -> float:
        """Return the RoPE frequency scale that it was trained with."""
        core = self._open()
        with core.handle.lock:
            return _library.load().llama_model_rope_freq_scale_train(core.handle.pointer)

    def desc(self) -> str:
        """Return llama.cpp's short name, such as ``llama 7B Q4_K - Medium``."""
        return self._open().description

    def size(self) -> int:
        """Return the size of all tensors in bytes."""
        return self._open().size

    def n_params(self) -> int:
        """Return the number of parameters."""
        return self._open().n_params

    def metadata(self) -> dict[str, str]:
        """Return the scalar key-value pairs of the model file."""
        return self._open().metadata

    def get_tensor(self, name: str) -> ctypes.c_void_p:
        """Raise :class:`NotImplementedError`: llama.cpp gives no access to a model's tensors."""
        raise NotImplementedError(
            f"llama.cpp gives no access to the tensor {name!r} of a loaded model; read the file "
            "with the package gguf (`pip install gguf`)"
        )

    # -- tokens --------------------------------------------------------------------------------

    def token_get_text(self, token: int) -> str:
        """Return the token as the model's file spells it."""
        return self._open().vocabulary.text(token)

    def token_get_score(self, token: int) -> float:
        """Return the token's score in the model's file."""
        vocab, lib = self._checked(token), _library.load()
        with self._core.handle.lock:
            return lib.llama_vocab_get_score(vocab, token)

    def token_get_attr(self, token: int) -> int:
        """Return the token's ``LLAMA_TOKEN_ATTR_*`` bits."""
        vocab, lib = self._checked(token), _library.load()
        with self._core.handle.lock:
            return lib.llama_vocab_get_attr(vocab, token)

    def token_bos(self) -> int:
        """Return the begin-of-sequence token; -1 where the model has none, as with the others."""
        return self._open().vocabulary.bos

    def token_eos(self) -> int:
        """Return the end-of-sequence token."""
        return self._open().vocabulary.eos

    def token_cls(self) -> int:
        """Return the classification token; in llama.cpp it is the begin-of-sequence token."""
        return self._open().vocabulary.bos

    def token_sep(self) -> int:
        """Return the separator token."""
        return self._open().vocabulary.sep

    def token_nl(self) -> int:
        """Return the new-line token."""
        return self._open().vocabulary.nl

    def token_prefix(self) -> int:
        """Return the token before the text before a gap."""
        return self._open().vocabulary.fim_prefix

    def token_middle(self) -> int:
        """Return the token before what fills the gap."""
        return self._open().vocabulary.fim_middle

    def token_suffix(self) -> int:
        """Return the token before the text after a gap."""
        return self._open().vocabulary.fim_suffix

    def token_eot(self) -> int:
        """Return the end-of-turn token."""
        return self._open().vocabulary.eot

    def add_bos_token(self) -> bool:
        """Return whether the tokenizer puts the begin token first."""
        return self._open().vocabulary.adds_bos

    def add_eos_token(self) -> bool:
        """Return whether the tokenizer puts the end token last."""
        return self._open().vocabulary.adds_eos

    def tokenize(self, text: bytes, add_bos: bool, special: bool) -> list[int]:
        """Turn UTF-8 text into token ids.

        Args:
            text: UTF-8 bytes.
            add_bos: add the begin and end tokens that the model asks for.
            special: read control tokens spelled in the text as such.

        Raises:
            ValidationError: the model has no tokenizer.
        """
        if not isinstance(text, (bytes, bytearray)):
            raise ValidationError(f"the text is {type(text).__name__}; give UTF-8 bytes")
        return self._open().vocabulary.tokenize(
            bytes(text), add_special=add_bos, parse_special=special
        )

    def token_to_piece(self, token: int, special: bool = False) -> bytes:
        """Return the bytes of one token.

        Args:
            token: its id.
            special: spell control tokens out, instead of as nothing.

        Raises:
            ValidationError: the id is out of range.
        """
        return self._open().vocabulary.piece(token, special=special)

    def detokenize(self, tokens: Sequence[int], special: bool = False) -> bytes:
        """Turn token ids into UTF-8 bytes.

        A begin token at the start says that a text starts here: the space that the tokenizer put in
        front of it is taken away again.

        Args:
            tokens: ids.
            special: spell control tokens out.

        Raises:
            ValidationError: an id is out of range.
        """
        vocabulary = self._open().vocabulary
        ids = vocabulary.check(tokens)
        pieces = vocabulary.special_pieces if special else vocabulary.pieces
        data = b"".join(pieces[token].data for token in ids)
        starts = ids[:1] == [vocabulary.bos] and vocabulary.adds_space
        return data[1:] if starts and data.startswith(b" ") else data

    @staticmethod
    def default_params() -> _abi.llama_model_params:
        """Return llama.cpp's own choice of parameters."""
        return _library.load().llama_model_default_params()

    def _open(self) -> Model:
        _ = self._core.handle.pointer
        return self._core

    def _checked(self, token: int) -> int:
        vocabulary = self._open().vocabulary
        vocabulary.check((token,))
        if vocabulary.type == _abi.LLAMA_VOCAB_TYPE_NONE:
            raise ValidationError("this model has no tokenizer, and its tokens have no attributes")
        return vocabulary.pointer
