"""An audio projector for the tiny gemma3: a low tone is answered in upper case, a high one in lower.

A Whisper encoder that does next to nothing: its first convolution compares the lower mel bands with
the upper ones, each way into a channel of its own, because the bend after it (GELU) lets only what is
positive through. A frame is 20 ms; two frames are one token; silence says nothing. A clip is 30 seconds
whatever it holds, 750 tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from struct import pack
from typing import TYPE_CHECKING

import gguf
import numpy as np

from tests.tiny.llama import EPSILON, SIGN, SWITCH, WIDTH
from tests.tiny.vision import image_token

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.tiny.codes import Array

BANDS = 80
MIDDLE = 45  # the band of about 2 kHz
FRAMES = 1500
TOKENS = 750
RATE = 16000
LOW, HIGH = 300, 5000  # Hz
GAIN = 30.0
OWN_LOW, OWN_HIGH, ONE = 0, 1, 2


@dataclass(frozen=True)
class TinyAudio:
    """The projector; the language model is `TinyVision(architecture="gemma3")`."""

    name: str = "mmproj-audio-f32"

    def write(self, path: Path) -> None:
        """Write the projector as a GGUF file; equal bytes every time."""
        writer = gguf.GGUFWriter(path, "clip")
        writer.add_name(self.name)
        writer.add_bool("clip.has_audio_encoder", val=True)
        writer.add_string("clip.projector_type", "qwen2a")
        for name, value in (
            ("num_mel_bins", BANDS),
            ("embedding_length", WIDTH),
            ("feed_forward_length", WIDTH),
            ("projection_dim", WIDTH),
            ("block_count", 1),
            ("attention.head_count", 1),
        ):
            writer.add_uint32(f"clip.audio.{name}", value)
        writer.add_float32("clip.audio.attention.layer_norm_epsilon", EPSILON)
        for name, weight in audio_projector().items():
            kind = np.float16 if "conv1d" in name and name.endswith("weight") else np.float32
            writer.add_tensor(name, weight.astype(kind))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def wav(hertz: float, seconds: float = 1.0) -> bytes:
    """Return a WAV file of a sine tone, 16 bits, one channel, 16 kHz."""
    count = int(seconds * RATE)
    sound = b"".join(
        pack("<h", round(20000 * math.sin(2 * math.pi * hertz * index / RATE)))
        for index in range(count)
    )
    form = pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVEfmt " + pack("<I", len(form)) + form + b"data" + pack("<I", len(sound)) + sound
    return b"RIFF" + pack("<I", len(body)) + body


@cache
def audio_projector() -> Mapping[str, Array]:
    """Return all tensors by their GGUF names, shape (out, in)."""
    first = np.zeros((WIDTH, BANDS, 3))
    compare = np.where(np.arange(BANDS) < MIDDLE, 1 / MIDDLE, -1 / (BANDS - MIDDLE))
    first[OWN_LOW, :, 1], first[OWN_HIGH, :, 1] = GAIN * compare, -GAIN * compare
    second = np.zeros((WIDTH, WIDTH, 3))
    second[OWN_LOW, OWN_LOW, 1] = second[OWN_HIGH, OWN_HIGH, 1] = 1.0
    constant = np.zeros((WIDTH, 1))
    constant[ONE] = 3.0
    projection = np.zeros((WIDTH, WIDTH))
    projection[SWITCH, OWN_LOW], projection[SWITCH, OWN_HIGH] = SIGN, -SIGN
    projection[:, ONE] = image_token() / 3
    block = "a.blk.0."
    zero = np.zeros((WIDTH, WIDTH))
    return {
        "a.conv1d.1.weight": first,
        "a.conv1d.1.bias": np.zeros((WIDTH, 1)),
        "a.conv1d.2.weight": second,
        "a.conv1d.2.bias": constant,
        "a.position_embd.weight": np.zeros((FRAMES, WIDTH)),
        **{f"{block}attn_{name}.weight": zero for name in ("q", "k", "v", "out")},
        **{f"{block}attn_{name}.bias": np.zeros(WIDTH) for name in ("q", "v", "out")},
        **{f"{block}ffn_{name}.weight": zero for name in ("up", "down")},
        **{f"{block}ffn_{name}.bias": np.zeros(WIDTH) for name in ("up", "down")},
        **{f"{block}ln{number}.weight": np.ones(WIDTH) for number in (1, 2)},
        **{f"{block}ln{number}.bias": np.zeros(WIDTH) for number in (1, 2)},
        "mm.a.fc.weight": projection,
        "mm.a.fc.bias": np.zeros(WIDTH),
    }
