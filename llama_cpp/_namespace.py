"""Modules whose names are resolved when they are asked for, one by one or all at once."""

from __future__ import annotations

import sys
from types import ModuleType

# importing typing takes longer than importing the package; type checkers know the name
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any


class Namespace(ModuleType):
    """A module with PEP 562's ``__getattr__`` and ``__dir__`` whose ``vars()`` is complete.

    A name that nobody has asked for yet is in no module's dictionary. Whoever reads the dictionary
    itself (``vars(module)``, ``from module import *``, a tool that lists an interface) asks for all
    of them: what ``__dir__`` names is resolved then, and not before.

    A module becomes one with ``sys.modules[__name__].__class__ = Namespace`` in its last line.
    """

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """The module's dictionary with every name resolved."""
        names = super().__dict__
        for name in names["__dir__"]():
            # C reads __annotations__ by way of __dict__, so what is there is not asked for again
            if name not in names:
                getattr(self, name)
        return names

    def __dir__(self) -> list[str]:
        """List the names, and resolve none of them."""
        names: list[str] = super().__dict__["__dir__"]()
        return names


class Later:
    """An attribute of a class whose module is imported when the attribute is first asked for."""

    def __init__(self, module: str) -> None:
        """Name the module of the package that holds it under the same name."""
        self._module = module

    def __set_name__(self, owner: type, name: str) -> None:
        """Learn whose it is."""
        self._owner, self._name = owner, name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Put what the module holds in the place of this."""
        import importlib  # noqa: PLC0415 - the same

        module = importlib.import_module(f"llama_cpp.{self._module}")
        setattr(self._owner, self._name, getattr(module, self._name))
        return getattr(owner if instance is None else instance, self._name)


def offer(module: str, homes: Collection[str]) -> None:
    """Let a module have the package's public names of other modules, resolved when asked for.

    Args:
        module: the module's ``__name__``; it has no ``__getattr__`` of its own.
        homes: the modules of the package whose public names it has, too.
    """
    package, target = sys.modules["llama_cpp"], sys.modules[module]
    own = vars(target)
    names = [name for name, home in package._HOMES.items() if home in homes]  # noqa: SLF001

    def resolve(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        own[name] = value = getattr(package, name)
        return value

    own["__getattr__"] = resolve
    own["__dir__"] = lambda: sorted({*own, *names})
    target.__class__ = Namespace
