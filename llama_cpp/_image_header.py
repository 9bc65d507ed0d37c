"""What an image or audio file says about itself, looked at before a decoder takes its word for it.

The decoders below mtmd (stb_image, miniaudio) allocate what a header announces, and an allocation
that fails ends the process. Only formats whose size can be read here are let through.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from llama_cpp._errors import ValidationError

# decoded, three bytes each
_MOST_PIXELS = 100_000_000
# stb_image.h, STBI_MAX_DIMENSIONS
_LONGEST_SIDE = 1 << 24
# decoded to 32-bit samples at the projector's rate: a few hundred megabytes
_MOST_SECONDS = 3600
# its length is known only by decoding; at the lowest bit rate this is about as much
_LARGEST_MP3 = 16 * 2**20
# the decoder counts bytes in an int
_LARGEST_FILE = 2**31 - 1

_FOREIGN = (
    (b"RIFF....WEBP", "a WebP image"),
    (b"....ftypavif", "an AVIF image"),
    (b"....ftypheic", "a HEIC image"),
    (b"....ftyp", "an MP4 video"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF document"),
    (b"<svg", "an SVG image"),
    (b"<?xml", "an XML document"),
    (b"<!DOCTYPE", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"OggS", "an Ogg file"),
    (b"\x1aE\xdf\xa3", "a WebM video"),
)


class MediaKind(NamedTuple):
    """A format by name, and whether it is audio."""

    name: str
    is_audio: bool


def check_media(data: bytes) -> MediaKind:
    """Return what a file is.

    Raises:
        ValidationError: it is none of PNG, JPEG, GIF, BMP, WAV, MP3 and FLAC, its header is damaged,
            or what it announces is too large.
    """
    if not data:
        raise ValidationError("the image is empty (0 bytes)")
    if len(data) > _LARGEST_FILE:
        raise ValidationError(f"an image of {len(data)} bytes is too large; 2 GiB are the most")
    for magic, name, read in _IMAGES:
        if data.startswith(magic):
            try:
                width, height = read(data)
            except (struct.error, IndexError):
                raise ValidationError(
                    f"the {name} of {len(data)} bytes is cut off within its header"
                ) from None
            _check_size(name, width, height)
            return MediaKind(name, is_audio=False)
    audio = _audio(data)
    if audio is not None:
        return audio
    raise ValidationError(
        f"{_describe(data)} cannot be decoded: give a PNG, JPEG, GIF or BMP image"
        " (or WAV, MP3 or FLAC audio)"
    )


def _check_size(name: str, width: int, height: int) -> None:
    if not 0 < width <= _LONGEST_SIDE or not 0 < height <= _LONGEST_SIDE:
        raise ValidationError(f"the {name} says that it has {width}x{height} pixels")
    if width * height > _MOST_PIXELS:
        raise ValidationError(
            f"the {name} has {width}x{height} pixels, more than the {_MOST_PIXELS} that are decoded: "
            "scale it down first"
        )


def _describe(data: bytes) -> str:
    for pattern, name in _FOREIGN:
        if len(data) >= len(pattern) and all(
            wanted in (found, ord(".")) for wanted, found in zip(pattern, data)
        ):
            return name
    return f"a file that begins with {data[:8]!r}"


def _png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    header = struct.unpack_from("<I", data, 14)[0]
    if header == 12:  # OS/2's
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _jpeg(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        if data[position] != 0xFF:
            raise IndexError
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        position += 1
        # ITU T.81, table B.1: SOF0 to SOF15 but for DHT, JPG and DAC
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
        if marker in {0xD9, 0xDA}:
            raise IndexError
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        position += struct.unpack_from(">H", data, position)[0]


_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "PNG image", _png),
    (b"\xff\xd8\xff", "JPEG image", _jpeg),
    (b"GIF87a", "GIF image", _gif),
    (b"GIF89a", "GIF image", _gif),
    (b"BM", "BMP image", _bmp),
)


def _audio(data: bytes) -> MediaKind | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        _check_seconds("WAV audio", *_wav(data))
        return MediaKind("WAV audio", is_audio=True)
    if data[:4] == b"fLaC":
        try:
            # FLAC's STREAMINFO: 20 bits rate, 3 channels, 5 bits, 36 samples
            bits = struct.unpack_from(">Q", data, 18)[0]
        except struct.error:
            raise ValidationError("the FLAC audio is cut off within its header") from None
        _check_seconds("FLAC audio", bits & (1 << 36) - 1, bits >> 44)
        return MediaKind("FLAC audio", is_audio=True)
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0):
        if len(data) > _LARGEST_MP3:
            raise ValidationError(
                f"MP3 audio of {len(data)} bytes; {_LARGEST_MP3} are the most: split it"
            )
        return MediaKind("MP3 audio", is_audio=True)
    return None


def _wav(data: bytes) -> tuple[int, int]:
    """Return frames and rate."""
    position, rate, frame = 12, 0, 0
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        size = struct.unpack_from("<I", data, position + 4)[0]
        position += 8
        if kind == b"fmt " and size >= 16 and position + 16 <= len(data):
            rate, _, frame = struct.unpack_from("<IIH", data, position + 4)
        if kind == b"data":
            if size > len(data) - position:
                raise ValidationError(
                    f"the WAV audio announces {size} bytes of sound and has {len(data) - position}"
                )
            if not rate or not frame:
                raise ValidationError("the WAV audio has no format before its sound")
            return size // frame, rate
        position += size + size % 2
    raise ValidationError("the WAV audio has no sound in it")


def _check_seconds(name: str, frames: int, rate: int) -> None:
    if not frames or not rate:
        raise ValidationError(f"the {name} announces {frames} samples at {rate} Hz")
    if frames > _MOST_SECONDS * rate:
        raise ValidationError(
            f"the {name} is {frames / rate:.0f} seconds long; {_MOST_SECONDS} are the most: split it"
        )
