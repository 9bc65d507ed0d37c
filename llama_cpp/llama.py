"""The high-level interface: one model, one context, one object."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Literal, overload

from llama_cpp import _abi, _log
from llama_cpp._context import Context, ContextParams
from llama_cpp._embedding import embed
from llama_cpp._engine import Answer, Engine
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._model import Adapter, Model, ModelParams
from llama_cpp._remote import parse_servers
from llama_cpp._sampler import Sampler, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Union

    from typing_extensions import Self

    from llama_cpp._embedding import Embedding
    from llama_cpp.llama_types import Completion, CompletionChoice, CompletionChunk, FinishReason

    Prompt = Union[str, Sequence[int]]

_UNBOUNDED = 2**31 - 1
# Sequences per embedding call: enough to fill n_batch with short texts.
_EMBEDDING_SEQUENCES = 32


class Llama:
    """A loaded model with one context.

    Calls from several threads wait for each other; for parallel work use several objects. Frees
    everything on :meth:`close`, at the end of a ``with`` block, and when garbage-collected.
    """

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
        seed: int = _abi.LLAMA_DEFAULT_SEED,
        n_ctx: int = 512,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        rope_scaling_type: int = _abi.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
        pooling_type: int = _abi.LLAMA_POOLING_TYPE_UNSPECIFIED,
        attention_type: int = _abi.LLAMA_ATTENTION_TYPE_UNSPECIFIED,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        yarn_ext_factor: float = -1.0,
        yarn_attn_factor: float = -1.0,
        yarn_beta_fast: float = -1.0,
        yarn_beta_slow: float = -1.0,
        yarn_orig_ctx: int = 0,
        embedding: bool = False,
        offload_kqv: bool = True,
        flash_attn: bool | None = False,
        op_offload: bool | None = None,
        swa_full: bool | None = None,
        no_perf: bool = False,
        last_n_tokens_size: int = 64,
        lora_path: str | os.PathLike[str] | None = None,
        lora_scale: float = 1.0,
        type_k: int | None = None,
        type_v: int | None = None,
        verbose: bool = True,
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
            seed: for calls that give none; the default draws one each time.
            n_ctx: context length in tokens; 0 takes the model's training length.
            n_batch: most tokens per decode call.
            n_ubatch: most tokens computed at once.
            n_threads: threads for one token at a time; None asks the affinity mask and the cgroup.
            n_threads_batch: threads for prompts.
            rope_scaling_type: ``LLAMA_ROPE_SCALING_TYPE_*``.
            pooling_type: ``LLAMA_POOLING_TYPE_*``, for embeddings; -1 takes the model's.
            attention_type: ``LLAMA_ATTENTION_TYPE_*``; -1 takes the model's.
            rope_freq_base: RoPE base frequency; 0 takes the model's.
            rope_freq_scale: RoPE frequency scale; 0 takes the model's.
            yarn_ext_factor: YaRN extrapolation mix; negative takes the model's, as below.
            yarn_attn_factor: YaRN magnitude scaling.
            yarn_beta_fast: YaRN low correction dimension.
            yarn_beta_slow: YaRN high correction dimension.
            yarn_orig_ctx: YaRN original context length; 0 takes the model's.
            embedding: allow :meth:`embed`.
            offload_kqv: keep the KV cache on the GPU.
            flash_attn: use flash attention; None lets llama.cpp decide.
            op_offload: compute host tensors on the GPU; None is llama.cpp's default.
            swa_full: keep the whole cache of sliding-window layers; None is llama.cpp's default.
            no_perf: do not measure timings.
            last_n_tokens_size: tokens that the repetition penalties look back.
            lora_path: a LoRA adapter to apply.
            lora_scale: its strength.
            type_k: ``GGML_TYPE_*`` of the K cache; None is F16.
            type_v: ``GGML_TYPE_*`` of the V cache; a quantised one needs ``flash_attn``.
            verbose: False passes only llama.cpp's errors to the logger ``llama_cpp``; True passes
                what the application's logging configuration lets through. The last object decides.

        Raises:
            ModelLoadError: a file is missing, damaged, too new, or refused by llama.cpp; or an RPC
                server cannot be used.
            ValidationError: a parameter is out of range.
            LlamaError: the libraries are missing, or llama.cpp cannot make the context.
        """
        _log.set_verbose(verbose)
        self.model_path = str(model_path)
        self.verbose = verbose
        self._defaults = SamplingParams(seed=seed, penalty_last_n=last_n_tokens_size)
        self._engine: Engine | None = None
        model_params = ModelParams(
            n_gpu_layers=n_gpu_layers,
            split_mode=split_mode,
            main_gpu=main_gpu,
            tensor_split=None if tensor_split is None else tuple(tensor_split),
            vocab_only=vocab_only,
            use_mmap=use_mmap,
            use_mlock=use_mlock,
            rpc_servers=() if rpc_servers is None else _servers(rpc_servers),
        )
        context_params = ContextParams(
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_ubatch=n_ubatch,
            n_threads=n_threads,
            n_threads_batch=n_threads_batch,
            rope_scaling_type=rope_scaling_type,
            pooling_type=pooling_type,
            attention_type=attention_type,
            flash_attn=flash_attn,
            rope_freq_base=rope_freq_base,
            rope_freq_scale=rope_freq_scale,
            yarn_ext_factor=yarn_ext_factor,
            yarn_attn_factor=yarn_attn_factor,
            yarn_beta_fast=yarn_beta_fast,
            yarn_beta_slow=yarn_beta_slow,
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
        self._model = Model(model_path, model_params)
        try:
            self._defaults.check(self._model.vocabulary)
            if not vocab_only:
                self._engine = Engine(Context(self._model, self._sequences(context_params)))
                if lora_path is not None:
                    adapter = Adapter(self._model, lora_path)
                    self._engine.context.set_adapters([(adapter, lora_scale)])
        except BaseException:
            self._model.close()
            raise

    def _sequences(self, params: ContextParams) -> ContextParams:
        """Let several texts share an embedding call, where that costs no memory per sequence."""
        if not params.embeddings or self._model.recurrent or self._model.hybrid:
            return params
        return params._replace(n_seq_max=_EMBEDDING_SEQUENCES, kv_unified=True)

    # -- life ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the context and the model; does nothing the second time."""
        if self._engine is not None:
            self._engine.context.close()
        self._model.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._model.closed

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
        return f"<Llama {self.model_path!r}{' closed' if self.closed else ''}>"

    # -- facts ---------------------------------------------------------------------------------

    @property
    def metadata(self) -> dict[str, str]:
        """The scalar key-value pairs of the model file."""
        return self._model.metadata

    @property
    def n_tokens(self) -> int:
        """Tokens in the context's memory."""
        return len(self._running().sequence.tokens)

    def n_ctx(self) -> int:
        """Return the context length in tokens; llama.cpp rounds it up to a multiple of 256."""
        return self._running().context.n_ctx

    def n_embd(self) -> int:
        """Return the length of an embedding."""
        return self._model.n_embd_out

    def n_vocab(self) -> int:
        """Return the number of token ids."""
        return self._model.vocabulary.size

    def token_bos(self) -> int:
        """Return the begin-of-sequence token; -1 where the model has none."""
        return self._model.vocabulary.bos

    def token_eos(self) -> int:
        """Return the end-of-sequence token; -1 where the model has none."""
        return self._model.vocabulary.eos

    def token_nl(self) -> int:
        """Return the new-line token; -1 where the model has none."""
        return self._model.vocabulary.nl

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
        return self._model.vocabulary.tokenize(
            _utf8(text), add_special=add_bos, parse_special=special
        )

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
        vocabulary = self._model.vocabulary
        ids = vocabulary.check(tokens)
        pieces = vocabulary.special_pieces if special else vocabulary.pieces
        data = [pieces[token].data for token in ids]
        starts = not prev_tokens and ids[:1] == [vocabulary.bos]
        if starts and len(data) > 1 and data[1].startswith(b" ") and vocabulary.adds_space:
            data[1] = data[1][1:]
        return b"".join(data)

    # -- tokens out ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget all tokens."""
        self._running().reset()

    def eval(self, tokens: Sequence[int]) -> None:
        """Compute tokens after those in memory.

        Raises:
            ValidationError: an id is out of range, or they do not fit the context.
            GenerationError: llama.cpp failed.
        """
        engine = self._running()
        ids = self._model.vocabulary.check(tokens)
        with engine.context.lock:
            engine.take_over()
            if ids:
                engine.prefill([*engine.sequence.tokens, *ids])

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.8,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        *,
        logit_bias: Mapping[int, float] | None = None,
        seed: int | None = None,
    ) -> Iterator[int]:
        """Yield the token ids that follow ``tokens``, ending tokens included, until the context is full.

        What is in memory already is not computed again.

        Args:
            tokens: the prompt's ids.
            top_k: keep the k likeliest.
            top_p: keep the likeliest whose probabilities add up to p.
            min_p: keep those at least this share of the likeliest.
            typical_p: keep the locally typical ones.
            temp: temperature; 0 always takes the likeliest token.
            repeat_penalty: divides the logits of recent tokens.
            reset: False puts the prompt after what is in memory, instead of in its place.
            frequency_penalty: taken from logits per occurrence.
            presence_penalty: taken from logits once.
            mirostat_mode: 0, 1 or 2.
            mirostat_tau: target surprise.
            mirostat_eta: learning rate.
            logit_bias: added to logits by token id.
            seed: of this call; None is the object's.

        Raises:
            ValidationError: an argument is out of range, or the prompt does not fit the context.
            GenerationError: llama.cpp failed, or another generation has taken the context over.
        """
        engine = self._running()
        params = self._sampling(
            seed,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            temperature=temp,
            repeat_penalty=repeat_penalty,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            mirostat_mode=mirostat_mode,
            mirostat_tau=mirostat_tau,
            mirostat_eta=mirostat_eta,
            logit_bias=logit_bias or {},
        )
        ids = self._model.vocabulary.check(tokens)
        return self._generate(engine, ids, params, reset=reset)

    def _generate(
        self, engine: Engine, ids: list[int], params: SamplingParams, *, reset: bool
    ) -> Iterator[int]:
        prompt = ids if reset else [*engine.sequence.tokens, *ids]
        with Sampler(self._model, params) as sampler:
            yield from engine.tokens(prompt, sampler)

    # -- text out ------------------------------------------------------------------------------

    @overload
    def create_completion(
        self,
        prompt: Prompt,
        suffix: str | None = ...,
        max_tokens: int | None = ...,
        temperature: float = ...,
        top_p: float = ...,
        min_p: float = ...,
        typical_p: float = ...,
        *,
        echo: bool = ...,
        stop: str | Sequence[str] | None = ...,
        frequency_penalty: float = ...,
        presence_penalty: float = ...,
        repeat_penalty: float = ...,
        top_k: int = ...,
        stream: Literal[False] = ...,
        seed: int | None = ...,
        mirostat_mode: int = ...,
        mirostat_tau: float = ...,
        mirostat_eta: float = ...,
        model: str | None = ...,
        logit_bias: Mapping[int, float] | None = ...,
    ) -> Completion: ...

    @overload
    def create_completion(
        self,
        prompt: Prompt,
        suffix: str | None = ...,
        max_tokens: int | None = ...,
        temperature: float = ...,
        top_p: float = ...,
        min_p: float = ...,
        typical_p: float = ...,
        *,
        echo: bool = ...,
        stop: str | Sequence[str] | None = ...,
        frequency_penalty: float = ...,
        presence_penalty: float = ...,
        repeat_penalty: float = ...,
        top_k: int = ...,
        stream: Literal[True],
        seed: int | None = ...,
        mirostat_mode: int = ...,
        mirostat_tau: float = ...,
        mirostat_eta: float = ...,
        model: str | None = ...,
        logit_bias: Mapping[int, float] | None = ...,
    ) -> Iterator[CompletionChunk]: ...

    def create_completion(
        self,
        prompt: Prompt,
        suffix: str | None = None,
        max_tokens: int | None = 16,
        temperature: float = 0.8,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        *,
        echo: bool = False,
        stop: str | Sequence[str] | None = None,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        top_k: int = 40,
        stream: bool = False,
        seed: int | None = None,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logit_bias: Mapping[int, float] | None = None,
    ) -> Completion | Iterator[CompletionChunk]:
        """Complete a prompt.

        Args:
            prompt: text, or token ids taken as they are.
            suffix: text that comes after the answer; needs a model with fill-in-the-middle tokens.
            max_tokens: most tokens of the answer; None or 0 fills the context.
            temperature: 0 always takes the likeliest token.
            top_p: keep the likeliest whose probabilities add up to p.
            min_p: keep those at least this share of the likeliest.
            typical_p: keep the locally typical ones.
            echo: put the prompt in front of the answer.
            stop: strings that end the answer; they are not part of it.
            frequency_penalty: taken from logits per occurrence.
            presence_penalty: taken from logits once.
            repeat_penalty: divides the logits of recent tokens.
            top_k: keep the k likeliest.
            stream: return an iterator of parts. Streams of one object end each other.
            seed: of this call; None is the object's.
            mirostat_mode: 0, 1 or 2.
            mirostat_tau: target surprise.
            mirostat_eta: learning rate.
            model: name to report; None is the path.
            logit_bias: added to logits by token id; minus infinity forbids a token.

        Returns:
            A completion, or an iterator of its parts.

        Raises:
            ValidationError: an argument is out of range, or the prompt does not fit the context.
            GenerationError: llama.cpp failed, or another generation has taken the context over.
        """
        engine = self._running()
        params = self._sampling(
            seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical_p=typical_p,
            repeat_penalty=repeat_penalty,
            frequency_penalty=frequency_penalty,
            presence_penalty=presence_penalty,
            mirostat_mode=mirostat_mode,
            mirostat_tau=mirostat_tau,
            mirostat_eta=mirostat_eta,
            logit_bias=logit_bias or {},
        )
        ids = self._prompt(prompt, suffix)
        answer = Answer(self._model.vocabulary.pieces, stops=_stops(stop), limit=_limit(max_tokens))
        head: Completion = {
            "id": f"cmpl-{os.urandom(12).hex()}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.model_path if model is None else model,
            "choices": [],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": 0},
        }
        before = self._spelled(prompt) if echo else ""
        if stream:
            return self._chunks(engine, ids, params, answer, head, before)
        with engine.context.lock:
            text = "".join(engine.stream(ids, Sampler(self._model, params), answer))
        head["choices"] = [_choice(before + text, answer.finish_reason)]
        head["usage"]["completion_tokens"] = answer.n_tokens
        head["usage"]["total_tokens"] = len(ids) + answer.n_tokens
        return head

    def _chunks(
        self,
        engine: Engine,
        ids: list[int],
        params: SamplingParams,
        answer: Answer,
        head: Completion,
        before: str,
    ) -> Iterator[CompletionChunk]:
        def chunk(text: str, reason: FinishReason | None) -> CompletionChunk:
            return {
                "id": head["id"],
                "object": head["object"],
                "created": head["created"],
                "model": head["model"],
                "choices": [_choice(text, reason)],
            }

        if before:
            yield chunk(before, None)
        for text in engine.stream(ids, Sampler(self._model, params), answer):
            yield chunk(text, None)
        yield chunk("", answer.finish_reason)

    __call__ = create_completion

    # -- vectors out ---------------------------------------------------------------------------

    @overload
    def embed(
        self,
        input: str,
        normalize: bool = ...,
        truncate: bool = ...,
    ) -> Embedding: ...

    @overload
    def embed(
        self,
        input: list[str],
        normalize: bool = ...,
        truncate: bool = ...,
    ) -> list[Embedding]: ...

    def embed(
        self,
        input: str | list[str],  # noqa: A002 - the compatible interface's name
        normalize: bool = False,
        truncate: bool = True,
    ) -> Embedding | list[Embedding]:
        """Return the embedding of a text, or those of a list of texts.

        Args:
            input: a text or several.
            normalize: scale each vector to length 1.
            truncate: shorten a text that does not fit, instead of raising.

        Returns:
            ``n_embd()`` floats per text; with pooling NONE such a vector per token.

        Raises:
            LlamaError: the object was made without ``embedding=True``.
            ValidationError: a text has no tokens, or does not fit and ``truncate`` is False.
            GenerationError: llama.cpp failed.
        """
        engine = self._running()
        if not engine.context.params.embeddings:
            raise LlamaError("load the model with embedding=True to make embeddings")
        texts = [input] if isinstance(input, str) else input
        ids = [self.tokenize(text, special=True) for text in texts]
        vectors = embed(engine, ids, normalize=normalize, truncate=truncate)
        return vectors[0] if isinstance(input, str) else vectors

    # -- inside --------------------------------------------------------------------------------

    def _running(self) -> Engine:
        _ = self._model.handle.pointer
        if self._engine is None:
            raise LlamaError("the model was loaded with vocab_only=True and can only tokenize")
        return self._engine

    def _sampling(self, seed: int | None, **given: object) -> SamplingParams:
        if seed is not None:
            given["seed"] = seed
        params = self._defaults._replace(**given)  # type: ignore[arg-type]
        params.check(self._model.vocabulary)
        return params

    def _prompt(self, prompt: Prompt, suffix: str | None) -> list[int]:
        vocabulary = self._model.vocabulary
        if suffix is None:
            if isinstance(prompt, str):
                return self.tokenize(prompt, special=True)
            return vocabulary.check(prompt)
        prefix_token, suffix_token, middle = (
            vocabulary.fim_prefix,
            vocabulary.fim_suffix,
            vocabulary.fim_middle,
        )
        if min(prefix_token, suffix_token, middle) < 0:
            raise ValidationError(
                "suffix needs a model with fill-in-the-middle tokens, and this one has none"
            )
        if isinstance(prompt, str):
            before = self.tokenize(prompt, add_bos=False, special=True)
        else:
            before = vocabulary.check(prompt)
        after = self.tokenize(suffix, add_bos=False, special=True)
        begin = [vocabulary.bos] if vocabulary.adds_bos and vocabulary.bos >= 0 else []
        return [*begin, prefix_token, *before, suffix_token, *after, middle]

    def _spelled(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        return self.detokenize(prompt).decode("utf-8", "replace")


def _choice(text: str, reason: FinishReason | None) -> CompletionChoice:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}


def _servers(servers: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(str(address) for address in parse_servers(servers))


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


def _stops(stop: str | Sequence[str] | None) -> list[str]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else list(stop)
    for text in stops:
        if not isinstance(text, str) or not text:
            raise ValidationError(f"stop has {text!r}; stop strings are strings and not empty")
    return stops


def _limit(max_tokens: int | None) -> int:
    if max_tokens is None:
        return _UNBOUNDED
    if not isinstance(max_tokens, int):
        raise ValidationError(f"max_tokens is {max_tokens!r}; it must be an integer or None")
    return max_tokens if max_tokens > 0 else _UNBOUNDED
