"""Everything that the doctor knows about a machine, gathered once; what follows from it is pure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp._doctor.accelerators import Accelerators, accelerators
from llama_cpp._doctor.backends import Backends, backends
from llama_cpp._doctor.build_tools import BuildTools, build_tools
from llama_cpp._doctor.installation import Installation, Trial, installation, trial
from llama_cpp._doctor.model_file import knows_architecture, model_architecture
from llama_cpp._doctor.project import Project, current_project
from llama_cpp._doctor.system import System, system
from llama_cpp._errors import LlamaError
from llama_cpp._library import library_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

_VARIABLES = (
    "CC",
    "CMAKE_ARGS",
    "CUDACXX",
    "CUDAFLAGS",
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CXX",
    "FORCE_CMAKE",
    "GGML_CUDA",
    "LLAMA_CPP_LIB",
    "LLAMA_CPP_LIB_PATH",
    "LLAMA_CUBLAS",
    "SCB_LOCAL_VERSION",
)


class ModelFile(NamedTuple):
    """A model that the user asked about."""

    path: str
    architecture: str | None
    known: bool
    problem: str | None


class Facts(NamedTuple):
    """A machine, with what is installed on it."""

    system: System
    accelerators: Accelerators
    installation: Installation
    trial: Trial
    project: Project
    build_tools: BuildTools
    environment: Mapping[str, str]
    """The variables that matter here, and no others."""
    published: Backends
    model: ModelFile | None


def gather(model: Path | None = None, index: str | None = None) -> Facts:
    """Ask this machine; takes a second or two, needs no network, and raises nothing.

    Args:
        model: a GGUF file that the user wants to run.
        index: the site of the index, where it is another than the built-in one.
    """
    here = system()
    found = accelerators(here, os.environ)
    installed = installation()
    distribution = installed.distribution
    published = backends()
    return Facts(
        system=here,
        accelerators=found,
        installation=installed,
        trial=trial(),
        project=current_project(distribution.installer if distribution else None),
        build_tools=build_tools(os.environ, found.toolkits),
        environment={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        published=published._replace(site=index or published.site),
        model=None if model is None else _model_file(model),
    )


def _model_file(path: Path) -> ModelFile:
    try:
        architecture = model_architecture(path)
        known = knows_architecture(library_folder(), architecture)
    except (LlamaError, OSError) as error:
        return ModelFile(str(path), None, known=False, problem=str(error))
    return ModelFile(str(path), architecture, known=known, problem=None)
