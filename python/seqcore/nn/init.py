"""Initial values: functions of the random state, the same on every machine and with every NumPy.

Each call takes the next random stream of `seqcore.manual_seed`. The bits are Philox 4x64-10's, which NumPy keeps
the same across versions (its distributions may change, so they are not used).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core, runtime
from .._arguments import integer, real, shown
from ..errors import DTypeError, ShapeError, message
from ..tensor import Tensor, overwrite

__all__ = ["constant_", "normal_", "ones_", "uniform_", "zeros_"]

_PART = 1 << 15  # numbers made at a time


def uniform_(tensor: Any, a: Any = 0.0, b: Any = 1.0) -> Tensor:
    """Fills `tensor` with numbers uniform in [a, b).

    Example:
        >>> import seqcore
        >>> seqcore.nn.init.uniform_(seqcore.Tensor([[0.0]]), 1.0, 2.0).item() >= 1.0
        True
    """
    size, a = _size("uniform_", tensor), _held("uniform_", "a", a, tensor)
    width = _held("uniform_", "b", b, tensor) - a
    source = _source()
    # in parts that stay in cache, as float64, each rounded once
    values = _core.zeros([size], tensor._array.dtype, "cpu")
    view = values.numpy(True)
    for start in range(0, size, _PART):
        u = _unit(source.random_raw(min(_PART, size - start)))
        u *= width
        u += a
        view[start : start + _PART] = u
    _core.assign([(tensor._array, values)])
    return tensor


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fills `tensor` with numbers of a normal distribution (Box and Muller 1958)."""
    size = _size("normal_", tensor)
    mean, std = _held("normal_", "mean", mean, tensor), _held("normal_", "std", std, tensor)
    half = (size + 1) // 2
    u = _unit(_bits(2 * half))
    radius, angle = np.sqrt(-2.0 * np.log1p(-u[:half])), 2.0 * math.pi * u[half:]
    values = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
    return _fill(tensor, mean + std * values)


def constant_(tensor: Any, val: Any) -> Tensor:
    """Fills `tensor` with one number."""
    op = "constant_"
    if isinstance(tensor, Tensor) and tensor.dtype == np.int64:
        return _fill(tensor, np.full(tensor.shape, integer(op, "val", val, -(1 << 63), (1 << 63) - 1)))
    return _fill(tensor, np.full(_size(op, tensor), _held(op, "val", val, tensor)))


def zeros_(tensor: Any) -> Tensor:
    """Fills `tensor` with 0."""
    return constant_(tensor, 0)


def ones_(tensor: Any) -> Tensor:
    """Fills `tensor` with 1."""
    return constant_(tensor, 1)


def _size(op: str, tensor: Any) -> int:
    if not isinstance(tensor, Tensor):
        raise TypeError(message(op, "tensor", "a Tensor", shown(tensor)))
    if tensor.dtype == np.int64:
        raise DTypeError(message(op, "tensor", "float32 or float64", tensor.dtype))
    return math.prod(tensor.shape)


def _held(op: str, name: str, value: Any, tensor: Tensor) -> float:
    """The value as a float that does not become infinite in the tensor's dtype."""
    number = real(op, name, value)
    with np.errstate(over="ignore"):
        if math.isfinite(number) and not np.isfinite(tensor.dtype.type(number)):
            raise ValueError(message(op, name, f"a number that {tensor.dtype} holds", number))
    return number


def _source() -> np.random.Philox:
    seed, stream = runtime.draw()
    return np.random.Philox(key=np.array([seed, stream], np.uint64))


def _bits(count: int) -> np.ndarray:
    return _source().random_raw(count)


def _unit(bits: Any) -> np.ndarray:
    """Numbers in [0, 1) of 53 bits."""
    return (bits >> np.uint64(11)) * 2.0**-53


def _fill(tensor: Any, values: Any) -> Tensor:
    if values.size != math.prod(tensor.shape):
        raise ShapeError(message("init", "values", math.prod(tensor.shape), values.size))
    overwrite([(tensor, Tensor(values.reshape(tensor.shape), device=tensor.device, dtype=tensor.dtype))])
    return tensor
