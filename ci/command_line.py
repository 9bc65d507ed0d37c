"""The command line of the toolchain: its verbs and their arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from ci import emulation, paths
from ci.bump import COOL_DOWN, PARTS
from ci.relabel import AUTO
from ci.release_verb import add_release
from ci.schedule import SUBSETS


def command_line() -> argparse.ArgumentParser:
    """Return the parser of ``python -m ci``."""
    parser = argparse.ArgumentParser(
        prog="python -m ci",
        description="From the pinned llama.cpp to a wheel that is repaired, checked and proven.",
        epilog="Every verb is a nox session as well: nox -s build -- --backend cpu",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    vendor = verbs.add_parser("vendor", help="bring the pinned llama.cpp to vendor/llama.cpp")
    _add_source(vendor)

    _add_build(verbs.add_parser)

    repair_ = verbs.add_parser("repair", help="put the platform's tag and the SBOM on built wheels")
    _add_target(repair_)
    repair_.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL")
    _add_out(repair_, paths.DIST)

    check_ = verbs.add_parser("check", help="is a finished wheel what the table says?")
    check_.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL", help="default: dist/")

    _add_smoke(verbs.add_parser)

    auto = verbs.add_parser(
        "auto", help="relabel finished wheels for the index auto: plain ones and wheel variants"
    )
    auto.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL", help="default: dist/")
    auto.add_argument(
        "--label", type=_auto_label, default=AUTO, help="auto, or auto.1 for a respin"
    )
    _add_pythons(auto)
    _add_out(auto, paths.DIST / AUTO)

    _add_matrix(verbs.add_parser)

    reproduce_ = verbs.add_parser(
        "reproduce", help="build wheels again in another folder and compare every byte"
    )
    reproduce_.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL", help="default: dist/")
    reproduce_.add_argument(
        "--cached", action="store_true", help="let objects come from the compiler cache (quick)"
    )

    emulate = verbs.add_parser("emulate", help="smoke-test wheels on CPUs that qemu emulates")
    emulate.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL", help="default: dist/")
    emulate.add_argument(
        "--cpu",
        action="append",
        default=[],
        metavar="NAME",
        help="a CPU of qemu (can be repeated; default: "
        + "; ".join(f"{machine}: {', '.join(each)}" for machine, each in emulation.CPUS.items())
        + ")",
    )

    fresh = verbs.add_parser(
        "fresh-root", help="run the README's commands as a new user on a fresh Debian (needs root)"
    )
    fresh.add_argument("command", nargs="*", metavar="NAME", help="build or tests; default: both")
    fresh.add_argument("--folder", type=Path, default=paths.BUILD / "fresh-root")
    fresh.add_argument("--keep", action="store_true", help="leave the root for a look")
    fresh.add_argument("--mirror", help="a mirror of Debian (default: that of this machine's apt)")

    upload_ = verbs.add_parser(
        "upload", help="upload the plain wheels and the sdist to the package index, by twine"
    )
    upload_.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="wheels, sdists, folders: default dist/"
    )
    upload_.add_argument("--repository", metavar="NAME", help="a repository of ~/.pypirc")
    upload_.add_argument("--repository-url", metavar="URL", help="where to upload instead")
    upload_.add_argument(
        "--index-url",
        metavar="URL",
        help="where installers read it, to compare hashes (default: simple/ on the same server)",
    )
    upload_.add_argument("--dry-run", action="store_true", help="stop before the upload")

    _add_proof(verbs.add_parser)

    add_release(verbs.add_parser, _add_pythons)

    generate = verbs.add_parser("generate", help="write the ABI, licences and README's tables anew")
    generate.add_argument("--check", action="store_true", help="only say what is stale")

    _add_pin(verbs.add_parser)
    _add_bump(verbs.add_parser)
    return parser


def _add_build(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    build = add_parser(
        "build", help="vendor, build, repair, check and smoke-test one backend into dist/"
    )
    _add_target(build)
    _add_source(build)
    _add_pythons(build)
    build.add_argument(
        "--engine",
        choices=["auto", "host", "cibuildwheel"],
        default="auto",
        help="where to compile: on this machine, or through cibuildwheel in a container"
        " (auto: cibuildwheel where a container engine runs)",
    )
    build.add_argument(
        "--compiler",
        choices=["auto", "zig", "system"],
        default="auto",
        help="on this machine: ziglang from the package index, or the system's own"
        " (auto: zig on Linux)",
    )
    build.add_argument(
        "--define",
        "-D",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one more CMake definition, for example GGML_RPC=ON",
    )
    build.add_argument(
        "--toolkit",
        type=Path,
        metavar="PATH",
        help="an installed toolkit in place of the pinned one (also VULKAN_SDK, CUDA_HOME, CUDA_PATH,"
        " ROCM_PATH); with --toolkit-image its folder in the image",
    )
    build.add_argument(
        "--toolkit-image",
        metavar="REFERENCE",
        help="take the toolkit out of a container image, such as"
        " nvidia/cuda:12.8.1-devel-rockylinux8@sha256:… (no container engine is needed)",
    )
    build.add_argument(
        "--compatible-toolkit",
        action="store_true",
        help="CUDA: where the backend's own cannot be had, take another one of its major version",
    )
    build.add_argument(
        "--clang",
        action="store_true",
        help="CUDA: let clang compile, with the backend's own headers, libraries and assembler",
    )
    build.add_argument(
        "--archs",
        metavar="LIST",
        help='GPUs of your own in place of the table\'s, for example "86;89;120a" or "gfx1100"',
    )
    _add_runtime(build)
    build.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: dist/, with --archs dist/own/"
    )


def _add_smoke(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    smoke_ = add_parser(
        "smoke", help="install wheels in fresh environments and compare known answers"
    )
    smoke_.add_argument("wheels", nargs="*", type=Path, metavar="WHEEL", help="default: dist/")
    _add_pythons(smoke_)
    smoke_.add_argument(
        "--all-pythons",
        action="store_true",
        help="say which Pythons of the table are missing here, and fail where a required one is",
    )
    smoke_.add_argument(
        "--require",
        action="append",
        default=[],
        type=_series,
        metavar="LIST",
        help="--all-pythons, with these required in place of the table's: 3.9,3.15,3.13t",
    )

    _add_runtime(smoke_)
    smoke_.add_argument(
        "--gpu", action="store_true", help="fail where a GPU wheel finds no GPU to be proven on"
    )
    smoke_.add_argument(
        "--index",
        metavar="URL",
        help="prove the wheel that pip gets from this index, and take its dependencies from there",
    )
    smoke_.add_argument("--backend", help="with --index: a backend of the table, such as vulkan")
    smoke_.add_argument(
        "--version", metavar="V", help="with --index: 0.3.100, or with a respin's label; the newest"
    )
    smoke_.add_argument(
        "--out",
        type=Path,
        default=paths.BUILD / "staged",
        metavar="FOLDER",
        help="with --index: where the wheel and its report go (default: build/staged)",
    )


def _add_matrix(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    matrix = add_parser("matrix", help="print the targets, for people or for a workflow")
    matrix.add_argument("--format", choices=["text", "github"], default="text")
    matrix.add_argument(
        "--subset", choices=SUBSETS, help="what a workflow builds (default: every target)"
    )
    matrix.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="PATTERN",
        help="such as 'cpu-*', or several with spaces between",
    )
    matrix.add_argument(
        "--outputs",
        type=Path,
        metavar="FILE",
        help="also append the outputs of a workflow's job: cpu, modules, platforms, gpu, index",
    )
    matrix.add_argument(
        "--gpu-runners",
        default="none",
        metavar="JSON",
        help="labels of runners with a GPU by patterns of targets: each target that needs one must"
        " have one (default: none, nothing is proven on a GPU)",
    )


def _series(text: str) -> list[str]:
    return [name for name in re.split(r"[,\s]+", text) if name]


def _add_proof(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    proof = add_parser(
        "proof", help="print how far each target was proven, or take reports into the evidence"
    )
    proof.add_argument(
        "action", nargs="?", choices=["add"], help="take reports into docs/proof/ (default: print)"
    )
    proof.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="reports beside wheels: default dist/"
    )


def _auto_label(text: str) -> str:
    if not re.fullmatch(rf"{AUTO}(?:[.]\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor such as auto.1")
    return text


def _add_bump(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    bump = add_parser(
        "bump",
        help="move the pins to newer releases, write what derives from them and build/bump.md",
    )
    for part in PARTS:
        bump.add_argument(
            f"--{part}",
            dest="parts",
            action="append_const",
            const=part,
            help="these alone (can be combined; default: all)",
        )
    bump.add_argument(
        "--cool-down",
        type=_days,
        default=COOL_DOWN,
        metavar="DAYS",
        help="how long a version must have been on the package index (default: 7)",
    )


def _days(text: str) -> timedelta:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return timedelta(days=int(text))


def _add_pin(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    pin_ = add_parser("pin", help="write the pin of a toolkit's release into ci/toolkits.toml")
    pin_.add_argument("toolkit", choices=["cuda"], help="whose release it is")
    pin_.add_argument(
        "version", type=_release, metavar="VERSION", help="the release, such as 12.8.1"
    )


def _release(text: str) -> str:
    if not re.fullmatch(r"\d+[.]\d+[.]\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a release such as 12.8.1")
    return text


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", default="cpu", help="a backend of the table (default: cpu)")
    parser.add_argument("--platform", help="a platform of the table (default: this machine's)")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        type=Path,
        metavar="PATH",
        help="another llama.cpp than the pinned one: a checkout or an archive",
    )


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime",
        action="store_true",
        help="without a GPU's driver, load the module with its runtime's packages and a stand-in"
        " for the driver (downloads some hundred megabytes)",
    )


def _add_pythons(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="VERSION",
        help="prove it on this Python alone (3.9, 3.13t or a path; can be repeated);"
        " default: every one that is found",
    )


def _add_out(parser: argparse.ArgumentParser, default: Path) -> None:
    parser.add_argument("--out", type=Path, default=default, metavar="FOLDER")
