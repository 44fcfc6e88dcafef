"""Writing to a tensor's memory. Its version goes up, so that nothing stale is used; what is written is recorded."""

from __future__ import annotations

import functools
from typing import Any

from .. import _core
from ..errors import ShapeError, message
from . import _indexing
from ._elementwise import operand
from ._shape import check_fits, check_kept, expand, repeated
from ._tape import at_once, records
from ._tensor import SHARED, as_tensor, record, wrap

__all__ = ["apply", "copy", "setitem", "zero"]


def copy(x: Any, source: Any) -> Any:
    """Writes `source`, broadcast, over all values; gives x."""
    _check_writable("copy_", x)
    check_fits("copy_", "source", source, x.shape)
    source = as_tensor("copy_", "source", source, x._array.device, None, x._array.dtype)
    check_kept("copy_", "source", source, x)
    return _overwrite("copy_", x, expand("copy_", source.to(x.device, x.dtype), x.shape))


def zero(x: Any) -> Any:
    """Writes 0 over all values; gives x."""
    _check_writable("zero_", x)
    return _overwrite("zero_", x, wrap(_core.zeros(x.shape, x._array.dtype, x._array.device)))


def setitem(x: Any, index: Any, value: Any) -> None:
    """x[index] = value."""
    _check_writable("setitem", x)
    if records(value):
        _check_unshared("setitem", x)
    write, recorded = _indexing.setitem(x, index, value)
    made = None if recorded is None else record("setitem", x._array, *recorded)
    _write([] if write is None else [write], x, made)


def apply(op: str, function: Any, x: Any, other: Any) -> Any:
    """`x op= other`, where `function` of the two is what is written.

    It is made again where another thread or a signal's handler wrote to x since x was read: a lock would be held while
    Python runs, which may wait for whoever waits for the lock.
    """
    _check_writable(op, x)
    check_fits(op, "other", other, x.shape)
    other = operand(function.__name__, x, other)
    if other is NotImplemented:
        return other
    while True:
        array, version = x._array, x._array.version
        before = _as_before(x) if records(other) else x
        result = function(before, before if other is x else other)
        if result.shape != x.shape:  # a list, whose shape nobody knew before
            raise ShapeError(message(op, "tensor", f"{result.shape}, the result's shape", x.shape))
        result = result.to(dtype=x._array.dtype)
        if records(result):
            _check_unshared(op, x)
        assign = functools.partial(x._array.assign, result._array, version)
        try:
            _write([assign], x, result if records(result) else None)
            return x
        except RuntimeError:
            if x._array is array and array.version == version:
                raise


def _as_before(x: Any) -> Any:
    """A copy with x's history: what the other operand's gradient reads when x has been overwritten."""
    made = wrap(repeated(x._array, x._array.shape))
    made._edge, made._requires_grad = x._edge, x._requires_grad
    return made


def _check_writable(op: str, x: Any) -> None:
    if records(x):
        if x._edge is None:
            hint = "do it under seqcore.no_grad()"
            raise RuntimeError(message(op, "tensor", "no leaf that requires grad", "one", hint))
        _check_unshared(op, x)


def _check_unshared(op: str, x: Any) -> None:
    """A recorded write changes one tensor's history; another one with the same memory would not know."""
    if x._flags & SHARED:
        raise RuntimeError(message(op, "tensor", "memory of its own", "memory shared by reshape", "use t = t + ..."))


def _overwrite(op: str, x: Any, source: Any) -> Any:
    """Writes `source`, of the shape and dtype of x; what x was before gets a gradient of 0, as it is in PyTorch."""
    if records(source):
        _check_unshared(op, x)
    need = x._requires_grad

    def run(dy: Any) -> Any:
        return _core.zeros(dy.shape, dy.dtype, dy.device) if need else None, dy

    assign = functools.partial(_core.assign, [(x._array, source._array)])
    _write([assign], x, record(op, x._array, (x, source), run) if records(x, source) else None)
    return x


def _write(calls: list[Any], x: Any, made: Any) -> None:
    """Makes the calls; x, which they write to, has the history of `made`, if any, from then on."""
    if made is not None:
        calls += [
            functools.partial(setattr, x, "_edge", made._edge),
            functools.partial(setattr, x, "_requires_grad", True),
        ]
    at_once(calls)
