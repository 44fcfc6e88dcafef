"""t[index] and t[index] = value, with NumPy's rules, in two steps that go both ways: a view of the tensor, and of the
view the blocks that ids name.

Slices, None and an Ellipsis make the view, in which the axes that arrays pick from are whole and side by side. Arrays
of ids and masks become the ids of one axis. All that may be long goes in pieces, between which Python handles Ctrl-C,
and what another thread may write to is copied first.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import _core
from .._arguments import no_room, shown
from ..errors import DTypeError, message
from ._elementwise import unbroadcast
from ._memory import cast
from ._shape import check_expands, check_kept, contiguous_strides, repeated, viewed
from ._tape import records
from ._tensor import Tensor, as_tensor, record, shape_of, wrap

__all__ = ["getitem", "setitem"]


def getitem(x: Any, index: Any) -> Tensor:
    """The elements that `index` picks, as a copy; a gradient adds up where one is picked twice."""
    picked = _read("getitem", x._array.shape, index)
    if picked.view and picked.pick and 4 * math.prod(picked.shape) < math.prod(picked.view.shape):
        picked = picked.in_memory()
    y = picked.read(x._array)
    if not records(x):
        return wrap(y)
    return record("getitem", y, (x,), lambda dy: (picked.add(dy),))


def setitem(x: Any, index: Any, value: Any) -> Any:
    """`value` over what `index` picks, in place; the last one where an element is picked twice.

    Gives the call that writes it, and how `record` is to be called, with inputs and backward; None where nothing is to
    be written, and where nothing is to be recorded.
    """
    array = x._array
    picked = _read("setitem", array.shape, index)
    value = _fitting(x, value, picked.shape)
    old, recorded = value._array.shape, records(x, value)
    if not math.prod(picked.shape):
        # recorded too: whether x requires grad must not depend on what a mask holds
        return None, ((x, value), lambda dy: (dy, _core.zeros(old, dy.dtype, dy.device))) if recorded else None
    if recorded or math.prod(old) > 1:
        picked = picked.last()
    picked = picked.in_memory()
    write = picked.writing(array, value._array)
    if not recorded:
        return write, None
    needs = x._requires_grad, value._requires_grad

    def run(dy: Any) -> Any:
        dx = dv = None
        if needs[0]:
            dx = _core.copy_strided(dy, picked.whole, contiguous_strides(picked.whole), 0)
            picked.writing(dx, _core.zeros([], dy.dtype, dy.device))()
        if needs[1]:
            dv = unbroadcast(picked.read(dy), old)
        return dx, dv

    return write, ((x, value), run)


class _View(NamedTuple):
    """Of a tensor's memory, in elements."""

    shape: list[int]
    strides: list[int]
    offset: int


class _Pick(NamedTuple):
    """Of memory, seen as (rows, bound, width), the blocks that `ids` name."""

    ids: np.ndarray
    sizes: tuple[int, int, int]
    # of the view, if any, the axes from and to which the ids stand for
    axes: tuple[int, int]
    # whether it is known that no id comes twice
    once: bool

    def blocks(self) -> list[int]:
        """The shape of all the blocks."""
        return [self.sizes[0], len(self.ids), self.sizes[2]]


class _Picked(NamedTuple):
    """What an index picks of a tensor of shape `whole`: a view or, where there is a pick, its blocks of that view, of
    the tensor as it lies in memory where there is none."""

    whole: list[int]
    shape: list[int]
    view: _View | None
    pick: _Pick | None = None

    def read(self, array: Any) -> Any:
        """A copy of what is picked."""
        seen = _core.copy_strided(array, *self.view) if self.view else array
        if not self.pick:
            return seen
        return _core.take(seen.reshape(self.pick.sizes), self.pick.ids).reshape(self.shape)

    def add(self, values: Any) -> Any:
        """The adjoint: zeros with `values` added where they were picked."""
        if self.pick:
            values = _core.put_add(values.reshape(self.pick.blocks()), self.pick.ids, self.pick.sizes[1])
            values = values.reshape(self.view.shape if self.view else self.whole)
        if not self.view:
            return values
        return _core.place_strided(values, self.whole, self.view.strides, self.view.offset)

    def last(self) -> _Picked:
        """The same for `write`: of ids that come again only the last, the others are -1."""
        if not self.pick or self.pick.once:
            return self
        return self._replace(
            pick=self.pick._replace(ids=_core.last_ids(self.pick.ids, self.pick.sizes[1]).numpy(False), once=True)
        )

    def in_memory(self) -> _Picked:
        """The same without the view that ids pick from: an id for every block of the tensor's memory."""
        if not self.pick or not self.view:
            return self
        length = math.prod(self.whole)
        ids, width = _core.ids_through(self.pick.ids, self.view, self.pick.axes, length)
        pick = self.pick._replace(ids=ids.numpy(False), sizes=(1, length // width, width))
        return self._replace(view=None, pick=pick)

    def writing(self, array: Any, value: Any) -> Any:
        """The call that writes `value`, which broadcasts, over what is picked, in memory: all of it or none."""
        if self.view:
            return functools.partial(_core.assign_strided, array, value, *self.view)
        pick: Any = self.pick
        if math.prod(value.shape) != 1:
            value = repeated(value, self.shape) if list(value.shape) != self.shape else value
            value = value.reshape(pick.blocks())
        return functools.partial(_core.assign_at, array.reshape(pick.sizes), pick.ids, value)


def _read(op: str, shape: Any, index: Any) -> _Picked:
    index = index if isinstance(index, tuple) else (index,)
    index = tuple([i._array.numpy(False) if isinstance(i, Tensor) else i for i in index])
    for i in index:
        if isinstance(i, np.ndarray) and type(i) is not np.ndarray and np.ma.is_masked(i):
            hint = "say what stands for them: index.filled(False)"
            raise DTypeError(message(op, "index", "arrays without masked entries", "a masked array", hint))
    try:
        if all(_is_view(i) or isinstance(i, np.integer) or type(i) is int for i in index):
            view = _view(shape, index)
            return _Picked(list(shape), view.shape, view)
        return _split(op, shape, index)
    except DTypeError:
        raise
    except MemoryError:
        raise no_room(op, "the ids of the index") from None
    except (IndexError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise _refusal(op, shape, index, error) from None


def _is_view(i: Any) -> bool:
    return i is None or i is Ellipsis or isinstance(i, slice)


def _view(shape: Any, index: Any) -> _View:
    """What slices, ints, None and an Ellipsis show."""
    rest = len(shape) - sum(not (i is None or i is Ellipsis) for i in index)
    index = index if Ellipsis in index else (*index, Ellipsis)
    if rest < 0 or sum(i is Ellipsis for i in index) > 1:
        raise IndexError
    sizes: list[int] = []
    strides: list[int] = []
    offset = 0
    axes = zip(shape, contiguous_strides(shape), strict=True)
    for i in index:
        if i is None:
            sizes.append(1)
            strides.append(0)
        elif i is Ellipsis:
            for size, step in itertools.islice(axes, rest):
                sizes.append(size)
                strides.append(step)
        else:
            size, step = next(axes)
            places = range(size)[i]
            if isinstance(places, range):
                sizes.append(len(places))
                strides.append(step * places.step if len(places) > 1 else 0)
                places = places.start
            offset += places * step
    return _View(sizes, strides, offset if 0 not in sizes else 0)


def _split(op: str, shape: Any, index: Any) -> _Picked:
    """View and pick of an index with arrays in it; an int beside them is one. Errors say nothing: see `_refusal`."""
    parts = [i if _is_view(i) else _array(op, i) for i in index]
    at = [k for k, i in enumerate(parts) if isinstance(i, np.ndarray)]
    # what arrays with anything between them pick comes in front
    apart = at[-1] - at[0] >= len(at)
    rest = len(shape) - sum(_axes(i) for i in parts)
    if rest < 0 or sum(i is Ellipsis for i in parts) > 1:
        raise IndexError
    basic: list[Any] = []  # the view's index, which makes an axis of each of its parts
    axes: list[int] = []  # of the view, those that arrays pick from
    named: list[tuple[np.ndarray, int]] = []  # of each array the ids, and what they are below
    axis = 0
    for i in parts:
        if not isinstance(i, np.ndarray):
            basic += [slice(None)] * rest if i is Ellipsis else [i]
            axis += rest if i is Ellipsis else _axes(i)
            continue
        of = shape[axis : axis + _axes(i)]
        basic += [slice(None)] * len(of) or [None]
        axes += range(len(basic) - max(len(of), 1), len(basic))
        named.append((_ids(i, of), math.prod(of)))
        axis += len(of)
    view, first = _view(shape, tuple(basic)), axes[0]
    if apart:
        order = axes + [axis for axis in range(len(view.shape)) if axis not in axes]
        view, first = _View([view.shape[a] for a in order], [view.strides[a] for a in order], view.offset), 0
    seen = view.shape
    whole = not apart and math.prod(seen) == math.prod(shape) and min(view.strides) >= 0
    last = first + len(axes)
    ids, front, behind = _joined(named), seen[:first], seen[last:]
    sizes = math.prod(front), math.prod(bound for _, bound in named), math.prod(behind)
    once = len(at) == 1 and parts[at[0]].dtype == np.bool_
    pick = _Pick(ids.reshape(-1), sizes, (first, last), once)
    return _Picked(list(shape), [*front, *ids.shape, *behind], None if whole else view, pick)


def _array(op: str, i: Any) -> np.ndarray:
    """Of a mask a copy: it is read twice."""
    given = _core.ndarray(op, "index", i) if isinstance(i, (list, tuple)) else np.asarray(i)
    if given.dtype == np.bool_:
        return cast(given, np.bool_)
    if given.dtype.kind not in "iu" and (given.size or not isinstance(i, (list, tuple))):
        raise IndexError
    return given


def _axes(i: Any) -> int:
    """How many axes a part of an index takes."""
    if isinstance(i, np.ndarray):
        return i.ndim if i.dtype == np.bool_ else 1
    return int(isinstance(i, slice))


def _ids(given: np.ndarray, of: Any) -> np.ndarray:
    """The ids, counted from 0, of the elements that an array picks from axes of sizes `of`."""
    if given.dtype != np.bool_:
        return _counted(given, of[0])
    if given.shape != of:
        raise IndexError
    flat, at = given.reshape(-1), 0
    made = np.empty(np.count_nonzero(flat), np.int64)
    for piece in _pieces(len(flat)):
        found = np.flatnonzero(flat[piece])
        made[at : at + len(found)] = found + piece.start
        at += len(found)
    return made


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


def _joined(named: Any) -> np.ndarray:
    """The ids of several axes side by side, which broadcast with each other, as ids of all their elements."""
    if len(named) == 1:
        return named[0][0]
    shape = np.broadcast_shapes(*[ids.shape for ids, _ in named])
    made = np.zeros(shape, np.int64)
    into = made.reshape(-1)
    for ids, bound in named:
        flat = ids.reshape(-1) if ids.shape == shape else np.broadcast_to(ids, shape).flat
        for piece in _pieces(len(into)):
            part = into[piece]
            part *= bound
            part += ids.reshape(-1) if ids.size == 1 else flat[piece]
    return made


def _pieces(n: int) -> Any:
    """Slices of 2^20 elements: between them Python handles signals, which NumPy does not."""
    return (slice(start, start + 2**20) for start in range(0, n, 2**20))


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
        except Exception:  # of whatever library
            return refused(kinds, "a ragged list" if isinstance(i, (list, tuple)) else type(i).__name__)
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
