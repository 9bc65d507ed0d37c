"""A loaded model and its LoRA adapters."""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _abi, _library, _log, _remote
from llama_cpp._arguments import check_integer
from llama_cpp._assertions import FailedAssertionError, guarded
from llama_cpp._errors import LlamaError, ModelLoadError, ValidationError
from llama_cpp._gguf import AGAIN, check_file
from llama_cpp._gguf_header import check_header
from llama_cpp._handle import Handle
from llama_cpp._interrupts import deferred
from llama_cpp._shortage import shortage, shortage_text
from llama_cpp._vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from llama_cpp._context import Context

    _Characters = ctypes.Array[ctypes.c_char]

# Their positions are rows of a table (LLM_TENSOR_POS_EMBD in llama.cpp's src/models), and ggml aborts
# the process over a row that is not in it. MPT has the table sometimes.
_LEARNED_POSITIONS = frozenset({"bert", "gpt2", "mpt", "starcoder"})


class ModelParams(NamedTuple):
    """How to load a model; names as in ``struct llama_model_params``."""

    n_gpu_layers: int = 0
    """Layers to keep on the GPU; negative means all."""
    split_mode: int = _abi.LLAMA_SPLIT_MODE_LAYER
    main_gpu: int = 0
    tensor_split: tuple[float, ...] | None = None
    """Share of each GPU; needs not add up to one."""
    vocab_only: bool = False
    use_mmap: bool = True
    use_mlock: bool = False
    check_tensors: bool = False
    """Look for NaN and infinity in every tensor while loading."""
    rpc_servers: tuple[str, ...] = ()
    """Servers whose devices come before this machine's GPUs: ``host:port``."""
    kv_overrides: tuple[tuple[str, bool | int | float | str], ...] = ()
    """Metadata to take in place of the file's, where it has that key with that type."""

    def check(self) -> None:
        """Raise :class:`ValidationError` for what llama.cpp would assert on or misread."""
        check_integer("n_gpu_layers", self.n_gpu_layers, -(2**31), 2**31 - 1)
        check_integer("main_gpu", self.main_gpu, 0, 2**31 - 1)
        if not 0 <= self.split_mode <= _abi.LLAMA_SPLIT_MODE_TENSOR:
            raise ValidationError(
                f"split_mode is {self.split_mode}; choose 0 (none), 1 (layer), 2 (row) or 3 (tensor)"
            )
        for share in self.tensor_split or ():
            if not (math.isfinite(share) and share >= 0):
                raise ValidationError(
                    f"tensor_split has {share}; shares are finite and not negative"
                )
        if self.rpc_servers:
            _remote.parse_servers(self.rpc_servers)
        for key, value in self.kv_overrides:
            _check_override(key, value)


class _Owner:
    """Owns one handle: ``close``, the ``with`` statement and garbage collection all free it."""

    _handle: Handle

    def close(self) -> None:
        """Free it and everything made from it; does nothing the second time."""
        self._handle.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._handle.closed

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


class Model(_Owner):
    """A model in memory, shared by any number of contexts.

    Closing it closes its contexts, samplers and adapters first.
    """

    def __init__(  # noqa: PLR0915 - a field of llama.cpp's parameters each
        self,
        path: str | os.PathLike[str],
        params: ModelParams = ModelParams(),  # noqa: B008 - frozen
        progress: Callable[[float], object] | None = None,
    ) -> None:
        """Load a GGUF file.

        Args:
            path: the file; for a split model its first part.
            params: how to load it.
            progress: told the share that is loaded, 0 to 1; False ends the loading. What it raises
                is raised here.

        Raises:
            ModelLoadError: the file is missing, damaged, too new, or refused by llama.cpp; an RPC
                server cannot be used; or ``progress`` has ended the loading.
            ValidationError: a parameter is out of range.
            LlamaError: llama.cpp's libraries are missing.
        """
        self.path = Path(path)
        self.params = params
        params.check()
        check_file(self.path)
        self._lib = lib = _library.load()
        check_header(lib, self.path, overrides=dict(params.kv_overrides))
        self._servers = _remote.connect(params.rpc_servers) if params.rpc_servers else ()
        if params.n_gpu_layers and not self._servers:
            from llama_cpp import _gpu  # noqa: PLC0415 - for who asks for a GPU

            _gpu.warn_without_gpu(params.n_gpu_layers)
        native = lib.llama_model_default_params()
        if (devices := _remote.choose(self._servers)) is not None:
            native.devices = devices
        native.n_gpu_layers = params.n_gpu_layers
        native.split_mode = params.split_mode
        native.main_gpu = params.main_gpu
        native.vocab_only = params.vocab_only
        native.check_tensors = params.check_tensors
        native.load_mode = _load_mode(params)
        if params.tensor_split is not None:
            native.tensor_split = _shares(params.tensor_split, lib.llama_max_devices())
        if params.kv_overrides:
            native.kv_overrides = _overrides(params.kv_overrides)
        _log.clear()
        watched = _Watched(progress)
        with deferred() as interrupt:
            callback = _abi.llama_progress_callback(
                lambda share, _data: not interrupt.pressed and watched(share)
            )
            native.progress_callback = callback
            pointer = _open(
                self.path, lib.llama_model_load_from_file, os.fsencode(self.path), native
            )
            if pointer is not None:
                self._handle = Handle("model", pointer, lib.llama_model_free)
                self._handle.close_with(self)
        native.progress_callback = _abi.llama_progress_callback()
        self.native = native
        """The ``struct llama_model_params`` that it was loaded with."""
        _log.reraise()
        if pointer is None and watched.ended:
            watched.reraise()
            raise ModelLoadError(f"{self.path} was not loaded: progress_callback returned False")
        if (lost := self.lost_server) is not None:
            if pointer is not None:
                self._handle.close()
            raise ModelLoadError(
                f"{self.path} was not loaded: {lost}; start the server again, then load once more"
            )
        if pointer is None:
            raise _load_error(self.path, params, _log.complaints())
        self.vocabulary = Vocabulary(lib, self._handle)
        self.architecture = self._string(
            partial(_value, lib.llama_model_meta_val_str, b"general.architecture")
        )
        self.n_embd: int = lib.llama_model_n_embd(pointer)
        self.n_embd_out: int = lib.llama_model_n_embd_out(pointer)
        self.n_layer: int = lib.llama_model_n_layer(pointer)
        self.n_ctx_train: int = lib.llama_model_n_ctx_train(pointer)
        self.recurrent: bool = lib.llama_model_is_recurrent(pointer)
        self.hybrid: bool = lib.llama_model_is_hybrid(pointer)
        self.n_positions: int | None = self._learned_positions()
        """Length of the table of learned positions; None where positions have no end."""
        self.n_swa: int = lib.llama_model_n_swa(pointer)
        """Width of the sliding attention window in tokens; 0 where there is none."""
        self.n_params: int = lib.llama_model_n_params(pointer)
        self.size: int = lib.llama_model_size(pointer)
        """Size of all tensors in bytes."""
        self.has_encoder: bool = lib.llama_model_has_encoder(pointer)
        self.has_decoder: bool = lib.llama_model_has_decoder(pointer)

    def _learned_positions(self) -> int | None:
        """Return the training length where going past it would read outside of a tensor."""
        learned = self.architecture in _LEARNED_POSITIONS and self.n_ctx_train > 0
        return self.n_ctx_train if learned else None

    @property
    def handle(self) -> Handle:
        """What contexts, samplers and adapters hang on."""
        return self._handle

    @property
    def remote(self) -> bool:
        """Whether devices of RPC servers may compute it."""
        return bool(self._servers)

    @property
    def lost_server(self) -> str | None:
        """Which of its RPC servers is lost and why: nothing computed since then is to be used."""
        return _remote.lost(self._servers)

    @cached_property
    def description(self) -> str:
        """llama.cpp's short name, such as ``llama 7B Q4_K - Medium``."""
        return self._string(self._lib.llama_model_desc)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The scalar key-value pairs of the model file; llama.cpp renders values as text."""
        lib = self._lib
        with self._handle.lock:
            count = lib.llama_model_meta_count(self._handle.pointer)
            return {
                self._string(partial(_at, lib.llama_model_meta_key_by_index, index)): self._string(
                    partial(_at, lib.llama_model_meta_val_str_by_index, index)
                )
                for index in range(count)
            }

    @cached_property
    def has_classifier(self) -> bool:
        """Whether it has what scores for ranking come from: tensors named ``cls.*``.

        True for a split model as well, whose parts are not searched.
        """
        lib = self._lib
        native = lib.gguf_init_from_file(
            os.fsencode(self.path), _abi.gguf_init_params(no_alloc=True, ctx=None)
        )
        if native is None:
            return True
        try:
            names = (
                lib.gguf_get_tensor_name(native, index) or b""
                for index in range(lib.gguf_get_n_tensors(native))
            )
            return lib.gguf_find_key(native, b"split.count") >= 0 or any(
                name.startswith(b"cls.") for name in names
            )
        finally:
            lib.gguf_free(native)

    def chat_template(self, name: str | None = None) -> str | None:
        """Return the chat template in the model file; None where it has none of that name."""
        with self._handle.lock:
            template = self._lib.llama_model_chat_template(
                self._handle.pointer, None if name is None else name.encode()
            )
        return None if template is None else template.decode("utf-8", "replace")

    def _string(self, read: Callable[[int, _Characters, int], int]) -> str:
        """Call a function that writes text into a buffer and returns its full length."""
        room = 256
        with self._handle.lock:
            while True:
                buffer = ctypes.create_string_buffer(room)
                length = read(self._handle.pointer, buffer, room)
                if length < room:
                    return buffer.value.decode("utf-8", "replace")
                room = length + 1


class Adapter(_Owner):
    """A LoRA adapter for one model."""

    def __init__(self, model: Model, path: str | os.PathLike[str]) -> None:
        """Load an adapter.

        Raises:
            ModelLoadError: the file is missing, damaged, no adapter, or made for another model.
        """
        self.model = model
        self.path = Path(path)
        check_file(self.path, "LoRA adapter")
        lib = _library.load()
        check_header(lib, self.path, "LoRA adapter")
        _log.clear()
        with model.handle.lock:
            pointer = _open(
                self.path,
                lib.llama_adapter_lora_init,
                model.handle.pointer,
                os.fsencode(self.path),
            )
            if pointer is not None:
                self._handle = Handle(
                    "LoRA adapter", pointer, lib.llama_adapter_lora_free, model.handle
                )
                self._handle.close_with(self)
        _log.reraise()
        if pointer is None:
            raise ModelLoadError(
                f"llama.cpp cannot use {self.path} as a LoRA adapter of {model.path}; "
                "its own words follow",
                log=_log.complaints(),
            )
        self.users: weakref.WeakSet[Context] = weakref.WeakSet()
        """Contexts that apply it now."""

    def close(self) -> None:
        """Free the adapter.

        Raises:
            LlamaError: a context still applies it.
        """
        if self.users and not self._handle.closed:
            raise LlamaError(
                f"the LoRA adapter {self.path} is in use by {len(self.users)} context(s); "
                "take it out with set_adapters() first, or close them"
            )
        super().close()

    @property
    def handle(self) -> Handle:
        """The native adapter's owner."""
        return self._handle


class _Watched:
    """The application's progress callback, which must not raise into C."""

    def __init__(self, progress: Callable[[float], object] | None) -> None:
        self._progress = progress
        self._raised: BaseException | None = None
        self.ended = False

    def __call__(self, share: float) -> bool:
        """Tell the application; return whether to go on."""
        if self._progress is None:
            return True
        try:
            self.ended = self.ended or self._progress(share) is False
        except BaseException as error:  # noqa: BLE001 - C is below on the stack
            self._raised = error
            self.ended = True
        return not self.ended

    def reraise(self) -> None:
        """Raise what the application raised."""
        if self._raised is not None:
            raise self._raised


def _open(path: Path, function: Callable[..., int | None], *arguments: object) -> int | None:
    """Call a function that opens a file, which may hold what llama.cpp asserts not to be there."""
    try:
        return guarded(function, *arguments)
    except FailedAssertionError as failed:
        raise ModelLoadError(
            f"{path} is damaged, or was made for another llama.cpp: {failed}; {AGAIN}",
            log=_log.complaints(),
        ) from None


def _value(
    read: Callable[[int, bytes, _Characters, int], int],
    key: bytes,
    pointer: int,
    buffer: _Characters,
    size: int,
) -> int:
    return read(pointer, key, buffer, size)


def _at(
    read: Callable[[int, int, _Characters, int], int],
    index: int,
    pointer: int,
    buffer: _Characters,
    size: int,
) -> int:
    return read(pointer, index, buffer, size)


def _load_error(path: Path, params: ModelParams, log: tuple[str, ...]) -> ModelLoadError:
    lacking = shortage(log)
    if lacking is None:
        return ModelLoadError(f"llama.cpp cannot load {path}; its own words follow", log=log)
    smaller = "or take a smaller model or a stronger quantisation"
    text = shortage_text(
        lacking,
        _library.devices(),
        on_gpu=f"keep fewer layers there (n_gpu_layers is {params.n_gpu_layers}), close other "
        f"programs that use it, {smaller}",
        on_cpu=f"close other programs, {smaller}",
    )
    return ModelLoadError(f"{path} does not fit: {text}. llama.cpp's own words follow", log=log)


def _load_mode(params: ModelParams) -> int:
    if params.use_mmap:
        # AUTO is mmap, except where a device asks for something better
        return _abi.LLAMA_LOAD_MODE_MMAP_MLOCK if params.use_mlock else _abi.LLAMA_LOAD_MODE_AUTO
    return _abi.LLAMA_LOAD_MODE_MLOCK if params.use_mlock else _abi.LLAMA_LOAD_MODE_NONE


def _shares(tensor_split: tuple[float, ...], devices: int) -> ctypes.Array[ctypes.c_float]:
    if len(tensor_split) > devices:
        raise ValidationError(
            f"tensor_split has {len(tensor_split)} shares; this build of llama.cpp knows at most "
            f"{devices} devices"
        )
    # llama.h: "size: llama_max_devices()", it reads them all
    return (ctypes.c_float * max(devices, 1))(*tensor_split)


# llama.h: key and val_str are arrays of 128 characters, the last of them NUL
_OVERRIDE_LENGTH = 127


def _check_override(key: object, value: object) -> None:
    if not isinstance(key, str) or not 0 < len(_bytes(key)) <= _OVERRIDE_LENGTH or "\0" in key:
        raise ValidationError(
            f"kv_overrides has the key {key!r}; a key is 1 to {_OVERRIDE_LENGTH} bytes of text"
        )
    if isinstance(value, bool):
        return
    if isinstance(value, str):
        if len(_bytes(value)) > _OVERRIDE_LENGTH or "\0" in value:
            raise ValidationError(
                f"kv_overrides has {len(_bytes(value))} bytes for {key!r}; llama.cpp takes texts of "
                f"at most {_OVERRIDE_LENGTH} bytes, without a NUL character"
            )
    elif isinstance(value, int):
        check_integer(f"kv_overrides[{key!r}]", value, -(2**63), 2**63 - 1)
    elif not isinstance(value, float) or not math.isfinite(value):
        raise ValidationError(
            f"kv_overrides has {value!r} for {key!r}; give a bool, an int, a finite float or a str"
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _overrides(
    pairs: tuple[tuple[str, bool | int | float | str], ...],
) -> ctypes.Array[_abi.llama_model_kv_override]:
    # llama.cpp reads up to the first empty key
    native = (_abi.llama_model_kv_override * (len(pairs) + 1))()
    for entry, (key, value) in zip(native, pairs):
        entry.key = _bytes(key)
        if isinstance(value, bool):
            entry.tag = _abi.LLAMA_KV_OVERRIDE_TYPE_BOOL
            entry.value.val_bool = value
        elif isinstance(value, int):
            entry.tag = _abi.LLAMA_KV_OVERRIDE_TYPE_INT
            entry.value.val_i64 = value
        elif isinstance(value, float):
            entry.tag = _abi.LLAMA_KV_OVERRIDE_TYPE_FLOAT
            entry.value.val_f64 = value
        else:
            entry.tag = _abi.LLAMA_KV_OVERRIDE_TYPE_STR
            entry.value.val_str = _bytes(value)
    return native
