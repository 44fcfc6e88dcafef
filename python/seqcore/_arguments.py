"""Checks of arguments that are no arrays: wrong types TypeError, wrong values ValueError, by the one template."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .errors import message

__all__ = [
    "choice",
    "flag",
    "function",
    "integer",
    "no_room",
    "not_built",
    "number",
    "path",
    "probability",
    "real",
    "several",
    "shown",
    "shown_shape",
    "text",
]

_REFERENCE = np.dtype(object).itemsize


def shown(value: Any) -> str:
    """A value as a message may show it: itself where that is short, else its beginning or what it is."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print some of them
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= 60 else f"{value[:60]!r}..."
    if value is None or isinstance(value, (int, float, complex, np.generic)):
        text = repr(value)
        if len(text) <= 80:
            return text
    return f"an object of type {type(value).__name__}"


def shown_shape(sizes: Any) -> str:
    """A shape of any integers, also of those that Python refuses to print."""
    return f"({', '.join(map(shown, sizes))}{',' * (len(sizes) == 1)})"


def _is_masked(value: Any) -> bool:
    """Whether it is a number of which NumPy would give the hidden value, or NaN."""
    return isinstance(value, np.ndarray) and bool(np.ma.is_masked(value))


def flag(op: str, name: str, value: Any) -> bool:
    """A bool: Python's, NumPy's, or one of the integers 0 and 1."""
    if isinstance(value, np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(message(op, name, "True or False", shown(value)))


def integer(op: str, name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """A whole number from `low` to `high`, as an int."""
    try:
        if isinstance(value, (bool, np.bool_)) or _is_masked(value):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(message(op, name, "an integer", shown(value))) from None
    if (low is not None and number < low) or (high is not None and number > high):
        wanted = f"at least {low}" + ("" if high is None else f" and at most {high}")
        raise ValueError(message(op, name, wanted, shown(number)))
    return number


def real(op: str, name: str, value: Any) -> float:
    """A real number, as a float."""
    try:
        kind = getattr(getattr(value, "dtype", None), "kind", "f")
        if isinstance(value, (bool, str, bytes)) or getattr(value, "ndim", False) or kind not in "iuf":
            raise TypeError
        if _is_masked(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(message(op, name, "a number", shown(value))) from None
    except OverflowError:
        raise ValueError(message(op, name, "a number that a float can hold", shown(value))) from None


def number(op: str, name: str, value: Any, low: float = 0.0, high: Any = math.inf) -> float:
    """As `real`, a finite float in [low, high), or ValueError."""
    value = real(op, name, value)
    if not (low <= value < high and math.isfinite(value)):
        wanted = "a finite number" + (f" from {low:g}" if math.isfinite(low) else "")
        raise ValueError(message(op, name, wanted + (f" to below {high:g}" if math.isfinite(high) else ""), value))
    return value


def probability(op: str, name: str, value: Any) -> float:
    """A number from 0 to 1, as a float."""
    number = real(op, name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(message(op, name, "a probability from 0 to 1", number))
    return number


def choice(op: str, name: str, value: Any, *allowed: str) -> str:
    """One of some strings; ValueError, as PyTorch has it, for anything else."""
    if not (isinstance(value, str) and value in allowed):
        wanted = [f'"{one}"' for one in allowed]
        raise ValueError(message(op, name, f"{', '.join(wanted[:-1])} or {wanted[-1]}", shown(value)))
    return value


def text(op: str, name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise TypeError(message(op, name, "a string", shown(value)))
    return value


def function(op: str, name: str, value: Any) -> Any:
    """What can be called."""
    if not callable(value):
        raise TypeError(message(op, name, "a function", shown(value)))
    return value


def several(op: str, name: str, value: Any, of: str, check: Callable[[Any], Any]) -> list[Any]:
    """A list of what an iterable gives, each as `check` gives it, which refuses what is wrong; a string, memory
    or a mapping, whose keys alone would be taken, is none."""
    if (
        isinstance(value, (str, bytes, bytearray, memoryview, Mapping))
        or not hasattr(type(value), "__iter__")
        or getattr(value, "ndim", None) == 0
    ):
        raise TypeError(message(op, name, f"an iterable of {of}", shown(value)))
    try:
        try:
            # as many references as it says that it has: what cannot be listed is not begun
            bytes(_REFERENCE * operator.length_hint(value))
        except OverflowError:
            raise MemoryError from None
        # one by one: the first that is wrong ends it, however many there are, and so does Ctrl-C
        return [check(one) for one in value]
    except MemoryError:
        raise MemoryError(message(op, name, f"{of} that fit into memory", shown(value))) from None


def path(op: str, name: str, value: Any) -> str | bytes:
    """The name of a file."""
    try:
        found = os.fspath(value)
    except TypeError:
        raise TypeError(message(op, name, "a path", shown(value))) from None
    if ("\0" if isinstance(found, str) else b"\0") in found:
        raise ValueError(message(op, name, "a path without NUL", shown(found)))
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        raise ValueError(message(op, name, "a path that the file system can encode", shown(found))) from None
    return found


def no_room(op: str, what: str) -> MemoryError:
    """The error to raise where NumPy found no memory."""
    return MemoryError(message(op, "memory", f"room for {what}", "none", "let go of what is no longer needed"))


def not_built(op: str, name: str, value: Any, default: Any) -> None:
    """NotImplementedError for an option that PyTorch has and this version lacks."""
    plain = isinstance(value, (bool, int, float, np.generic))
    if value is not default and not (plain and default is not None and value == default):
        raise NotImplementedError(message(op, name, f"{default!r}, the rest is not built yet", shown(value)))
