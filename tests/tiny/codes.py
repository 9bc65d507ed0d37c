"""Random-looking ±1 codes that are the same on every machine and with every numpy."""

from __future__ import annotations

import hashlib
from itertools import count

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def signs(name: str, length: int) -> Array:
    """Return `length` values of +1 or -1 drawn from SHA-256 of `name`."""
    blocks = (
        hashlib.sha256(f"{name}/{block}".encode()).digest() for block in range(-(-length // 256))
    )
    bits = np.unpackbits(np.frombuffer(b"".join(blocks), dtype=np.uint8))[:length]
    return np.where(bits == 1, 1.0, -1.0)


def codes(name: str, number: int, length: int, *, overlap: int) -> Array:
    """Return `number` codes, shape (number, length), any two with |inner product| <= `overlap`."""
    chosen: list[Array] = []
    for attempt in count():
        code = signs(f"{name}/{attempt}", length)
        if not chosen or np.abs(np.array(chosen) @ code).max() <= overlap:
            chosen.append(code)
            if len(chosen) == number:
                break
    return np.array(chosen)
