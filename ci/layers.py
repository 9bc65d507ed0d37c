"""Layers of a container image: which files they amount to, and some of those, unpacked.

Source: "OCI Image Layer Filesystem Changeset". Of every layer the names alone are read first, because
what a link means is known only when all layers are.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Literal, TypeAlias, cast

from ci.errors import UsageError, VendorError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BLOCK = 1 << 20
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# as deep as Linux follows links
_DEEPEST = 40

Parts: TypeAlias = tuple[str, ...]
"""A path below the image's root."""

Origin: TypeAlias = tuple[int, int]
"""Where the bytes of a file are: the layer, and which of its members."""


@dataclass(kw_only=True)
class _Node:
    """A file, a folder or a link of the image, and the layer that has said so last."""

    kind: Literal["file", "folder", "link", "device"]
    layer: int
    target: str = ""
    origin: Origin = (0, 0)
    executable: bool = False
    children: dict[str, _Node] = field(default_factory=dict)


class ImageTree:
    """What a stack of layers amounts to: names and links, without any content."""

    def __init__(self, layers: Sequence[Path]) -> None:
        """Read the names in all layers, the lowest first.

        Raises:
            VendorError: a layer is damaged, or names something outside of the image.
        """
        self._layers = layers
        self._root = _Node(kind="folder", layer=0)
        for number, path in enumerate(layers):
            with _opened(path) as archive:
                for ordinal, member in enumerate(archive):
                    self._add(member, (number, ordinal))

    def find(self, path: str) -> str | None:
        """Return the real path of something in the image, links followed; None where there is none."""
        found = self._resolve(_parts(path))
        return None if found is None or self._at(found) is None else "/".join(found)

    def unpack(self, wanted: Iterable[str], folder: Path, *, left_out: Sequence[str] = ()) -> None:
        """Unpack some real paths, and whatever links in them lead to, at their places below a folder.

        Args:
            wanted: what ``find`` returned.
            folder: stands for the image's root; no link that is written leads out of it.
            left_out: patterns of file names that are not unpacked.

        Raises:
            UsageError: there is a device among it.
            VendorError: a layer is damaged, or links go in circles.
        """
        files: dict[Origin, list[tuple[Parts, bool]]] = {}
        links: dict[Parts, Parts] = {}
        seen: set[Parts] = set()
        ahead = [_parts(path) for path in wanted]
        while ahead:
            place = ahead.pop()
            node = self._at(place)
            if node is None or place in seen:
                continue
            seen.add(place)
            if place and any(fnmatchcase(place[-1], pattern) for pattern in left_out):
                continue
            if node.kind == "folder":
                folder.joinpath(*place).mkdir(parents=True, exist_ok=True)
                ahead += [(*place, name) for name in node.children]
            elif node.kind == "link":
                links[place] = self._step(place, node)
                ahead.append(links[place])
            elif node.kind == "file":
                files.setdefault(node.origin, []).append((place, node.executable))
            else:
                raise UsageError(
                    f"the image has a device at /{'/'.join(place)}: a toolkit has none",
                    cure="name the toolkit's own folder in the image",
                )
        self._write(files, folder)
        for place, target in links.items():
            link = folder.joinpath(*place)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(folder.joinpath(*target), link.parent))

    def _write(self, files: dict[Origin, list[tuple[Parts, bool]]], folder: Path) -> None:
        for number, path in enumerate(self._layers):
            left = {origin for origin in files if origin[0] == number}
            if not left:
                continue
            with _opened(path) as archive:
                for ordinal, member in enumerate(archive):
                    if (number, ordinal) not in left:
                        continue
                    (first, executable), *others = files[number, ordinal]
                    content = archive.extractfile(member)
                    assert content is not None  # it is a file
                    out = folder.joinpath(*first)
                    out.parent.mkdir(parents=True, exist_ok=True)
                    with out.open("wb") as file:
                        shutil.copyfileobj(content, file, _BLOCK)
                    out.chmod(0o755 if executable else 0o644)
                    for other, _ in others:
                        link = folder.joinpath(*other)
                        link.parent.mkdir(parents=True, exist_ok=True)
                        link.hardlink_to(out)
                    left.remove((number, ordinal))
                    if not left:
                        break

    def _add(self, member: tarfile.TarInfo, origin: Origin) -> None:
        layer = origin[0]
        parts = _parts(member.name)
        if ".." in parts:
            raise VendorError(
                f"a layer of the image names a file outside of it: {member.name}",
                cure="do not use it: no builder of images makes such",
            )
        if not parts:
            return
        parent = self._folder(parts[:-1], layer)
        name = parts[-1]
        if name == _OPAQUE:
            # "all siblings are hidden in the resulting layer": those of lower layers
            _prune(parent, layer)
        elif name.startswith(_WHITEOUT):
            _remove(parent, name.removeprefix(_WHITEOUT), layer)
        else:
            known = parent.children.get(name)
            if member.isdir() and known is not None and known.kind == "folder":
                known.layer = layer
            else:
                parent.children[name] = self._node(member, origin)

    def _node(self, member: tarfile.TarInfo, origin: Origin) -> _Node:
        layer = origin[0]
        if member.isdir():
            return _Node(kind="folder", layer=layer)
        if member.issym():
            return _Node(kind="link", layer=layer, target=member.linkname)
        if member.islnk():
            # it names its file from the image's root
            parts = _parts(member.linkname)
            holder = self._resolve(parts[:-1])
            node = self._at((*holder, *parts[-1:])) if holder is not None else None
            if node is None or node.kind == "folder":
                raise VendorError(
                    f"a layer of the image has a hard link to nothing: {member.name}"
                    f" ({member.linkname})",
                    cure="do not use it: it is damaged where it comes from",
                )
            return _Node(
                kind=node.kind,
                layer=layer,
                target=node.target,
                origin=node.origin,
                executable=node.executable,
            )
        if member.isfile():
            executable = bool(member.mode & 0o111)
            return _Node(kind="file", layer=layer, origin=origin, executable=executable)
        return _Node(kind="device", layer=layer)

    def _folder(self, parts: Parts, layer: int) -> _Node:
        """Return a folder that a layer writes into, made where no layer has said it."""
        node = self._root
        real: Parts = ()
        for name in parts:
            child = node.children.get(name)
            real = (*real, name)
            if child is None:
                child = node.children[name] = _Node(kind="folder", layer=layer)
            elif child.kind == "link" and (found := self._resolve(real)) is not None:
                child, real = self._folder(found, layer), found
            if child.kind != "folder":
                raise VendorError(
                    f"a layer of the image has files below /{'/'.join(real)}, which is no folder",
                    cure="do not use it: it is damaged where it comes from",
                )
            node = child
        return node

    def _at(self, parts: Parts) -> _Node | None:
        """Return what lies at a real path."""
        node = self._root
        for name in parts:
            child = node.children.get(name)
            if child is None:
                return None
            node = child
        return node

    def _resolve(self, parts: Parts) -> Parts | None:
        """Follow all links of a path, none out of the image; what does not exist stays as it is.

        None: there are more of them than any system follows.
        """
        real: Parts = ()
        ahead = list(reversed(parts))
        followed = 0
        while ahead:
            name = ahead.pop()
            if name == "..":
                # the root's parent is the root
                real = real[:-1]
                continue
            node = self._at((*real, name))
            if node is None or node.kind != "link":
                real = (*real, name)
                continue
            followed += 1
            if followed > _DEEPEST:
                return None
            if node.target.startswith("/"):
                real = ()
            ahead += reversed(_parts(node.target))
        return real

    def _step(self, place: Parts, node: _Node) -> Parts:
        """Return where a link leads, which may be a link again."""
        text = _parts(node.target)
        target = text if node.target.startswith("/") else (*place[:-1], *text)
        if target and target[-1] != "..":
            holder, last = self._resolve(target[:-1]), target[-1:]
        else:
            holder, last = self._resolve(target), ()
        if holder is None:
            raise VendorError(
                f"the image's links go in circles at /{'/'.join(place)}",
                cure="do not use it: it is damaged where it comes from",
            )
        return (*holder, *last)


def _prune(folder: _Node, layer: int) -> None:
    """Take away what lower layers have put into a folder."""
    for name in list(folder.children):
        _remove(folder, name, layer)


def _remove(folder: _Node, name: str, layer: int) -> None:
    """Take away what lower layers have at a name; what the layer itself has there stays."""
    node = folder.children.get(name)
    if node is None:
        return
    _prune(node, layer)
    if node.layer != layer and not node.children:
        del folder.children[name]


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part not in {"", "."})


@contextmanager
def _opened(layer: Path) -> Iterator[tarfile.TarFile]:
    """Open a layer to read it once from its beginning, packed as its first bytes say."""
    try:
        with _unpacked(layer) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            yield archive
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, zstd.ZstdError, EOFError) as error:
        raise VendorError(
            f"a layer of the image, {layer.name}, cannot be unpacked: {error}",
            cure="if its digest was right it is damaged where it comes from: use another image",
        ) from error


def _unpacked(layer: Path) -> IO[bytes]:
    with layer.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(layer))
    if magic == b"\x28\xb5\x2f\xfd":
        return cast("IO[bytes]", zstd.open(layer))
    return layer.open("rb")
