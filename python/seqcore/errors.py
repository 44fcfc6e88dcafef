"""The exceptions that seqcore raises of its own, and the one sentence form of their messages.

Everything derives from `SeqcoreError` and from the standard exception that fits, so that both
`except seqcore.ShapeError` and `except ValueError` catch a wrong size. Beside these: ids out of range are
IndexError, names of a state_dict RuntimeError, sizes that do not fit into memory MemoryError, wrong option values
ValueError, wrong Python types TypeError, options that are named but not built NotImplementedError.
"""

from __future__ import annotations

from typing import Any

from ._core import CheckpointError as CheckpointError
from ._core import DeviceError as DeviceError
from ._core import DeviceLostError as DeviceLostError
from ._core import DTypeError as DTypeError
from ._core import InternalError as InternalError
from ._core import SeqcoreError as SeqcoreError
from ._core import ShapeError as ShapeError

__all__ = [
    "CheckpointError",
    "DTypeError",
    "DeviceError",
    "DeviceLostError",
    "InternalError",
    "SeqcoreError",
    "ShapeError",
    "message",
]


def message(op: str, argument: str, expected: Any, got: Any, hint: str | None = None) -> str:
    """The template of every message: `op: argument: expected this, got that. Hint: one thing to do.`

    Args:
        op, argument: which operation found it wrong, and what; expected, got: anything that can be printed.
        hint: a sentence, or None.

    Example:
        >>> from seqcore.errors import message
        >>> message("linear", "x", "(..., 3)", (2, 4))
        'linear: x: expected (..., 3), got (2, 4).'
    """
    text = closed(f"{op}: {argument}: expected {expected}, got {got}")
    return f"{text} Hint: {closed(hint)}" if hint else text


def closed(text: str) -> str:
    """A sentence with its end."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
