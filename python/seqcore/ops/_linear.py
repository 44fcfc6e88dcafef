"""Linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ._saved import Saved, arrays_only, out, take

__all__ = ["linear", "linear_backward"]


def linear(x: Any, weight: Any, bias: Any = None) -> tuple[np.ndarray, Saved]:
    """y = x W^T + b, and what its backward needs.

    Args:
        x: (..., in_features), float32 or float64; weight: (out_features, in_features); bias: (out_features,) or None;
            all of one dtype.

    Returns:
        y (..., out_features) and `saved` for `linear_backward`.

    Raises:
        ShapeError, DTypeError: the arguments do not fit each other; DeviceError: one is a Tensor on a GPU.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.linear([[1.0, 2.0]], [[3.0, 4.0]])
        >>> y
        array([[11.]], dtype=float32)
    """
    arrays_only("linear", x=x, weight=weight, bias=bias)
    y, kept_x, kept_weight = _core.linear(x, weight, bias, "x", True, True)
    return out(y), Saved("linear", kept_x, kept_weight, bias is not None)


def linear_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """dx = dy W, dW = dy^T x, db = the sum of dy over all axes but the last.

    Args:
        saved: what `linear` gave; it can be used once. dy: (..., out_features), the gradient of y, of its dtype.

    Returns:
        a dict of new arrays: `x` (..., in_features), `weight` (out_features, in_features) and, where there was one,
        `bias` (out_features,).

    Raises:
        ShapeError, DTypeError: dy is not as y; DeviceError: it is a Tensor on a GPU; TypeError: `saved` is not of
            `linear`; RuntimeError: it was used before, or a Tensor that was given has changed since.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.linear([[1.0, 2.0]], [[3.0, 4.0]])
        >>> ops.linear_backward(saved, [[1.0]])
        {'x': array([[3., 4.]], dtype=float32), 'weight': array([[1., 2.]], dtype=float32)}
    """
    with take(saved, "linear") as (x, weight, has_bias):
        arrays_only("linear_backward", dy=dy)
        dx, dw, db = _core.linear_backward(x.get("linear"), weight.get("linear"), dy, has_bias)
        grads = {"x": out(dx), "weight": out(dw)}
        return {**grads, "bias": out(db)} if has_bias else grads
