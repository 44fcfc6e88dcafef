"""Sums and means over axes."""

from __future__ import annotations

import math
from typing import Any

from .. import _core
from .._arguments import flag
from ..errors import DTypeError, ShapeError, message
from ._elementwise import div
from ._shape import axis_of, repeated
from ._tape import records
from ._tensor import Tensor, record, wrap

__all__ = ["mean", "sum"]


def sum(
    x: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: Any = None,
    dtype: Any = None,
    out: Any = None,
) -> Tensor:
    """The sum over axes, added in an order that depends on the reduced length alone."""
    axes, keep = _axes("sum", x, dim, keepdim, axis, keepdims, dtype, out)
    return _summed(x, axes, keep)


def mean(
    x: Any,
    dim: Any = None,
    keepdim: bool = False,
    *,
    axis: Any = None,
    keepdims: Any = None,
    dtype: Any = None,
    out: Any = None,
) -> Tensor:
    """The sum over axes divided by the number of elements in each."""
    axes, keep = _axes("mean", x, dim, keepdim, axis, keepdims, dtype, out)
    if x._array.dtype == "int64":  # the sum would say so in its own name
        hint = 'a.to(dtype="float32") converts it'
        raise DTypeError(message("mean", "a", "float32 or float64", "int64", hint))
    count = math.prod(x._array.shape[i] for i in axes)
    return div(_summed(x, axes, keep), float(count))


def _summed(x: Any, axes: Any, keep: bool) -> Tensor:
    y = _core.sum(x, axes, keep)
    if not records(x):
        return wrap(y)
    shape = x._array.shape
    kept = [1 if i in axes else n for i, n in enumerate(shape)]
    return record("sum", y, (x,), lambda dy: (repeated(dy.reshape(kept), shape),))


def _axes(
    op: str, x: Any, dim: Any, keepdim: Any, axis: Any, keepdims: Any, dtype: Any, out: Any
) -> tuple[list[int], bool]:
    if dtype is not None or out is not None:
        raise TypeError(message(op, "dtype and out", "None", "something else", "convert the result"))
    if isinstance(dim, (tuple, list)) and not dim:
        # PyTorch's dim=() is every axis, NumPy's axis=() none
        dim = axis = None
    dim, name = (axis, "axis") if dim is None else (dim, "dim")
    keep = flag(op, "keepdim", keepdim) if keepdims is None else flag(op, "keepdims", keepdims)
    rank = x.ndim
    if dim is None:
        return list(range(rank)), keep
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = [axis_of(op, d, rank, name) for d in dims]
    if len(set(axes)) != len(axes):
        raise ShapeError(message(op, name, "each axis once", tuple(dims)))
    return sorted(axes), keep
