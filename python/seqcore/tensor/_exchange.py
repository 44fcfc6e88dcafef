"""Ways out of a tensor: into NumPy, through DLPack into other libraries, by pickle and copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..errors import DeviceError, DTypeError, message
from ._memory import cast
from ._tensor import FIXED, _rebuild, wrap

__all__ = ["array", "deep_copied", "dlpack", "dlpack_device", "reduced"]


def array(x: Any, dtype: Any, copy: Any) -> np.ndarray:
    """What `np.asarray` gets: a view where there is one, unless `copy` or another dtype is asked for."""
    if x._requires_grad and _core.in_list():
        raise DTypeError(message("__array__", "tensor", "none in a list", "one that requires grad", "use stack or cat"))
    here = x._array.device == "cpu"
    wanted = x.dtype if dtype is None else np.dtype(dtype)
    if copy is False and not here:
        raise ValueError(message("__array__", "copy", "None or True for a tensor on a GPU", "False"))
    if wanted != x.dtype:
        if copy is False:
            raise ValueError(message("__array__", "copy", f"None or True to get {wanted}", "False"))
        view = x._array.numpy(False)
        return cast(view, wanted) if wanted.kind in "biufc" else view.astype(wanted)
    return x.numpy(copy=bool(copy))


def dlpack(x: Any, stream: Any, max_version: Any, dl_device: Any, copy: Any) -> Any:
    """What `from_dlpack` of another library gets: the memory itself only where anybody may change it."""
    dlpack_device(x)
    view = x.numpy(copy=bool(copy))
    if not view.flags.writeable:
        # consumers ignore that memory is read-only: what must not change is given as a copy
        if copy is False:
            what = "a tensor that others may change: no parameter, buffer, or part of a graph"
            raise BufferError(message("__dlpack__", "copy", "None or True", "False", f"without a copy only {what}"))
        view = x.numpy(copy=True)
    given = {"stream": stream, "max_version": max_version, "dl_device": dl_device}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return view.__dlpack__(**given)
    except TypeError:  # NumPy 2.0 knows `stream` alone
        return view.__dlpack__(stream=stream)


def dlpack_device(x: Any) -> tuple[int, int]:
    """DLPack's number of the CPU; BufferError on a GPU."""
    if x._array.device != "cpu":
        raise BufferError(message("__dlpack__", "tensor", "a tensor on the CPU", f"one on {x.device}", "use numpy()"))
    return (1, 0)


def reduced(x: Any) -> Any:
    """What pickle writes: the values and whether they want a gradient, without the history."""
    if x._array.device != "cpu":
        raise DeviceError(message("pickle", "tensor", "a tensor on the CPU", f"one on {x.device}", 'use .to("cpu")'))
    return _rebuild, (type(x), x.numpy(copy=True), x._requires_grad, x._flags & FIXED)


def deep_copied(x: Any, memo: Any) -> Any:
    """A leaf with memory of its own, its gradient too."""
    if x._edge is not None:
        raise RuntimeError(message("deepcopy", "tensor", "a leaf", "the result of an operation", "use detach()"))
    made = _rebuild(type(x), x._array.to(x._array.device), x._requires_grad, x._flags & FIXED)
    memo[id(x)] = made
    if x._grad is not None:
        made._grad = wrap(x._grad._array.to(x._grad._array.device))
    return made
