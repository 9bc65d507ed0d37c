"""Modules whose names are resolved when they are asked for, one by one or all at once."""

from __future__ import annotations

from types import ModuleType
from typing import Any, cast


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
        return cast("list[str]", super().__dict__["__dir__"]())
