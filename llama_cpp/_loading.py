"""What a :class:`llama_cpp.Llama` is made from: its arguments, as given and as llama.cpp wants them."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast

from llama_cpp import _abi, _library
from llama_cpp._arguments import check_integer, check_number
from llama_cpp._errors import LlamaError, ValidationError
from llama_cpp._remote import parse_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llama_cpp.config import LlamaConfig
    from llama_cpp.llama import Llama

    _Init = TypeVar("_Init", bound=Callable[..., None])
    Paths = Union[str, "os.PathLike[str]", "Sequence[str | os.PathLike[str]]"]

_GPU_MODULES = frozenset({"ggml-cuda", "ggml-hip", "ggml-vulkan", "ggml-metal"})
_LARGEST_FLOAT32 = 3.4028234663852886e38

_numa_lock = threading.Lock()
_numa_strategy: int | None = None


def configured(init: _Init) -> _Init:
    """Let a constructor take its keywords from ``config``, those that are given winning.

    What it was called with in the end is kept for pickling as ``_arguments``.
    """

    @functools.wraps(init)
    def with_config(self: Llama, *args: Any, **kwargs: Any) -> None:
        config: LlamaConfig | None = kwargs.get("config")
        if config is not None:
            kwargs = {**_config_arguments(config), **kwargs}
            if args:
                kwargs.pop("model_path", None)
            elif "model_path" not in kwargs:
                raise ValidationError(
                    "no model_path: give it to Llama(…), or set it in the LlamaConfig"
                )
        self._arguments = {**({"model_path": args[0]} if args else {}), **kwargs}
        init(self, *args, **kwargs)

    return cast("_Init", with_config)


def _config_arguments(config: LlamaConfig) -> dict[str, Any]:
    from llama_cpp.config import LlamaConfig as Config  # noqa: PLC0415 - few use it

    if not isinstance(config, Config):
        raise ValidationError(f"config is {config!r}; give a LlamaConfig")
    found = config.arguments()
    if config.n_gpu_layers == Config.n_gpu_layers and _GPU_MODULES.isdisjoint(_library.modules()):
        # its default asks for what there is: a package for the CPU alone has nothing to warn of
        found["n_gpu_layers"] = 0
    return found


def start_numa(numa: bool | int) -> None:
    """Tell ggml how to place its threads, once per process.

    Args:
        numa: False or 0 for nothing, True for ``GGML_NUMA_STRATEGY_DISTRIBUTE``, or a strategy.

    Raises:
        ValidationError: it is no strategy.
        LlamaError: this process has chosen another strategy already.
    """
    global _numa_strategy  # noqa: PLW0603 - ggml's own is process-wide
    if isinstance(numa, bool):
        strategy = _abi.GGML_NUMA_STRATEGY_DISTRIBUTE if numa else 0
    else:
        check_integer("numa", numa, 0, _abi.GGML_NUMA_STRATEGY_COUNT - 1)
        strategy = numa
    if not strategy:
        return
    with _numa_lock:
        if _numa_strategy not in (None, strategy):
            raise LlamaError(
                f"numa is {strategy}, but ggml was started with strategy {_numa_strategy} in this "
                "process, which can be chosen once; use the same one, or another process"
            )
        if _numa_strategy is None and any(each.kind == "CPU" for each in _library.devices()):
            _library.load().llama_numa_init(strategy)
            _numa_strategy = strategy


def overrides(
    kv_overrides: Mapping[str, bool | int | float | str] | None,
) -> tuple[tuple[str, bool | int | float | str], ...]:
    """Return metadata to override as a frozen value."""
    if kv_overrides is None:
        return ()
    if not hasattr(kv_overrides, "items"):
        raise ValidationError(f"kv_overrides is {kv_overrides!r}; give a dict of keys to values")
    return tuple(kv_overrides.items())


def servers(rpc_servers: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the addresses of RPC servers."""
    if rpc_servers is None:
        return ()
    return tuple(str(address) for address in parse_servers(rpc_servers))


def own_unless_changed(value: float, default: float) -> float:
    """Return ``value``, or -1 where it is the default: llama.cpp then takes the model's own.

    The defaults are those of models that say nothing; passed on as they are they would win over a
    model that does say something else (Grok and Mistral 3 do).
    """
    return -1.0 if value == default else value


def lora_files(
    lora_path: Paths | None, lora_scale: float | Sequence[float]
) -> list[tuple[str, float]]:
    """Return LoRA files with their scales.

    Args:
        lora_path: one or several.
        lora_scale: one for all, or one for each.

    Raises:
        ValidationError: their numbers differ, or a scale is no finite number.
    """
    if lora_path is None:
        return []
    one = isinstance(lora_path, (str, os.PathLike))
    if not one and not all(isinstance(path, (str, os.PathLike)) for path in _listed(lora_path)):
        raise ValidationError(f"lora_path is {lora_path!r}; give a path, or a list of paths")
    paths = [lora_path] if one else list(lora_path)  # type: ignore[arg-type]
    scales = [lora_scale] * len(paths) if isinstance(lora_scale, (int, float)) else [*lora_scale]
    if len(scales) != len(paths):
        raise ValidationError(
            f"lora_scale has {len(scales)} scales for {len(paths)} files in lora_path; "
            "give one for each, or a single number"
        )
    for scale in scales:
        check_number("lora_scale", scale, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
    return [(os.fspath(path), float(scale)) for path, scale in zip(paths, scales)]  # type: ignore[arg-type]


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def arguments_now(self: Llama) -> dict[str, Any]:
    """Return the keywords that load an object like this one again."""
    # a config's keywords are among the arguments; a callback belongs to the process that loads
    left_out = ("config", "progress_callback")
    return {
        **{name: value for name, value in self._arguments.items() if name not in left_out},
        "seed": self._seed,
        "lora_path": [path for path, _ in self._loras.applied] or None,
        "lora_scale": [scale for _, scale in self._loras.applied] or 1.0,
        "control_vectors": self._control_vectors,
    }
