"""``publish``: what is done in which order, whatever the target, and what a person sees of it."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ci.errors import PublishError, UsageError
from index.publish.folder import Folder
from index.publish.github_pages import GitHubPages
from index.publish.links import check_links
from index.publish.past import Past, changed_pages, refuse_loss
from index.publish.rsync import Rsync
from index.publish.tree import read_tree
from index.publish.trial import served, subjects, trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from index.publish.objects import Objects
    from index.publish.target import Outcome, Target
    from index.publish.tree import Tree
    from index.publish.trial import Subject, Trial

SITE: Final = Path("site")
TARGETS: Final = """\
PATH              a folder that a web server serves: replaced in one step
rsync:DEST        a folder, host:path or rsync://host/module/path: trees/<id>/, and the link
                  `current`, which the web server serves, replaced in one step
s3://BUCKET/PATH  a bucket: files first, then pages, so that no page names what is not there
pages:FOLDER      the checkout of a GitHub Pages branch (one commit), or a folder to upload"""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """How to verify: ``url`` is where the target is served, None where nobody said."""

    url: str | None
    verify: bool = True
    verify_all: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say the options of ``publish``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Publish a site. It is seen to be whole and to lose nothing before anything is written,\n"
        f"and verified by installing from it.\n\ntargets:\n{TARGETS}"
    )
    parser.add_argument("--to", metavar="TARGET", required=True, help="where to, see above")
    parser.add_argument(
        "--site", metavar="DIR", type=Path, default=SITE, help="the site (default: %(default)s)"
    )
    parser.add_argument(
        "--url",
        type=_url,
        help="where the target is served: pip installs from there when it is published",
    )
    parser.add_argument(
        "--verify-all", action="store_true", help="try every backend, not only what is new"
    )
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="install nothing and ask for no link, neither before nor after",
    )
    parser.add_argument(
        "--back",
        action="store_true",
        help="rsync: serve the tree again that was there before (publishes nothing)",
    )
    parser.add_argument(
        "--keep",
        type=_count,
        default=3,
        metavar="N",
        help="rsync: how many trees stay, the current one among them (default: %(default)s)",
    )
    add_bucket_arguments(parser)
    parser.add_argument(
        "--folder-pages",
        action="store_true",
        help="bucket: store pages under their folders' keys too, for a bucket that is read without"
        " a web server that knows index.html",
    )
    parser.add_argument("--push", action="store_true", help="pages: push the commit as well")


def add_bucket_arguments(parser: argparse.ArgumentParser) -> None:
    """Say the options that every use of a bucket has."""
    parser.add_argument(
        "--endpoint-url",
        metavar="URL",
        help="bucket: the server, where it is not Amazon's (also AWS_ENDPOINT_URL)",
    )


def publish(options: argparse.Namespace, *, say: Callable[[str], None]) -> None:
    """Run ``publish`` as its options say; ``say`` gets the lines for the person who runs it.

    Raises:
        UsageError: The target is none, or does not go with the options.
        PublishError: The site is not whole, would lose something, could not be published, or
            cannot be installed from.
    """
    target = parse_target(options.to, options)
    if options.back:
        say(f"{target.name}: {target.go_back()}")
        return
    wishes = Wishes(url=options.url, verify=not options.no_verify, verify_all=options.verify_all)
    publish_to(target, read_tree(options.site), wishes, say=say)


def publish_to(target: Target, tree: Tree, wishes: Wishes, *, say: Callable[[str], None]) -> None:
    """Publish a tree: nothing lost, tried on loopback, sent, tried where it is served."""
    say(f"{tree.root}: whole, {len(tree.files)} files, {tree.size / 1e6:.1f} MB")
    tried: list[Subject] = []
    with trial() as installer:

        def approve(past: Past) -> None:
            refuse_loss(tree, past, where=target.name)
            changed = changed_pages(tree, past)
            say(f"{target.name}: {len(changed)} of {len(tree.pages)} project pages change")
            if wishes.verify:
                if count := check_links(tree, past):
                    say(f"{count} wheels that are linked elsewhere are there")
                tried.extend(subjects(tree, past, tree.pages if wishes.verify_all else changed))
                _rehearse(installer, tried, tree.root, say=say)

        outcome = target.put(tree, approve)
        say(f"published: {outcome.sent} files sent, {outcome.size / 1e6:.1f} MB")
        for note in outcome.notes:
            say(f"  {note}")
        if wishes.verify:
            _verify(installer, tried, outcome, wishes, say=say)
        if outcome.back:
            say(outcome.back)


def _rehearse(
    installer: Trial, tried: list[Subject], root: Path, *, say: Callable[[str], None]
) -> None:
    if not tried:
        return
    with served(root) as url:
        try:
            seen = installer.run(tried, url)
        except PublishError as error:
            what = f"tried on loopback before anything was published: {error.what}"
            cure = "mend the site; what is published is as it was"
            raise PublishError(what, cure=cure) from error
    for line in seen:
        say(f"  tried on loopback: {line}")


def _verify(
    installer: Trial,
    tried: list[Subject],
    outcome: Outcome,
    wishes: Wishes,
    *,
    say: Callable[[str], None],
) -> None:
    if wishes.url is None and outcome.served is None:
        say("not verified where it is served: give --url (and --verify-all for what is there)")
        return
    try:
        if wishes.url is not None:
            seen = installer.run(tried, wishes.url)
        else:
            assert outcome.served is not None
            with served(outcome.served) as url:
                seen = installer.run(tried, url)
    except PublishError as error:
        what = f"it is published, and cannot be used: {error.what}"
        cure = f"{error.cure}; {outcome.back}" if outcome.back else error.cure
        raise PublishError(what, cure=cure) from error
    for line in seen:
        say(f"  verified: {line}")
    where = wishes.url or str(outcome.served)
    say(f"verified at {where}" if seen else f"nothing new to verify at {where}")


def parse_target(text: str, options: argparse.Namespace) -> Target:
    """Read ``--to``.

    Raises:
        UsageError: It is none of the targets, or an option is of another kind of target.
    """
    kind, target = _target(text, options)
    of = {
        "back": (options.back, "rsync"),
        "keep": (options.keep != 3, "rsync"),
        "folder-pages": (options.folder_pages, "bucket"),
        "endpoint-url": (options.endpoint_url, "bucket"),
        "push": (options.push, "pages"),
    }
    for option, (given, owner) in of.items():
        if given and owner != kind and option != "back":
            raise UsageError(f"--{option} is of another target than {text}", cure=f"\n{TARGETS}")
    return target


def _target(text: str, options: argparse.Namespace) -> tuple[str, Target]:
    scheme, colon, rest = text.partition(":")
    if scheme == "rsync" and rest.startswith("//"):
        rest = text
    if scheme == "rsync" and rest:
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return "rsync", Rsync(destination=rest.rstrip("/") or "/", now=now, keep=options.keep)
    if scheme == "pages" and rest:
        return "pages", GitHubPages(path=Path(rest), push=options.push)
    if scheme == "s3":
        # Loads boto3, which takes longer than everything else here.
        from index.publish.bucket import Bucket  # noqa: PLC0415

        objects = parse_bucket(text, endpoint_url=options.endpoint_url)
        return "bucket", Bucket(objects=objects, folder_pages=options.folder_pages)
    if not text or (colon and not Path(text).is_dir() and len(scheme) > 1):
        raise UsageError(f"--to {text}: no such kind of target", cure=f"choose one of\n{TARGETS}")
    return "folder", Folder(path=Path(text))


def parse_bucket(text: str, *, endpoint_url: str | None) -> Objects:
    """Read ``s3://bucket/prefix``.

    Raises:
        UsageError: It names no bucket.
    """
    from index.publish.objects import Objects, connect  # noqa: PLC0415  # see above

    parts = urlsplit(text)
    if not parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{text}: names no bucket", cure="write s3://bucket/prefix")
    prefix = parts.path.strip("/")
    return Objects(
        client=connect(endpoint_url),
        bucket=parts.netloc,
        prefix=f"{prefix}/" if prefix else "",
    )


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is not the address of a site")
    return f"{text.rstrip('/')}/"


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of trees, 1 or more")
    return count
