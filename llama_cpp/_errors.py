"""What the binding raises.

Every exception carries llama.cpp's own last error lines of the thread that failed, because llama.cpp
reports *that* something failed by a return value and *why* only through its log.
"""

from __future__ import annotations


class LlamaError(Exception):
    """Base of everything the binding raises on purpose.

    Attributes:
        log: llama.cpp's own last warnings and errors, oldest first; empty when it said nothing.
    """

    log: tuple[str, ...]

    def __init__(self, message: str, *, log: tuple[str, ...] = ()) -> None:
        """Join ``message`` and the log lines into the text a user sees."""
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        """Return the message, then llama.cpp's lines, one per line."""
        message = super().__str__()
        return "\n".join([message, *(f"  llama.cpp: {line}" for line in self.log)])


class ModelLoadError(LlamaError, ValueError):
    """A model or adapter file is missing, damaged, too new, or refused by llama.cpp.

    A ``ValueError``, since that is what callers of llama-cpp-python catch.
    """


class ValidationError(LlamaError, ValueError):
    """An argument was refused before llama.cpp saw it."""


class GenerationError(LlamaError, RuntimeError):
    """llama.cpp failed while computing, or a stream lost its context to a newer one.

    A ``RuntimeError``, since that is what callers of llama-cpp-python catch.
    """
