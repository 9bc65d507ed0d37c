"""Command line: write the tiny models and their answers into a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.tiny.answers import write


def main() -> None:
    """Write the files and print name and size of each."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.tiny",
        description="Write the tiny models (*.gguf) and answers.json.",
    )
    parser.add_argument("folder", type=Path, help="where to; made if missing, files replaced")
    for path in write(parser.parse_args().folder):
        print(f"{path.stat().st_size:>8} {path}")


if __name__ == "__main__":
    main()
