"""NVIDIA's redistributable archives: the components of a manifest, unpacked into one toolkit folder.

A manifest (``redistrib_12.8.1.json``) names for every component and platform an archive with its
sha256 and size. The pin holds the sha256 of the manifest, and so of everything below it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import requests
from filelock import FileLock
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ci.archive import unpack
from ci.errors import NetworkError, VendorError, disk_error
from ci.progress import Progress
from ci.table import Machine, System, Target

BASE_URL = "https://developer.download.nvidia.com/compute/cuda/redist"
BASE_VARIABLE = "LLAMA_CPP_PYTHON_CUDA_REDIST"
# NVIDIA's name of a platform; sbsa is ARM's server architecture
PLATFORMS: Mapping[tuple[System, Machine], str] = {
    ("linux", "x86_64"): "linux-x86_64",
    ("linux", "aarch64"): "linux-sbsa",
    ("windows", "x86_64"): "windows-x86_64",
}

# What ggml-cuda is compiled with. From 13 on nvcc's headers and its back end are components of their own.
_COMPONENTS = ("cuda_nvcc", "cuda_cudart", "cuda_cccl", "libcublas")
_COMPONENTS_13 = (*_COMPONENTS, "cuda_crt", "libnvvm")
# cuBLAS as static libraries is most of its archive, and nothing links it
_LEFT_OUT = ("lib/libcublas*_static*.a",)

_BLOCK = 1 << 20
_LONGEST_MANIFEST = 4 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ARCHIVE = re.compile(r"(?:[\w+-][\w.+-]*/)+[\w+-][\w.+-]*\.(?:tar\.xz|zip)")


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class RedistributablePin:
    """One toolkit as components of a manifest.

    Attributes:
        name: the toolkit's name in the table.
        version: the release, which the manifest is named after: ``12.8.1``.
        manifest: its sha256.
        components: what of it is brought.
    """

    name: Literal["CUDA"]
    version: str
    manifest: str
    components: list[str]

    def is_well_formed(self) -> bool:
        """Say whether it is a release with a manifest's sha256 and names of components."""
        return (
            re.fullmatch(r"\d+\.\d+\.\d+", self.version) is not None
            and _SHA256.fullmatch(self.manifest) is not None
            and all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in self.components)
        )


@dataclass(frozen=True, kw_only=True)
class _Archive:
    relative_path: str
    sha256: str
    size: int


def find_redistributable(
    target: Target, pins: Sequence[RedistributablePin]
) -> RedistributablePin | None:
    """Return the pin whose archives are the toolkit of a target, or None."""
    wanted = target.backend.toolkit_version
    if (target.platform.system, target.platform.machine) not in PLATFORMS:
        return None
    for pin in pins:
        if pin.name == target.family.toolkit and (
            wanted is None or f"{pin.version}.".startswith(f"{wanted}.")
        ):
            return pin
    return None


def base_url() -> str:
    """Return where manifests and archives lie: ``LLAMA_CPP_PYTHON_CUDA_REDIST``, else NVIDIA's server."""
    return (os.environ.get(BASE_VARIABLE) or BASE_URL).rstrip("/")


def bring_redistributable(
    progress: Progress, pin: RedistributablePin, system: System, machine: Machine, folder: Path
) -> Path:
    """Return the folder below ``folder`` with a pin's toolkit, which the pin's content names.

    Args:
        progress: told what is fetched.
        pin: the release and its components.
        system: what the toolkit runs on; with ``machine`` one of ``PLATFORMS``.
        machine: see ``system``.
        folder: the cache; archives lie there until the toolkit is whole, and no longer.

    Raises:
        NetworkError: the server or a file of it cannot be reached, or it ends early.
        VendorError: a file has another sha256, or what is in it is not a toolkit's component.
        DiskError: there is no room for it; nothing is left half-written.
    """
    platform = PLATFORMS[system, machine]
    state = hashlib.sha256(json.dumps([1, pin.manifest, pin.components]).encode()).hexdigest()[:12]
    name = f"cuda-{pin.version}-{platform}-{state}"
    place = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            if not place.is_dir():
                _bring(progress, pin, platform, place)
    except OSError as error:
        raise disk_error(error, folder) from error
    return place


def _bring(progress: Progress, pin: RedistributablePin, platform: str, place: Path) -> None:
    manifest = fetch_manifest(pin.version)
    found = hashlib.sha256(manifest).hexdigest()
    if found != pin.manifest:
        raise VendorError(
            f"redistrib_{pin.version}.json has sha256 {found}, the pin says {pin.manifest}",
            cure="the manifest was replaced: do not use it, or look at what changed and pin it"
            f" anew with `python -m ci pin cuda {pin.version}`",
        )
    archives = _archives(manifest, pin, platform)
    size = sum(archive.size for archive in archives.values())
    progress.step(
        f"bringing CUDA {pin.version} for {platform}: {len(archives)} archives of"
        f" {size / 1e6:,.0f} MB"
    )
    fetched = place.with_name(f".{place.name}.archives")
    partial = place.with_name(f".{place.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    fetched.mkdir(exist_ok=True)
    paths = {
        component: _bring_archive(progress, archive, fetched)
        for component, archive in archives.items()
    }
    try:
        unpack(paths, partial, left_out=_LEFT_OUT)
        if platform.startswith("linux") and not (partial / "lib64").exists():
            # where nvcc.profile and CMake look; the archives have lib alone
            (partial / "lib64").symlink_to("lib")
        partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(fetched)


def fetch_manifest(version: str) -> bytes:
    """Return the manifest of a release as it is on the server, checked for nothing.

    Raises:
        NetworkError: it is not there, or the server cannot be reached.
    """
    url = f"{base_url()}/redistrib_{version}.json"
    with _answers(url, cure="see the folder there for the releases that exist") as response:
        content = b""
        for block in response.iter_content(_BLOCK):
            content += block
            if len(content) > _LONGEST_MANIFEST:
                raise NetworkError(
                    f"{url} is larger than any manifest",
                    cure=f"check {BASE_VARIABLE}: it must name a copy of {BASE_URL}",
                )
        return content


def _archives(manifest: bytes, pin: RedistributablePin, platform: str) -> Mapping[str, _Archive]:
    """Return the archive of each pinned component for a platform."""
    content = _content(manifest, pin.version)
    archives: dict[str, _Archive] = {}
    for component in pin.components:
        entry = content.get(component)
        if not isinstance(entry, dict):
            there = ", ".join(sorted(name for name, it in content.items() if isinstance(it, dict)))
            raise VendorError(
                f"redistrib_{pin.version}.json has no component {component}; it has {there}",
                cure=f"pin it anew with `python -m ci pin cuda {pin.version}`",
            )
        told = entry.get(platform)
        if not isinstance(told, dict):
            raise VendorError(
                f"redistrib_{pin.version}.json has no {component} for {platform}",
                cure="install that toolkit and name its folder with --toolkit PATH",
            )
        path, sha256, size = (told.get(key) for key in ("relative_path", "sha256", "size"))
        if not (
            isinstance(path, str)
            and _ARCHIVE.fullmatch(path)
            and isinstance(sha256, str)
            and _SHA256.fullmatch(sha256)
            # NVIDIA writes the number of bytes as text
            and str(size).isdecimal()
        ):
            raise VendorError(
                f"redistrib_{pin.version}.json says of {component} for {platform} no archive with"
                " sha256 and size",
                cure=f"check {BASE_VARIABLE}, and the manifest itself",
            )
        archives[component] = _Archive(relative_path=path, sha256=sha256, size=int(str(size)))
    return archives


def _content(manifest: bytes, version: str) -> Mapping[str, object]:
    try:
        content = json.loads(manifest)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise VendorError(
            f"redistrib_{version}.json is not a manifest",
            cure=f"check {BASE_VARIABLE}: it must name a copy of {BASE_URL}",
        )
    return content


def _bring_archive(progress: Progress, archive: _Archive, folder: Path) -> Path:
    """Return an archive in ``folder``, downloaded unless an earlier run brought it whole."""
    name = archive.relative_path.rpartition("/")[2]
    place, partial = folder / name, folder / f"{name}.part"
    if place.is_file():
        return place
    digest, count = hashlib.sha256(), 0
    try:
        url = f"{base_url()}/{archive.relative_path}"
        with (
            _answers(url, cure=f"the manifest names it: check {BASE_VARIABLE}") as response,
            partial.open("wb") as out,
            progress.bytes(name, archive.size) as advance,
        ):
            for block in response.iter_content(_BLOCK):
                out.write(block)
                digest.update(block)
                count += len(block)
                advance(len(block))
                if count > archive.size:
                    break
        if count < archive.size:
            raise NetworkError(
                f"{name} ended after {count:,} of {archive.size:,} bytes",
                cure="run the command again: what is whole is kept",
            )
        if count > archive.size or digest.hexdigest() != archive.sha256:
            raise VendorError(
                f"{name} is not the file that the manifest names: sha256 {digest.hexdigest()},"
                f" not {archive.sha256}",
                cure="the file was damaged or replaced: do not use it; run the command again",
            )
        return partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _answers(url: str, *, cure: str) -> Iterator[requests.Response]:
    try:
        with requests.get(url, stream=True, timeout=60) as response:
            if response.status_code == requests.codes.not_found:
                raise NetworkError(f"the server has no {url}", cure=cure)
            response.raise_for_status()
            yield response
    except requests.RequestException as error:
        raise NetworkError(
            f"{url} could not be downloaded: {error}",
            cure=f"check the network; {BASE_VARIABLE} names another server, --toolkit PATH an"
            " installed toolkit; --compatible-toolkit takes one of the package index, where there is"
            " one",
        ) from error


def pin_redistributable(progress: Progress, version: str, path: Path) -> RedistributablePin:
    """Fetch the manifest of a release and write its pin into ``ci/toolkits.toml``.

    A pin of the same release, or of another one of the same minor version, is replaced.

    Raises:
        NetworkError: there is no such release, or the server cannot be reached.
        VendorError: the manifest lacks what ggml is compiled with.
    """
    text, pin = repinned(path.read_text(encoding="utf-8"), version)
    path.write_text(text, encoding="utf-8")
    progress.step(f"pinned CUDA {version} in {path.name}: manifest {pin.manifest}")
    return pin


def repinned(text: str, version: str) -> tuple[str, RedistributablePin]:
    """Return the pins' text with the pin of a release, and that; see ``pin_redistributable``."""
    manifest = fetch_manifest(version)
    wanted = _COMPONENTS if int(version.partition(".")[0]) < 13 else _COMPONENTS_13
    pin = RedistributablePin(
        name="CUDA",
        version=version,
        manifest=hashlib.sha256(manifest).hexdigest(),
        components=list(wanted),
    )
    for platform in PLATFORMS.values():
        _archives(manifest, pin, platform)
    return _with_pin(text, pin), pin


def has_release(version: str) -> bool:
    """Say whether NVIDIA's server has the manifest of a release.

    Raises:
        NetworkError: it cannot be reached.
    """
    url = f"{base_url()}/redistrib_{version}.json"
    try:
        response = requests.head(url, timeout=60, allow_redirects=True)
        if response.status_code == requests.codes.not_found:
            return False
        response.raise_for_status()
    except requests.RequestException as error:
        raise NetworkError(
            f"{url} could not be asked for: {error}",
            cure=f"check the network; {BASE_VARIABLE} names another server",
        ) from error
    return True


def _with_pin(text: str, pin: RedistributablePin) -> str:
    """Return the pins' file with one more, in place of one of the same minor version."""
    components = ", ".join(f'"{component}"' for component in pin.components)
    entry = (
        f'[[redistributable]]\nname = "{pin.name}"\nversion = "{pin.version}"\n'
        f'manifest = "{pin.manifest}"\ncomponents = [{components}]\n'
    )
    minor = re.escape(pin.version.rpartition(".")[0])
    same = re.compile(
        rf'\[\[redistributable\]\]\nname = "{pin.name}"\nversion = "{minor}\.\d+"\n'
        r"(?:\w+ = .*\n)*"
    )
    if same.search(text):
        return same.sub(entry, text, count=1)
    return f"{text.rstrip()}\n\n{entry}"
