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
    """1 / (1 + exp(-x)), element by element, and what its backward needs.

    Args:
        x: an array of any shape, float32 or float64.

    Returns:
        y, of the shape and dtype of x, and `saved` for `sigmoid_backward`.

    Raises:
        DTypeError: x is of another dtype; DeviceError: it is a Tensor on a GPU.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.sigmoid([0.0])
        >>> y
        array([0.5], dtype=float32)
    """
    return _forward("sigmoid", x)


def sigmoid_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """dx = dy y (1 - y), for y = sigmoid(x).

    Args:
        saved: what `sigmoid` gave; it can be used once. dy: the gradient of y, of its shape and dtype.

    Returns:
        a dict of one new array, `x`, of the same shape and dtype.

    Raises:
        ShapeError, DTypeError: dy is not as y; DeviceError: it is a Tensor on a GPU; TypeError: `saved` is not of
            `sigmoid`; RuntimeError: it was used before.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.sigmoid([0.0])
        >>> ops.sigmoid_backward(saved, [1.0])["x"]
        array([0.25], dtype=float32)
    """
    return _backward("sigmoid", saved, dy)


def tanh(x: Any) -> tuple[np.ndarray, Saved]:
    """The hyperbolic tangent, element by element, and what its backward needs.

    Args:
        x: an array of any shape, float32 or float64.

    Returns:
        y, of the shape and dtype of x, and `saved` for `tanh_backward`.

    Raises:
        DTypeError: x is of another dtype; DeviceError: it is a Tensor on a GPU.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.tanh([0.0])
        >>> y
        array([0.], dtype=float32)
    """
    return _forward("tanh", x)


def tanh_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """dx = dy (1 - y^2), for y = tanh(x).

    Args:
        saved: what `tanh` gave; it can be used once. dy: the gradient of y, of its shape and dtype.

    Returns:
        a dict of one new array, `x`, of the same shape and dtype.

    Raises:
        ShapeError, DTypeError: dy is not as y; DeviceError: it is a Tensor on a GPU; TypeError: `saved` is not of
            `tanh`; RuntimeError: it was used before.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.tanh([0.0])
        >>> ops.tanh_backward(saved, [2.0])["x"]
        array([2.], dtype=float32)
    """
    return _backward("tanh", saved, dy)


def relu(x: Any) -> tuple[np.ndarray, Saved]:
    """The larger of 0 and x, element by element, and what its backward needs; NaN stays NaN.

    Args:
        x: an array of any shape, float32 or float64.

    Returns:
        y, of the shape and dtype of x, and `saved` for `relu_backward`.

    Raises:
        DTypeError: x is of another dtype; DeviceError: it is a Tensor on a GPU.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.relu([-1.0, 2.0])
        >>> y
        array([0., 2.], dtype=float32)
    """
    return _forward("relu", x)


def relu_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """dx = 0 where y <= 0, else dy, for y = relu(x): the slope at 0 is 0.

    Args:
        saved: what `relu` gave; it can be used once. dy: the gradient of y, of its shape and dtype.

    Returns:
        a dict of one new array, `x`, of the same shape and dtype.

    Raises:
        ShapeError, DTypeError: dy is not as y; DeviceError: it is a Tensor on a GPU; TypeError: `saved` is not of
            `relu`; RuntimeError: it was used before.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.relu([-1.0, 2.0])
        >>> ops.relu_backward(saved, [1.0, 1.0])["x"]
        array([0., 1.], dtype=float32)
    """
    return _backward("relu", saved, dy)
