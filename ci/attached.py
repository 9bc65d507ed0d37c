"""Attached: a Python program that ends with the process that has started it, however that ends.

``python -m ci.attached PID MODULE ARGUMENTS…`` runs a module like ``python -m``. A command that was killed
would else leave it at work on the very files that the next run of that command wants.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def attached(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module until it, or this process, ends."""
    return [sys.executable, "-m", "ci.attached", str(os.getpid()), module, *arguments]


def main(arguments: list[str]) -> None:
    """Run a module as ``python -m`` does; only Linux tells a process of its parent's end."""
    parent, module, *rest = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # it may have ended before it could be asked for
        if os.getppid() != int(parent):
            sys.exit(1)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
