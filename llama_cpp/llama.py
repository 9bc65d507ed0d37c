"""The high-level interface: one model, one context, one object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

from llama_cpp import (
    _abi,
    _adapters,
    _chat_completion,
    _completion,
    _embedding,
    _generate,
    _loading,
    _log,
    _mirror,
    _pretrained,
    _rerank,
    _session,
    _state,
)
from llama_cpp._context import Context
from llama_cpp._context_params import ContextParams
from llama_cpp._engine import Engine
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._model import Model, ModelParams
from llama_cpp._namespace import Later, offer
from llama_cpp._sampler import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from llama_cpp import _async
    from llama_cpp._adapters import ControlVector
    from llama_cpp._loading import Paths

    # what offer() gives at the end
    from llama_cpp._processors import *  # noqa: F403
    from llama_cpp._state import *  # noqa: F403
    from llama_cpp.config import LlamaConfig
    from llama_cpp.llama_cache import *  # noqa: F403
    from llama_cpp.llama_grammar import *  # noqa: F403
    from llama_cpp.llama_tokenizer import *  # noqa: F403
    from llama_cpp.llama_types import *  # noqa: F403

# Sequences per embedding call: enough to fill n_batch with short texts.
_EMBEDDING_SEQUENCES = 32


class Llama:
    """A loaded model with one context.

    Calls from several threads wait for each other; for parallel work use several objects. Frees
    everything on :meth:`close`, at the end of a ``with`` block, and when garbage-collected. A pickle
    of it holds its arguments; unpickling loads the model again.
    """

    @_loading.configured
    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        n_gpu_layers: int = 0,
        split_mode: int = _abi.LLAMA_SPLIT_MODE_LAYER,
        main_gpu: int = 0,
        tensor_split: Sequence[float] | None = None,
        rpc_servers: str | Sequence[str] | None = None,
        vocab_only: bool = False,
        use_mmap: bool = True,
        use_mlock: bool = False,
        kv_overrides: Mapping[str, bool | int | float | str] | None = None,
        seed: int = _abi.LLAMA_DEFAULT_SEED,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_seq_max: int | None = None,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        rope_scaling_type: int = _abi.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
        pooling_type: int = _abi.LLAMA_POOLING_TYPE_UNSPECIFIED,
        attention_type: int = _abi.LLAMA_ATTENTION_TYPE_UNSPECIFIED,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = -1.0,
        yarn_attn_factor: float = 1.0,
        yarn_beta_fast: float = 32.0,
        yarn_beta_slow: float = 1.0,
        yarn_orig_ctx: int = 0,
        logits_all: bool = False,
        embedding: bool = False,
        offload_kqv: bool = True,
        flash_attn: bool | None = False,
        op_offload: bool | None = None,
        swa_full: bool | None = None,
        no_perf: bool = False,
        last_n_tokens_size: int = 64,
        lora_base: str | None = None,
        lora_scale: float | Sequence[float] = 1.0,
        lora_path: Paths | None = None,
        control_vectors: Sequence[ControlVector | str | os.PathLike[str]] = (),
        numa: bool | int = False,
        chat_format: str | None = None,
        chat_handler: Any = None,
        draft_model: Any = None,
        tokenizer: Any = None,
        type_k: int | None = None,
        type_v: int | None = None,
        spm_infill: bool = False,
        progress_callback: Callable[[float], object] | None = None,
        config: LlamaConfig | None = None,
        verbose: bool = True,
        **kwargs: object,
    ) -> None:
        """Load a model and make a context.

        Args:
            model_path: a GGUF file; for a split model its first part.
            n_gpu_layers: layers to keep on the GPU; negative means all. Where there is no GPU
                that is a warning, and the CPU computes.
            split_mode: how to share a model between GPUs, ``LLAMA_SPLIT_MODE_*``.
            main_gpu: the GPU to use when not splitting.
            tensor_split: share of each GPU; with ``rpc_servers`` their devices come first.
            rpc_servers: other machines that run ``python -m llama_cpp rpc-server``,
                ``"host:port,host:port"`` or a sequence: their devices count as GPUs.
            vocab_only: load the tokenizer only.
            use_mmap: map the file instead of reading it.
            use_mlock: keep the model in RAM.
            kv_overrides: metadata to take in place of the file's, where it has that key with a value
                of that type; keys and texts are at most 127 bytes long.
            seed: for calls that give none; the default, and -1, draw one each time.
            n_ctx: context length in tokens; 0 takes the model's training length.
            n_batch: most tokens per decode call.
            n_ubatch: most tokens computed at once.
            n_seq_max: sequences that a decode call may hold; None is what the object itself needs.
            n_threads: threads for one token at a time; None asks the affinity mask and the cgroup.
            n_threads_batch: threads for prompts.
            rope_scaling_type: ``LLAMA_ROPE_SCALING_TYPE_*``.
            pooling_type: ``LLAMA_POOLING_TYPE_*``, for embeddings; -1 takes the model's.
            attention_type: ``LLAMA_ATTENTION_TYPE_*``; -1 takes the model's.
            rope_freq_base: RoPE base frequency; 0 takes the model's.
            rope_freq_scale: RoPE frequency scale; 0 takes the model's.
            yarn_ext_factor: YaRN extrapolation mix; negative takes the model's.
            yarn_attn_factor: YaRN magnitude scaling; negative, or the default, takes the model's, as
                with the next two.
            yarn_beta_fast: YaRN low correction dimension.
            yarn_beta_slow: YaRN high correction dimension.
            yarn_orig_ctx: YaRN original context length; 0 takes the model's.
            logits_all: keep the logits of every token for :attr:`scores`, ``n_vocab`` floats each.
            embedding: allow :meth:`embed`; the object still generates.
            offload_kqv: keep the KV cache on the GPU.
            flash_attn: use flash attention; None lets llama.cpp decide.
            op_offload: compute host tensors on the GPU; None is llama.cpp's default.
            swa_full: keep the whole cache of sliding-window layers; None is llama.cpp's default.
            no_perf: do not measure timings.
            last_n_tokens_size: tokens that the repetition penalties look back.
            lora_base: does nothing; llama.cpp has no such thing any more.
            lora_scale: the strength of the LoRA adapters: one for all, or one for each.
            lora_path: a LoRA adapter to apply, or several; :meth:`load_lora` adds more.
            control_vectors: to apply from the start; see :meth:`set_control_vectors`.
            numa: True spreads threads and memory over NUMA nodes; or a ``GGML_NUMA_STRATEGY_*``.
            chat_format: name of a chat format; None takes the model's own template.
            chat_handler: answers chats in place of a format.
            draft_model: proposes tokens for speculative decoding.
            tokenizer: replaces the model's own in :meth:`tokenize` and :meth:`detokenize`.
            type_k: ``GGML_TYPE_*`` of the K cache; None is F16.
            type_v: ``GGML_TYPE_*`` of the V cache; a quantised one needs ``flash_attn``.
            spm_infill: put the suffix before the prefix when filling in.
            progress_callback: told the share that is loaded, 0 to 1; returning False ends the loading.
            config: the same keywords as one value; those given here win.
            verbose: False passes only llama.cpp's errors to the logger ``llama_cpp``; True passes
                what the application's logging configuration lets through. The last object decides.
            kwargs: ignored, but for a line in the log.

        Raises:
            ModelLoadError: a file is missing, damaged, too new, or refused by llama.cpp; or an RPC
                server cannot be used.
            ValidationError: a parameter is out of range.
            LlamaError: the libraries are missing, or llama.cpp cannot make the context.
        """
        self._arguments: dict[str, Any]
        _log.set_verbose(verbose)
        self.model_path = str(model_path)
        self.verbose = verbose
        self.config = config
        self.chat_format = chat_format
        self.chat_handler = chat_handler
        self.draft_model = draft_model
        self.cache: Any = None
        self.spm_infill = spm_infill
        self.numa = numa
        self.tensor_split = tensor_split
        self.last_n_tokens_size = last_n_tokens_size
        self.lora_base = lora_base
        self.lora_scale = lora_scale
        self.lora_path = lora_path
        self._logits_all = logits_all
        self._tokenizer = tokenizer
        self._seed = seed = _any_seed(seed)
        self._defaults = SamplingParams(seed=seed, penalty_last_n=last_n_tokens_size)
        self._engine: Engine | None = None
        self._loras = _adapters.Loras()
        self._views = _mirror.Views()
        self._control_vectors: tuple[ControlVector, ...] = ()
        self._control_key = ""
        if kwargs:
            _log.LOGGER.info("Llama(…) ignored %s", ", ".join(sorted(kwargs)))
        model_params = ModelParams(
            n_gpu_layers=n_gpu_layers,
            split_mode=split_mode,
            main_gpu=main_gpu,
            tensor_split=None if tensor_split is None else tuple(tensor_split),
            vocab_only=vocab_only,
            use_mmap=use_mmap,
            use_mlock=use_mlock,
            rpc_servers=_loading.servers(rpc_servers),
            kv_overrides=_loading.overrides(kv_overrides),
        )
        context_params = ContextParams(
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_ubatch=n_ubatch,
            n_seq_max=1 if n_seq_max is None else n_seq_max,
            kv_unified=n_seq_max is not None and n_seq_max > 1,
            n_threads=n_threads,
            n_threads_batch=n_threads_batch,
            rope_scaling_type=rope_scaling_type,
            pooling_type=pooling_type,
            attention_type=attention_type,
            flash_attn=flash_attn,
            rope_freq_base=rope_freq_base,
            rope_freq_scale=rope_freq_scale,
            yarn_ext_factor=yarn_ext_factor,
            yarn_attn_factor=_loading.own_unless_changed(yarn_attn_factor, 1.0),
            yarn_beta_fast=_loading.own_unless_changed(yarn_beta_fast, 32.0),
            yarn_beta_slow=_loading.own_unless_changed(yarn_beta_slow, 1.0),
            yarn_orig_ctx=yarn_orig_ctx,
            type_k=type_k,
            type_v=type_v,
            embeddings=embedding,
            offload_kqv=offload_kqv,
            op_offload=op_offload,
            swa_full=swa_full,
            no_perf=no_perf,
        )
        context_params.check()
        loras = _loading.lora_files(lora_path, lora_scale)
        _loading.start_numa(numa)
        self._core = Model(model_path, model_params, progress_callback)
        try:
            self._defaults.check(self._core.vocabulary)
            if not vocab_only:
                if n_seq_max is None:
                    context_params = self._sequences(context_params)
                self._engine = Engine(Context(self._core, context_params), logits_all=logits_all)
                for path, scale in loras:
                    self._loras.load(self._engine.context, path, scale, None)
                if control_vectors:
                    self.set_control_vectors(control_vectors)
        except BaseException:
            self._core.close()
            raise

    def _sequences(self, params: ContextParams) -> ContextParams:
        """Let several texts share an embedding call, where that costs no memory per sequence."""
        if not params.embeddings or self._core.recurrent or self._core.hybrid:
            return params
        return params._replace(n_seq_max=_EMBEDDING_SEQUENCES, kv_unified=True)

    from_pretrained = classmethod(_pretrained.from_pretrained)

    # -- life ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the context and the model; does nothing the second time."""
        if (engine := getattr(self, "_engine", None)) is not None:
            engine.context.close()
        if not self.closed:
            self._core.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or never loaded."""
        core = getattr(self, "_core", None)
        return core is None or core.closed

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments that load it again, with the adapters and the seed of now."""
        return _loading.arguments_now(self)

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        """Load it from what :meth:`__getstate__` returned."""
        Llama.__init__(self, **arguments)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Return the path and the state."""
        path = getattr(self, "model_path", None)
        return f"<Llama {path!r}{' closed' if self.closed else ''}>"

    # -- facts ---------------------------------------------------------------------------------

    @property
    def metadata(self) -> dict[str, str]:
        """The scalar key-value pairs of the model file."""
        return self._core.metadata

    model = property(_mirror.model)
    ctx = property(_mirror.ctx)
    _model = property(_mirror.model_view)
    _ctx = property(_mirror.context_view)
    _batch = property(_mirror.batch_view)
    model_params = property(_mirror.model_params)
    context_params = property(_mirror.context_params)
    n_batch = property(_mirror.n_batch)
    n_threads = property(_mirror.n_threads)
    n_threads_batch = property(_mirror.n_threads_batch)
    n_tokens = property(_mirror.n_tokens, _mirror.set_n_tokens)
    input_ids = property(_mirror.input_ids)
    _input_ids = property(_mirror.known_input_ids)
    scores = property(_mirror.scores)
    _scores = property(_mirror.known_scores)
    eval_tokens = property(_mirror.eval_tokens)
    eval_logits = property(_mirror.eval_logits)

    perf = _mirror.perf
    perf_reset = _mirror.perf_reset

    def n_ctx(self) -> int:
        """Return the context length in tokens; llama.cpp rounds it up to a multiple of 256."""
        return self._running().context.n_ctx

    def n_embd(self) -> int:
        """Return the length of an embedding."""
        return self._core.n_embd_out

    def n_vocab(self) -> int:
        """Return the number of token ids."""
        return self._core.vocabulary.size

    def token_bos(self) -> int:
        """Return the begin-of-sequence token; -1 where the model has none."""
        return self._core.vocabulary.bos

    def token_eos(self) -> int:
        """Return the end-of-sequence token; -1 where the model has none."""
        return self._core.vocabulary.eos

    def token_nl(self) -> int:
        """Return the new-line token; -1 where the model has none."""
        return self._core.vocabulary.nl

    def pooling_type(self) -> int:
        """Return the pooling of embeddings, ``LLAMA_POOLING_TYPE_*``."""
        return self._running().context.pooling_type

    # -- text and tokens -----------------------------------------------------------------------

    def tokenize(self, text: bytes | str, add_bos: bool = True, special: bool = False) -> list[int]:
        """Turn text into token ids.

        Args:
            text: UTF-8 bytes, or a string.
            add_bos: add the begin (and end) tokens that the model asks for.
            special: read control tokens spelled in the text as such.

        Raises:
            ValidationError: the model has no tokenizer, or the string is no Unicode text.
        """
        data = _utf8(text)
        vocabulary = self._core.vocabulary
        if self._tokenizer is not None:
            return vocabulary.check(self._tokenizer.tokenize(data, add_bos, special))
        return vocabulary.tokenize(data, add_special=add_bos, parse_special=special)

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """Turn token ids into UTF-8 bytes.

        A begin token at the start says that a text starts here: the space that the tokenizer put in
        front of it is taken away again.

        Args:
            tokens: ids.
            prev_tokens: what comes before them, if anything: then no space is taken away.
            special: spell control tokens out.

        Raises:
            ValidationError: an id is out of range.
        """
        vocabulary = self._core.vocabulary
        ids = vocabulary.check(tokens)
        if self._tokenizer is not None:
            return bytes(self._tokenizer.detokenize(ids, prev_tokens=prev_tokens, special=special))
        pieces = vocabulary.special_pieces if special else vocabulary.pieces
        data = [pieces[token].data for token in ids]
        starts = not prev_tokens and ids[:1] == [vocabulary.bos]
        if starts and len(data) > 1 and data[1].startswith(b" ") and vocabulary.adds_space:
            data[1] = data[1][1:]
        return b"".join(data)

    def set_seed(self, seed: int) -> None:
        """Choose the seed of later calls that give none; -1 has one drawn for each.

        Raises:
            ValidationError: it is out of range.
        """
        seed = _any_seed(seed)
        defaults = self._defaults._replace(seed=seed)
        defaults.check(self._core.vocabulary)
        self._defaults = defaults
        self._seed = seed

    def set_cache(self, cache: Any) -> None:
        """Choose where completions keep what they have computed; None keeps nothing.

        Args:
            cache: a ``LlamaRAMCache``, a ``LlamaDiskCache``, or another mapping from token ids to
                states.

        Raises:
            ValidationError: it is no such mapping.
        """
        if cache is not None and not (
            hasattr(cache, "__getitem__") and hasattr(cache, "__setitem__")
        ):
            raise ValidationError(f"the cache is {cache!r}; give a LlamaRAMCache, for example")
        self.cache = cache

    tokenizer = _mirror.tokenizer
    tokenizer_ = property(_mirror.tokenizer_)
    longest_token_prefix = staticmethod(_mirror.longest_token_prefix)
    logits_to_logprobs = staticmethod(_mirror.logits_to_logprobs)

    # -- adapters ------------------------------------------------------------------------------

    load_lora = _adapters.load_lora
    set_lora_scale = _adapters.set_lora_scale
    remove_lora = _adapters.remove_lora
    clear_lora = _adapters.clear_lora
    set_control_vectors = _adapters.set_control_vectors

    # -- states --------------------------------------------------------------------------------

    save_state = _state.save_state
    load_state = _state.load_state
    get_state = _state.get_state
    set_state = _state.set_state

    # -- tokens out ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget all tokens."""
        self._running().reset()

    @overload
    def generate(
        self,
        tokens: str,
        max_tokens: int | None = ...,
        sampling: SamplingParams | None = ...,
        stream: Literal[False] = ...,
        reset_kv_cache: bool = ...,
        stop: str | Sequence[str] | None = ...,
    ) -> str: ...

    @overload
    def generate(
        self,
        tokens: str,
        max_tokens: int | None = ...,
        sampling: SamplingParams | None = ...,
        *,
        stream: Literal[True],
        reset_kv_cache: bool = ...,
        stop: str | Sequence[str] | None = ...,
    ) -> Iterator[str]: ...

    @overload
    def generate(
        self, tokens: Sequence[int], *args: Any, **kwargs: Any
    ) -> Generator[int, Sequence[int] | None, None]: ...

    def generate(self, tokens: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Generate from token ids, or from a text.

        Args:
            tokens: ids, for :func:`llama_cpp._generate.generate`, which yields the ids that
                follow; or a text (``prompt`` is another name for it), for
                :func:`llama_cpp._session.generate_text`, which returns the text that follows.
            args: the arguments of that one.
            kwargs: the same by name.
        """
        if tokens is None and "prompt" in kwargs:
            tokens = kwargs.pop("prompt")
        if isinstance(tokens, str):
            return _session.generate_text(self, tokens, *args, **kwargs)
        return _generate.generate(self, tokens, *args, **kwargs)

    generate.__wrapped__ = _generate.generate  # type: ignore[attr-defined]

    eval = _generate.eval_tokens
    sample = _generate.sample
    _last_sampler: _generate.LastSampler | None = None
    generate_stream = _session.generate_stream

    if TYPE_CHECKING:
        generate_async = _async.generate_async
        create_chat_completion_async = _async.create_chat_completion_async
        create_embedding_async = _async.create_embedding_async
    else:
        # asyncio takes longer to import than all of this package
        generate_async = Later("_async")
        create_chat_completion_async = Later("_async")
        create_embedding_async = Later("_async")

    create_completion = _completion.create_completion
    __call__ = _completion.create_completion
    create_chat_completion = _chat_completion.create_chat_completion
    create_chat_completion_openai_v1 = _chat_completion.create_chat_completion_openai_v1

    # -- vectors out ---------------------------------------------------------------------------

    embed = _embedding.embed
    create_embedding = _embedding.create_embedding
    rank = _rerank.rank

    # -- inside --------------------------------------------------------------------------------

    def _running(self) -> Engine:
        _ = self._core.handle.pointer
        if self._engine is None:
            raise LlamaError("the model was loaded with vocab_only=True and can only tokenize")
        return self._engine


def _any_seed(seed: int) -> int:
    """Return llama.cpp's own number for a seed to be drawn where -1 says so."""
    return _abi.LLAMA_DEFAULT_SEED if seed == -1 else seed


def _utf8(text: bytes | str) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValidationError(
                f"the text has a lone surrogate at character {error.start}, which is no Unicode text"
            ) from error
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text)
    raise ValidationError(f"expected text as str or bytes, not {type(text).__name__}")


# names that callers import from here
offer(
    __name__,
    frozenset(
        {
            "_log",
            "_processors",
            "_state",
            "llama_cache",
            "llama_grammar",
            "llama_speculative",
            "llama_tokenizer",
            "llama_types",
        }
    ),
)
