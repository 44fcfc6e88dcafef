"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core, runtime
from .._arguments import probability
from ._saved import Saved, arrays_only, gradient, out, take

__all__ = ["dropout", "dropout_backward"]


def dropout(x: Any, p: float = 0.5) -> tuple[np.ndarray, Saved]:
    """Each element 0 with probability p, the others times 1/(1-p), and what its backward needs.

    The mask is a function of the random state (`seqcore.manual_seed`) and the position alone.

    Raises:
        TypeError, ValueError: p is no number from 0 to 1.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.dropout([1.0, 2.0], 0.0)
        >>> y
        array([1., 2.], dtype=float32)
    """
    arrays_only("dropout", x=x)
    p = probability("dropout", "p", p)
    seed, stream = runtime.draw()
    y = _core.dropout(x, p, seed, stream)
    return out(y), Saved("dropout", p, seed, stream, y.shape, y.dtype)


def dropout_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """A dict of the gradient `x`: dy under the same mask."""
    with take(saved, "dropout") as (p, seed, stream, shape, dtype):
        dy = gradient("dropout_backward", "dy", dy, shape, dtype)
        return {"x": out(_core.dropout(dy, p, seed, stream))}
