"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._arguments import choice, integer
from ._saved import Saved, array_of, arrays_only, gradient, out, take

__all__ = ["cross_entropy", "cross_entropy_backward", "kept_rows", "logits_gradient"]


def cross_entropy(
    input: Any, target: Any, ignore_index: int = -100, reduction: str = "mean"
) -> tuple[np.ndarray, Saved]:
    """-log softmax(input)[target] in nats, and what its backward needs.

    Args:
        input: logits (N, C), float32 or float64; target: (N,) ids, each in [0, C) or `ignore_index`, whose loss is 0.
        reduction: "mean" over the targets that count (NaN without any), "sum" or "none".

    Returns:
        the loss, 0-d or, for "none", (N,), of the dtype of input, and `saved` for `cross_entropy_backward`.

    Raises:
        IndexError: an id out of range; ShapeError: the shapes do not fit; DTypeError: ids that are no integers, or
            another dtype of input; DeviceError: input is a Tensor on a GPU; ValueError: another reduction.

    Example:
        >>> from seqcore import ops
        >>> loss, saved = ops.cross_entropy([[0.0, 0.0]], [1])
        >>> loss
        array(0.6931472, dtype=float32)
    """
    choice("cross_entropy", "reduction", reduction, "mean", "sum", "none")
    ignore_index = integer("cross_entropy", "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    arrays_only("cross_entropy", input=input)
    loss, grad = _core.cross_entropy(input, target, ignore_index, reduction, True)
    ids = array_of(target)
    ids = _core.ndarray("cross_entropy", "target", target) if ids is None else ids.numpy(False)
    return out(loss), Saved("cross_entropy", grad, kept_rows(ids, ignore_index), reduction)


def cross_entropy_backward(saved: Any, dloss: Any = None) -> dict[str, np.ndarray]:
    """dinput[n, c] = dloss (softmax(input)[n, c] - [c = target[n]]), but 0 in the rows of targets that do not count.

    For "mean" it is divided by the number of those that do.

    Args:
        saved: what `cross_entropy` gave; it can be used once.
        dloss: the gradient of the loss, of its shape and dtype; None is 1.

    Returns:
        a dict of one new array, `input` (N, C), of the dtype of the logits.

    Raises:
        ShapeError, DTypeError: dloss is not as the loss; DeviceError: it is a Tensor on a GPU; TypeError: `saved` is
            not of `cross_entropy`; RuntimeError: it was used before.

    Example:
        >>> from seqcore import ops
        >>> loss, saved = ops.cross_entropy([[0.0, 0.0]], [1])
        >>> ops.cross_entropy_backward(saved)["input"]
        array([[ 0.5, -0.5]], dtype=float32)
    """
    with take(saved, "cross_entropy") as (grad, kept, reduction):
        if dloss is None:
            return {"input": out(grad)}
        shape = grad.shape[:1] if reduction == "none" else ()
        dloss = gradient("cross_entropy_backward", "dloss", dloss, shape, grad.dtype)
        return {"input": out(logits_gradient(grad, kept, dloss))}


def kept_rows(ids: np.ndarray, ignore_index: int) -> np.ndarray | None:
    """Which rows count, (N, 1) bools that nobody else has; None for all."""
    kept = ids.reshape(-1, 1) != ignore_index
    return None if kept.all() else kept


def logits_gradient(grad: Any, kept: np.ndarray | None, dloss: Any) -> Any:
    """The Array (N, C) of the logits' gradient, from `grad`, that for a `dloss` of 1, and `dloss`, () or (N,)."""
    dx = _core.binary("mul", grad, dloss.reshape([grad.shape[0], 1]) if dloss.shape else dloss)
    # an ignored row's 0 by an infinite gradient would be NaN
    return dx if kept is None else _core.where(kept, dx, _core.zeros([1, 1], dx.dtype, dx.device))
