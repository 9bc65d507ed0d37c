from __future__ import annotations

import io
import math
import struct
import wave

import numpy as np

from tests.tiny.audio import BANDS, MIDDLE, ONE, OWN_HIGH, OWN_LOW, RATE, audio_projector, wav


def gelu(x: float) -> float:
    return x * 0.5 * (1 + math.erf(x / math.sqrt(2)))


def switch(bands: np.ndarray) -> float:
    """Return the switch channel of a token of two equal frames, in numpy."""
    w = audio_projector()
    x = np.array([gelu(v) for v in w["a.conv1d.1.weight"][:, :, 1] @ bands])
    x = w["a.conv1d.2.weight"][:, :, 1] @ x + w["a.conv1d.2.bias"][:, 0]
    x = np.array([gelu(v) for v in x])
    out = w["mm.a.fc.weight"] @ x
    return float(out[35])


def test_a_token_compares_low_bands_with_high_ones() -> None:
    flat = np.full(BANDS, -0.5)
    assert abs(switch(flat)) < 1e-9
    low, high = flat.copy(), flat.copy()
    low[3:7], high[60:64] = 1.5, 1.5
    assert switch(low) > 2
    assert switch(high) < -2


def test_channels() -> None:
    w = audio_projector()
    assert w["a.conv1d.1.weight"].shape == (64, BANDS, 3)
    assert np.count_nonzero(w["a.conv1d.1.weight"][OWN_LOW, :MIDDLE, 1] > 0) == MIDDLE
    assert np.array_equal(w["a.conv1d.1.weight"][OWN_LOW], -w["a.conv1d.1.weight"][OWN_HIGH])
    assert w["a.conv1d.2.bias"][ONE] == 3


def test_wav() -> None:
    with wave.open(io.BytesIO(wav(1000, 0.5))) as file:
        assert file.getparams()[:4] == (1, 2, RATE, 8000)
        samples = struct.unpack("<5h", file.readframes(5))
    assert samples == (0, 7654, 14142, 18478, 20000)
