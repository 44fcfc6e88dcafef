"""Sums and means over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..errors import ShapeError, message
from ._shape import axis_of, contiguous_strides
from ._tape import is_recording
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
    y = _core.sum(x, axes, keep)
    if not (x._requires_grad and is_recording()):
        return wrap(y)
    shape = x._array.shape
    return record("sum", y, (x,), lambda dy: (_spread(dy, axes, shape),))


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
    shape = x._array.shape
    count = int(np.prod([shape[i] for i in axes], dtype=object))
    y = _core.binary_scalar("div", _core.sum(x, axes, keep), float(count), False)
    if not (x._requires_grad and is_recording()):
        return wrap(y)

    def run(dy: Any) -> Any:
        return (_spread(_core.binary_scalar("div", dy, float(count), False), axes, shape),)

    return record("mean", y, (x,), run)


def _spread(dy: Any, axes: Any, shape: Any) -> Any:
    """dy repeated along the reduced axes."""
    kept = [1 if i in axes else n for i, n in enumerate(shape)]
    steps = contiguous_strides(kept)
    strides = [0 if i in axes else step for i, step in enumerate(steps)]
    return _core.copy_strided(dy.reshape(kept), list(shape), strides, 0)


def _axes(
    op: str, x: Any, dim: Any, keepdim: Any, axis: Any, keepdims: Any, dtype: Any, out: Any
) -> tuple[list[int], bool]:
    if dtype is not None or out is not None:
        raise TypeError(message(op, "dtype and out", "None", "something else", "convert the result"))
    dim = axis if dim is None else dim
    keep = bool(keepdim if keepdims is None else keepdims)
    rank = x.ndim
    if dim is None:
        return list(range(rank)), keep
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    axes = [axis_of(op, d, rank) for d in dims]
    if len(set(axes)) != len(axes):
        raise ShapeError(message(op, "dim", "each axis once", tuple(dims)))
    return sorted(axes), keep
