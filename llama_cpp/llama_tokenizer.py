"""Tokenizers: a model's own, and those of Hugging Face's transformers."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from llama_cpp._errors import LlamaError
from llama_cpp._sequence import shared_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama_cpp.llama import Llama


class BaseLlamaTokenizer(ABC):
    """What :class:`llama_cpp.Llama` asks of a tokenizer."""

    @abstractmethod
    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Turn UTF-8 text into token ids.

        Args:
            text: UTF-8 bytes.
            add_bos: add the begin (and end) tokens that the model asks for.
            special: read control tokens spelled in the text as such.
        """

    @abstractmethod
    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """Turn token ids into UTF-8 bytes.

        Args:
            tokens: ids.
            prev_tokens: what comes before them, if anything.
            special: spell control tokens out.
        """


class LlamaTokenizer(BaseLlamaTokenizer):
    """The tokenizer in a model's file."""

    def __init__(self, llama: Llama) -> None:
        """Use the tokenizer of a loaded model, which stays its owner's."""
        self._llama = llama

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Turn UTF-8 text into token ids.

        Args:
            text: UTF-8 bytes.
            add_bos: add the begin (and end) tokens that the model asks for.
            special: read control tokens spelled in the text as such.

        Raises:
            ValidationError: the model has no tokenizer.
        """
        return self._llama.tokenize(text, add_bos, special)

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """Turn token ids into UTF-8 bytes.

        Args:
            tokens: ids.
            prev_tokens: what comes before them, if anything.
            special: spell control tokens out.

        Raises:
            ValidationError: an id is out of range.
        """
        return self._llama.detokenize(tokens, prev_tokens, special)

    def encode(self, text: str, add_bos: bool = True, special: bool = True) -> list[int]:
        """Turn a string into token ids; arguments as for :meth:`tokenize`."""
        return self.tokenize(text.encode("utf-8", "ignore"), add_bos, special)

    def decode(self, tokens: Sequence[int]) -> str:
        """Turn token ids into a string; bytes that are no UTF-8 are left out."""
        return self.detokenize(tokens).decode("utf-8", "ignore")

    @classmethod
    def from_ggml_file(cls, path: str) -> LlamaTokenizer:
        """Return the tokenizer of a GGUF file, without its weights.

        Args:
            path: the file.

        Raises:
            ModelLoadError: the file is missing, damaged, too new, or refused by llama.cpp.
        """
        from llama_cpp.llama import Llama  # noqa: PLC0415 - which imports this module

        return cls(Llama(path, vocab_only=True))


class LlamaHFTokenizer(BaseLlamaTokenizer):
    """A tokenizer of transformers, for models whose GGUF has a wrong or no tokenizer."""

    def __init__(self, hf_tokenizer: Any) -> None:
        """Use a ``transformers.PreTrainedTokenizerBase``."""
        self.hf_tokenizer = hf_tokenizer

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
        """Turn UTF-8 text into token ids.

        Args:
            text: UTF-8 bytes; what is no UTF-8 is left out.
            add_bos: add the special tokens that the tokenizer has for a whole text.
            special: without effect: the tokenizer always reads control tokens as such.
        """
        del special
        ids: list[int] = self.hf_tokenizer.encode(
            text.decode("utf-8", "ignore"), add_special_tokens=add_bos
        )
        return list(ids)

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """Turn token ids into UTF-8 bytes.

        Args:
            tokens: ids.
            prev_tokens: what comes before them: the spaces between the two are then right.
            special: spell control tokens out.
        """
        text = self._decode([*(prev_tokens or ()), *tokens], special=special)
        if prev_tokens:
            # a character that the earlier tokens end in the middle of is not the same in both
            text = text[shared_length(text, self._decode(prev_tokens, special=special)) :]
        return text.encode("utf-8", "ignore")

    def _decode(self, tokens: Sequence[int], *, special: bool) -> str:
        text: str = self.hf_tokenizer.decode(list(tokens), skip_special_tokens=not special)
        return text

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str) -> LlamaHFTokenizer:
        """Load a tokenizer by transformers' ``AutoTokenizer``.

        Args:
            pretrained_model_name_or_path: a repository of the Hugging Face hub, or a folder.

        Raises:
            LlamaError: transformers is not installed.
        """
        try:
            transformers = importlib.import_module("transformers")
        except ImportError as error:
            raise LlamaError(
                "Hugging Face's tokenizers need the package transformers: "
                "`pip install transformers`"
            ) from error
        return cls(transformers.AutoTokenizer.from_pretrained(pretrained_model_name_or_path))
