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

    Args:
        x: an array of any shape, float32 or float64; p: from 0 to 1.

    Returns:
        y, of the shape and dtype of x, and `saved` for `dropout_backward`.

    Raises:
        DTypeError: x is of another dtype; DeviceError: it is a Tensor on a GPU; TypeError, ValueError: p is no number
            from 0 to 1.

    Source: Srivastava et al. 2014.

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
    """dx = dy under the mask of the call: 0 where x was dropped, else times 1/(1-p).

    Args:
        saved: what `dropout` gave; it can be used once. dy: the gradient of y, of its shape and dtype.

    Returns:
        a dict of one new array, `x`, of the same shape and dtype.

    Raises:
        ShapeError, DTypeError: dy is not as y; DeviceError: it is a Tensor on a GPU; TypeError: `saved` is not of
            `dropout`; RuntimeError: it was used before.

    Example:
        >>> import numpy as np
        >>> from seqcore import ops
        >>> ones = np.ones(8)
        >>> y, saved = ops.dropout(ones, 0.5)
        >>> bool((ops.dropout_backward(saved, ones)["x"] == y).all())
        True
    """
    with take(saved, "dropout") as (p, seed, stream, shape, dtype):
        dy = gradient("dropout_backward", "dy", dy, shape, dtype)
        return {"x": out(_core.dropout(dy, p, seed, stream))}
