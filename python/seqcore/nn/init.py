"""Initial values: functions of the random state, the same on every machine and with every NumPy.

Each call takes the next random stream of `seqcore.manual_seed`. The bits are Philox 4x64-10's, which NumPy keeps
the same across versions (its distributions may change, so they are not used).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import runtime
from .._arguments import integer, number, real, shown
from ..errors import DTypeError, message
from ..tensor import Tensor, as_tensor, full, overwrite, zeros

__all__ = ["constant_", "normal_", "ones_", "uniform_", "zeros_"]

# numbers made at a time, as float64, each rounded once: they stay in cache, and between them Ctrl-C is handled
_PART = 1 << 15


def uniform_(tensor: Any, a: Any = 0.0, b: Any = 1.0) -> Tensor:
    """Fills `tensor` with numbers uniform in [a, b).

    Args:
        tensor: a Tensor of any shape, float32 or float64; a, b: finite numbers, a <= b.

    Returns:
        the same Tensor.

    Raises:
        DTypeError: a tensor of integers; TypeError: no Tensor, or no numbers; ValueError: b below a, or a number that
            is not finite in the dtype.

    Example:
        >>> import seqcore
        >>> seqcore.nn.init.uniform_(seqcore.Tensor([[0.0]]), 1.0, 2.0).item() >= 1.0
        True
    """
    size, a = _size("uniform_", tensor), _held("uniform_", "a", a, tensor)
    b = _held("uniform_", "b", b, tensor)
    if not 0 <= (width := b - a) < math.inf:
        raise ValueError(message("uniform_", "b", f"a number from a = {a}, both finite", b))
    source = _source(*runtime.draw())
    values = zeros((size,), tensor._array.dtype)
    view = values.numpy()
    # rounding, to float32 above all, may give b itself
    number_of = tensor.dtype.type
    with np.errstate(under="ignore"):
        last = max(number_of(a), np.nextafter(number_of(b), number_of(-math.inf)))
    for start in range(0, size, _PART):
        u = _unit(source, min(_PART, size - start))
        u *= width
        u += a
        part = view[start : start + _PART]
        part[...] = u
        np.minimum(part, last, out=part)
    overwrite([(tensor, values)])
    return tensor


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fills `tensor` with numbers of a normal distribution.

    Args:
        tensor: a Tensor of any shape, float32 or float64; mean: a finite number; std: the standard deviation, from 0.

    Returns:
        the same Tensor.

    Raises:
        DTypeError: a tensor of integers; TypeError: no Tensor, or no numbers; ValueError: std below 0, or a number that
            is not finite in the dtype.

    Source: Box and Muller 1958.

    Example:
        >>> import seqcore
        >>> seqcore.nn.init.normal_(seqcore.Tensor([0.0, 0.0]), mean=3.0, std=0.0)
        Tensor([3., 3.])
    """
    size = _size("normal_", tensor)
    mean = number("normal_", "mean", _held("normal_", "mean", mean, tensor), -math.inf)
    std = number("normal_", "std", _held("normal_", "std", std, tensor))
    # of the numbers that a pair needs, one comes from the first half of the stream, one from the second
    half = (size + 1) // 2
    stream = runtime.draw()
    first, second = _source(*stream), _source(*stream)
    second.advance(half // 4)  # it makes four at a time
    second.random_raw(half % 4)
    values = zeros((size,), tensor._array.dtype)
    view = values.numpy()
    for start in range(0, half, _PART):
        count = min(_PART, half - start)
        radius = np.sqrt(-2.0 * np.log1p(-_unit(first, count)))
        angle = 2.0 * math.pi * _unit(second, count)
        with np.errstate(over="ignore"):
            view[start : start + count] = mean + std * (radius * np.cos(angle))
            last = view[half + start : half + start + count]
            last[:] = mean + std * (radius * np.sin(angle))[: len(last)]
    overwrite([(tensor, values)])
    return tensor


def constant_(tensor: Any, val: Any) -> Tensor:
    """Fills `tensor` with one number.

    Args:
        tensor: a Tensor of any shape and dtype; val: a number, for int64 an integer.

    Returns:
        the same Tensor.

    Raises:
        TypeError: no Tensor, or no such number; ValueError: a finite number that the dtype does not hold.

    Example:
        >>> import seqcore
        >>> seqcore.nn.init.constant_(seqcore.Tensor([1.0, 2.0]), 0.5)
        Tensor([0.5, 0.5])
    """
    op = "constant_"
    if isinstance(tensor, Tensor) and tensor.dtype == np.int64:
        whole = integer(op, "val", val, -(1 << 63), (1 << 63) - 1)
        values = as_tensor(op, "val", np.full(tensor.shape, whole), tensor.device)
    else:
        _size(op, tensor)
        values = full(tensor.shape, _held(op, "val", val, tensor), tensor._array.dtype, tensor.device)
    overwrite([(tensor, values)])
    return tensor


def zeros_(tensor: Any) -> Tensor:
    """Fills `tensor` with 0.

    Args:
        tensor: a Tensor of any shape and dtype.

    Returns:
        the same Tensor.

    Raises:
        TypeError: no Tensor.

    Example:
        >>> import seqcore
        >>> seqcore.nn.init.zeros_(seqcore.Tensor([2, 3], dtype="int64"))
        Tensor([0, 0], dtype=int64)
    """
    return constant_(tensor, 0)


def ones_(tensor: Any) -> Tensor:
    """Fills `tensor` with 1.

    Args:
        tensor: a Tensor of any shape and dtype.

    Returns:
        the same Tensor.

    Raises:
        TypeError: no Tensor.

    Example:
        >>> import seqcore
        >>> seqcore.nn.init.ones_(seqcore.Tensor([2, 3], dtype="int64"))
        Tensor([1, 1], dtype=int64)
    """
    return constant_(tensor, 1)


def _size(op: str, tensor: Any) -> int:
    if not isinstance(tensor, Tensor):
        raise TypeError(message(op, "tensor", "a Tensor", shown(tensor)))
    if tensor.dtype == np.int64:
        raise DTypeError(message(op, "tensor", "float32 or float64", tensor.dtype))
    return math.prod(tensor.shape)


def _held(op: str, name: str, value: Any, tensor: Tensor) -> float:
    """The value as a float that does not become infinite in the tensor's dtype."""
    value = real(op, name, value)
    with np.errstate(over="ignore"):
        if math.isfinite(value) and not np.isfinite(tensor.dtype.type(value)):
            raise ValueError(message(op, name, f"a number that {tensor.dtype} holds", value))
    return value


def _source(seed: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, stream], np.uint64))


def _unit(source: Any, count: int) -> np.ndarray:
    """Numbers in [0, 1) of 53 bits."""
    return (source.random_raw(count) >> np.uint64(11)) * 2.0**-53
