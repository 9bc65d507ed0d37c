"""What images and audio say about themselves."""

from __future__ import annotations

import struct

import pytest

from llama_cpp import ValidationError
from llama_cpp._image_header import check_media
from tests.tiny.vision import RED, png


def jpeg(width: int, height: int, *, before: bytes = b"") -> bytes:
    frame = struct.pack(">BHH", 8, height, width) + b"\x03" + bytes(9)
    return b"\xff\xd8" + before + b"\xff\xc2" + struct.pack(">H", len(frame) + 2) + frame


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(28)


def wav(size: int, *, rate: int = 16000, frame: int = 2, sound: bytes = bytes(64)) -> bytes:
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * frame, frame, 16)
    return b"RIFF\0\0\0\0WAVE" + _chunk(b"fmt ", form) + b"data" + struct.pack("<I", size) + sound


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data


def flac(samples: int, rate: int) -> bytes:
    return b"fLaC" + bytes(14) + struct.pack(">Q", rate << 44 | samples) + bytes(16)


APP0 = b"\xff\xe0\0\x04JF\xff\xff\xfe\0\x02"


@pytest.mark.parametrize(
    ("data", "name", "is_audio"),
    [
        (png(3, 2, [RED]), "PNG image", False),
        (jpeg(640, 480), "JPEG image", False),
        (jpeg(640, 480, before=APP0), "JPEG image", False),
        (b"GIF89a\x02\0\x03\0", "GIF image", False),
        (bmp(5, 5), "BMP image", False),
        (bmp(5, -5), "BMP image", False),
        (b"BM" + bytes(12) + struct.pack("<IHH", 12, 4, 4), "BMP image", False),
        (wav(64), "WAV audio", True),
        (flac(16000, 16000), "FLAC audio", True),
        (b"ID3\x04", "MP3 audio", True),
        (b"\xff\xfb\x90\x64", "MP3 audio", True),
    ],
)
def test_known(data: bytes, name: str, is_audio: bool) -> None:
    assert check_media(data) == (name, is_audio)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the image is empty (0 bytes)"),
        (png(3, 2, [RED])[:20], "the PNG image of 20 bytes is cut off within its header"),
        (jpeg(640, 480)[:8], "the JPEG image of 8 bytes is cut off within its header"),
        (b"\xff\xd8\xff\xda\0\2", "the JPEG image of 6 bytes is cut off within its header"),
        (b"\xff\xd8\xff\xe0\0\2\0\0", "the JPEG image of 8 bytes is cut off within its header"),
        (
            png(3, 2, [RED])[:16] + struct.pack(">II", 0, 5),
            "the PNG image says that it has 0x5 pixels",
        ),
        (jpeg(0, 5), "the JPEG image says that it has 0x5 pixels"),
        (
            png(3, 2, [RED])[:16] + struct.pack(">II", 2**31, 1),
            "the PNG image says that it has 2147483648x1 pixels",
        ),
        (
            jpeg(60000, 60000),
            "the JPEG image has 60000x60000 pixels, more than the 100000000 that are decoded: ",
        ),
        (wav(65), "the WAV audio announces 65 bytes of sound and has 64"),
        (wav(64, rate=0), "the WAV audio has no format before its sound"),
        (wav(64)[:30], "the WAV audio has no sound in it"),
        (
            wav(8000, rate=1, sound=bytes(8000)),
            "the WAV audio is 4000 seconds long; 3600 are the most: ",
        ),
        (
            flac(2**36 - 1, 48000),
            "the FLAC audio is 1431656 seconds long; 3600 are the most: split it",
        ),
        (flac(0, 48000), "the FLAC audio announces 0 samples at 48000 Hz"),
        (b"fLaC", "the FLAC audio is cut off within its header"),
        (
            b"ID3" + bytes(16 * 2**20),
            "MP3 audio of 16777219 bytes; 16777216 are the most: split it",
        ),
        (
            b"RIFF\0\0\0\0WEBPVP8 ",
            "a WebP image cannot be decoded: give a PNG, JPEG, GIF or BMP image",
        ),
        (b"<!DOCTYPE html>", "an HTML page cannot be decoded: give a PNG, JPEG, GIF or BMP image"),
        (b"hello there", "a file that begins with b'hello th' cannot be decoded: give a PNG"),
    ],
)
def test_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        check_media(data)
    assert str(caught.value).startswith(words)
