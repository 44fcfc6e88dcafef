"""Products: matmul of Tensors, and linear, y = x W^T + b."""

from __future__ import annotations

import math
from typing import Any

from .. import _core
from ..errors import ShapeError, message
from ._elementwise import both
from ._shape import expand, viewed
from ._tape import is_recording, records
from ._tensor import Saved, Tensor, leaves, record, shape_of, wrap

__all__ = ["linear", "matmul"]


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """y = x W^T + b.

    Args:
        input: x (..., in_features), an array or Tensor; weight: (out_features, in_features); bias: (out_features,)
            or None.

    Raises:
        ShapeError, DTypeError, DeviceError: the arguments do not fit each other.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.linear([[1.0, 2.0]], [[3.0, 4.0]], [0.5]).item()
        11.5
    """
    x = input
    inputs = (x, weight) if bias is None else (x, weight, bias)
    needs = [isinstance(t, Tensor) and t._requires_grad for t in inputs]
    if not (any(needs) and is_recording()):
        return wrap(_core.linear(x, weight, bias, "input")[0])
    need_x, need_weight, need_bias = needs[0], needs[1], len(needs) > 2 and needs[2]
    # x for the weight's gradient, the weight for that of x
    y, kept_x, kept_weight = _core.linear(x, weight, bias, "input", need_weight, need_x)
    count = len(inputs)

    def run(dy: Any) -> Any:
        x = kept_x.get("linear") if kept_x else None
        weight = kept_weight.get("linear") if kept_weight else None
        return _core.linear_backward(x, weight, dy, need_bias)[:count]

    return record("linear", y, leaves(inputs), run)


def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product: of 2-D arrays; with 1-D ones as NumPy; leading axes broadcast.

    Args:
        a: (..., m, k) or (k,); b: (..., k, n) or (k,); Tensors or arrays, float32 or float64.

    Raises:
        ShapeError: a 0-d operand, or sizes that do not fit; DTypeError: integers.

    Example:
        >>> import seqcore
        >>> seqcore.matmul([[1.0, 2.0]], [3.0, 4.0]).item()
        11.0
    """
    # arrays are copied when they are known to fit; what has no shape yet is small
    shapes = shape_of(a), shape_of(b)
    if shapes[0] is not None and shapes[1] is not None:
        _check_inner(shapes[0], shapes[1])
    a, b = both("matmul", a, b)
    _check_inner(a.shape, b.shape)
    row, column = a.ndim == 1, b.ndim == 1
    if row:
        a = viewed(a, (1, a.shape[0]))
    if column:
        b = viewed(b, (b.shape[0], 1))
    lead = a.shape[:-2]
    if b.ndim == 2 and lead:
        y = _product(viewed(a, (math.prod(a.shape[:-1]), a.shape[-1])), b)
        y = viewed(y, (*a.shape[:-1], b.shape[-1]))
    else:
        lead = _broadcast(a.shape[:-2], b.shape[:-2])
        y = _product(expand("matmul", a, lead + a.shape[-2:]), expand("matmul", b, lead + b.shape[-2:]))
    if row:
        y = viewed(y, (*y.shape[:-2], y.shape[-1]))
    return viewed(y, y.shape[:-1]) if column else y


def _check_inner(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if not a or not b:
        raise ShapeError(message("matmul", "b" if a else "a", "at least one axis", "shape ()"))
    if a[-1] != b[0 if len(b) == 1 else -2]:
        raise ShapeError(message("matmul", "b", f"{a[-1]} rows to match a of shape {a}", b))


def _product(a: Any, b: Any) -> Tensor:
    if not records(a, b):
        return wrap(_core.matmul(a, b))
    needs = a._requires_grad, b._requires_grad
    kept_a, kept_b = Saved(a._array) if needs[1] else None, Saved(b._array) if needs[0] else None
    y = _core.matmul(a, b)

    def run(dy: Any) -> Any:
        return (
            _core.matmul(dy, kept_b.get("matmul"), transpose_b=True) if kept_b else None,
            _core.matmul(kept_a.get("matmul"), dy, transpose_a=True) if kept_a else None,
        )

    return record("matmul", y, (a, b), run)


def _broadcast(a: Any, b: Any) -> tuple[int, ...]:
    lead = [1] * (max(len(a), len(b)))
    for shape in (a, b):
        for i, n in enumerate(reversed(shape), 1):
            if n != 1 and lead[-i] not in (1, n):
                raise ShapeError(message("matmul", "b", f"leading axes that broadcast with {a}", b))
            lead[-i] = lead[-i] if n == 1 else n
    return tuple(lead)
