"""Tensor: an array that remembers how it was computed.

The class says what there is. How it is done stands in the family modules (`_elementwise`, `_in_place`, `_exchange`,
...), the walk back in `_tape`. A class cannot be made without its operators, nor they without it: the families import
this module, and its last line imports them. That is the one import cycle of the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from .. import _core, runtime
from .._arguments import flag
from ..errors import DTypeError, ShapeError, message
from . import _tape
from ._tape import Node, records

__all__ = [
    "Saved",
    "Tensor",
    "as_floats",
    "as_ndarray",
    "as_tensor",
    "dtype_beside",
    "leaves",
    "record",
    "record_many",
    "shape_of",
    "wrap",
]

Saved = _core.Saved

# what a tensor's memory is used for, beside its own Tensor
FIXED = 1  # a parameter's or buffer's: NumPy gets read-only views
SHARED = 2  # another Tensor of another shape has the same memory

_DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "int64")}


class Tensor:
    """An n-dimensional array on a device, whose gradient can be asked for.

    Operators broadcast as NumPy's do and take Tensors, arrays, lists and numbers; comparisons give bool ndarrays.
    Lists become arrays, so that none may hold a Tensor that requires grad: `stack` and `cat` keep its gradient.
    Results are new memory, but for `reshape` and `detach`, which share it.

    Args:
        data: an array (copied), anything with DLPack, nested lists (float32 where they hold floats), or a number.
        requires_grad: whether `backward` fills `.grad`.
        device: "cpu", "gpu", "gpu:N", "auto"; None is that of `data` if it is a Tensor, else the CPU.
        dtype: float32, float64 (CPU only) or int64 (ids), by NumPy dtype or name; None keeps that of `data`.

    Raises:
        DTypeError, ShapeError: for what is no plain array of numbers; DeviceError: no such device.

    Example:
        >>> import seqcore
        >>> t = seqcore.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        >>> (t * t).sum().backward()
        >>> t.grad
        Tensor([[2., 4.],
                [6., 8.]])
    """

    __slots__ = ("__weakref__", "_array", "_edge", "_flags", "_grad", "_requires_grad")
    __array_ufunc__ = None  # so that `ndarray + Tensor` asks us (S-14)
    __hash__ = object.__hash__

    _array: Any  # a `_core.Array`
    _requires_grad: bool
    _grad: Tensor | None
    _edge: Any  # (node, which of its outputs), or None for a leaf
    _flags: int

    def __init__(self, data: Any, requires_grad: bool = False, device: Any = None, dtype: Any = None) -> None:
        place = data.device if device is None and isinstance(data, Tensor) else runtime.place(device)
        if isinstance(data, Tensor):
            array = data._array.to(data._array.device)
        else:
            wanted = "float32" if dtype is None or runtime.dtype_name(dtype, place) == "float32" else "float64"
            array = _core.array(data, "cpu", "Tensor", "data", None, wanted)
        name = runtime.dtype_name(array.dtype if dtype is None else dtype, place)
        self._array = array if (name, place) == (array.dtype, array.device) else array.to(place, name)
        self._grad = None
        self._edge = None
        self._flags = 0
        self._requires_grad = flag("Tensor", "requires_grad", requires_grad)
        if self._requires_grad:
            self._check_floats("Tensor")

    def _check_floats(self, op: str) -> None:
        """DTypeError of a new tensor of integers that is to require grad."""
        if self._array.dtype == "int64":
            hint = 'dtype="float32" converts it'
            raise DTypeError(message(op, "data", "float32 or float64, to require grad", "int64", hint))

    # ---- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, a tuple."""
        return self._array.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._array.shape)

    @property
    def dtype(self) -> np.dtype:
        """Element type, a NumPy dtype."""
        return _DTYPES[self._array.dtype]

    @property
    def device(self) -> str:
        """ "cpu" or "gpu:N"."""
        return self._array.device

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user and not by a recorded operation."""
        return self._edge is None

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: Any) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Says whether `backward` fills `.grad` of this leaf; gives the Tensor itself."""
        requires_grad = flag("requires_grad", "requires_grad", requires_grad)
        if requires_grad and self._array.dtype == "int64":
            raise DTypeError(message("requires_grad", "tensor", "float32 or float64", "int64"))
        if not requires_grad and self._edge is not None:
            raise RuntimeError(
                message("requires_grad", "tensor", "a leaf", "the result of an operation", "use detach()")
            )
        self._requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` calls have added up, a Tensor, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                value = as_tensor("grad", "value", value, self.device, None, self._array.dtype)
            if value.shape != self.shape:
                raise ShapeError(message("grad", "value", self.shape, value.shape))
            if value.dtype != self.dtype:
                raise DTypeError(message("grad", "value", self.dtype, value.dtype))
            runtime.check_device("grad", "value", value.device, self.device)
        self._grad = value

    def __len__(self) -> int:
        if not self._array.shape:
            raise TypeError(message("len", "tensor", "at least one axis", "shape ()"))
        return self._array.shape[0]

    def __repr__(self) -> str:
        body = np.array2string(self._array.numpy(False), separator=", ", prefix="Tensor(")
        extra = "" if self._array.dtype == "float32" else f", dtype={self._array.dtype}"
        if self.device != "cpu":
            extra += f', device="{self.device}"'
        if self._edge is not None:
            extra += f", from={self._edge[0].op}"
        elif self._requires_grad:
            extra += ", requires_grad=True"
        return f"{type(self).__name__}({body}{extra})"

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if math.prod(self._array.shape) != 1:
            got = f"{spec!r} for shape {self.shape}"
            raise TypeError(message("format", "tensor", "one element where a format is given", got, "str(t) shows all"))
        return format(self.item(), spec)

    # ---- into NumPy and Python

    def numpy(self, copy: bool = False) -> np.ndarray:
        """An ndarray of the values.

        On the CPU a view of the Tensor's memory: read-only while the Tensor requires grad, is a parameter or
        buffer, or is needed by a coming `backward`. From a GPU a copy. `copy=True` always gives an array of your own.

        Example:
            >>> import seqcore
            >>> seqcore.Tensor([1.0, 2.0]).numpy()
            array([1., 2.], dtype=float32)
        """
        if flag("numpy", "copy", copy):
            return self._array.to("cpu").numpy(True)
        return self._array.numpy(not (self._requires_grad or self._flags & FIXED))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return _exchange.array(self, dtype, copy)

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        return _exchange.dlpack(self, stream, max_version, dl_device, copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _exchange.dlpack_device(self)

    def item(self) -> Any:
        """The one element as a Python number.

        Raises:
            ShapeError: there are none or several.
        """
        size = math.prod(self._array.shape)
        if size != 1:
            raise ShapeError(message("item", "tensor", "one element", f"{size} of shape {self.shape}"))
        return self._array.numpy(False).item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if math.prod(self._array.shape) != 1:
            raise ValueError(
                message("bool", "tensor", "one element", f"shape {self.shape}", "use (t > 0).any() or .all()")
            )
        return bool(self.item())

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _exchange.reduced(self)

    def __deepcopy__(self, memo: Any) -> Any:
        return _exchange.deep_copied(self, memo)

    # ---- the tape

    def backward(self, gradient: Any = None) -> None:
        """Adds d(this)/d(leaf) to `.grad` of every leaf that requires grad and this was computed from.

        Args:
            gradient: of the same shape and dtype as this; None is 1, for a Tensor of one element.

        Raises:
            RuntimeError: nothing was recorded; the graph was used before; several elements and no gradient; a
                tensor that the forward call used was changed since. No `.grad` changes then.
        """
        if not self._requires_grad:
            raise RuntimeError(
                message("backward", "tensor", "one that requires grad", "one that does not", "was it under no_grad?")
            )
        shape = self._array.shape
        given = gradient is not None
        if given:
            # an array is copied when it is known to fit; what has no shape yet is small
            if shape_of(gradient) is None:
                gradient = as_tensor("backward", "gradient", gradient, self._array.device, None, self._array.dtype)
            if tuple(gradient.shape) != shape:
                raise ShapeError(message("backward", "gradient", shape, tuple(gradient.shape)))
            array = as_tensor("backward", "gradient", gradient, self._array.device, None, self._array.dtype)._array
            if array.dtype != self._array.dtype:
                raise DTypeError(message("backward", "gradient", self._array.dtype, array.dtype))
            runtime.check_device("backward", "gradient", array.device, self._array.device)
            if array.shape != shape:  # it said another
                raise ShapeError(message("backward", "gradient", shape, array.shape))
        else:
            if np.prod(shape, dtype=object) != 1:
                hint = "give one, or call .sum().backward()"
                raise RuntimeError(message("backward", "gradient", f"an array of shape {shape}", None, hint))
            array = _core.fill(shape, 1.0, self._array.dtype, self._array.device)
        _tape.backward(self, array, wrap, given)

    def detach(self) -> Tensor:
        """The same memory without a history: nothing done to the result is recorded."""
        made = wrap(self._array)
        made._flags = self._flags & FIXED
        return made

    def to(self, device: Any = None, dtype: Any = None) -> Tensor:
        """The Tensor on `device` and of `dtype`: itself when nothing changes, else a copy, recorded.

        Raises:
            DTypeError: float64 on a GPU; DeviceError: no such device; ValueError: a name of neither.
        """
        if dtype is None and device is not None and not runtime.is_device(device):
            device, dtype = None, device
        here, was = self._array.device, self._array.dtype
        place = here if device is None else runtime.place(device)
        name = runtime.dtype_name(was if dtype is None else dtype, place, "to")
        if (place, name) == (here, was):
            return self
        made = self._array.to(place, name)
        if name == "int64" or not records(self):
            return wrap(made)
        return record("to", made, (self,), lambda dy: (dy.to(here, was),))

    def float(self) -> Tensor:
        """The Tensor as float32."""
        return self.to(dtype="float32")

    def double(self) -> Tensor:
        """The Tensor as float64 (CPU only)."""
        return self.to(dtype="float64")

    # ---- in place; the memory's version goes up, so that nothing stale is used

    def copy_(self, source: Any) -> Self:
        """Writes `source`, broadcast, over all values; gives the Tensor itself.

        Raises:
            DTypeError: floats for a tensor of int64, as by index, too: they would be cut.
        """
        return _in_place.copy(self, source)

    def zero_(self) -> Self:
        """Writes 0 over all values; gives the Tensor itself."""
        return _in_place.zero(self)

    def __setitem__(self, index: Any, value: Any) -> None:
        _in_place.setitem(self, index, value)

    def __iadd__(self, other: Any) -> Self:
        return _in_place.apply("+=", _elementwise.add, self, other)

    def __isub__(self, other: Any) -> Self:
        return _in_place.apply("-=", _elementwise.sub, self, other)

    def __imul__(self, other: Any) -> Self:
        return _in_place.apply("*=", _elementwise.mul, self, other)

    def __itruediv__(self, other: Any) -> Self:
        return _in_place.apply("/=", _elementwise.div, self, other)

    # ---- operators

    def __add__(self, other: Any) -> Tensor:
        return _elementwise.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _elementwise.add(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return _elementwise.sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _elementwise.sub(self, other, True)

    def __mul__(self, other: Any) -> Tensor:
        return _elementwise.mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _elementwise.mul(self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return _elementwise.div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _elementwise.div(self, other, True)

    def __pow__(self, other: Any) -> Tensor:
        return _elementwise.power(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _elementwise.power(self, other, True)

    def __neg__(self) -> Tensor:
        return _elementwise.neg(self)

    def __pos__(self) -> Tensor:
        return self

    def __matmul__(self, other: Any) -> Tensor:
        return _linear.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _linear.matmul(other, self)

    def __lt__(self, other: Any) -> np.ndarray:
        return _elementwise.compare(np.less, self, other)

    def __le__(self, other: Any) -> np.ndarray:
        return _elementwise.compare(np.less_equal, self, other)

    def __gt__(self, other: Any) -> np.ndarray:
        return _elementwise.compare(np.greater, self, other)

    def __ge__(self, other: Any) -> np.ndarray:
        return _elementwise.compare(np.greater_equal, self, other)

    def __eq__(self, other: Any) -> Any:
        return _elementwise.compare(np.equal, self, other)

    def __ne__(self, other: Any) -> Any:
        return _elementwise.compare(np.not_equal, self, other)

    def __getitem__(self, index: Any) -> Tensor:
        return _indexing.getitem(self, index)

    def exp(self) -> Tensor:
        """e to the power of each element."""
        return _elementwise.exp(self)

    def log(self) -> Tensor:
        """The natural logarithm of each element."""
        return _elementwise.log(self)

    def sqrt(self) -> Tensor:
        """The square root of each element."""
        return _elementwise.sqrt(self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x)) of each element."""
        return _activation.sigmoid(self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent of each element."""
        return _activation.tanh(self)

    def relu(self) -> Tensor:
        """The larger of 0 and each element."""
        return _activation.relu(self)

    def matmul(self, other: Any) -> Tensor:
        """The matrix product, with NumPy's rules for one and for more than two axes."""
        return _linear.matmul(self, other)

    def sum(self, dim: Any = None, keepdim: bool = False, **names: Any) -> Tensor:
        """The sum over axes `dim` (an int, several, or None for all); NumPy's names `axis`, `keepdims` work too.

        No axes are all of them as `dim=()`, as in PyTorch, and none as `axis=()`, as in NumPy.
        """
        return _reduce.sum(self, dim, keepdim, **names)

    def mean(self, dim: Any = None, keepdim: bool = False, **names: Any) -> Tensor:
        """The mean over axes as `sum` takes them; of nothing it is NaN."""
        return _reduce.mean(self, dim, keepdim, **names)

    def reshape(self, *shape: Any) -> Tensor:
        """The same values in the same order under another shape, in the same memory; one size may be -1."""
        return _shape.reshape(self, *shape)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes swapped."""
        return _shape.transpose(self, dim0, dim1)

    def permute(self, *dims: Any) -> Tensor:
        """The axes in another order."""
        return _shape.permute(self, *dims)

    @property
    def T(self) -> Tensor:
        """The axes in reverse order."""
        return _shape.permute(self, *range(self.ndim - 1, -1, -1))


_new = object.__new__


def wrap(array: Any) -> Tensor:
    """A Tensor of an Array, without a history."""
    made = _new(Tensor)
    made._array = array
    made._requires_grad = False
    made._grad = None
    made._edge = None
    made._flags = 0
    return made


def record(op: str, array: Any, inputs: Any, run: Any) -> Tensor:
    """A Tensor of `array`, made by `op` from the Tensors `inputs`; `run` takes its gradient back."""
    made = wrap(array)
    made._requires_grad = True
    made._edge = (Node(op, inputs, run), 0)
    return made


def record_many(op: str, arrays: Any, inputs: Any, run: Any) -> list[Tensor]:
    """As `record`, for an operation with several results: `run` takes one gradient or None for each."""
    node = Node(op, inputs, run, len(arrays))
    made = [wrap(array) for array in arrays]
    for place, tensor in enumerate(made):
        tensor._requires_grad = True
        tensor._edge = (node, place)
    return made


def as_tensor(
    op: str, name: str, value: Any, device: Any = "cpu", beside: Any = None, dtype: str = "float32"
) -> Tensor:
    """The value if it is a Tensor, else a copy on `device`, if it broadcasts with `beside`; errors: `name` of `op`.

    `dtype` is that of the tensor that Python's own numbers will stand beside.
    """
    if isinstance(value, Tensor):
        return value
    listed = "float64" if dtype == "float64" else "float32"
    return wrap(_core.array(value, device, op, name, beside, listed))


def as_floats(
    op: str, name: str, value: Any, device: Any = "cpu", beside: Any = None, dtype: str = "float32"
) -> Tensor:
    """As `as_tensor`; integers are refused in the words of what was given: a Tensor of them would be told to use `to`,
    which arrays and lists lack."""
    made = as_tensor(op, name, value, device, beside, dtype)
    if made is not value and made._array.dtype == "int64":
        how = f'{name}.astype("float32")' if hasattr(value, "astype") else f'numpy.asarray({name}, "float32")'
        raise DTypeError(message(op, name, "float32 or float64", "int64", f"{how} converts it"))
    return made


def as_ndarray(op: str, name: str, value: Any) -> np.ndarray:
    """The values of any array, of a Tensor on any device or of nested lists; errors: `name` of `op`."""
    return value._array.numpy(False) if isinstance(value, Tensor) else _core.ndarray(op, name, value)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape that an array says it has, None for anything else."""
    shape = getattr(value, "shape", None)
    return tuple(shape) if isinstance(shape, (tuple, list)) else None


def dtype_beside(values: Any) -> str:
    """What `as_tensor` takes as `dtype` for Python's numbers among the values."""
    names = (v._array.dtype if isinstance(v, Tensor) else str(getattr(v, "dtype", "")) for v in values)
    return "float64" if any(name.endswith("float64") for name in names) else "float32"


_CONSTANT = None


def leaves(inputs: Any) -> list[Any]:
    """The inputs of a node, where arrays and None stand as Tensors that need no gradient."""
    return [t if isinstance(t, Tensor) else _CONSTANT for t in inputs]


def _rebuild(cls: Any, array: Any, requires_grad: Any, flags: Any) -> Any:
    """A leaf of class `cls`; pickles name this function."""
    made = _new(cls)
    made._array = array if isinstance(array, _core.Array) else _core.array(array)
    made._requires_grad = requires_grad
    made._grad = None
    made._edge = None
    made._flags = flags
    return made


_CONSTANT = wrap(_core.array([0.0]))

# they take Tensor from here, so they come last
from . import _activation, _elementwise, _exchange, _in_place, _indexing, _linear, _reduce, _shape  # noqa: E402
