"""Writing to a tensor's memory. Its version goes up, so that nothing stale is used; what is written is recorded."""

from __future__ import annotations

from typing import Any

from .. import _core
from ..errors import ShapeError, message
from . import _indexing
from ._shape import expand
from ._tape import is_recording, records
from ._tensor import SHARED, as_tensor, record, wrap

__all__ = ["apply", "copy", "setitem", "zero"]


def copy(x: Any, source: Any) -> Any:
    """Writes `source`, broadcast, over all values; gives x."""
    _check_writable("copy_", x)
    source = as_tensor("copy_", "source", source, x._array.device, None, x._array.dtype)
    return _write("copy_", x, expand("copy_", source.to(x.device), x.shape))


def zero(x: Any) -> Any:
    """Writes 0 over all values; gives x."""
    _check_writable("zero_", x)
    return _write("zero_", x, wrap(_core.zeros(x.shape, x._array.dtype, x._array.device)))


def setitem(x: Any, index: Any, value: Any) -> None:
    """x[index] = value."""
    _check_writable("setitem", x)
    if index is Ellipsis or (type(index) is slice and index == slice(None)):
        copy(x, value)
        return
    value = as_tensor("setitem", "value", value, x._array.device, None, x._array.dtype).to(x.device, x.dtype)
    if records(value):
        _check_unshared("setitem", x)
    recorded = _indexing.setitem(x, index, value)
    if recorded is not None:
        made = record("setitem", x._array, *recorded)
        x._edge, x._requires_grad = made._edge, True


def apply(op: str, function: Any, x: Any, other: Any) -> Any:
    """`x op= other`, where `function` of the two is what is written."""
    _check_writable(op, x)
    before = _as_before(x) if records(other) else x
    result = function(before, before if other is x else other)
    return result if result is NotImplemented else _write(op, x, result)


def _as_before(x: Any) -> Any:
    """A copy with x's history: what the other operand's gradient reads when x has been overwritten."""
    made = wrap(_core.binary_scalar("mul", x._array, 1.0, False))
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


def _write(op: str, x: Any, result: Any) -> Any:
    if result.shape != x.shape:
        raise ShapeError(message(op, "tensor", f"{result.shape}, the result's shape", x.shape))
    result = result.to(dtype=x._array.dtype)
    recorded = records(result)
    if recorded:
        _check_unshared(op, x)
    _core.assign([(x._array, result._array)])
    if recorded:
        same = result if result._edge else record(op, result._array, (result,), lambda dy: (dy,))
        x._edge, x._requires_grad = same._edge, True
    elif is_recording() and x._edge is not None:
        # all of it was overwritten by what has no history
        x._edge, x._requires_grad = None, False
    return x
