"""t[index] and t[index] = value, with NumPy's rules: NumPy indexes a stand-in, and we read off what it did."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from .._arguments import shown
from ..errors import message
from ._elementwise import unbroadcast
from ._shape import check_expands, check_kept, contiguous_strides, expand, viewed
from ._tape import records
from ._tensor import Tensor, as_tensor, record, shape_of, wrap

__all__ = ["getitem", "setitem"]


def getitem(x: Any, index: Any) -> Tensor:
    """The elements that `index` picks, as a copy; a gradient adds up where one is picked twice."""
    index = _plain(index)
    array = x._array
    shape = array.shape
    recorded = records(x)
    if _is_basic(index):
        part, strides, offset = _view("getitem", shape, index)
        y = _core.copy_strided(array, part, strides, offset)
        if not recorded:
            return wrap(y)
        return record("getitem", y, (x,), lambda dy: (_core.place_strided(dy, list(shape), strides, offset),))
    lead = _leading(index)
    if lead and array.dtype != "int64" and math.prod(shape[lead:]) > 1 and math.prod(shape[:lead]):
        return _rows(x, index, lead, recorded)
    slices, rest = _slices(shape, index)
    front = shape[: len(slices)]
    if any(bound is not None for i in slices for bound in (i.start, i.stop, i.step)):
        return getitem(getitem(x, slices), (*[slice(None)] * len(slices), *rest))
    ids = _places("getitem", shape[len(front) :], rest, front)
    rows, picked = math.prod(front), ids.ravel()
    y = _core.take(array, picked, [*front, *ids.shape], rows)
    if not recorded:
        return wrap(y)
    return record("getitem", y, (x,), lambda dy: (_core.put_add(dy, picked, list(shape), rows),))


def _rows(x: Any, index: Any, lead: int, recorded: bool) -> Tensor:
    """As `getitem` where the index picks whole rows, the elements of the axes behind the first `lead`."""
    shape = x._array.shape
    count, width = math.prod(shape[:lead]), math.prod(shape[lead:])
    ids = _places("getitem", shape[:lead], index)
    flat = ids.ravel()
    y = _core.embedding(x._array.reshape([count, width]), flat).reshape([*ids.shape, *shape[lead:]])
    if not recorded:
        return wrap(y)

    def run(dy: Any) -> Any:
        dx = _core.embedding_backward(dy.reshape([len(flat), width]), flat, count, None)
        return (dx.reshape(list(shape)),)

    return record("getitem", y, (x,), run)


def setitem(x: Any, index: Any, value: Any) -> Any:
    """Writes `value` over what `index` picks, in place.

    Gives None where nothing is to be recorded, else how `record` is to be called: inputs and backward.
    """
    index = _plain(index)
    if _is_basic(index):
        return _set_view(x, index, value)
    return _set_picked(x, index, value)


def _set_view(x: Any, index: Any, value: Any) -> Any:
    array = x._array
    shape = array.shape
    part, strides, offset = _view("setitem", shape, index)
    value = _fitting(x, value, part)
    old = value._array.shape
    if not math.prod(part):
        return _nothing_set(x, value)
    _core.assign_strided(array, value._array, part, strides, offset)
    if not records(x, value):
        return None
    needs = x._requires_grad, value._requires_grad

    def run(dy: Any) -> Any:
        dx = dv = None
        if needs[0]:
            dx = _core.copy_strided(dy, list(shape), contiguous_strides(shape), 0)
            _core.assign_strided(dx, _core.zeros([], dy.dtype, dy.device), part, strides, offset)
        if needs[1]:
            dv = unbroadcast(_core.copy_strided(dy, part, strides, offset), old)
        return dx, dv

    return (x, value), run


def _set_picked(x: Any, index: Any, value: Any) -> Any:
    array = x._array
    shape = array.shape
    # rows are written: the elements of the axes behind those that arrays and integers take, each alone where they
    # take all of them, and where anything else is in the index
    lead = _leading(index) or len(shape)
    front, row = shape[:lead], shape[lead:]
    if _leading(index):
        ids = _places("setitem", front, index)
        part = ids.shape + row
    else:
        index = _own(index)
        ids, part = None, _picked("setitem", np.empty(shape, np.bool_), index).shape
    value = _fitting(x, value, part)
    old, width = value._array.shape, math.prod(row)
    count = math.prod(part)
    if not count:
        return _nothing_set(x, value)
    needs = x._requires_grad, value._requires_grad
    recorded = records(x, value)
    if array.device == "cpu" and not recorded:
        # NumPy writes to a copy, so that no call sees half of it
        made = array.to("cpu")
        if ids is None:
            made.numpy(True)[index] = value._array.numpy(False)
        else:
            into, picked = made.numpy(True).reshape(-1, width), ids.ravel()
            given = expand("setitem", value.detach(), part)._array.numpy(False).reshape(-1, width)
            for piece in _pieces(len(picked), width):
                into[picked[piece]] = given[piece]
        _core.assign([(array, made)])
        return None
    picked = (_picked("setitem", _positions(shape), index) if ids is None else ids).ravel()
    chosen = np.zeros(math.prod(front), np.bool_)
    for piece in _pieces(len(picked)):
        chosen[picked[piece]] = True
    chosen = chosen.reshape(front + (1,) * len(row))
    if math.prod(old) == 1:
        _core.assign([(array, _core.where(chosen, value._array.reshape([]), x))])
    else:
        source = np.zeros((math.prod(front), width), np.int64)
        for piece in _pieces(len(picked), width):
            numbers = np.arange(piece.start * width, min(piece.stop, len(picked)) * width)
            source[picked[piece]] = numbers.reshape(-1, width)
        source = source.ravel()
        given = _core.take(expand("setitem", value.detach(), part), source, list(shape))
        _core.assign([(array, _core.where(chosen, given, x))])
    if not recorded:
        return None

    def run(dy: Any) -> Any:
        zero = _core.zeros([], dy.dtype, dy.device)
        dx = _core.where(chosen, zero, dy) if needs[0] else None
        if not needs[1]:
            return dx, None
        dv = _core.where(chosen, dy, zero)
        if math.prod(old) == 1:
            return dx, unbroadcast(dv, ()).reshape(list(old))
        return dx, unbroadcast(_core.put_add(dv, source, list(part)), old)

    return (x, value), run


def _nothing_set(x: Any, value: Any) -> Any:
    """An empty pick is recorded too: whether x requires grad must not depend on what a mask holds."""
    old = value._array.shape
    return ((x, value), lambda dy: (dy, _core.zeros(old, dy.dtype, dy.device))) if records(x, value) else None


def _view(op: str, shape: Any, index: Any) -> tuple[list[int], list[int], int]:
    """Shape, strides and offset of what a basic index picks."""
    # an array of bytes has strides that count elements; it is never read
    stand_in = np.empty(shape, np.int8)
    picked = _picked(op, stand_in, index if Ellipsis in index else (*index, Ellipsis))
    base = stand_in.__array_interface__["data"][0]
    offset = picked.__array_interface__["data"][0] - base if picked.size else 0
    return list(picked.shape), list(picked.strides), offset


def _leading(index: Any) -> int:
    """How many axes an index of arrays and integers takes from the front; 0 where anything else is in it."""
    axes = 0
    for i in index:
        if i is None or i is Ellipsis or isinstance(i, (slice, bool, np.bool_)):
            return 0
        axes += _taken(i)
    return axes


def _slices(shape: Any, index: Any) -> tuple[Any, Any]:
    """The slices that an index with arrays begins with, and what follows: it picks the same of all that they give.

    There are none where that is not so: NumPy puts the axes of arrays that stand apart in front.
    """
    rest = list(index)
    if rest[0] is Ellipsis and not any(i is Ellipsis for i in rest[1:]):
        rest[:1] = [slice(None)] * (len(shape) - sum(_taken(i) for i in rest))
    n = next(k for k, i in enumerate(rest) if not isinstance(i, slice))
    arrays = [k for k, i in enumerate(rest) if not (i is None or i is Ellipsis or isinstance(i, slice))]
    if n > len(shape) or arrays[-1] - arrays[0] >= len(arrays) or not math.prod(shape):
        return (), index
    return tuple(rest[:n]), tuple(rest[n:])


def _taken(i: Any) -> int:
    """How many axes a part of an index takes."""
    if i is None or i is Ellipsis:
        return 0
    try:
        given = np.asarray(i)
    except ValueError:  # a ragged list, which NumPy will refuse
        return 1
    return given.ndim if given.dtype == np.bool_ else 1


def _places(op: str, shape: Any, index: Any, front: Any = ()) -> np.ndarray:
    """The positions in memory that an index picks; axes of sizes `front` come before its own.

    Where it is one mask or only ids, no position of every element is made, and Ctrl-C ends it.
    """
    try:
        parts = [np.asarray(i) for i in index]
    except ValueError:  # a ragged list, which NumPy will refuse
        parts = []
    if len(parts) == 1 and parts[0].dtype == np.bool_ and parts[0].shape == shape:
        return _chosen(parts[0])
    if parts and len(parts) == len(shape) and all(i.dtype.kind in "iu" for i in parts):
        places: Any = 0
        try:
            for ids, n in zip(parts, shape, strict=True):
                counted = _counted(ids, n)
                places = counted if len(parts) == 1 else places * n + counted
            return places
        except (IndexError, ValueError):
            pass  # NumPy says why below
    return _picked(op, _positions(shape), index, front)


def _chosen(mask: np.ndarray) -> np.ndarray:
    """Where a mask is True."""
    flat, at = mask.reshape(-1), 0
    made = np.empty(np.count_nonzero(flat), np.int64)
    for piece in _pieces(len(flat)):
        found = np.flatnonzero(flat[piece])
        made[at : at + len(found)] = found + piece.start
        at += len(found)
    return made[:at]


def _counted(ids: np.ndarray, n: int) -> np.ndarray:
    """A copy of ids from -n to n - 1, all counted from the start."""
    made = np.empty(ids.shape, np.int64)
    flat, into = ids.reshape(-1), made.reshape(-1)
    for piece in _pieces(len(flat)):
        part = into[piece]
        part[:] = flat[piece]
        low = part.min()
        if low < -n or part.max() >= n:
            raise IndexError
        if low < 0:
            part[part < 0] += n
    return made


def _pieces(rows: int, width: int = 1) -> Any:
    """Slices of some 2^20 elements: between them Python handles signals, which NumPy does not."""
    step = max(2**20 // max(width, 1), 1)
    return (slice(start, start + step) for start in range(0, rows, step))


def _positions(shape: Any) -> np.ndarray:
    """The position of every element in memory."""
    return np.arange(math.prod(shape)).reshape(shape)


def _fitting(x: Any, value: Any, part: Any) -> Tensor:
    """`value` as a Tensor beside x that broadcasts to `part`: leading axes of size 1 too many go, as in NumPy."""
    if shape_of(value) is None:
        value = as_tensor("setitem", "value", value, x._array.device, None, x._array.dtype)
    shape = tuple(value.shape)
    lead = max(len(shape) - len(part), 0)
    shape = shape[lead:] if shape[:lead] == (1,) * lead else shape
    check_expands("setitem", shape, part, "value")
    value = as_tensor("setitem", "value", value, x._array.device, None, x._array.dtype)
    check_kept("setitem", "value", value, x)
    value = value.to(x.device, x.dtype)
    return value if shape == value.shape else viewed(value, shape)


def _plain(index: Any) -> Any:
    """The index as a tuple in which Tensors of ids are ndarrays, and masks ours: NumPy reads one twice."""
    index = index if isinstance(index, tuple) else (index,)
    plain = [i._array.numpy(False) if isinstance(i, Tensor) else i for i in index]
    return tuple([np.array(i) if isinstance(i, np.ndarray) and i.dtype == np.bool_ else i for i in plain])


def _own(index: Any) -> Any:
    """The index with copies of its ids: NumPy would crash where another thread writes to them meanwhile."""
    return tuple([np.array(i) if isinstance(i, np.ndarray) and i.dtype != np.bool_ else i for i in index])


def _is_basic(index: Any) -> bool:
    return all(i is None or i is Ellipsis or isinstance(i, (slice, np.integer)) or type(i) is int for i in index)


def _picked(op: str, stand_in: np.ndarray, index: Any, front: Any = ()) -> Any:
    """What NumPy picks of the stand-in; axes of sizes `front`, all of which are picked, come before its own."""
    index = _own(index)
    try:
        return stand_in[index]
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        raise _refusal(op, front + stand_in.shape, (*[slice(None)] * len(front), *index), error) from None


def _refusal(op: str, shape: Any, index: Any, error: Exception) -> Exception:
    """NumPy's refusal of an index, in the form that all errors have here."""

    def refused(expected: str, got: Any) -> Exception:
        return IndexError(message(op, "index", expected, got))

    kinds = "ints, slices, None, an Ellipsis, arrays of ints or bools"
    parts: list[Any] = []  # (what, how many axes it takes)
    for i in index:
        if isinstance(i, slice):
            parts.append((i, 1))
            try:
                i.indices(0)
            except (TypeError, ValueError):
                got = f"slice({shown(i.start)}, {shown(i.stop)}, {shown(i.step)})"
                return type(error)(message(op, "index", "slices of ints, with a step that is not 0", got))
            continue
        if i is None or i is Ellipsis:
            parts.append((i, 0))
            continue
        try:
            given = np.asarray(i)
        except ValueError:
            return refused(kinds, "a ragged list")
        if given.dtype.kind not in "biu" and (given.size or not isinstance(i, (list, tuple))) and type(i) is not int:
            return refused(kinds, f"an array of {given.dtype}" if given.ndim else shown(i))
        parts.append((given, given.ndim if given.dtype.kind == "b" else 1))
    taken = sum(axes for _, axes in parts)
    if sum(i is Ellipsis for i in index) > 1:
        return refused("at most one Ellipsis", "several")
    if taken > len(shape):
        return refused(f"at most {len(shape)} axes for shape {shape}", taken)
    axis = 0
    for part, axes in parts:
        if isinstance(part, np.ndarray):
            of = shape[axis : axis + axes]
            if part.dtype.kind == "b":
                if part.shape != of:
                    return refused(f"a mask of shape {of}", part.shape)
            elif part.size:
                low, high = part.min(), part.max()
                if low < -of[0] or high >= of[0]:
                    wanted = f"from {-of[0]} to {of[0] - 1}" if of[0] else "none"
                    return refused(f"an index of axis {axis}, {wanted}", shown(int(low if low < -of[0] else high)))
        axis += len(shape) - taken if part is Ellipsis else axes
    shapes = [part.shape for part, _ in parts if isinstance(part, np.ndarray) and part.ndim]
    return refused("arrays that broadcast with each other", f"shapes {shapes}")
