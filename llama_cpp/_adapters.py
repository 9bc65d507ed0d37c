"""LoRA adapters and control vectors of a :class:`llama_cpp.Llama`: what is applied, at what strength.

What the context remembers was computed with the adapters of that time, so a change forgets it.
"""

from __future__ import annotations

import array
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from llama_cpp import _abi, _library, _log
from llama_cpp._arguments import check_integer, check_number
from llama_cpp._errors import ModelLoadError, ValidationError
from llama_cpp._gguf import check_file
from llama_cpp._model import Adapter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llama_cpp._context import Context
    from llama_cpp.llama import Llama

_LARGEST_FLOAT32 = 3.4028234663852886e38
_FLOAT_SIZE = 4


class ControlVector(NamedTuple):
    """A direction per layer that is added to what the layer puts out."""

    source: Union[str, os.PathLike[str], Mapping[int, Sequence[float]]]  # noqa: UP007
    """A GGUF file with tensors ``direction.1``, ``direction.2`` …; or the directions themselves, by
    layer. Layer 0 has none; each is ``n_embd`` long."""
    scale: float = 1.0
    """Its strength; a negative one turns it round."""
    layers: Optional[tuple[int, int]] = None  # noqa: UP045 - evaluated on Python 3.9
    """First and last layer that it is added to; None is all that it has."""


class Loras:
    """The LoRA adapters of one context, by name, in the order of their loading."""

    def __init__(self) -> None:
        """Start with none."""
        self._loaded: dict[str, tuple[Adapter, float]] = {}

    @property
    def applied(self) -> tuple[tuple[str, float], ...]:
        """The files in use with their scales."""
        return tuple((str(adapter.path), scale) for adapter, scale in self._loaded.values())

    def load(
        self, context: Context, path: str | os.PathLike[str], scale: float, name: str | None
    ) -> str:
        """Load a file and apply it with the others; return its name."""
        check_number("scale", scale, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
        if name is not None and (not isinstance(name, str) or not name):
            raise ValidationError(f"name is {name!r}; give a LoRA adapter a text that is not empty")
        if name is not None and name in self._loaded:
            raise ValidationError(
                f"a LoRA adapter is named {name!r} already; remove_lora({name!r}) first"
            )
        if name is None:
            name = self._free_name(Path(path).stem)
        adapter = Adapter(context.model, path)
        try:
            self._apply(context, {**self._loaded, name: (adapter, float(scale))})
        except BaseException:
            adapter.close()
            raise
        return name

    def scale(self, context: Context, name: str, scale: float) -> None:
        """Change the strength of one."""
        check_number("scale", scale, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
        adapter, _ = self._named(name)
        self._apply(context, {**self._loaded, name: (adapter, float(scale))})

    def remove(self, context: Context, names: Iterable[str]) -> None:
        """Take some out and free them."""
        gone = {name: self._named(name)[0] for name in names}
        if not gone:
            return
        self._apply(context, {n: pair for n, pair in self._loaded.items() if n not in gone})
        for adapter in gone.values():
            adapter.close()

    def names(self) -> tuple[str, ...]:
        """Return the names of all."""
        return tuple(self._loaded)

    def _apply(self, context: Context, loaded: dict[str, tuple[Adapter, float]]) -> None:
        context.set_adapters(list(loaded.values()))
        self._loaded = loaded

    def _named(self, name: str) -> tuple[Adapter, float]:
        try:
            return self._loaded[name]
        except (KeyError, TypeError):
            known = ", ".join(map(repr, self._loaded)) or "none"
            raise ValidationError(f"no LoRA adapter is named {name!r}; loaded: {known}") from None

    def _free_name(self, stem: str) -> str:
        name, number = stem, 2
        while name in self._loaded:
            name, number = f"{stem}-{number}", number + 1
        return name


def load_lora(
    self: Llama, path: str | os.PathLike[str], scale: float = 1.0, *, name: str | None = None
) -> str:
    """Load a LoRA adapter and apply it beside those that are applied already.

    What the context remembers is forgotten, and running streams are ended.

    Args:
        path: a GGUF file with an adapter for this model.
        scale: its strength; 0 does nothing.
        name: what to call it; None is the file's name without its ending.

    Returns:
        The name, for :meth:`remove_lora` and :meth:`set_lora_scale`.

    Raises:
        ModelLoadError: the file is missing, damaged, no adapter, or made for another model.
        ValidationError: the name is taken, or the scale is no finite number.
    """
    engine = self._running()
    with engine.context.lock:
        loaded = self._loras.load(engine.context, path, scale, name)
        engine.reset()
        return loaded


def set_lora_scale(self: Llama, name: str, scale: float) -> None:
    """Change the strength of a loaded LoRA adapter; the context forgets its tokens.

    Args:
        name: what :meth:`load_lora` returned.
        scale: the new strength.

    Raises:
        ValidationError: there is no such adapter, or the scale is no finite number.
    """
    engine = self._running()
    with engine.context.lock:
        self._loras.scale(engine.context, name, scale)
        engine.reset()


def remove_lora(self: Llama, name: str) -> None:
    """Take out and free one LoRA adapter; the context forgets its tokens.

    Args:
        name: what :meth:`load_lora` returned.

    Raises:
        ValidationError: there is no such adapter.
    """
    engine = self._running()
    with engine.context.lock:
        self._loras.remove(engine.context, [name])
        engine.reset()


def clear_lora(self: Llama) -> None:
    """Take out and free all LoRA adapters; the context forgets its tokens if there were any."""
    engine = self._running()
    with engine.context.lock:
        if names := self._loras.names():
            self._loras.remove(engine.context, names)
            engine.reset()


def set_control_vectors(
    self: Llama, vectors: Sequence[ControlVector | str | os.PathLike[str]]
) -> None:
    """Apply control vectors in place of those applied before; the context forgets its tokens.

    Args:
        vectors: values, or files at scale 1; they add up. None of them takes the applied ones out.

    Raises:
        ModelLoadError: a file is missing, damaged, or holds no control vector.
        ValidationError: a direction's length is not the model's ``n_embd``; a layer or a scale is out
            of range.
    """
    engine = self._running()
    context = engine.context
    if isinstance(vectors, (str, os.PathLike, ControlVector)):
        vectors = [vectors]
    values = tuple(map(_as_vector, vectors))
    data = _sum(values, context.model.n_embd, max(context.model.n_layer - 1, 1))
    with context.lock:
        context.set_control(data)
        engine.reset()
        self._control_vectors = values
        self._control_key = "" if data is None else _digest(data.tobytes())


def _as_vector(vector: ControlVector | str | os.PathLike[str]) -> ControlVector:
    if not isinstance(vector, ControlVector):
        vector = ControlVector(vector)
    check_number("a control vector's scale", vector.scale, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
    span = vector.layers
    if span is not None and not (
        isinstance(span, (tuple, list))
        and len(span) == 2
        and all(isinstance(layer, int) for layer in span)
    ):
        raise ValidationError(
            f"a control vector's layers are {span!r}; give the first and the last"
        )
    return vector


def _digest(data: bytes) -> str:
    import hashlib  # noqa: PLC0415 - only needed here

    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _directions(source: object) -> dict[int, Sequence[float]]:
    """Return directions that are no file.

    Raises:
        ValidationError: they are not numbers by layer.
    """
    try:
        return {layer: [float(x) for x in row] for layer, row in dict(source).items()}  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise ValidationError(
            f"a control vector is a GGUF file, or a dict from layers to lists of numbers: {error}"
        ) from error


def _sum(vectors: Sequence[ControlVector], n_embd: int, layers: int) -> array.array[float] | None:
    """Return the scaled directions of layers 1 to ``layers``, added up, ``n_embd`` numbers each."""
    if not vectors:
        return None
    total = array.array("f", bytes(_FLOAT_SIZE * n_embd * layers))
    for vector in vectors:
        source, scale, span = vector
        if isinstance(source, (str, os.PathLike)):
            where, directions = str(source), _read(Path(source))
        else:
            where, directions = "a control vector", _directions(source)
        for layer, direction in directions.items():
            check_integer(f"{where}: a layer", layer, 1, layers)
            if len(direction) != n_embd:
                raise ValidationError(
                    f"{where}: the direction of layer {layer} has {len(direction)} numbers, this "
                    f"model's n_embd is {n_embd}: it was made for another model"
                )
            if span is not None and not span[0] <= layer <= span[1]:
                continue
            start = (layer - 1) * n_embd
            for index, number in enumerate(direction, start):
                value = total[index] + scale * number
                check_number(f"{where}: layer {layer}", value, -_LARGEST_FLOAT32, _LARGEST_FLOAT32)
                total[index] = value
    return total


def _read(path: Path) -> dict[int, Sequence[float]]:
    """Return the directions in a GGUF file by layer.

    Raises:
        ModelLoadError: it is missing, damaged, or holds something else.
    """
    check_file(path, "control vector")
    lib = _library.load()
    _log.clear()
    params = _abi.gguf_init_params(no_alloc=True, ctx=None)
    native = lib.gguf_init_from_file(os.fsencode(path), params)
    if native is None:
        raise ModelLoadError(
            f"llama.cpp cannot read the control vector file {path}; its own words follow",
            log=_log.complaints(),
        )
    found: dict[int, Sequence[float]] = {}
    try:
        data = lib.gguf_get_data_offset(native)
        with path.open("rb") as file:
            for index in range(lib.gguf_get_n_tensors(native)):
                name = (lib.gguf_get_tensor_name(native, index) or b"").decode("utf-8", "replace")
                word, _, layer = name.partition(".")
                if word != "direction" or not (layer.isascii() and layer.isdigit()):
                    raise ModelLoadError(
                        f"{path} is no control vector: it has a tensor {name!r}, where only "
                        "direction.1, direction.2 … are known"
                    )
                if lib.gguf_get_tensor_type(native, index) != _abi.GGML_TYPE_F32:
                    raise ModelLoadError(f"{path}: {name} is not stored as F32; convert it")
                size = lib.gguf_get_tensor_size(native, index)
                start = data + lib.gguf_get_tensor_offset(native, index)
                if start + size > path.stat().st_size:
                    raise ModelLoadError(f"{path} is truncated within {name}; download it again")
                file.seek(start)
                numbers = array.array("f", file.read(size))
                if sys.byteorder == "big":
                    numbers.byteswap()
                found[int(layer)] = numbers
    finally:
        lib.gguf_free(native)
    if not found:
        raise ModelLoadError(f"{path} is no control vector: it holds no direction")
    return found
