"""Files of the Hugging Face hub; downloading, resuming and caching are huggingface_hub's."""

from __future__ import annotations

import importlib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from llama_cpp._errors import LlamaError, ModelLoadError, ValidationError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

# llama.cpp's LLM_KV_SPLIT names: <prefix>-00001-of-00003.gguf
_PART = re.compile(r"(?P<prefix>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf\Z", re.DOTALL)
_WILD = frozenset("*?[")
_MOST_SHOWN = 20


def download(
    repo_id: str,
    wanted: str,
    additional_files: Sequence[str] = (),
    *,
    local_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Download files of a repository, unless they are there already.

    Args:
        repo_id: the repository, such as ``Qwen/Qwen3-0.6B-GGUF``.
        wanted: the path of a file in it, or a pattern that fits one model (all parts of a split one).
        additional_files: more files, or patterns.
        local_dir: where to put the files; None keeps them in the hub's cache.
        cache_dir: the hub's cache; None is its default.
        revision: branch, tag or commit; None is the main branch.
        token: the hub's access token; None uses the one that is logged in.

    Returns:
        The path of the wanted file, of a split model that of its first part.

    Raises:
        LlamaError: huggingface_hub is not installed.
        ValidationError: no file fits, or several.
        ModelLoadError: the hub does not give a file.
    """
    hub = _hub()
    patterns = [wanted, *additional_files]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise ValidationError(f"filename and additional_files are texts, not {patterns!r}")
    options = {"revision": revision, "token": token}
    failures = (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError, ValueError)
    try:
        listed = (
            hub.HfApi().list_repo_files(repo_id, **options)
            if any(_WILD.intersection(pattern) for pattern in patterns)
            # without a pattern nothing needs to be asked, and what is in the cache works offline
            else patterns
        )
        files = [*choose(listed, wanted, repo_id)]
        for pattern in additional_files:
            files += fitting(listed, pattern, repo_id)
        paths = [
            hub.hf_hub_download(repo_id, file, local_dir=local_dir, cache_dir=cache_dir, **options)
            for file in dict.fromkeys(files)
        ]
    except ValidationError:
        raise
    except failures as error:
        raise ModelLoadError(
            f"the Hugging Face hub did not give {wanted} of {repo_id}: {error}"
        ) from error
    path: str = paths[0]
    return path


def choose(listed: Iterable[str], pattern: str, repo_id: str) -> tuple[str, ...]:
    """Return the one model that a pattern fits: its file, or its parts from the first one on.

    Args:
        listed: the files of the repository.
        pattern: a path, or a pattern.
        repo_id: for messages.

    Raises:
        ValidationError: no model fits, or several.
    """
    found = {_parts(file)[0]: _parts(file) for file in fitting(listed, pattern, repo_id)}
    if len(found) > 1:
        raise ValidationError(
            f"{len(found)} models of {repo_id} fit {pattern!r}: {_shown(found)}; name one of them"
        )
    return next(iter(found.values()))


def fitting(listed: Iterable[str], pattern: str, repo_id: str) -> list[str]:
    """Return the files that a pattern fits, by their path or by their name alone.

    Raises:
        ValidationError: there is none.
    """
    files = list(listed)
    found = [file for file in files if file == pattern] or [
        file
        for file in files
        if fnmatchcase(file, pattern) or fnmatchcase(file.rpartition("/")[2], pattern)
    ]
    if not found:
        models = [file for file in files if file.endswith(".gguf")]
        raise ValidationError(
            f"no file of {repo_id} fits {pattern!r}; its models are {_shown(models) or 'none'}"
        )
    return found


def _parts(file: str) -> tuple[str, ...]:
    """Return all parts of the model that ``file`` is, or is one of."""
    part = _PART.match(file)
    if part is None:
        return (file,)
    count = int(part["count"])
    return tuple(
        f"{part['prefix']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)
    )


def _shown(files: Iterable[str]) -> str:
    names = sorted(files)
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def _hub() -> Any:
    try:
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise LlamaError(
            "from_pretrained() needs huggingface_hub (0.25 or newer): "
            "`pip install --upgrade huggingface_hub`"
        ) from error
