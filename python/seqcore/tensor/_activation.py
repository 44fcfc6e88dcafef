"""sigmoid, tanh, relu; their slopes are computed from their own results."""

from __future__ import annotations

from typing import Any

from .. import _core
from ._tape import records
from ._tensor import Saved, Tensor, record, wrap

__all__ = ["relu", "sigmoid", "tanh"]


def _apply(function: Any, x: Any) -> Tensor:
    y = _core.activation(function, x, "input")
    if not records(x):
        return wrap(y)
    kept = Saved(y)
    return record(function, y, (x,), lambda dy: (_core.activation_backward(function, kept.get(function), dy),))


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-input)), element by element.

    Args:
        input: a Tensor or an array of any shape, float32 or float64.

    Returns:
        a new Tensor of the shape, dtype and device of the input.

    Raises:
        DTypeError: the input is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.sigmoid([0.0])
        Tensor([0.5])
    """
    return _apply("sigmoid", input)


def tanh(input: Any) -> Tensor:
    """The hyperbolic tangent, element by element.

    Args:
        input: a Tensor or an array of any shape, float32 or float64.

    Returns:
        a new Tensor of the shape, dtype and device of the input.

    Raises:
        DTypeError: the input is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.tanh([0.0])
        Tensor([0.])
    """
    return _apply("tanh", input)


def relu(input: Any) -> Tensor:
    """The larger of 0 and the input; NaN stays NaN, and the slope at 0 is 0.

    Args:
        input: a Tensor or an array of any shape, float32 or float64.

    Returns:
        a new Tensor of the shape, dtype and device of the input.

    Raises:
        DTypeError: the input is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.relu([-1.0, 2.0])
        Tensor([0., 2.])
    """
    return _apply("relu", input)
