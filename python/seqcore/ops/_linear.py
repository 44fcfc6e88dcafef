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
        x: (..., in_features); weight: (out_features, in_features); bias: (out_features,) or None.

    Returns:
        y (..., out_features) and `saved`.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.linear([[1.0, 2.0]], [[3.0, 4.0]])
        >>> ops.linear_backward(saved, [[1.0]])["x"]
        array([[3., 4.]], dtype=float32)
    """
    arrays_only("linear", x=x, weight=weight, bias=bias)
    y, kept_x, kept_weight = _core.linear(x, weight, bias, "x", True, True)
    return out(y), Saved("linear", kept_x, kept_weight, bias is not None)


def linear_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """A dict of the gradients `x`, `weight` and, where there was one, `bias`, from dy (..., out_features)."""
    with take(saved, "linear") as (x, weight, has_bias):
        arrays_only("linear_backward", dy=dy)
        dx, dw, db = _core.linear_backward(x.get("linear"), weight.get("linear"), dy, True, True, has_bias)
        grads = {"x": out(dx), "weight": out(dw)}
        return {**grads, "bias": out(db)} if has_bias else grads
