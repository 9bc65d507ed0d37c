"""Models from the Hugging Face hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_cpp import _hub

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from llama_cpp.llama import Llama


def from_pretrained(
    cls: type[Llama],
    /,
    repo_id: str,
    filename: str | None,
    additional_files: Sequence[str] | None = None,
    local_dir: str | os.PathLike[str] | None = None,
    local_dir_use_symlinks: bool | str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    **kwargs: Any,
) -> Llama:
    """Download a model from the Hugging Face hub, unless it is there already, and load it.

    An interrupted download goes on where it was. Of a split model all parts are downloaded.

    Args:
        cls: the class.
        repo_id: the repository, such as ``Qwen/Qwen3-0.6B-GGUF``.
        filename: the file in it, in whatever folder: its path, or a pattern such as ``*q8_0.gguf``
            that fits one model. None is ``*.gguf``.
        additional_files: more files to download, or patterns.
        local_dir: where to put the files; None keeps them in the hub's cache.
        local_dir_use_symlinks: does nothing; the hub decides.
        cache_dir: the hub's cache; None is its default.
        revision: branch, tag or commit; None is the main branch.
        token: the hub's access token; None uses the one that is logged in.
        kwargs: keywords of the constructor.

    Returns:
        The loaded model.

    Raises:
        LlamaError: huggingface_hub is not installed.
        ValidationError: no file fits, or several.
        ModelLoadError: the hub does not give a file, or llama.cpp cannot load it.
    """
    del local_dir_use_symlinks
    path = _hub.download(
        repo_id,
        filename or "*.gguf",
        additional_files or (),
        local_dir=local_dir,
        cache_dir=cache_dir,
        revision=revision,
        token=token,
    )
    return cls(model_path=path, **kwargs)
