"""`python -m tests.fuzz --count N --seed S`: damaged GGUF files, each opened in a process that may die."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz import campaign
from tests.fuzz.worker import BASES, case


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; return 1 where a case did not end as it should."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        models, scratch = Path(folder, "models"), Path(folder, "scratch")
        scratch.mkdir()
        subprocess.run([sys.executable, "-m", "tests.tiny", str(models)], check=True)
        if options.keep is not None:
            content = case(
                models / BASES[options.kind[0]], options.kind[0], options.seed, options.first
            )
            options.keep.write_bytes(content)
            print(f"wrote case {options.first} of {options.kind[0]} to {options.keep}")
            return 0

        def run(kind: str) -> campaign.Result:
            return campaign.run(
                kind,
                models=models,
                scratch=scratch,
                seed=options.seed,
                count=options.count,
                first=options.first,
                told=lambda finding: print(finding, flush=True),
            )

        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(run, options.kind))
    for result in results:
        outcomes = ", ".join(f"{count} {name}" for name, count in result.outcomes.most_common())
        print(f"{result.kind}: seed {options.seed}, {options.count} cases: {outcomes}")
    return int(any(result.findings for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--count", type=int, default=1000, help="of each kind (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--kind", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="kinds at once")
    parser.add_argument("--keep", type=Path, help="write the file of the case --first here instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
