"""Modules made of modules in a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from .._arguments import integer, several, shown
from ..errors import message
from ._module import Module

__all__ = ["ModuleList", "Sequential"]


class _Row(Module):
    """Modules under the names "0", "1", ... or given ones."""

    @classmethod
    def _of(cls, modules: list[Module]) -> Any:
        raise NotImplementedError

    def _items(self) -> list[Module]:
        return [value for value in self.__dict__.values() if isinstance(value, Module)]

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)._of(self._items()[index])
        items = self._items()
        return items[self._place(index, items)]

    def _place(self, index: Any, items: Any) -> int:
        """The index, which must be that of an item."""
        index = integer(type(self).__name__, "index", index)
        if not -len(items) <= index < len(items):
            raise IndexError(message(type(self).__name__, "index", f"below {len(items)}", shown(index)))
        return index

    def __setitem__(self, index: Any, module: Any) -> None:
        names = [name for name, value in self.__dict__.items() if isinstance(value, Module)]
        setattr(self, names[self._place(index, names)], _checked(self, module))

    def append(self, module: Any) -> Self:
        """Adds a module at the end."""
        setattr(self, str(len(self)), _checked(self, module))
        return self

    def extend(self, modules: Any) -> Self:
        """Adds modules at the end."""
        name = "modules"
        for module in several(type(self).__name__, name, modules, "Modules", lambda one: _checked(self, one, name)):
            self.append(module)
        return self


class Sequential(_Row):
    """Modules of which each gets the result of the one before.

    Args:
        modules: Modules in order, or one dict of name to Module.

    Raises:
        TypeError: no Module; KeyError: a name with a dot, or of an attribute that is there.

    Example:
        >>> import seqcore
        >>> net = seqcore.nn.Sequential(seqcore.nn.Linear(3, 2), seqcore.nn.Tanh())
        >>> net([[1.0, 2.0, 3.0]]).shape
        (1, 2)
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, _checked(self, module))
        else:
            self.extend(modules)

    @classmethod
    def _of(cls, modules: Any) -> Any:
        return cls(*modules)

    def forward(self, input: Any) -> Any:
        """The input through every module in turn."""
        for module in self._items():
            input = module(input)
        return input


class ModuleList(_Row):
    """A list of modules whose parameters are found.

    Args:
        modules: an iterable of Modules.

    Raises:
        TypeError: no iterable, or no Modules.

    Example:
        >>> import seqcore
        >>> len(list(seqcore.nn.ModuleList([seqcore.nn.Linear(2, 2)]).parameters()))
        2
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    @classmethod
    def _of(cls, modules: Any) -> Any:
        return cls(modules)


def _checked(row: Any, module: Any, name: str = "module") -> Module:
    if not isinstance(module, Module):
        raise TypeError(message(type(row).__name__, name, "a Module", type(module).__name__))
    return module
