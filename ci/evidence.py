"""The evidence: what is kept of build records and smoke reports, per target and level of proof.

It lies in ``docs/proof/``, one small file per target, so that two jobs that prove two wheels never
write the same file. It names no folder of a machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci import paths
from ci.errors import TableError
from ci.problems import told
from ci.record import STRICT, CheckoutCommit, Commit, Date, File
from ci.table import Table, Target
from ci.vendor import Pin

FOLDER = paths.ROOT / "docs" / "proof"

Level: TypeAlias = Literal["configured", "built", "repaired", "loaded", "computed"]
LEVELS: tuple[Level, ...] = get_args(Level)

# Vulkan and OpenCL in software: Mesa's llvmpipe (lavapipe), Google's SwiftShader, pocl
_SOFTWARE = re.compile(r"llvmpipe|lavapipe|swiftshader|pocl", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Proof:
    """What shows that a target has reached one level.

    Attributes:
        level: which one.
        date: when, UTC.
        device: what it was shown on: the GPUs for what computed on them, else the CPU.
        commit: the checkout's, with ``-dirty`` where it was changed.
        llama_cpp_commit: of the llama.cpp that is in it.
        llama_cpp_version: of the same.
        compiler: of the build.
        toolkit: name and exact version; None where there is none.
        toolkit_source: where the toolkit came from; None where that is not known.
        gpu_architectures: that it was compiled for.
        wheel: the finished one; None where the build stopped before there was one.
        interpreters: tags of the Pythons (``cp39``, ``cp314t``) that it was shown on; ``c`` is a C
            program with the wheel's libraries.
        emulator: what these ran under, on the device: ``qemu-aarch64 7.2.22 -cpu max``, ``wine 8.0``.
        without_device: whether it was a GPU wheel without a GPU, on the CPU.
        without_runtime: whether the runtime that it declares as dependencies was not installed.
        runtime: packages that its module was loaded with, without a device.
        reproduced: when a second build came out as the same wheel, UTC; None where none has.
    """

    level: Level
    date: Date
    device: str
    commit: CheckoutCommit
    llama_cpp_commit: Commit
    llama_cpp_version: str
    compiler: str
    toolkit: str | None = None
    toolkit_source: str | None = None
    gpu_architectures: list[str] = field(default_factory=list)
    wheel: File | None = None
    interpreters: list[str] = field(default_factory=list)
    emulator: str | None = None
    without_device: bool = False
    without_runtime: bool = False
    runtime: list[str] = field(default_factory=list)
    reproduced: Date | None = None

    @property
    def software(self) -> bool:
        """Whether the device is a GPU in software: it shows the code, not the hardware."""
        return _SOFTWARE.search(self.device) is not None

    @property
    def way(self) -> str:
        """What it ran under, without its version: ``qemu``, ``wine``; empty where it is native."""
        return re.split(r"[-\s]", self.emulator or "", maxsplit=1)[0]

    @property
    def toolkit_name(self) -> str:
        """Name and exact version of the toolkit alone."""
        # of a compatible one the build info says more: CUDA 12.4.131, compatible with 12.1
        return (self.toolkit or "none").partition(",")[0]

    def foreign_toolkit(self, target: Target) -> bool:
        """Say whether another toolkit than the target's own made it (minor-version compatibility)."""
        wanted = target.backend.toolkit_version
        if self.toolkit is None or wanted is None:
            return False
        version = self.toolkit_name.rpartition(" ")[2]
        return version != wanted and not version.startswith(f"{wanted}.")

    def strength(self, target: Target, pin: Pin) -> tuple[object, ...]:
        """Return what decides which of two proofs of a level is kept; when it was shown comes last."""
        wanted = set(target.backend.gpu_architectures or ())
        return (
            self.llama_cpp_commit == pin.commit,
            not self.foreign_toolkit(target),
            not self.without_device,
            not self.software,
            self.emulator is None,
            not self.without_runtime,
            not self.commit.endswith("-dirty"),
            len(wanted.intersection(self.gpu_architectures)),
            self.date,
            self.reproduced or "",
        )


Evidence: TypeAlias = Mapping[str, Sequence[Proof]]
"""Proofs by the name of their target, in the order of the levels, the strongest of each first.

There is at most one of a level, and one more for each emulator.
"""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _File:
    schema: Literal[1]
    target: str
    proofs: list[Proof]


def age(tag: str) -> tuple[int, bool, str]:
    """Return what sorts the tags of interpreters, the oldest first and the C program last."""
    found = re.fullmatch(r"cp3(\d+)(t?)", tag)
    return (int(found[1]), bool(found[2]), tag) if found else (1000, False, tag)


def kept(known: Sequence[Proof], new: Sequence[Proof], target: Target, pin: Pin) -> list[Proof]:
    """Return the strongest proof of each level, the newest of those; in the order of the levels.

    What was shown with the same bytes on the same device at the same commit is one proof, of all
    the interpreters together. What the same bytes have shown under an emulator stays beside it.
    """
    best: list[Proof] = []
    for level in LEVELS:
        ways: dict[str, Proof] = {}
        for proof in (*known, *new):
            if proof.level == level:
                one = ways.get(proof.way)
                ways[proof.way] = proof if one is None else _stronger(one, proof, target, pin)
        found = sorted(ways.values(), key=lambda proof: proof.strength(target, pin), reverse=True)
        best += found[:1]
        best += [proof for proof in found[1:] if proof.wheel == found[0].wheel]
    return best


def _stronger(one: Proof, other: Proof, target: Target, pin: Pin) -> Proof:
    first, last = sorted((one, other), key=lambda proof: proof.strength(target, pin))
    if last.reproduced is None and last.wheel == first.wheel:
        last = replace(last, reproduced=first.reproduced)
    together = replace(
        first, date=last.date, interpreters=last.interpreters, reproduced=last.reproduced
    )
    if together != last:
        return last
    interpreters = sorted({*first.interpreters, *last.interpreters}, key=age)
    return replace(last, interpreters=interpreters)


def load_evidence(table: Table, folder: Path = FOLDER) -> dict[str, list[Proof]]:
    """Read the evidence of every target that has any.

    Raises:
        TableError: a file is malformed, misnamed, or of a target that the table does not have.
    """
    names = {target.name for target in table.targets}
    evidence: dict[str, list[Proof]] = {}
    for path in sorted(folder.glob("*.json")):
        cure = f"delete it, and add the reports again: nox -s proof -- add ({path.name})"
        try:
            file = TypeAdapter(_File).validate_json(path.read_bytes())
        except ValidationError as error:
            raise TableError(f"{path.name} is no evidence:\n{told(error)}", cure=cure) from error
        levels = [LEVELS.index(proof.level) for proof in file.proofs]
        ways = [(proof.level, proof.way) for proof in file.proofs]
        if file.target != path.stem or file.target not in names:
            raise TableError(f"{path.name}: the table has no target of that name", cure=cure)
        if levels != sorted(levels) or len(set(ways)) < len(ways):
            raise TableError(f"{path.name}: not one proof per level, in their order", cure=cure)
        evidence[file.target] = file.proofs
    return evidence


def write_evidence(target: Target, proofs: Sequence[Proof], folder: Path = FOLDER) -> Path:
    """Write what is known of a target, whole or not at all; what a proof does not say is left out."""
    content = {
        "schema": 1,
        "target": target.name,
        "proofs": [
            {name: value for name, value in asdict(proof).items() if value not in (None, [], False)}
            for proof in proofs
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{target.name}.json"
    partial = place.with_name(f".{place.name}.part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return partial.replace(place)
