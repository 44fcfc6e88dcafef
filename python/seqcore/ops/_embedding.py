"""Rows of a table by number."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ._saved import Saved, arrays_only, gradient, out, take

__all__ = ["embedding", "embedding_backward"]


def embedding(ids: Any, weight: Any) -> tuple[np.ndarray, Saved]:
    """The rows of a table that ids name, and what backward needs.

    Args:
        ids: (...), integers of any type; weight: (num_embeddings, features), float32 or float64.

    Returns:
        y (..., features), of the dtype of weight, and `saved` for `embedding_backward`.

    Raises:
        IndexError: an id below 0 or past the last row; DTypeError: ids that are no integers, or a weight of
            another dtype; ShapeError: weight is no matrix; DeviceError: it is a Tensor on a GPU.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.embedding([1, 1], [[1.0], [2.0]])
        >>> y
        array([[2.],
               [2.]], dtype=float32)
    """
    arrays_only("embedding", weight=weight)
    y, read = _core.embedding(weight, ids)
    rows = weight.shape[0] if hasattr(weight, "shape") else len(weight)
    return out(y), Saved("embedding", read, rows, y.shape, y.dtype)


def embedding_backward(saved: Any, dy: Any) -> dict[str, np.ndarray]:
    """dweight[v] = the sum of dy[i] over the positions i with ids[i] = v, ascending.

    Args:
        saved: what `embedding` gave; it can be used once. dy: (..., features), the gradient of y, of its dtype.

    Returns:
        a dict of one new array, `weight` (num_embeddings, features), 0 in rows that no id names.

    Raises:
        ShapeError, DTypeError: dy is not as y; DeviceError: it is a Tensor on a GPU; TypeError: `saved` is not of
            `embedding`; RuntimeError: it was used before.

    Example:
        >>> from seqcore import ops
        >>> y, saved = ops.embedding([1, 1], [[1.0], [2.0]])
        >>> ops.embedding_backward(saved, [[1.0], [3.0]])["weight"]
        array([[0.],
               [4.]], dtype=float32)
    """
    with take(saved, "embedding") as (ids, rows, shape, dtype):
        dy = gradient("embedding_backward", "dy", dy, shape, dtype)
        return {"weight": out(_core.embedding_backward(dy, ids, rows, None))}
