"""All tiny models for images and audio: `python -m tests.tiny.media FOLDER` writes them."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.tiny.audio import TinyAudio
from tests.tiny.vision import write_vision


def write_media(folder: Path) -> list[Path]:
    """Write the vision pairs and the audio projector into `folder`, made if missing."""
    written = write_vision(folder)
    audio = TinyAudio()
    written.append(folder / f"{audio.name}.gguf")
    audio.write(written[-1])
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.tiny.media")
    parser.add_argument("folder", type=Path, help="where to; made if missing, files replaced")
    write_media(parser.parse_args().folder)
