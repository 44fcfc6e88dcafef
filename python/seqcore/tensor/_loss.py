"""Losses."""

from __future__ import annotations

import math
from typing import Any

from .. import _core, runtime
from .._arguments import choice, integer
from ..errors import DTypeError, ShapeError, message
from ..ops._loss import kept_rows, logits_gradient
from ._shape import permute, viewed
from ._tape import records
from ._tensor import Tensor, as_floats, as_ndarray, record, shape_of, wrap

__all__ = ["cross_entropy"]


def cross_entropy(input: Any, target: Any, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-log softmax(input)[target], averaged over the targets that are kept, summed, or one by one.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...): the class axis is 1.
        target: ids of the other axes' shape, each in [0, C) or `ignore_index`.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes do not fit; IndexError: an id out of range; DTypeError: ids that are no integers.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.cross_entropy([[0.0, 0.0]], [1])
        Tensor(0.6931472)
    """
    choice("cross_entropy", "reduction", reduction, "mean", "sum", "none")
    ignore_index = integer("cross_entropy", "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    # an array is copied when the target is known to fit
    shape = shape_of(input)
    x = as_floats("cross_entropy", "input", input) if shape is None else input
    shape = x.shape if shape is None else shape
    found = as_ndarray("cross_entropy", "target", target) if shape_of(target) is None else target
    given: Any = shape_of(found)
    kind = str(getattr(found, "dtype", "int"))
    if kind.startswith(("int", "uint")):
        target = found  # what holds no ids stays the list that it is, of which it is then said
    if not shape:
        raise ShapeError(message("cross_entropy", "input", "(N, C), (C,) or (N, C, d1, ...)", shape))
    expected = shape[:-1] if len(shape) <= 1 else shape[:1] + shape[2:]
    if given == shape and "float" in kind:
        wanted, got = f"ids of shape {expected}; the rest is not built yet", f"probabilities of shape {given}"
        raise NotImplementedError(message("cross_entropy", "target", wanted, got, "target.argmax(1) gives ids"))
    if given != expected:
        hint = f"the class axis of input {shape} is axis 1; reshape logits to (N, C) and targets to (N,)"
        raise ShapeError(message("cross_entropy", "target", expected, given, hint))
    if kind.startswith("float") and found is target:
        how = 'target.to(dtype="int64")' if isinstance(target, Tensor) else 'target.astype("int64")'
        raise DTypeError(message("cross_entropy", "target", "ids", kind, f"convert them with {how}"))
    x = as_floats("cross_entropy", "input", x)
    if len(shape) == 1:
        x = viewed(x, (1, shape[0]))
    elif len(shape) > 2:
        x = permute(x, 0, *range(2, len(shape)), 1)
        x = viewed(x, (math.prod(expected), shape[1]))
    if not isinstance(target, Tensor) and len(given) != 1:
        target = as_ndarray("cross_entropy", "target", target).reshape(-1)
    elif isinstance(target, Tensor):
        runtime.check_device("cross_entropy", "target", target._array.device, x._array.device)
        target = target.numpy().reshape(-1)
    need = records(x)
    loss, grad = _core.cross_entropy(x, target, ignore_index, reduction, need)
    if grad is not None:
        kept = kept_rows(as_ndarray("cross_entropy", "target", target), ignore_index)
        y = record("cross_entropy", loss, (x,), lambda dy: (logits_gradient(grad, kept, dy),))
    else:
        y = wrap(loss)
    return viewed(y, expected) if reduction == "none" and len(expected) != 1 else y
