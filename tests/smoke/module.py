"""Smoke test of a GPU wheel's module on a machine without a GPU: it loads, and the CPU computes.

Beside `run.py`, with the runtime's packages installed and a driver that knows no device:

    python -I module.py --models FOLDER --module ggml-cuda [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.smoke.run import Failure, Subject, greedy, run_check
else:
    # -I takes the script's folder off the path
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from run import Failure, Subject, greedy, run_check


def mapped(subject: Subject) -> list[str]:
    """Return the mapped libraries that came from the environment, relative to its packages."""
    from llama_cpp._images import mapped_images  # noqa: PLC0415 - it is under test

    packages = Path(str(subject.package.__file__)).resolve().parent.parent
    return sorted(
        str(Path(path).resolve().relative_to(packages))
        for path in mapped_images()
        if Path(path).resolve().is_relative_to(packages)
    )


def check_module(subject: Subject, module: str) -> str:
    """The module is in use, its runtime is the installed one, and there is no device."""
    devices = [device for device in subject.package.devices() if device.kind != "CPU"]
    found = mapped(subject)
    if not any(Path(path).name == f"lib{module}.so" for path in found):
        from llama_cpp._library import module_failures  # noqa: PLC0415

        raise Failure(f"{module} is not loaded: {module_failures()}")
    runtime = [path for path in found if path.startswith("nvidia/")]
    if not runtime:
        raise Failure(f"{module} has its runtime from elsewhere: {found}")
    if devices:
        raise Failure(f"a driver without a device gave {devices}")
    return ", ".join(runtime)


def check_tokens(subject: Subject) -> str:
    """With the module loaded the CPU answers."""
    name, model = subject.of_kind("llama")[0]
    number = 0
    with warnings.catch_warnings():
        # that there is no GPU is what this is about
        warnings.simplefilter("ignore", RuntimeWarning)
        llama = subject.package.Llama(
            model_path=str(subject.folder / model["file"]),
            n_gpu_layers=-1,
            n_ctx=512,
            n_threads=1,
            n_threads_batch=1,
        )
    with llama:
        for case in model["greedy"]:
            number += greedy(llama, case, name)
    return f"{number} tokens of {name}"


def main() -> None:
    """Run the checks; exit with 0 if all passed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=Path, required=True, help="folder of the tiny models")
    parser.add_argument("--module", required=True, help="ggml's name for it: ggml-cuda")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    options = parser.parse_args()
    subject = Subject(options.models, allow_checkout=False)
    subject.import_package()
    checks = [
        run_check(subject, "gpu module", partial(check_module, module=options.module)),
        run_check(subject, "gpu module, tokens", check_tokens),
    ]
    passed = all(check["passed"] for check in checks)
    if options.json is not None:
        result = {"passed": passed, "checks": checks, "mapped": mapped(subject)}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not passed:
        # what is loaded might not survive an orderly end
        os._exit(0 if options.json is not None else 1)


if __name__ == "__main__":
    main()
