"""How to load a model, as one value: what :class:`llama_cpp.Llama` takes as keywords."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Optional, Union

from llama_cpp import _abi

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llama_cpp._adapters import ControlVector

    _Paths = Union[str, os.PathLike[str], Sequence[Union[str, os.PathLike[str]]]]


@dataclass(frozen=True)
class LlamaConfig:
    """The keywords of :class:`llama_cpp.Llama`, named and meant as there.

    Two differ: ``n_gpu_layers`` puts all layers onto the GPU unless told otherwise, and
    ``embeddings`` is the constructor's ``embedding``.

    ``Llama(path, config=LlamaConfig(n_ctx=4096))`` loads with it, and ``Llama(config=…)`` takes its
    ``model_path``, too. A keyword given to the constructor wins over the one in here.
    """

    model_path: str = ""
    n_gpu_layers: int = -1
    split_mode: int = _abi.LLAMA_SPLIT_MODE_LAYER
    main_gpu: int = 0
    tensor_split: Optional[Sequence[float]] = None  # noqa: UP045 - evaluated on Python 3.9
    rpc_servers: Optional[Union[str, Sequence[str]]] = None  # noqa: UP007, UP045
    vocab_only: bool = False
    use_mmap: bool = True
    use_mlock: bool = False
    kv_overrides: Optional[Mapping[str, Union[bool, int, float, str]]] = None  # noqa: UP007, UP045
    seed: int = _abi.LLAMA_DEFAULT_SEED
    n_ctx: int = 512
    n_batch: int = 512
    n_ubatch: int = 512
    n_seq_max: Optional[int] = None  # noqa: UP045
    n_threads: Optional[int] = None  # noqa: UP045
    n_threads_batch: Optional[int] = None  # noqa: UP045
    rope_scaling_type: int = _abi.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED
    pooling_type: int = _abi.LLAMA_POOLING_TYPE_UNSPECIFIED
    attention_type: int = _abi.LLAMA_ATTENTION_TYPE_UNSPECIFIED
    rope_freq_base: float = 0.0
    rope_freq_scale: float = 0.0
    yarn_ext_factor: float = -1.0
    yarn_attn_factor: float = 1.0
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0
    yarn_orig_ctx: int = 0
    logits_all: bool = False
    embeddings: bool = False
    offload_kqv: bool = True
    flash_attn: Optional[bool] = False  # noqa: UP045
    op_offload: Optional[bool] = None  # noqa: UP045
    swa_full: Optional[bool] = None  # noqa: UP045
    no_perf: bool = False
    last_n_tokens_size: int = 64
    lora_base: Optional[str] = None  # noqa: UP045
    lora_scale: Union[float, Sequence[float]] = 1.0  # noqa: UP007
    lora_path: Optional[_Paths] = None  # noqa: UP045
    control_vectors: Sequence[ControlVector] = ()
    numa: Union[bool, int] = False  # noqa: UP007
    chat_format: Optional[str] = None  # noqa: UP045
    chat_handler: Any = None
    draft_model: Any = None
    tokenizer: Any = None
    type_k: Optional[int] = None  # noqa: UP045
    type_v: Optional[int] = None  # noqa: UP045
    spm_infill: bool = False
    progress_callback: Optional[Callable[[float], object]] = None  # noqa: UP045
    verbose: bool = True

    def arguments(self) -> dict[str, Any]:
        """Return it as keywords of :class:`llama_cpp.Llama`; ``model_path`` only where it has one."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        found["embedding"] = found.pop("embeddings")
        if not self.model_path:
            del found["model_path"]
        return found
