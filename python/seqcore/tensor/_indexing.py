"""t[index] and t[index] = value, with NumPy's rules: NumPy indexes a stand-in, and we read off what it did."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ._shape import expand
from ._tape import is_recording
from ._tensor import Tensor, record, wrap

__all__ = ["getitem", "setitem"]


def getitem(x: Any, index: Any) -> Tensor:
    """The elements that `index` picks, as a copy; a gradient adds up where one is picked twice (S-24)."""
    index = _plain(index)
    array = x._array
    shape = array.shape
    records = x._requires_grad and is_recording()
    if _is_basic(index):
        # an array of bytes has strides that count elements; it is never read
        stand_in = np.empty(shape, np.int8)
        picked = stand_in[index if Ellipsis in index else (*index, Ellipsis)]
        base = stand_in.__array_interface__["data"][0]
        offset = picked.__array_interface__["data"][0] - base if picked.size else 0
        part, strides = list(picked.shape), list(picked.strides)
        y = _core.copy_strided(array, part, strides, offset)
        if not records:
            return wrap(y)
        return record("getitem", y, (x,), lambda dy: (_core.place_strided(dy, list(shape), strides, offset),))
    ids = _positions(shape)[index]
    y = _core.take(array, ids.ravel(), list(ids.shape))
    if not records:
        return wrap(y)
    return record("getitem", y, (x,), lambda dy: (_core.put_add(dy, ids.ravel(), list(shape)),))


def setitem(x: Any, index: Any, value: Any) -> Tensor | None:
    """x with `value` in place of what `index` picks; None when it picks nothing."""
    index = _plain(index)
    shape = x._array.shape
    source, chosen = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    part = chosen[index].shape
    value = expand("setitem", _squeezed(value, len(part)), part)
    count = int(np.prod(part))
    if not count:
        return None
    chosen[index] = True
    source[index] = np.arange(count).reshape(part)
    ids = source.ravel()
    y = _core.where(chosen, _core.take(value, ids, list(shape)), x)
    if not ((x._requires_grad or value._requires_grad) and is_recording()):
        return wrap(y)
    needs = x._requires_grad, value._requires_grad

    def run(dy: Any) -> Any:
        zero = _core.zeros(shape, dy.dtype, dy.device)
        dx = _core.where(chosen, zero, dy) if needs[0] else None
        return dx, _core.put_add(_core.where(chosen, dy, zero), ids, list(part)) if needs[1] else None

    return record("setitem", y, (x, value), run)


def _positions(shape: Any) -> np.ndarray:
    """The position of every element in memory."""
    return np.arange(int(np.prod(shape))).reshape(shape)


def _squeezed(value: Any, rank: int) -> Tensor:
    """Leading axes of size 1 beyond `rank` go, as in NumPy's assignment."""
    shape = value.shape
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return value if shape == value.shape else value.reshape(shape)


def _plain(index: Any) -> Any:
    """The index as a tuple in which Tensors of ids are ndarrays."""
    index = index if isinstance(index, tuple) else (index,)
    return tuple([i._array.numpy(False) if isinstance(i, Tensor) else i for i in index])


def _is_basic(index: Any) -> bool:
    return all(i is None or i is Ellipsis or isinstance(i, (slice, np.integer)) or type(i) is int for i in index)
