"""Dropout: a mask that is a function of the random state and the position alone."""

from __future__ import annotations

from typing import Any

from .. import _core, runtime
from ..errors import message
from ._tape import records
from ._tensor import Tensor, record, wrap

__all__ = ["check_probability", "dropout"]


def check_probability(op: str, p: Any, name: str = "p") -> float:
    """p as a float; TypeError for a bool or no number, ValueError outside [0, 1]."""
    if isinstance(p, bool) or (not hasattr(p, "__float__") and not hasattr(p, "__index__")):
        raise TypeError(message(op, name, "a number", type(p).__name__))
    p = float(p)
    if not 0.0 <= p <= 1.0:
        raise ValueError(message(op, name, "a probability from 0 to 1", p))
    return p


def dropout(x: Any, p: Any) -> Tensor:
    """Each element 0 with probability p, the others times 1/(1-p); a new mask at every call.

    Args:
        x: an array or Tensor; p: from 0 to 1.
    """
    p = check_probability("dropout", p)
    seed, stream = runtime.draw()
    y = _core.dropout(x, p, seed, stream)
    if not records(x):
        return wrap(y)
    return record("dropout", y, (x,), lambda dy: (_core.dropout(dy, p, seed, stream),))
