"""Archives of a toolkit's parts (.tar.xz, .zip), unpacked into one folder and nowhere else."""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ci.errors import VendorError
from ci.tarfiles import tarfile

_BLOCK = 1 << 20


def unpack(archives: Mapping[str, Path], folder: Path, *, left_out: Sequence[str] = ()) -> None:
    """Unpack archives into one new folder, each without its own top folder.

    What lies beside the folders of an archive (its licence) goes to ``licenses/<its name>/``.

    Args:
        archives: by the name of the part.
        folder: where they go; it must not exist.
        left_out: patterns of names, without the top folder, that are not unpacked.

    Raises:
        VendorError: one is damaged, would write outside of the folder, or has another one's file.
    """
    places = _Places(left_out)
    folder.mkdir()
    for part, archive in archives.items():
        try:
            if archive.suffix == ".zip":
                _unpack_zip(archive, part, folder, places)
            else:
                _unpack_tar(archive, part, folder, places)
        except tarfile.FilterError as error:
            raise _climbs_out(part, error.tarinfo.name) from error
        except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, EOFError) as error:
            raise VendorError(
                f"{archive.name} cannot be unpacked: {error}",
                cure="if its sha256 was right it is damaged where it comes from: use another"
                " release, or an installed toolkit (--toolkit PATH)",
            ) from error


class _Places:
    """Where the files of all parts go, so that none replaces another part's."""

    def __init__(self, left_out: Sequence[str]) -> None:
        self._left_out = left_out
        self._owners: dict[str, str] = {}

    def name(self, part: str, member: str) -> str | None:
        """Return the name of a file in the common folder, or None where it is left out.

        Raises:
            VendorError: its name leads out of the folder, or another part has it.
        """
        path = PurePosixPath(member)
        if path.is_absolute() or ".." in path.parts:
            raise _climbs_out(part, member)
        # without the archive's own top folder
        parts = path.parts[1:]
        name = "/".join(parts)
        if not parts or any(fnmatchcase(name, pattern) for pattern in self._left_out):
            return None
        if len(parts) == 1:
            name = f"licenses/{part}/{name}"
        owner = self._owners.setdefault(name, part)
        if owner != part:
            raise VendorError(
                f"{part} and {owner} both have {name}", cure="give parts of one release alone"
            )
        return name


def _climbs_out(part: str, member: str) -> VendorError:
    return VendorError(
        f"the archive of {part} would write outside of its folder: {member}",
        cure="do not use it: it is none of the release that it claims to be",
    )


def _unpack_tar(archive: Path, part: str, folder: Path, places: _Places) -> None:
    def keep(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        name = None if member.isdir() else places.name(part, member.name)
        if name is None:
            return None
        # a hard link names its file from the archive's top, a symlink from its own folder
        link = member.linkname.partition("/")[2] if member.islnk() else member.linkname
        return tarfile.data_filter(
            member.replace(name=name, linkname=link, deep=False), destination
        )

    with tarfile.open(archive, "r:xz") as opened:
        opened.extractall(folder, filter=keep)


def _unpack_zip(archive: Path, part: str, folder: Path, places: _Places) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            # "\\" and ":" lead elsewhere on Windows; of a link there would only be its text
            linked = stat.S_ISLNK(member.external_attr >> 16)
            if linked or "\\" in member.filename or ":" in member.filename:
                raise _climbs_out(part, member.filename)
            name = None if member.is_dir() else places.name(part, member.filename)
            if name is not None:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, _BLOCK)
