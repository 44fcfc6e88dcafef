"""Rows of a table by number."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ._saved import Saved, arrays_only, gradient, out, take

__all__ = ["embedding", "embedding_backward"]


def embedding(ids: Any, weight: Any) -> tuple[np.ndarray, Saved]:
    """The rows of `weight` (num_embeddings, features) that `ids` (...), any integers, name; and what backward needs.

    Raises:
        IndexError: an id below 0 or past the last row; DTypeError: ids that are no integers.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.embedding([1, 1], [[1.0], [2.0]])
        >>> ops.embedding_backward(saved, [[1.0], [3.0]])["weight"]
        array([[0.],
               [4.]], dtype=float32)
    """
    arrays_only("embedding", weight=weight)
    y, read = _core.embedding(weight, ids)
    rows = weight.shape[0] if hasattr(weight, "shape") else len(weight)
    return out(y), Saved("embedding", read, rows, y.shape, y.dtype)


def embedding_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """A dict of the gradient `weight`; rows that were named twice add up, in a fixed order."""
    with take(saved, "embedding") as (ids, rows, shape, dtype):
        dy = gradient("embedding_backward", "dy", dy, shape, dtype)
        return {"weight": out(_core.embedding_backward(dy, ids, rows, None))}
