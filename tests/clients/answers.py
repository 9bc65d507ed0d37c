"""What every client's script does first and last."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TINY = Path(sys.argv[1])
LLAMA = str(TINY / "llama-f32.gguf")
BERT = str(TINY / "bert-f32.gguf")
# a shared machine has other work for its cores
THREADS: dict[str, Any] = {"n_threads": 1, "n_threads_batch": 1}


def show(**answers: object) -> None:
    """Print what the client answered."""
    print(json.dumps(answers))
