"""The doctor's judgement of system, package and libraries. Pure: facts in, findings out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from llama_cpp._doctor.advice import choose
from llama_cpp._doctor.build_findings import build_findings
from llama_cpp._doctor.build_tools import cmake_arguments
from llama_cpp._doctor.compatibility import parse_tag, tag_problem
from llama_cpp._doctor.findings import LEVELS, Finding, finding
from llama_cpp._doctor.gpu_findings import gpu_findings
from llama_cpp._doctor.mending import rebuild, reinstall, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llama_cpp._doctor.facts import Facts

_TRUE = {"1", "ON", "YES", "TRUE", "Y"}
_FALSE = {"", "0", "OFF", "NO", "FALSE", "N"}
# what the guides of the past set, and nothing reads
_UNUSED = {
    "FORCE_CMAKE": "a source build always runs CMake; take it out",
    "GGML_CUDA": "a build option goes into CMAKE_ARGS: `CMAKE_ARGS=-DGGML_CUDA=ON`",
    "LLAMA_CUBLAS": "a build option goes into CMAKE_ARGS: `CMAKE_ARGS=-DGGML_CUDA=ON`",
    "LLAMA_CPP_LIB": "set LLAMA_CPP_LIB_PATH to the folder of the libraries, or build with "
    "`-C cmake.define.LLAMA_CPP_PREBUILT=FOLDER`",
    "SCB_LOCAL_VERSION": "set LLAMA_CPP_VERSION_LABEL for a label of your own",
}
# the options that CMakeLists.txt puts into the build info
_RECORDED = re.compile(
    r"(GGML|LLAMA(?!_CPP_)|MTMD)_|CMAKE_(CUDA|HIP)_(ARCHITECTURES|FLAGS)$|(AMD)?GPU_TARGETS$"
)
_RENAMED = {"LLAMA_CUBLAS": "GGML_CUDA", "LLAMA_CUDA": "GGML_CUDA", "LLAMA_METAL": "GGML_METAL"}


def examine(facts: Facts) -> tuple[Finding, ...]:
    """Return all findings, the worst first; those of a source build are notes and come last."""
    found = [
        *_system(facts),
        *_package(facts),
        *_label(facts),
        *_options(facts),
        *_libraries(facts),
        *gpu_findings(facts),
        *_model(facts),
    ]
    found.sort(key=lambda each: -LEVELS.index(each.level))
    return (*found, *build_findings(facts))


def to_mend(findings: tuple[Finding, ...]) -> bool:
    """Return whether something is wrong: a warning or an error."""
    return any(each.level in {"warning", "error"} for each in findings)


def _system(facts: Facts) -> Iterator[Finding]:
    system = facts.system
    if system.python_version < (3, 9):
        yield finding(
            "python-too-old",
            "error",
            f"{system.python} is too old: Python 3.9 is the oldest",
            "install Python 3.9 or newer and make a new environment with it",
        )
    if system.bits != 64:
        yield finding(
            "python-32-bit",
            "error",
            f"{system.python} is a {system.bits}-bit one: every wheel is for 64 bits",
            "install a 64-bit Python",
        )
    if system.free_threaded:
        yield finding(
            "python-free-threaded",
            "note",
            "this Python has no GIL: the wheels are proven on it; each context has a lock of its own",
        )
    if system.machine != system.native_machine:
        yield finding(
            "python-emulated",
            "warning",
            f"this Python is for {system.machine} and runs on {system.native_machine} under "
            "emulation: slow, and without the GPU",
            f"install a Python for {system.native_machine} and make a new environment with it",
        )
    if system.cpu_level == "x86-64-v1":
        yield finding(
            "cpu-without-avx",
            "note",
            f"{system.cpu} has neither AVX nor SSE4.2: ggml runs its slowest variant, and runs",
        )
    if choose(system, facts.accelerators, facts.published).backend is None:
        yield finding(
            "no-wheel",
            "note",
            choose(system, facts.accelerators, facts.published).why,
        )


def _package(facts: Facts) -> Iterator[Finding]:
    here = facts.installation
    own = here.distribution
    if own is None:
        if here.checkout and here.others:
            yield finding(
                "checkout-shadows",
                "warning",
                f"Python imports the checkout {here.package}, not the installed {here.others[0].version} "
                f"in {here.others[0].folder}",
                "run Python in another folder, or `llama-cpp doctor` in place of `python -m llama_cpp`",
            )
        else:
            yield finding(
                "not-installed",
                "warning" if here.library_path is None else "note",
                f"{here.package} belongs to no installed package",
                "install the package" if here.checkout else "",
                switch(
                    facts,
                    choose(facts.system, facts.accelerators, facts.published).backend or "cpu",
                ),
            )
        return
    if here.others:
        places = ", ".join(f"{each.version} in {each.folder}" for each in here.others)
        yield finding(
            "several-copies",
            "warning",
            f"{own.version} in {own.folder} is in use; also installed: {places}",
            "remove all of them, then install one (pip's --target never removes: empty the folder)",
            reinstall(facts),
        )
    if here.foreign:
        yield finding(
            "foreign-files",
            "error",
            f"{', '.join(here.foreign)} put files into {here.package}, too: the two overwrite each other",
            f"uninstall {here.foreign[0].split()[0]}, then install this package again",
            reinstall(facts),
        )
    if own.version.partition("+")[0] != here.version:
        yield finding(
            "version-mismatch",
            "error",
            f"the metadata says {own.version}, the files say {here.version}: a half-replaced package",
            "remove it and install it again",
            reinstall(facts),
        )
    tags = [tag for text in own.tags for tag in [parse_tag(text)] if tag is not None]
    problems = [tag_problem(tag, facts.system) for tag in tags]
    if tags and all(problem is not None for problem in problems):
        identifier, words = problems[0] or ("wrong-platform", "")
        backend = choose(facts.system, facts.accelerators, facts.published).backend
        if backend is None:
            steps = rebuild(facts)
        else:
            # to installers that version is there already, whatever its tag says
            steps = reinstall(facts) if own.label == backend else switch(facts, backend)
        yield finding(
            identifier,
            "error",
            f"the wheel {tags[0].text} does not fit: {words}",
            "" if backend else "no wheel is made for this machine: build from source",
            steps,
        )
    elif tags:
        yield finding("wheel-fits", "ok", f"the wheel {tags[0].text} is for this system")


def _label(facts: Facts) -> Iterator[Finding]:
    here = facts.installation
    if here.build_problem is not None:
        yield finding("build-info-damaged", "error", here.build_problem, "", reinstall(facts))
    label = here.distribution.label if here.distribution else None
    build = here.build
    if build is None:
        return
    if label is not None and label.split(".")[0] == "auto":
        yield finding(
            "label-auto",
            "note",
            f"the installer chose this wheel among those of `auto`: it is the {build.backend} one",
        )
    elif label is not None and facts.published.named(label) is None:
        yield finding(
            "label-unknown",
            "note",
            f"the version label {label} is no published backend: a wheel of somebody's own "
            f"(the build says {build.backend})",
        )
    elif label is not None and build.backend not in {label.split(".")[0], "source"}:
        yield finding(
            "label-mismatch",
            "error",
            f"the version label says {label}, but the files are the {build.backend} build",
            "remove it and install it again",
            reinstall(facts),
        )
    if build.prebuilt:
        yield finding(
            "wraps-prebuilt",
            "note",
            "this package wraps libraries that were built elsewhere (LLAMA_CPP_PREBUILT); its "
            "headers fitted when it was made",
        )
    if build.backend == "source" and not build.prebuilt:
        best = choose(facts.system, facts.accelerators, facts.published)
        if best.backend is not None:
            yield finding(
                "prebuilt-exists",
                "note",
                f"this package was compiled here; {best.backend} is made for this machine ({best.why})",
                "to go back to a finished wheel:",
                switch(facts, best.backend),
            )


def _options(facts: Facts) -> Iterator[Finding]:
    here = facts.installation
    wanted = cmake_arguments(facts.environment.get("CMAKE_ARGS", "")).definitions
    for old, new in _RENAMED.items():
        if old in wanted:
            yield finding(
                "option-renamed",
                "note",
                f"CMAKE_ARGS says {old}, which is now called {new}",
                f"write -D{new}={wanted[old]}",
            )
    if here.build is not None and wanted:
        if here.build.backend == "source":
            stale = _differences(here.build.defines, wanted)
            if stale:
                yield finding(
                    "stale-build",
                    "warning",
                    f"CMAKE_ARGS asks for {', '.join(stale)}: an older build came out of a cache",
                    "compile it again, past the cache",
                    rebuild(facts),
                )
        else:
            yield finding(
                "cmake-args-unused",
                "note",
                f"CMAKE_ARGS is set, but this is the finished {here.build.backend} wheel: nothing "
                "was compiled",
                "take CMAKE_ARGS out, or choose another backend",
            )
    for name, cure in _UNUSED.items():
        if name in facts.environment:
            yield finding("variable-unused", "note", f"{name} is set, and nothing reads it", cure)
    if here.library_path is not None:
        yield finding(
            "library-path-set",
            "note",
            f"LLAMA_CPP_LIB_PATH={here.library_path} replaces the package's own libraries",
            "unset it to use those of the package",
        )


def _differences(defines: dict[str, str], wanted: dict[str, str]) -> list[str]:
    found = []
    for name, value in wanted.items():
        name = _RENAMED.get(name, name)  # noqa: PLW2901 - its name of today
        if not _RECORDED.match(name):
            continue
        built = defines.get(name)
        if _plain(built or "OFF") != _plain(value):
            found.append(f"{name}={value}, the build has {built or 'not set it'}")
    return found


def _plain(value: str) -> str:
    upper = value.upper()
    return "ON" if upper in _TRUE else "OFF" if upper in _FALSE else value


def _libraries(facts: Facts) -> Iterator[Finding]:
    trial = facts.trial
    if trial.problem is None:
        variant = trial.cpu_variant or "without CPU variants"
        words = f"llama.cpp {trial.llama_cpp} loads; CPU code: {variant}"
        yield finding("libraries-load", "ok", words)
        return
    if trial.crashed:
        yield finding(
            "libraries-crash",
            "error",
            f"loading the libraries ended the process: {trial.problem}",
            "a GPU driver that is broken or half updated does that: restart the machine; else "
            "install the CPU wheel and report this",
            switch(facts, "cpu"),
        )
    elif facts.installation.library_path is not None:
        yield finding("libraries-broken", "error", trial.problem)
    elif "libraries are missing" in trial.problem:
        level = "error" if facts.installation.distribution is not None else "note"
        own = facts.installation.distribution
        steps = reinstall(facts) if own is not None else ()
        yield finding("libraries-missing", level, trial.problem, "", steps)
    else:
        yield finding("libraries-broken", "error", trial.problem, "", reinstall(facts))


def _model(facts: Facts) -> Iterator[Finding]:
    model = facts.model
    if model is None:
        return
    name = Path(model.path).name
    build = facts.installation.build
    version = (build.llama_cpp_version if build else None) or facts.trial.llama_cpp or "?"
    if model.problem is not None:
        yield finding("model-unreadable", "error", model.problem)
    elif model.known:
        yield finding(
            "model-known",
            "ok",
            f"{name} is a {model.architecture}: this llama.cpp ({version}) knows it",
        )
    else:
        yield finding(
            "model-too-new",
            "error",
            f"{name} is a {model.architecture}, which this llama.cpp ({version}) does not know",
            "upgrade the package to a version with a newer llama.cpp",
        )
