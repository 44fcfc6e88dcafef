"""Rows of a table by number."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._arguments import integer, shown
from ..errors import message
from ._tape import records
from ._tensor import Tensor, record, wrap

__all__ = ["embedding"]


def embedding(ids: Any, weight: Any, padding_idx: Any = None) -> Tensor:
    """The rows of `weight` that `ids` names.

    Args:
        ids: integers of any shape and any integer type; weight: (num_embeddings, features).
        padding_idx: a row that gets no gradient; negative ones count from the end.

    Raises:
        IndexError: an id below 0 or past the last row; DTypeError: ids that are no integers, or a weight of them;
            ShapeError: weight is no matrix; DeviceError: the two are on several devices; ValueError, TypeError:
            padding_idx is no row.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.embedding([1, 0], [[1.0], [2.0]])
        Tensor([[2.],
                [1.]])
    """
    if not (records(weight) and weight.ndim):
        y, _ = _core.embedding(weight, ids, "input")
        if padding_idx is not None:
            padding_row("embedding", padding_idx, len(weight))
        return wrap(y)
    rows = weight._array.shape[0]
    padding_idx = None if padding_idx is None else padding_row("embedding", padding_idx, rows)
    y, read = _core.embedding(weight, ids, "input")
    return record("embedding", y, (weight,), lambda dy: (_core.embedding_backward(dy, read, rows, padding_idx),))


def padding_row(op: str, padding_idx: Any, rows: Any) -> int:
    """padding_idx counted from 0."""
    padding_idx = integer(op, "padding_idx", padding_idx)
    if not -rows <= padding_idx < rows:
        raise ValueError(message(op, "padding_idx", f"a row from {-rows} to {rows - 1}", shown(padding_idx)))
    return padding_idx % rows
