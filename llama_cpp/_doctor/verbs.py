"""``doctor`` and ``select``: from the command line's options to an exit status and a text."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from llama_cpp._doctor import report
from llama_cpp._doctor.accelerators import accelerators
from llama_cpp._doctor.advice import Choice, choose, forced
from llama_cpp._doctor.backends import backends, install_steps
from llama_cpp._doctor.diagnosis import examine, to_mend
from llama_cpp._doctor.facts import gather
from llama_cpp._doctor.installation import installation
from llama_cpp._doctor.project import current_project
from llama_cpp._doctor.system import system

if TYPE_CHECKING:
    import argparse

# gives a choice between the CPU and another backend
_EXTRAS = "uv-extras"


def doctor(options: argparse.Namespace) -> tuple[int, str, str]:
    """Examine this machine and what is installed.

    Returns:
        The exit status (1 where something is to be mended), what goes to stdout, and to stderr.
    """
    facts = gather(options.model, options.index)
    findings = examine(facts)
    broken = to_mend(findings)
    if options.json:
        record = report.doctor_record(facts, findings, fits=not broken)
        text = json.dumps(record, indent=2) + "\n"
    else:
        text = report.doctor_text(facts, findings)
    return (1 if broken else 0), text, ""


def select(options: argparse.Namespace) -> tuple[int, str, str]:
    """Choose a backend for this machine, or take the one that is named.

    Returns:
        The exit status (1 where no wheel is made for this machine, 2 for a wrong command line), what
        goes to stdout, and to stderr.
    """
    own = installation().distribution
    project = current_project(own.installer if own else None)
    tool, reason = (options.tool, "as you asked") if options.tool else project[:2]
    try:
        choice = _choice(options)
    except KeyError as error:
        return 2, "", f"error: {error.args[0]}\n"
    if choice.backend is None or choice.url is None:
        return 1, "", f"error: {choice.why}\n"
    if tool == _EXTRAS and choice.backend == "cpu":
        words = "gives a choice between cpu and another backend: name that one with --backend"
        return 2, "", f"error: {_EXTRAS} {words}\n"
    site = choice.url[: -len(f"/whl/{choice.backend}/")]
    steps = install_steps(tool, choice.backend, site)
    if options.json:
        text = json.dumps(report.select_record(choice, tool, steps), indent=2) + "\n"
    elif options.url:
        text = f"{choice.url}\n"
    else:
        text = report.select_text(choice, tool, reason, steps)
    return 0, text, ""


def _choice(options: argparse.Namespace) -> Choice:
    published = backends()
    published = published._replace(site=options.index or published.site)
    here = system()
    if options.backend is None:
        return choose(here, accelerators(here, os.environ), published)
    if published.named(options.backend) is None:
        names = ", ".join(each.name for each in published.all)
        raise KeyError(f"there is no backend {options.backend!r}: choose one of {names}")
    return forced(options.backend, here, published)
