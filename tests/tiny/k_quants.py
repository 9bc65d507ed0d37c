"""K-quants: how ggml stores blocks of 256 weights with a scale for each 16 or 32 of them.

The package `gguf` reads these types and does not write them. llama.cpp's own `llama_model_quantize`
searches for the best scales in floating point, so its bytes depend on how it was compiled, and it
needs the very libraries that the file is to test. The tiny model needs neither a search nor a loss:
its weights are *ternary*, each group of 16 or 32 holds -v, 0 and v for some v of its own, and every
K-quant has a code for these three. What is written here is read back by `gguf` in the tests.

Layouts: `block_q2_K` to `block_q6_K` in ggml-common.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.tiny.codes import Array

Bytes = npt.NDArray[np.uint8]
KQuant = Literal["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
K_QUANTS: tuple[KQuant, ...] = get_args(KQuant)

BLOCK = 256
# values are multiples of this, so that scales are found in whole numbers
_UNIT = 2.0**-12


@dataclass(frozen=True)
class _Format:
    """`group` weights share a scale of at most `limit`; the code `zero` stands for 0."""

    group: int
    limit: int
    zero: int


_FORMATS: Mapping[KQuant, _Format] = {
    "Q2_K": _Format(group=16, limit=15, zero=1),
    "Q3_K": _Format(group=16, limit=31, zero=4),
    "Q4_K": _Format(group=32, limit=63, zero=8),
    "Q5_K": _Format(group=32, limit=63, zero=16),
    "Q6_K": _Format(group=16, limit=127, zero=32),
}


def quantize_ternary(values: Array, kind: KQuant) -> Bytes:
    """Return the blocks of `values`, shape (rows, bytes), without any loss.

    Raises:
        ValueError: a row is no whole number of blocks, or a group is not ternary, or the scales of
            a block have no common measure that the type can store.
    """
    rows, width = values.shape
    if width % BLOCK:
        msg = f"rows of {width} weights; {kind} needs a multiple of {BLOCK}"
        raise ValueError(msg)
    form = _FORMATS[kind]
    groups = values.reshape(-1, BLOCK // form.group, form.group)
    sizes = np.abs(groups).max(axis=-1)
    if not ((groups == 0) | (np.abs(groups) == sizes[..., None])).all():
        msg = f"a group of {form.group} weights holds more than -v, 0 and v"
        raise ValueError(msg)
    scale, scales = _scales(sizes, form, kind)
    codes = (np.sign(groups).astype(np.int16) + form.zero).astype(np.uint8).reshape(-1, BLOCK)
    # a group's least value is -zero * scale: a second scale is stored for it, of `zero` times d
    half = {"d": _half(scale), "dmin": _half(form.zero * scale)}
    pack = {"Q2_K": _q2, "Q3_K": _q3, "Q4_K": _q4, "Q5_K": _q5, "Q6_K": _q6}[kind]
    return np.hstack(pack(codes, scales, half)).reshape(rows, -1)


def _scales(sizes: Array, form: _Format, kind: KQuant) -> tuple[Array, Bytes]:
    """Return the scale of each block, shape (blocks,), and the whole-number scales of its groups."""
    whole = np.rint(sizes / _UNIT).astype(np.int64)
    measure = np.maximum(np.gcd.reduce(whole, axis=-1), 1)
    # the largest scales that fit, so that their upper bits are not idle
    doublings = np.floor(
        np.log2(np.maximum(form.limit * measure / np.maximum(whole.max(-1), 1), 1))
    )
    scale = measure * _UNIT / 2**doublings
    scales = np.rint(sizes / scale[:, None])
    exact = (scale.astype(np.float16) == scale) & (scales * scale[:, None] == sizes).all(axis=-1)
    if not exact.all() or scales.max() > form.limit:
        msg = f"the scales {sizes[~exact][:1].tolist()} of a block have no common measure in {kind}"
        raise ValueError(msg)
    return scale, scales.astype(np.uint8)


def _half(values: Array) -> Bytes:
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _spread(values: Bytes, parts: int, number: int, length: int) -> Bytes:
    """Put `number` values into each byte, those that lie `length` weights apart, lowest first."""
    bits = 8 // number
    apart = values.reshape(-1, parts, number, length).astype(np.uint16)
    shifts = (bits * np.arange(number, dtype=np.uint16)).reshape(1, 1, number, 1)
    together: Bytes = (apart << shifts).sum(axis=2).astype(np.uint8).reshape(len(values), -1)
    return together


def _q2(codes: Bytes, scales: Bytes, half: Mapping[str, Bytes]) -> list[Bytes]:
    return [scales | (scales << np.uint8(4)), _spread(codes, 2, 4, 32), half["d"], half["dmin"]]


def _q3(codes: Bytes, scales: Bytes, half: Mapping[str, Bytes]) -> list[Bytes]:
    high, low = _spread(codes >> np.uint8(2), 1, 8, 32), _spread(codes & np.uint8(3), 2, 4, 32)
    signed = scales + np.uint8(32)
    packed = [_spread(signed & np.uint8(15), 1, 2, 8), _spread(signed >> np.uint8(4), 1, 4, 4)]
    return [high, low, *packed, half["d"]]


def _six_bits(scales: Bytes) -> Bytes:
    """Pack eight scales of six bits, twice: those of the weights and those of the least values."""
    first, last = scales[:, :4], scales[:, 4:]
    upper = first | (last >> np.uint8(4) << np.uint8(6))
    return np.hstack([upper, upper, (last & np.uint8(15)) | (last << np.uint8(4))])


def _q4(codes: Bytes, scales: Bytes, half: Mapping[str, Bytes]) -> list[Bytes]:
    return [half["d"], half["dmin"], _six_bits(scales), _spread(codes, 4, 2, 32)]


def _q5(codes: Bytes, scales: Bytes, half: Mapping[str, Bytes]) -> list[Bytes]:
    high, low = _spread(codes >> np.uint8(4), 1, 8, 32), _spread(codes & np.uint8(15), 4, 2, 32)
    return [half["d"], half["dmin"], _six_bits(scales), high, low]


def _q6(codes: Bytes, scales: Bytes, half: Mapping[str, Bytes]) -> list[Bytes]:
    low, high = _spread(codes & np.uint8(15), 2, 2, 64), _spread(codes >> np.uint8(4), 2, 4, 32)
    return [low, high, scales, half["d"]]
