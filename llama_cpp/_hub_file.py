"""One file from the Hugging Face hub, by name or by pattern."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from llama_cpp._errors import LlamaError, ValidationError

if TYPE_CHECKING:
    import os


def download(
    repo_id: str,
    pattern: str,
    *,
    local_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> str:
    """Download a file, unless it is there, and return its path.

    Args:
        repo_id: such as ``ggml-org/gemma-3-4b-it-GGUF``.
        pattern: a path in the repository; ``*`` and ``?`` stand for any characters.
        local_dir: where to; None is the hub's cache.
        cache_dir: another cache.

    Raises:
        LlamaError: the package huggingface_hub is not installed.
        ValidationError: no file matches, or several do.
    """
    try:
        import huggingface_hub  # type: ignore[import-not-found, unused-ignore] # noqa: PLC0415 - optional
    except ImportError as error:
        raise LlamaError(
            "downloads from the Hugging Face hub need the package huggingface_hub: "
            "pip install huggingface-hub"
        ) from error
    name = pattern
    if any(character in pattern for character in "*?["):
        files = huggingface_hub.HfApi().list_repo_files(repo_id)
        matching = sorted(file for file in files if fnmatchcase(file, pattern))
        if len(matching) != 1:
            which = ", ".join(matching or sorted(f for f in files if f.endswith(".gguf"))[:20])
            raise ValidationError(
                f"{len(matching)} files of {repo_id} match {pattern!r}; name one of {which or 'none'}"
            )
        name = matching[0]
    path: str = huggingface_hub.hf_hub_download(
        repo_id=repo_id,
        filename=name,
        local_dir=local_dir,
        cache_dir=cache_dir,
    )
    return path
