"""Checks of layers' options: wrong types TypeError, wrong values ValueError."""

from __future__ import annotations

import operator
from typing import Any

from ..errors import message

__all__ = ["flag", "not_built", "size"]


def size(layer: str, name: str, value: Any, at_least: Any = 1) -> int:
    """A whole number from `at_least` up, as an int."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(message(layer, name, "an integer", f"{value!r}"))
    value = operator.index(value)
    if value < at_least:
        raise ValueError(message(layer, name, f"at least {at_least}", value))
    return value


def flag(layer: str, name: str, value: Any) -> bool:
    """A bool."""
    if not isinstance(value, bool):
        raise TypeError(message(layer, name, "True or False", repr(value)))
    return value


def not_built(layer: str, name: str, value: Any, default: Any) -> None:
    """NotImplementedError for an option that PyTorch has and this version lacks."""
    if value is not default and value != default:
        raise NotImplementedError(message(layer, name, f"{default!r}, the rest is not built yet", repr(value)))
