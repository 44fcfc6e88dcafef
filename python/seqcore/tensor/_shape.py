"""Shapes: reshape, permute, transpose, expand, cat, stack. `reshape` shares memory; all others copy."""

from __future__ import annotations

import math
from typing import Any

from .. import _core, runtime
from .._arguments import integer, several, shown, shown_shape
from ..errors import DTypeError, ShapeError, message
from ._elementwise import unbroadcast
from ._tape import records
from ._tensor import FIXED, SHARED, Tensor, as_tensor, dtype_beside, record, shape_of, wrap

__all__ = ["cat", "expand", "permute", "reshape", "stack", "transpose", "viewed"]


def contiguous_strides(shape: Any) -> list[int]:
    """Strides, in elements, of an array of this shape in C order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return strides[::-1]


def axis_of(op: str, dim: Any, rank: int, name: str = "dim") -> int:
    """`dim` as an index from 0, or IndexError."""
    dim = integer(op, name, dim)
    if not -rank <= dim < rank:
        wanted = f"an axis from {-rank} to {rank - 1}" if rank else "no axis, as there is none"
        raise IndexError(message(op, name, wanted, shown(dim)))
    return dim % rank


def reshape(x: Any, *shape: Any) -> Tensor:
    """The same values in the same order under another shape."""
    sizes = _several("reshape", "shape", shape, lambda n: integer("reshape", "shape", n))
    old = x._array.shape
    if sizes.count(-1) == 1:
        size, rest = math.prod(old), math.prod(n for n in sizes if n != -1)
        if rest > 0 and size % rest == 0:
            sizes[sizes.index(-1)] = size // rest
    if min(sizes, default=0) < 0 or math.prod(sizes) != math.prod(old):
        raise ShapeError(message("reshape", "shape", f"a shape for the elements of {old}", shown_shape(sizes)))
    # beside a 0 any others give no elements, but NumPy can show no array whose other sizes would not fit
    if math.prod(n for n in sizes if n) >= 1 << 60:
        raise MemoryError(message("reshape", "shape", "sizes that fit into memory", shown_shape(sizes)))
    y = x._array.reshape(sizes)
    x._flags |= SHARED
    if records(x):
        made = record("reshape", y, (x,), lambda dy: (dy.reshape(old),))
    else:
        made = wrap(y)
    made._flags = SHARED | (x._flags & FIXED)
    return made


def permute(x: Any, *dims: Any) -> Tensor:
    """The axes in another order."""
    old = x._array.shape
    order = _several("permute", "dims", dims, lambda d: axis_of("permute", d, len(old), "dims"))
    if sorted(order) != list(range(len(old))):
        raise ShapeError(message("permute", "dims", f"each of the {len(old)} axes once", tuple(order)))
    y = _permuted(x._array, order)
    if not records(x):
        return wrap(y)
    back = [order.index(i) for i in range(len(order))]
    return record("permute", y, (x,), lambda dy: (_permuted(dy, back),))


def _several(op: str, name: str, given: Any, check: Any) -> list[int]:
    """Integers, given one by one or as one sequence, each as `check` gives it."""
    one_by_one = len(given) != 1 or (hasattr(given[0], "__index__") and not getattr(given[0], "ndim", 0))
    return several(op, name, given if one_by_one else given[0], "integers", check)


def _permuted(array: Any, dims: Any) -> Any:
    shape = array.shape
    strides = contiguous_strides(shape)
    return _core.copy_strided(array, [shape[d] for d in dims], [strides[d] for d in dims], 0)


def transpose(x: Any, dim0: int, dim1: int) -> Tensor:
    """Two axes swapped."""
    dims = list(range(x.ndim))
    a, b = axis_of("transpose", dim0, x.ndim, "dim0"), axis_of("transpose", dim1, x.ndim, "dim1")
    dims[a], dims[b] = dims[b], dims[a]
    return permute(x, *dims)


def check_expands(op: str, old: Any, shape: Any, name: str = "tensor") -> None:
    """ShapeError, about argument `name`, unless an array of shape `old` can be repeated to `shape`."""
    lead = len(shape) - len(old)
    if lead < 0 or any(n not in (1, shape[lead + i]) for i, n in enumerate(old)):
        raise ShapeError(message(op, name, f"a shape that broadcasts to {tuple(shape)}", old))


def check_fits(op: str, name: str, value: Any, shape: Any) -> None:
    """As `check_expands`, for any argument before it is copied; what has no shape yet is small."""
    given = shape_of(value)
    if given is not None:
        check_expands(op, given, shape, name)


def check_kept(op: str, name: str, value: Any, into: Any) -> None:
    """DTypeError where writing the Tensor `value` into the memory of `into` would cut floats to integers."""
    was, kept = value._array.dtype, into._array.dtype
    if kept == "int64" != was:
        hint = f'Tensor({name}, dtype="int64") cuts floats to integers'
        raise DTypeError(message(op, name, "integers, for a tensor of int64", was, hint))


def expand(op: str, x: Any, shape: Any) -> Tensor:
    """x repeated along axes of size 1 and in front, to `shape`."""
    old, shape = x._array.shape, tuple(shape)
    if old == shape:
        return x
    check_expands(op, old, shape)
    y = repeated(x._array, shape)
    if not records(x):
        return wrap(y)
    return record("expand", y, (x,), lambda dy: (unbroadcast(dy, old),))


def repeated(array: Any, shape: Any) -> Any:
    """An Array repeated along axes of size 1 and in front, to `shape`, which it is known to fit."""
    old = array.shape
    lead = [0] * (len(shape) - len(old))
    strides = [0 if n == 1 else step for n, step in zip(old, contiguous_strides(old), strict=True)]
    return _core.copy_strided(array, list(shape), lead + strides, 0)


def cat(tensors: Any, dim: Any = 0) -> Tensor:
    """Tensors or arrays joined along an axis that they have.

    Args:
        tensors: an iterable of Tensors or arrays, of one shape but for that axis.
        dim: the axis, from -rank to rank - 1.

    Returns:
        a new Tensor in the widest of their dtypes (float64, float32, int64), on the device of the Tensors among them.

    Raises:
        ShapeError: shapes that differ in another axis, or have none; IndexError: no such axis; DeviceError: Tensors on
            several devices; TypeError: no iterable, or one array; DTypeError: no numbers; ValueError: nothing to join.

    Example:
        >>> import seqcore
        >>> seqcore.cat([[1.0], [2.0, 3.0]])
        Tensor([1., 2., 3.])
    """
    tensors = _tensors("cat", tensors)
    rank = tensors[0].ndim
    if rank == 0:
        raise ShapeError(message("cat", "tensors[0]", "at least one axis", "shape ()", "use stack"))
    dim = axis_of("cat", dim, rank)
    first = tensors[0].shape
    for i, t in enumerate(tensors):
        if t.ndim != rank or any(n != m for d, (n, m) in enumerate(zip(t.shape, first, strict=True)) if d != dim):
            raise ShapeError(message("cat", f"tensors[{i}]", f"{first} but for axis {dim}", t.shape))
    y = _core.cat([t._array for t in tensors], dim)
    if not records(*tensors):
        return wrap(y)
    shapes, needs = [t.shape for t in tensors], [t._requires_grad for t in tensors]

    def run(dy: Any) -> Any:
        strides, offset, parts = contiguous_strides(dy.shape), 0, []
        for shape, need in zip(shapes, needs, strict=True):
            parts.append(_core.copy_strided(dy, list(shape), strides, offset * strides[dim]) if need else None)
            offset += shape[dim]
        return parts

    return record("cat", y, tensors, run)


def stack(tensors: Any, dim: Any = 0) -> Tensor:
    """Tensors or arrays of one shape joined along a new axis.

    Args:
        tensors: an iterable of Tensors or arrays; dim: where the axis will be, from -rank - 1 to rank.

    Returns:
        a new Tensor in the widest of their dtypes (float64, float32, int64), on the device of the Tensors among them.

    Raises:
        ShapeError: shapes that differ; IndexError: dim out of range; DeviceError: Tensors on several devices;
            TypeError: no iterable, or one array; DTypeError: no numbers; ValueError: nothing to join.

    Example:
        >>> import seqcore
        >>> seqcore.stack([[1.0, 2.0], [3.0, 4.0]]).shape
        (2, 2)
    """
    tensors = _tensors("stack", tensors)
    shape = tensors[0].shape
    for i, t in enumerate(tensors):
        if t.shape != shape:
            raise ShapeError(message("stack", f"tensors[{i}]", shape, t.shape))
    dim = axis_of("stack", dim, len(shape) + 1)
    wide = (*shape[:dim], 1, *shape[dim:])
    return cat([viewed(t, wide) for t in tensors], dim)


def viewed(x: Any, shape: Any) -> Tensor:
    """As `reshape`, for use in between: nobody will see that the memory is shared, so x may be written to."""
    y, old = x._array.reshape(list(shape)), x._array.shape
    if records(x):
        return record("reshape", y, (x,), lambda dy: (dy.reshape(old),))
    return wrap(y)


def _tensors(op: str, tensors: Any) -> list[Tensor]:
    """The arguments of a join as Tensors of one dtype, the widest of theirs, on one device."""
    if hasattr(tensors, "__array__"):
        # as in PyTorch: its rows are joined already, and there may be any number of them
        raise TypeError(
            message(op, "tensors", "an iterable of tensors", shown(tensors), "give a list or tuple of them")
        )
    given = several(op, "tensors", tensors, "tensors", lambda t: t)
    if not given:
        raise ValueError(message(op, "tensors", "at least one", "none"))
    device = next((t.device for t in given if isinstance(t, Tensor)), "cpu")
    beside = dtype_beside(given)
    made = [as_tensor(op, f"tensors[{i}]", t, device, None, beside) for i, t in enumerate(given)]
    for i, t in enumerate(made):
        runtime.check_device(op, f"tensors[{i}]", t.device, device)
    found = {t._array.dtype for t in made}
    wide = next(name for name in ("float64", "float32", "int64") if name in found)
    return [t.to(dtype=wide) for t in made]
