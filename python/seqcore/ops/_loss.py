"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._arguments import choice, integer
from ._saved import Saved, arrays_only, gradient, out, take

__all__ = ["cross_entropy", "cross_entropy_backward"]


def cross_entropy(
    input: Any, target: Any, ignore_index: int = -100, reduction: str = "mean"
) -> tuple[np.ndarray, Saved]:
    """-log softmax(input)[target], and what its backward needs.

    Args:
        input: logits (N, C); target: N ids, each in [0, C) or `ignore_index`; reduction: "mean", "sum" or "none".

    Returns:
        the loss, 0-d or, for "none", (N,), and `saved`.

    Raises:
        IndexError: an id out of range.

    Example:
        >>> from seqcore import ops
        >>> loss, saved = ops.cross_entropy([[0.0, 0.0]], [1])
        >>> ops.cross_entropy_backward(saved)["input"]
        array([[ 0.5, -0.5]], dtype=float32)
    """
    choice("cross_entropy", "reduction", reduction, "mean", "sum", "none")
    ignore_index = integer("cross_entropy", "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    arrays_only("cross_entropy", input=input)
    loss, grad = _core.cross_entropy(input, target, ignore_index, reduction, True)
    return out(loss), Saved("cross_entropy", grad, reduction)


def cross_entropy_backward(saved: Any, dloss: Any = None) -> dict[str, np.ndarray]:
    """A dict of the gradient `input` (N, C), from that of the loss; None is 1."""
    with take(saved, "cross_entropy") as (grad, reduction):
        if dloss is None:
            return {"input": out(grad)}
        shape = grad.shape[:1] if reduction == "none" else ()
        dloss = gradient("cross_entropy_backward", "dloss", dloss, shape, grad.dtype)
        if reduction == "none":
            dloss = dloss.reshape([grad.shape[0], 1])
        return {"input": out(_core.binary("mul", grad, dloss))}
