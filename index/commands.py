"""The documented commands of each tool: data of the binding, read here and filled in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Annotated, Final, Literal

from packaging.version import Version
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ci.errors import TableError
from index.problems import told

# Read as a file: the index never imports the binding.
COMMANDS_PATH: Final = Path(__file__).resolve().parents[1] / "llama_cpp" / "_commands.json"

_STRICT: Final = ConfigDict(extra="forbid", strict=True)
_CPU: Final = "cpu"

Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Values:
    """What a text is filled in with.

    ``index`` and ``cpu_index`` are addresses that end in ``/``. ``version`` has no label;
    ``label`` is the version label, which is the backend's name or, for a respin, that and a
    number (``cu128.1``).
    """

    index: str
    cpu_index: str
    backend: str
    version: str
    label: str


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Step:
    """One thing to do: a command to run, or a text to put into the file ``path``."""

    kind: Literal["command", "file"]
    text: Text
    path: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> Step:
        if (self.kind == "file") != (self.path is not None):
            raise ValueError("a file has a path, a command has none")
        template = Template(self.text)
        unknown = set(template.get_identifiers()) - set(Values.__dataclass_fields__)
        if not template.is_valid() or unknown:
            raise ValueError(
                f"placeholders are ${', $'.join(Values.__dataclass_fields__)}; a plain dollar is $$"
            )
        return self

    def filled(self, values: Values) -> str:
        """Return the text with ``values`` put in."""
        return Template(self.text).substitute(asdict(values))


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Tool:
    """What to do with one installer, in order."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    title: Text
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]

    @property
    def besides_cpu(self) -> bool:
        """Whether it sets up the CPU's index beside the chosen one, to switch between them."""
        return any("cpu_index" in Template(step.text).get_identifiers() for step in self.steps)

    def fits(self, backend: str) -> bool:
        """Whether it can be used with a backend: the CPU beside itself is nothing to choose."""
        return not (self.besides_cpu and backend == _CPU)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Commands:
    """The commands of every tool, in the order in which they are offered."""

    schema: Literal[1]
    tools: Annotated[tuple[Tool, ...], Field(min_length=1)]

    def tool(self, name: str) -> Tool:
        """Return the tool whose id is ``name``.

        Raises:
            TableError: There is none; the message lists those that there are.
        """
        for tool in self.tools:
            if tool.id == name:
                return tool
        known = ", ".join(tool.id for tool in self.tools)
        raise TableError(f"{COMMANDS_PATH.name}: no tool {name!r}", cure=f"the tools are: {known}")


_PARSER: Final = TypeAdapter(Commands)


def load_commands(path: Path = COMMANDS_PATH) -> Commands:
    """Read and check the commands.

    Raises:
        TableError: The file is missing, no JSON, has an unknown or missing key, an unknown
            placeholder, or one tool twice.
    """
    cure = f"mend {path.name}; the keys are the fields of the classes in index/commands.py"
    try:
        commands = _PARSER.validate_json(path.read_bytes())
    except OSError as error:
        raise TableError(f"{path}: {error.strerror}", cure=cure) from error
    except ValidationError as error:
        raise TableError(f"{path}: {told(error, whole='file')}", cure=cure) from error
    names = [tool.id for tool in commands.tools]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(f"{path}: {', '.join(twice)} is there twice", cure=cure)
    return commands


def values_of(version: str, *, backend: str, root: str) -> Values:
    """Return what the texts are filled in with for a version such as ``0.3.100+cu128``.

    ``root`` is the address of the site and ends in ``/``.
    """
    parsed = Version(version)
    return Values(
        index=index_url(root, backend),
        cpu_index=index_url(root, _CPU),
        backend=backend,
        version=parsed.public,
        label=parsed.local or backend,
    )


def index_url(root: str, backend: str) -> str:
    """Return the address of a backend's index in the site at ``root``."""
    return f"{root}whl/{backend}/"
