"""The command line of the index: ``python -m index COMMAND``."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ci.errors import CatalogueError, PublishError, ToolchainError, UsageError
from ci.table import load_table
from index import catalogue, dependencies, upstream
from index.catalogue import by_backend
from index.publish import command, wheels
from index.serve import Server
from index.site import build, refuse_foreign
from index.wheel import find_wheels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CATALOGUE: Final = Path("index/catalogue.jsonl")
CHANGELOG: Final = Path(__file__).resolve().parents[1] / "CHANGELOG.md"
DIST: Final = Path("dist")
SITE: Final = Path("site")

_DESCRIPTION: Final = """\
A static package index per backend, made from wheels that a smoke test has proven.

  python -m index add dist      write the wheels of dist/ into the catalogue
  python -m index build         make site/ from the catalogue
  python -m index update        both: add what is in dist/, then build
  python -m index dependencies  ask a package index for what our wheels require
  python -m index yank          take wheels back, with a reason; unyank lets them through again
  python -m index publish       bring site/ to where it is served, and install from it
  python -m index publish-wheels  bring wheels to a release or bucket that pages can link
  python -m index serve         serve site/ on this machine for a try
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    commands = {
        "add": _add,
        "build": _build,
        "update": _update,
        "dependencies": _dependencies,
        "yank": _yank,
        "unyank": _yank,
        "publish": _publish,
        "publish-wheels": _publish_wheels,
        "serve": _serve,
    }
    try:
        commands[options.command](options)
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # What the commands foresee they say better; this is the disk, or permissions.
        failure = PublishError(str(error), cure="mend that, then run this again")
        print(f"error: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m index",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add = commands.add_parser(
        "add",
        allow_abbrev=False,
        help="write wheels into the catalogue",
        description="Write wheels into the catalogue: all that are named, or none. Each needs its"
        " smoke report (<wheel>.smoke.json) beside it. A wheel that is there with the same bytes is"
        " left alone, one with other bytes is refused.",
        epilog="Environment: SOURCE_DATE_EPOCH (seconds since 1970) is the upload time of what is"
        " added instead of the present time.",
    )
    add.add_argument(
        "wheels", nargs="+", type=Path, metavar="WHEEL", help="a wheel, or a folder of wheels"
    )
    _catalogue_option(add)
    add.add_argument(
        "--base-url",
        metavar="URL",
        type=_url,
        help="the folder on a server where these wheels and their .metadata lie for good"
        " (default: beside the pages)",
    )

    make = commands.add_parser(
        "build",
        allow_abbrev=False,
        help="make the site from the catalogue",
        description="Make the site from the catalogue: pages, wheels, metadata files. The new site"
        " takes the place of the old in one step; on any error the old one stays as it is.",
    )
    _catalogue_option(make)
    make.add_argument(
        "--base-url",
        metavar="URL",
        type=_url,
        help="link the wheels, and find their .metadata, in this folder on a server instead of"
        " copying them beside the pages",
    )
    _site_options(make)

    update = commands.add_parser(
        "update",
        allow_abbrev=False,
        help="add what is in dist/, then build",
        description="Write the wheels of a folder into the catalogue, then make the site from it."
        " What they require and no line beside the catalogue knows is asked of a package index.",
    )
    _catalogue_option(update)
    _upstream_option(update)
    _site_options(update)
    update.add_argument(
        "--anew",
        action="store_true",
        help="for a try: forget the catalogue and the site of the try before",
    )
    update.set_defaults(base_url=None)

    ask = commands.add_parser(
        "dependencies",
        allow_abbrev=False,
        help="ask a package index for what our wheels require",
        description="Ask a package index for the projects that our wheels require, and write what"
        " it says of their files beside the catalogue, so that the pages can link them.",
    )
    _catalogue_option(ask)
    _upstream_option(ask)

    yank = commands.add_parser(
        "yank",
        allow_abbrev=False,
        help="take wheels back",
        description="Take wheels back: installers leave them out unless they are pinned exactly."
        " Nothing is deleted; `unyank` lets them through again.",
    )
    yank.add_argument("--reason", metavar="TEXT", required=True, help="what is wrong with them")
    unyank = commands.add_parser(
        "unyank",
        allow_abbrev=False,
        help="let wheels through again",
        description="Let wheels through again that `yank` took back.",
    )
    unyank.set_defaults(reason=None)
    for each in (yank, unyank):
        each.add_argument(
            "names",
            nargs="+",
            metavar="NAME",
            help="the file name of a wheel, or a version with its label (0.3.100+cu128)",
        )
        _catalogue_option(each)

    sending = commands.add_parser("publish", allow_abbrev=False, help="publish a site")
    command.add_arguments(sending)
    wheels_ = commands.add_parser(
        "publish-wheels", allow_abbrev=False, help="upload wheels for pages that lie elsewhere"
    )
    wheels.add_arguments(wheels_)

    serve = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="serve a site on this machine",
        description="Serve a site on the loopback interface, for a try: with 404 pages and with"
        " JSON for clients that ask for it. Ends with Ctrl-C.",
    )
    serve.add_argument(
        "--root", metavar="DIR", type=Path, default=SITE, help="the site (default: %(default)s)"
    )
    serve.add_argument(
        "--port", metavar="N", type=int, default=0, help="the port (default: any free one)"
    )
    return parser


def _site_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wheels",
        metavar="DIR",
        type=Path,
        action="append",
        help="where the wheels are; may be given more than once (default: dist; after these, the"
        " site that is replaced)",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=SITE, help="the site (default: %(default)s)"
    )
    parser.add_argument(
        "--site-url",
        metavar="URL",
        type=_url,
        help="the address that the site will have, for the commands on its first page",
    )


def _catalogue_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--catalogue",
        metavar="FILE",
        type=Path,
        default=CATALOGUE,
        help="the catalogue (default: %(default)s); dependencies.jsonl beside it holds the files"
        " of others that our wheels require",
    )


def _upstream_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--upstream",
        metavar="URL",
        help="the package index to ask (default: PIP_INDEX_URL, UV_DEFAULT_INDEX, or everybody's)",
    )


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        msg = f"{text!r} is not an address of a folder, such as https://example.org/wheels"
        raise argparse.ArgumentTypeError(msg)
    return text


def _add(options: argparse.Namespace) -> None:
    upload_time = _upload_time(os.environ, now=time.time())
    added = catalogue.add(
        options.catalogue,
        find_wheels(options.wheels),
        table=load_table(),
        upload_time=upload_time,
        base_url=options.base_url,
    )
    for entry in added.new:
        proven = ", ".join(run.version for run in entry.report.interpreters)
        print(f"added   {entry.name} (proven on {proven})")
    for entry in added.known:
        print(f"known   {entry.name}")
    print(f"{options.catalogue}: {len(added.new)} new, {len(added.known)} known")


def _upload_time(environment: Mapping[str, str], *, now: float) -> str:
    epoch = environment.get("SOURCE_DATE_EPOCH")
    try:
        seconds = now if epoch is None else int(epoch)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError) as error:
        what = f"SOURCE_DATE_EPOCH is {epoch!r}"
        raise UsageError(what, cure="it must be seconds since 1970, or not be set") from error


def _build(options: argparse.Namespace) -> None:
    history = catalogue.read(options.catalogue)
    entries = catalogue.parse(history, path=options.catalogue)
    if not entries:
        what = f"{options.catalogue}: no wheels are catalogued there"
        raise CatalogueError(what, cure="add some with `python -m index add dist`")
    built = build(
        entries,
        options.out,
        table=load_table(),
        wheels=options.wheels or [folder for folder in (DIST,) if folder.is_dir()],
        base_url=options.base_url,
        site_url=options.site_url,
        history=history,
        dependencies=dependencies.load(_dependencies_of(options.catalogue)),
        changelog=CHANGELOG.read_text(encoding="utf-8"),
    )
    print(
        f"{options.out}: {built.pages} pages, {built.wheels} wheels here,"
        f" {built.linked} linked elsewhere, {built.size / 1e6:.1f} MB; {len(built.new)} files are new"
    )


def _dependencies(options: argparse.Namespace) -> None:
    file = _dependencies_of(options.catalogue)
    done = upstream.update(
        file,
        catalogue.load(options.catalogue),
        table=load_table(),
        upstream=upstream.upstream_url(os.environ, chosen=options.upstream),
        log=print,
    )
    for note in done.notes:
        print(f"note: {note}")
    print(f"{file}: {len(done.new)} new, {len(done.changed)} changed")


def _dependencies_of(file: Path) -> Path:
    return file.with_name("dependencies.jsonl")


def _yank(options: argparse.Namespace) -> None:
    changed = catalogue.yank(options.catalogue, options.names, reason=options.reason)
    for entry in changed:
        print(f"{'yanked ' if entry.yanked is not None else 'back   '} {entry.name}")
    print(f"{options.catalogue}: {len(changed)} changed; `python -m index build` shows it")


def _update(options: argparse.Namespace) -> None:
    options.wheels = options.wheels or [DIST]
    if options.anew:
        if options.catalogue.resolve() == CATALOGUE.resolve():
            what = f"--anew would forget {CATALOGUE}, which is the release's and only grows"
            raise UsageError(what, cure="name a catalogue of your own with --catalogue")
        refuse_foreign(options.out)
        options.catalogue.unlink(missing_ok=True)
    _add(options)
    known = dependencies.load(_dependencies_of(options.catalogue))
    table = load_table()
    groups = by_backend(catalogue.load(options.catalogue)).values()
    if any(dependencies.missing(group, known, table=table) for group in groups):
        _dependencies(options)
    if options.anew:
        shutil.rmtree(options.out, ignore_errors=True)
    _build(options)


def _publish(options: argparse.Namespace) -> None:
    command.publish(options, say=partial(print, flush=True))


def _publish_wheels(options: argparse.Namespace) -> None:
    wheels.publishfind_wheels(options, say=partial(print, flush=True))


def _serve(options: argparse.Namespace) -> None:
    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with Server(options.root, port=options.port, log=log) as server:
        print(f"serving {options.root} at {server.url} (Ctrl-C ends it)", flush=True)
        for page in sorted((options.root / "whl").glob("*/index.html")):
            address = f"{server.url}whl/{page.parent.name}/"
            print(f"  pip install --index-url {address} llama-cpp-python", flush=True)
        # Ctrl-C is how it is meant to end.
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
