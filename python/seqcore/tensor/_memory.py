"""Many tensors' memory at once: snapshots and overwriting that no other call sees half done."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..errors import DeviceError, DTypeError, ShapeError
from ._tensor import FIXED, Tensor, as_ndarray, wrap

__all__ = ["overwrite", "own_memory", "snapshot", "values_for"]


def snapshot(tensors: Any) -> list[Tensor]:
    """Copies of the tensors, all of one moment: no step of an optimizer falls between two of them."""
    copies = [wrap(_core.zeros(t._array.shape, t._array.dtype, t._array.device)) for t in tensors]
    _core.assign([(copy._array, t._array) for copy, t in zip(copies, tensors, strict=True)])
    return copies


def overwrite(pairs: Any) -> None:
    """Writes every second tensor over its first (same shape and dtype): all of them or none."""
    _core.assign([(into._array, values._array) for into, values in pairs])


def own_memory(tensor: Any) -> None:
    """Gives a buffer memory that no writable NumPy view shows, and says that none may."""
    tensor._array = tensor._array.to(tensor._array.device)
    tensor._flags = FIXED


def values_for(tensor: Any, value: Any) -> Tensor:
    """`value`, any array of numbers, as a CPU Tensor of the shape and dtype of `tensor`.

    Raises:
        ShapeError, DTypeError, DeviceError, ValueError: it is not, with what is wrong: the caller knows the name.
    """
    array = _array_of(value)
    if array.shape != tensor.shape:
        raise ShapeError(f"expected {tensor.shape}, got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise DTypeError(f"expected numbers, got {array.dtype}")
    if array.dtype.kind == "f" and tensor.dtype.kind == "i":
        raise DTypeError(f"expected integers, got {array.dtype}")
    with np.errstate(over="ignore"):
        made = np.array(array, dtype=tensor.dtype, order="C", subok=False)
    narrower = array.dtype.kind == made.dtype.kind == "f" and made.itemsize < array.itemsize
    if narrower and not np.array_equal(np.isinf(made), np.isinf(array)):
        raise ValueError(f"expected numbers that {tensor.dtype} holds, got {np.abs(array[np.isfinite(array)]).max()}")
    return wrap(_core.array(made))


def _array_of(value: Any) -> np.ndarray:
    op, name = "load_state_dict", "value"
    try:
        return as_ndarray(op, name, value)
    except (DTypeError, DeviceError, ShapeError, ValueError) as error:
        raise type(error)(str(error).removeprefix(f"{op}: {name}: ")) from None
