"""``publish-wheels``: wheels, their METADATA and reports to a place that pages can link."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ci.errors import PublishError, UsageError
from index.publish.command import add_bucket_arguments, parse_bucket
from index.publish.release import parse_github
from index.publish.tree import content_of
from index.report import report_path
from index.staging import locked
from index.wheel import find_wheels, read_wheel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

_FILE_MODE: Final = 0o644


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say the options of ``publish-wheels``."""
    parser.description = (
        "Upload wheels, their .metadata and their smoke reports to a release or a bucket, and say"
        " the --base-url to catalogue them with. What is there already is left alone; a name that"
        " is there with other bytes is refused."
    )
    parser.add_argument(
        "wheels",
        nargs="*",
        type=Path,
        metavar="WHEEL",
        help="a wheel, or a folder of wheels (default: dist)",
    )
    parser.add_argument(
        "--to",
        metavar="PLACE",
        required=True,
        help="github:OWNER/REPO@TAG (GITHUB_TOKEN), s3://BUCKET/PATH, or a folder",
    )
    parser.add_argument(
        "--draft", action="store_true", help="github: leave a new release unpublished"
    )
    add_bucket_arguments(parser)


def publishfind_wheels(options: argparse.Namespace, *, say: Callable[[str], None]) -> None:
    """Run ``publish-wheels`` as its options say; ``say`` gets the lines for who runs it.

    Raises:
        UsageError: There is no wheel, or the place is none.
        WheelError: A wheel is damaged or contradicts itself.
        PublishError: A name is there with other bytes, or the place refused.
        NetworkError: The place could not be reached.
    """
    wheels = find_wheels(options.wheels or [Path("dist")])
    place = str(options.to)
    is_github, is_bucket = place.startswith("github:"), place.startswith("s3:")
    if options.draft and not is_github:
        raise UsageError("--draft is for github: alone", cure="leave it out")
    if options.endpoint_url and not is_bucket:
        raise UsageError("--endpoint-url is for s3: alone", cure="leave it out")
    with _files(wheels) as files:
        if is_github:
            github = parse_github(place, environment=os.environ, draft=options.draft)
            sent, base_url = github.put(files), github.base_url
        elif is_bucket:
            sent = _to_bucket(files, place, endpoint_url=options.endpoint_url)
            base_url = "URL (where this part of the bucket is read)"
        else:
            sent = _to_folder(files, Path(place))
            base_url = "URL (where this folder is served)"
    for name in sent:
        say(f"sent    {name}")
    say(f"{place}: {len(sent)} sent, {len(files) - len(sent)} were there")
    given = " ".join(map(str, options.wheels)) or "dist"
    say(f"to catalogue them: python -m index add {given} --base-url {base_url}")


@contextlib.contextmanager
def _files(wheels: Sequence[Path]) -> Iterator[Mapping[str, Path]]:
    """Give every file to send by its name: METADATA is taken out of the wheel."""
    with tempfile.TemporaryDirectory(prefix="metadata-") as folder:
        files: dict[str, Path] = {}
        for path in wheels:
            wheel = read_wheel(path)
            if path.name in files:
                raise UsageError(f"{path.name}: given twice", cure="give each wheel once")
            metadata = Path(folder) / f"{path.name}.metadata"
            metadata.write_bytes(wheel.metadata)
            files |= {path.name: path, metadata.name: metadata}
            report = report_path(path)
            if report.is_file():
                files[report.name] = report
        yield files


def _to_bucket(
    files: Mapping[str, Path], place: str, *, endpoint_url: str | None
) -> tuple[str, ...]:
    from index.publish.bucket import explained, put_file  # noqa: PLC0415  # loads boto3

    objects = parse_bucket(place, endpoint_url=endpoint_url)
    with explained(place):
        there = objects.listing()
        return tuple(
            name
            for name, path in sorted(files.items())
            if put_file(objects, name, content_of(path), there.get(name))
        )


def _to_folder(files: Mapping[str, Path], folder: Path) -> tuple[str, ...]:
    """Copy files, each in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    sent = []
    with locked(folder):
        for name, path in sorted(files.items()):
            target, partial = folder / name, folder / f".{name}.part"
            if target.exists():
                if content_of(target).sha256 != content_of(path).sha256:
                    what = f"{target} is there with other bytes"
                    cure = "a published name never changes: give a new label"
                    raise PublishError(what, cure=cure)
                continue
            shutil.copyfile(path, partial)
            partial.chmod(_FILE_MODE)
            partial.replace(target)
            sent.append(name)
    return tuple(sent)
