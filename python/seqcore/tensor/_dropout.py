"""Dropout: a mask that is a function of the random state and the position alone."""

from __future__ import annotations

from typing import Any

from .. import _core, runtime
from .._arguments import probability
from ._tape import records
from ._tensor import Tensor, record, wrap

__all__ = ["dropout"]


def dropout(x: Any, p: Any) -> Tensor:
    """Each element 0 with probability p, the others times 1/(1-p); a new mask at every call.

    Args:
        x: a Tensor or an array of any shape, float32 or float64; p: from 0 to 1.

    Raises:
        DTypeError: x is of another dtype; TypeError, ValueError: p is no number from 0 to 1.

    Example:
        >>> from seqcore import tensor
        >>> tensor.dropout([1.0, 2.0], 0.0)
        Tensor([1., 2.])
    """
    p = probability("dropout", "p", p)
    seed, stream = runtime.draw()
    y = _core.dropout(x, p, seed, stream, "input")
    if not records(x):
        return wrap(y)
    return record("dropout", y, (x,), lambda dy: (_core.dropout(dy, p, seed, stream),))
