"""Activations, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ._saved import Saved, arrays_only, out, take

__all__ = ["relu", "relu_backward", "sigmoid", "sigmoid_backward", "tanh", "tanh_backward"]


def _forward(function: Any, x: Any) -> tuple[np.ndarray, Saved]:
    arrays_only(function, x=x)
    y = _core.activation(function, x)
    # a copy: the caller may write into the y that it gets
    return out(y), Saved(function, y.to("cpu"))


def _backward(function: Any, saved: Any, dy: Any) -> dict[str, np.ndarray]:
    with take(saved, function) as (y,):
        arrays_only(f"{function}_backward", dy=dy)
        return {"x": out(_core.activation_backward(function, y, dy))}


def sigmoid(x: Any) -> tuple[np.ndarray, Saved]:
    """1 / (1 + exp(-x)), and what its backward needs.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.sigmoid([0.0])
        >>> ops.sigmoid_backward(saved, [1.0])["x"]
        array([0.25], dtype=float32)
    """
    return _forward("sigmoid", x)


def sigmoid_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """A dict of the gradient `x`."""
    return _backward("sigmoid", saved, dy)


def tanh(x: Any) -> tuple[np.ndarray, Saved]:
    """The hyperbolic tangent, and what its backward needs.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.tanh([0.0])
        >>> ops.tanh_backward(saved, [2.0])["x"]
        array([2.], dtype=float32)
    """
    return _forward("tanh", x)


def tanh_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """A dict of the gradient `x`."""
    return _backward("tanh", saved, dy)


def relu(x: Any) -> tuple[np.ndarray, Saved]:
    """The larger of 0 and x, and what its backward needs; the slope at 0 is 0.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.relu([-1.0, 2.0])
        >>> ops.relu_backward(saved, [1.0, 1.0])["x"]
        array([0., 1.], dtype=float32)
    """
    return _forward("relu", x)


def relu_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """A dict of the gradient `x`."""
    return _backward("relu", saved, dy)
