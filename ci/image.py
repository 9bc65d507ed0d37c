"""Container images that hold a toolkit: its folder of one, for one machine, without a container engine.

Source: "OCI Image Format Specification" 1.1 and "Image Manifest Version 2, Schema 2" of Docker.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TypeVar

from filelock import FileLock
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ci.errors import UsageError, VendorError, disk_error
from ci.layers import ImageTree
from ci.problems import told
from ci.progress import Progress
from ci.registry import Reference, Registry, is_digest
from ci.table import Machine

_REVISION = 1
_NOTE = ".image.json"
_OPEN = ConfigDict(extra="ignore", strict=True)
_ARCHITECTURES: Mapping[Machine, str] = {"x86_64": "amd64", "aarch64": "arm64"}
_LAYER = re.compile(
    r"application/vnd\.(?:oci\.image\.layer(?:\.nondistributable)?\.v1"
    r"|docker\.image\.rootfs(?:\.foreign)?\.diff)\.tar(?:[.+](?:gzip|zstd))?"
)
# an index may hold indexes
_DEEPEST = 4
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Platform:
    os: str
    architecture: str


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Descriptor:
    digest: str
    size: int = Field(ge=0)
    media_type: str = Field(alias="mediaType")
    platform: _Platform | None = None


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Index:
    manifests: list[_Descriptor]


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Manifest:
    config: _Descriptor
    layers: list[_Descriptor]


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Settings:
    variables: list[str] | None = Field(alias="Env", default=None)


@dataclass(frozen=True, kw_only=True, config=_OPEN)
class _Config:
    os: str
    architecture: str
    config: _Settings | None = None


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class Part:
    """What of an image is a toolkit.

    Attributes:
        root: the toolkit's folder in the image.
        folders: what of it is taken; by default the root, whole.
        left_out: patterns of names of files that are not taken.
    """

    root: str
    folders: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> list[str]:
        """The folders that are taken."""
        return self.folders or [self.root]


def resolve(progress: Progress, reference: Reference) -> Reference:
    """Return a reference with its digest: a tag is looked up, and what it means today is said.

    Raises:
        NetworkError: there is no such tag, or the registry cannot be reached or does not give it.
    """
    if reference.digest is not None:
        return reference
    assert reference.tag is not None  # the one or the other is there
    _, digest = Registry(reference).manifest(reference.tag)
    exact = reference.at(digest)
    progress.step(f"write it down, for a tag may change: {exact}")
    return exact


def bring_image(
    progress: Progress,
    reference: Reference,
    machine: Machine,
    parts: Sequence[Part],
    cache: Path,
    *,
    variables: Sequence[str] = (),
    arrange: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Return the folder of a toolkit that was taken out of an image.

    Args:
        progress: told what is fetched.
        reference: which image, by its digest: that of an image, or of an index of some.
        machine: what the toolkit runs on, on Linux.
        parts: where the toolkit may be in the image; the first that is there is taken.
        cache: where it goes; layers lie there until the toolkit is whole, and no longer.
        variables: of the image's own environment; where one of them names a folder, that comes first.
        arrange: puts what was unpacked into the shape that compilers expect.

    Raises:
        UsageError: the image has no such folder, or there is none of it for the machine.
        NetworkError: the registry does not give it.
        VendorError: something in it is another than its digest says, or damaged.
        DiskError: there is no room; nothing is left half-written, layers that are whole are kept.
    """
    digest = reference.digest
    assert digest is not None  # a tag was looked up
    wish = [
        _REVISION,
        digest,
        machine,
        [[part.root, part.folders, part.left_out] for part in parts],
    ]
    state = hashlib.sha256(json.dumps([*wish, list(variables)]).encode()).hexdigest()[:12]
    name = f"image-{reference.repository.rpartition('/')[2]}-{machine}-{state}"
    place = cache / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{name}.lock"):
            if not place.is_dir():
                _bring(progress, reference, machine, parts, variables, place, arrange)
            root = str(json.loads((place / _NOTE).read_text(encoding="utf-8"))["root"])
    except OSError as error:
        raise disk_error(error, cache) from error
    return place / root


def _bring(
    progress: Progress,
    reference: Reference,
    machine: Machine,
    parts: Sequence[Part],
    variables: Sequence[str],
    place: Path,
    arrange: Callable[[Path], None],
) -> None:
    registry = Registry(reference)
    manifest, config, folder = _fetch(progress, registry, reference, machine, place)
    size = sum(layer.size for layer in manifest.layers)
    progress.step(f"bringing {reference}: {len(manifest.layers)} layers of {size / 1e6:,.0f} MB")
    layers = [
        registry.bring_blob(
            progress,
            layer.digest,
            layer.size,
            folder / layer.digest.replace(":", "-"),
            title=f"layer {number} of {len(manifest.layers)} of {reference.repository}",
        )
        for number, layer in enumerate(manifest.layers, 1)
    ]
    progress.step("reading what is in the layers")
    tree = ImageTree(layers)
    own = _own(config, variables, parts[0].left_out)
    part, root, wanted = _choose(tree, [*own, *parts], reference)
    partial = place.with_name(f".{place.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        progress.step(f"unpacking {', '.join(f'/{path}' for path in wanted)}")
        tree.unpack(wanted, partial, left_out=part.left_out)
        arrange(partial / root)
        note = {"image": str(reference), "root": root}
        (partial / _NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(folder)


def _fetch(
    progress: Progress, registry: Registry, reference: Reference, machine: Machine, place: Path
) -> tuple[_Manifest, _Config, Path]:
    """Return the manifest and the configuration of the image for a machine, and a folder for its layers."""
    assert reference.digest is not None
    manifest = _manifest(registry, reference.digest, machine, reference)
    described = [manifest.config, *manifest.layers]
    wrong = [one.digest for one in described if not is_digest(one.digest)]
    wrong += [one.media_type for one in manifest.layers if not _LAYER.fullmatch(one.media_type)]
    if wrong:
        raise VendorError(
            f"{reference} has what cannot be unpacked: {', '.join(sorted(set(wrong)))}",
            cure="name an image of files; what is encrypted or no image is nothing to unpack",
        )
    folder = place.with_name(f".{place.name}.layers")
    folder.mkdir(exist_ok=True)
    config_path = registry.bring_blob(
        progress,
        manifest.config.digest,
        manifest.config.size,
        folder / manifest.config.digest.replace(":", "-"),
        title=f"the configuration of {reference.repository}",
    )
    config = _parsed(_Config, config_path.read_bytes(), f"the configuration of {reference}")
    if (config.os, config.architecture) != ("linux", _ARCHITECTURES[machine]):
        raise UsageError(
            f"{reference} is for {config.os}/{config.architecture}, not for"
            f" linux/{_ARCHITECTURES[machine]}",
            cure="name the digest of its index, which has one image per machine, or another image",
        )
    return manifest, config, folder


def _manifest(registry: Registry, digest: str, machine: Machine, reference: Reference) -> _Manifest:
    """Return the manifest that a digest names, chosen by the machine where it names an index."""
    for _ in range(_DEEPEST):
        content, _ = registry.manifest(digest)
        try:
            keys = json.loads(content).keys() & {"manifests", "layers"}
        except (ValueError, AttributeError):
            keys = frozenset()
        if keys == {"layers"}:
            return _parsed(_Manifest, content, f"the manifest of {reference}")
        if keys != {"manifests"}:
            raise VendorError(
                f"{reference} is no image: it has neither layers nor images, or has both",
                cure="name an image of OCI's or Docker's second format; the first one (of 2015) has no"
                " digests to check",
            )
        index = _parsed(_Index, content, f"the index of {reference}")
        digest = _choice(index, machine, reference)
    raise VendorError(
        f"{reference} is an index of indexes of indexes", cure="name the image's own digest"
    )


def _choice(index: _Index, machine: Machine, reference: Reference) -> str:
    wanted = f"linux/{_ARCHITECTURES[machine]}"
    # without a platform, or of an unknown one: signatures, statements of origin
    there = {
        f"{one.platform.os}/{one.platform.architecture}": one.digest
        for one in reversed(index.manifests)
        if one.platform is not None and one.platform.os != "unknown"
    }
    if wanted not in there:
        raise UsageError(
            f"{reference} has no image for {wanted}; it has {', '.join(sorted(there)) or 'none'}",
            cure=f"name an image that is made for {wanted}, or an installed toolkit (--toolkit PATH)",
        )
    if not is_digest(there[wanted]):
        raise VendorError(
            f"{reference} names its image by {there[wanted]}, which cannot be checked",
            cure="name another image: all but a few go by sha256",
        )
    return there[wanted]


def _parsed(kind: type[_T], content: bytes, what: str) -> _T:
    try:
        return TypeAdapter(kind).validate_json(content)
    except ValidationError as error:
        raise VendorError(
            f"{what} is malformed:\n{told(error)}",
            cure="name another image: it is damaged where it comes from",
        ) from error


def _own(config: _Config, variables: Sequence[str], left_out: list[str]) -> list[Part]:
    """Return the folders that an image's own environment names, in the order of the variables."""
    lines = (config.config.variables if config.config else None) or []
    environment = dict(line.partition("=")[::2] for line in lines)
    found = [environment[name] for name in variables if environment.get(name)]
    return [Part(root=root, left_out=left_out) for root in found]


def _choose(
    tree: ImageTree, parts: Sequence[Part], reference: Reference
) -> tuple[Part, str, list[str]]:
    """Return the first part that is in the image, with the real paths of its root and its folders."""
    for part in parts:
        root = tree.find(part.root)
        wanted = [path for path in map(tree.find, part.wanted) if path is not None]
        if root is not None and len(wanted) == len(part.wanted):
            return part, root, wanted
    asked = ", ".join(dict.fromkeys(path for part in parts for path in part.wanted))
    raise UsageError(
        f"{reference} has no {asked}",
        cure="name the toolkit's folder in the image with --toolkit FOLDER; for CUDA an image with"
        " `devel` in its tag",
    )
