"""Parameter: a Tensor that a module owns and an optimizer changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import runtime
from .. import tensor as functions
from .._arguments import flag, shown, shown_shape
from ..errors import DTypeError, message
from ..tensor import FIXED, Tensor

__all__ = ["Parameter", "room", "zeros"]


class Parameter(Tensor):
    """A Tensor that a Module finds among its attributes; its memory changes only through in-place operations.

    Args:
        data: an array or Tensor of floats, copied; requires_grad: False freezes it.
        device, dtype: as a Tensor's; None keeps a Tensor's own.

    Raises:
        DTypeError: integers that require grad, or no numbers; DeviceError: no such device.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Parameter([1.0, 2.0]).requires_grad
        True
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(data, False, device, dtype)
        self._flags = FIXED
        self._requires_grad = flag("Parameter", "requires_grad", requires_grad)
        if self._requires_grad:
            self._check_floats("Parameter")


def room(layer: str, elements: int) -> None:
    """MemoryError where so many elements of float32 cannot be had: asked for before the first of many parameters."""
    try:
        if elements < 1 << 60:
            np.empty(elements, np.float32)
            return
    except MemoryError:
        pass
    raise _too_large(layer, f"{shown(elements)} elements")


def zeros(layer: str, shape: Any, device: Any, dtype: Any, requires_grad: bool = True) -> Parameter:
    """A Parameter of zeros, by default of float32; MemoryError where no machine could hold them."""
    # beside a 0 too: no array has such an axis
    if math.prod(n for n in shape if n) >= 1 << 60:
        raise _too_large(layer, shown_shape(shape))
    place = runtime.place(device)
    name = runtime.dtype_name("float32" if dtype is None else dtype, place)
    if name == "int64":
        raise DTypeError(message(layer, "dtype", "float32 or float64", name))
    made = Parameter(0.0, False)
    try:
        made._array = functions.zeros(shape, name, place)._array
    except MemoryError:
        raise _too_large(layer, shown_shape(shape)) from None
    return made.requires_grad_(requires_grad)


def _too_large(layer: str, got: Any) -> MemoryError:
    return MemoryError(message(layer, "parameters", "sizes that fit into memory", got))
