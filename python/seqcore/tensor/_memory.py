"""Memory as such: new tensors of one value, snapshots and overwriting of many that no other call sees half done."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .. import _core
from ..errors import DTypeError, ShapeError, message
from ._tape import at_once
from ._tensor import FIXED, Tensor, as_ndarray, wrap

__all__ = [
    "cast",
    "full",
    "overwrite",
    "own_memory",
    "pieces",
    "snapshot",
    "values_for",
    "versions",
    "zero_grads",
    "zeros",
    "zeros_like",
]

_PIECE = 1 << 20  # elements


def zeros(shape: Any, dtype: str, device: str = "cpu") -> Tensor:
    """New memory of zeros."""
    return wrap(_core.zeros(shape, dtype, device))


def zeros_like(tensor: Any) -> Tensor:
    """Zeros of the same shape, dtype and device."""
    array = tensor._array
    return zeros(array.shape, array.dtype, array.device)


def full(shape: Any, value: float, dtype: str, device: str = "cpu") -> Tensor:
    """New memory of one number, of floats."""
    return wrap(_core.fill(shape, value, dtype, device))


def snapshot(tensors: Any) -> list[Tensor]:
    """Copies of the tensors, all of one moment: no step of an optimizer falls between two of them."""
    copies = [zeros_like(t) for t in tensors]
    _core.assign([(copy._array, t._array) for copy, t in zip(copies, tensors, strict=True)])
    return copies


def overwrite(pairs: Any) -> None:
    """Writes every second tensor over its first (same shape and dtype): all of them or none."""
    _core.assign([(into._array, values._array) for into, values in pairs])


def versions(tensors: Any) -> list[int]:
    """How many times the memory of each was written to."""
    return [t._array.version for t in tensors]


def zero_grads(tensors: Any, set_to_none: bool) -> None:
    """Forgets the gradients, all or none, or writes 0 over each."""
    tensors = list(tensors)
    if set_to_none:
        at_once([functools.partial(setattr, t, "_grad", None) for t in tensors])
        return
    for t in tensors:
        if t._grad is not None:
            t._grad.zero_()


def own_memory(tensor: Any) -> None:
    """Gives a buffer memory that no writable NumPy view shows, and says that none may."""
    tensor._array = tensor._array.to(tensor._array.device)
    tensor._flags = FIXED


def values_for(op: str, name: str, tensor: Any, value: Any) -> Tensor:
    """`value`, any array of numbers, as a CPU Tensor of the shape and dtype of `tensor`.

    Raises:
        ShapeError, DTypeError, DeviceError, ValueError: it is not.
    """
    array = as_ndarray(op, name, value)
    if array.shape != tensor.shape:
        raise ShapeError(message(op, name, tensor.shape, array.shape))
    if array.dtype.kind not in "fiu":
        raise DTypeError(message(op, name, "numbers", array.dtype))
    if array.dtype.kind == "f" and tensor.dtype.kind == "i":
        raise DTypeError(message(op, name, "integers", array.dtype))
    if array.dtype == tensor.dtype:
        return wrap(_core.array(array))
    with np.errstate(over="ignore"):
        made = cast(array, tensor.dtype)
    if array.dtype.kind == made.dtype.kind == "f" and made.itemsize < array.itemsize:
        for value, narrow in pieces(array, made):
            if not np.array_equal(np.isinf(value), np.isinf(narrow)):
                got = np.abs(value[np.isfinite(value)]).max()
                raise ValueError(message(op, name, f"numbers that {tensor.dtype} holds", got))
    return wrap(_core.array(made))


def cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    """A copy in C order, of another dtype, as `astype` makes it."""
    made = np.empty(array.shape, dtype)
    for value, into in pieces(array, made):
        into[...] = value
    return made


def pieces(*arrays: np.ndarray) -> Any:
    """Parts of arrays that broadcast to the last one, which is to be written to, of some elements each, whatever the
    strides: between them Python handles Ctrl-C."""
    use: Any = [["readonly"]] * (len(arrays) - 1) + [["readwrite"]]
    with np.nditer(
        arrays,
        ["external_loop", "buffered", "zerosize_ok"],
        use,
        order="C",
        buffersize=_PIECE,
    ) as parts:
        yield from parts
