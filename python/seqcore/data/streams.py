"""A text as language models read it: cut into parallel streams, met window by window."""

import numpy as np

from .._arguments import integer, real, shown
from ..errors import DTypeError, ShapeError, message
from .vocabulary import TextError


def split(ids: np.ndarray, validation: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """The text in two: its first `int((1 - validation) * n)` ids, and the rest, held out.

    Args:
        ids: (n,) integers; validation: the part to hold out, from 0 to below 1.

    Returns:
        two views of ids.

    Raises:
        TypeError, DTypeError, ShapeError: ids are no such array; TypeError, ValueError: validation is no such number.

    Example:
        >>> import numpy as np
        >>> from seqcore.data import split
        >>> [part.tolist() for part in split(np.arange(10), 0.2)]
        [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    """
    _check_ids("split", ids)
    validation = real("split", "validation", validation)
    if not 0 <= validation < 1:
        raise ValueError(message("split", "validation", "0 or more and below 1", validation))
    cut = int((1 - validation) * len(ids))
    return ids[:cut], ids[cut:]


def _check_ids(op: str, ids: np.ndarray) -> None:
    if not isinstance(ids, np.ndarray):
        raise TypeError(message(op, "ids", "an array of integers", shown(ids)))
    if ids.dtype.kind not in "iu":
        raise DTypeError(message(op, "ids", "integers", ids.dtype))
    if np.ma.is_masked(ids):
        hint = "say what stands for them: ids.filled(0)"
        raise DTypeError(message(op, "ids", "an array without masked entries", "a masked array", hint))
    if ids.ndim != 1:
        raise ShapeError(message(op, "ids", "(n,)", ids.shape))


class Streams:
    """A text cut into `batch` contiguous streams of equal length; the remainder is dropped.

    A window is `bptt` steps of all streams: the ids, and for each the id that follows it. The windows of an epoch
    follow each other without a gap, so that the state after one is the state before the next; the last may be
    shorter.

    Args:
        ids: (n,) integers.
        batch: how many streams.
        bptt: steps in a window.

    Raises:
        TextError: streams of fewer than two ids.

    Example:
        >>> import numpy as np
        >>> from seqcore.data import Streams
        >>> streams = Streams(np.arange(11), batch=2, bptt=3)
        >>> ids, following = streams[0]
        >>> len(streams), ids.T.tolist(), following.T.tolist()
        (2, [[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]])
    """

    def __init__(self, ids: np.ndarray, batch: int, bptt: int):
        _check_ids("Streams", ids)
        batch, bptt = integer("Streams", "batch", batch, 1), integer("Streams", "bptt", bptt, 1)
        length = len(ids) // batch
        if length < 2:
            most = len(ids) // 2
            hint = f"use a batch of at most {most}, or more text" if most else "give more text"
            got = f"{len(ids):,} to train on, too short for {batch} streams"
            raise TextError(message("Streams", "ids", "2 characters or more in each stream", got, hint))
        self.rows = ids[: batch * length].reshape(batch, length)
        self.batch, self.length, self.bptt = batch, length, bptt

    def __len__(self) -> int:
        """Windows in an epoch."""
        return (self.length - 2) // self.bptt + 1

    def __getitem__(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Window number `window`: ids (T, B) and the ids that follow them (T, B), as int64."""
        window = integer("Streams", "window", window)
        if not 0 <= window < len(self):
            raise IndexError(message("Streams", "window", f"0 to {len(self) - 1}", shown(window)))
        start = window * self.bptt
        end = min(start + self.bptt, self.length - 1)
        part = self.rows[:, start : end + 1].T.astype(np.int64, order="C")
        return part[:-1], part[1:]
