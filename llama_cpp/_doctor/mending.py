"""The commands that mend something, for the tool that the user installs with. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_cpp._doctor.backends import Step, install_steps

if TYPE_CHECKING:
    from llama_cpp._doctor.facts import Facts

_NAME = "llama-cpp-python"
_ADD = {
    "uv": "uv add {}",
    "uv-pip": "uv pip install {}",
    "pip": "pip install {}",
    "poetry": "poetry add {}",
    "pdm": "pdm add {}",
}


def switch(facts: Facts, backend: str) -> tuple[Step, ...]:
    """Return what switches the installed package to a backend."""
    return install_steps(facts.project.tool, backend, facts.published.site)


def reinstall(facts: Facts) -> tuple[Step, ...]:
    """Return what installs the same package again, over whatever is there."""
    own = facts.installation.distribution
    known = facts.published.named(own.label if own else None)
    from_source = own is not None and own.url is not None and not own.url.endswith(".whl")
    if known is None or from_source:
        return rebuild(facts)
    first = {"pip": f"pip uninstall -y {_NAME}", "uv-pip": f"uv pip uninstall {_NAME}"}
    # uv, poetry and pdm compare versions and would leave the damaged files
    again = {
        "uv": f"uv sync --reinstall-package {_NAME}",
        "poetry": f"poetry run python -m pip uninstall -y {_NAME}",
        "pdm": "pdm sync --reinstall",
    }
    tool = facts.project.tool
    if tool in first:
        return (Step("command", first[tool]), *switch(facts, known.name))
    if tool == "poetry":
        return (Step("command", again[tool]), Step("command", "poetry sync"))
    return (Step("command", again[tool]),)


def rebuild(facts: Facts) -> tuple[Step, ...]:
    """Return what compiles the package again, past the caches of built wheels."""
    own = facts.installation.distribution
    named = f'"{_NAME}=={facts.installation.version}"'
    source = f'"{own.url}"' if own is not None and own.url is not None else named
    if own is not None and own.editable:
        source = f'-e "{own.url}"'
    tool = facts.project.tool
    if tool == "uv":
        commands: tuple[str, ...] = (
            f"uv cache clean {_NAME}",
            f"uv sync --reinstall-package {_NAME}",
        )
    elif tool == "uv-pip":
        commands = (
            f"uv cache clean {_NAME}",
            f"uv pip install --reinstall-package {_NAME} --no-binary {_NAME} {source}",
        )
    else:
        python = "" if tool == "pip" else f'--python "{facts.system.executable}" '
        past_the_cache = f"--no-cache-dir --force-reinstall --no-deps --no-binary {_NAME}"
        commands = (f"pip {python}install {past_the_cache} {source}",)
    return tuple(Step("command", command) for command in commands)


def add(facts: Facts, *packages: str) -> tuple[Step, ...]:
    """Return what installs more packages."""
    quoted = " ".join(f'"{package}"' for package in packages)
    return (Step("command", _ADD[facts.project.tool].format(quoted)),) if packages else ()
