"""Element by element: + - * / **, exp, log, sqrt, where, comparisons; broadcasting, and PyTorch's promotion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _core
from .._arguments import no_room, shown
from ..errors import DTypeError, ShapeError, message
from ._memory import pieces
from ._tape import records
from ._tensor import Saved, Tensor, as_floats, as_ndarray, as_tensor, dtype_beside, record, wrap

__all__ = ["add", "compare", "div", "exp", "log", "mul", "neg", "operand", "power", "sqrt", "sub", "where"]


def add(a: Any, b: Any) -> Any:
    """a + b."""
    b = operand("add", a, b)
    if b is NotImplemented:
        return b
    if type(b) is float:
        return _scalar("add", a, b, False, lambda dy: dy)
    return _pair("add", a, b, lambda dy, a, b: dy, lambda dy, a, b: dy, ("", ""))


def sub(a: Any, b: Any, reverse: bool = False) -> Any:
    """a - b; with `reverse` b - a."""
    b = operand("sub", a, b)
    if b is NotImplemented:
        return b
    if type(b) is float:
        return _scalar("sub", a, b, reverse, _negative if reverse else lambda dy: dy)
    a, b = (b, a) if reverse else (a, b)
    return _pair("sub", a, b, lambda dy, a, b: dy, lambda dy, a, b: _negative(dy), ("", ""))


def mul(a: Any, b: Any) -> Any:
    """a * b."""
    b = operand("mul", a, b)
    if b is NotImplemented:
        return b
    if type(b) is float:
        return _scalar("mul", a, b, False, lambda dy: _core.binary_scalar("mul", dy, b, False))
    return _pair("mul", a, b, lambda dy, a, b: _mul(dy, b), lambda dy, a, b: _mul(dy, a), ("b", "a"))


def div(a: Any, b: Any, reverse: bool = False) -> Any:
    """a / b; with `reverse` b / a."""
    b = operand("div", a, b)
    if b is NotImplemented:
        return b
    if type(b) is float and not reverse:
        return _scalar("div", a, b, False, lambda dy: _core.binary_scalar("div", dy, b, False))
    if type(b) is float:
        if not records(a):
            return wrap(_core.binary_scalar("div", a, b, True))
        kept = Saved(a._array)

        def reciprocal_backward(dy: Any) -> Any:
            # b / a / a, as a * a may be 0 or infinite where the slope is neither
            a = kept.get("div")
            return _negative(_mul(dy, _div(_core.binary_scalar("div", a, b, True), a)))

        y = _core.binary_scalar("div", a, b, True)
        return record("div", y, (a,), lambda dy: (reciprocal_backward(dy),))
    a, b = (b, a) if reverse else (a, b)

    def db(dy: Any, a: Any, b: Any) -> Any:
        return _negative(_mul(dy, _div(_div(a, b), b)))

    return _pair("div", a, b, lambda dy, a, b: _div(dy, b), db, ("b", "ab"))


def power(a: Any, b: Any, reverse: bool = False) -> Any:
    """a ** b; with `reverse` b ** a. The gradient in the exponent is 0 at base 0 (as PyTorch has it)."""
    b = operand("pow", a, b)
    if b is NotImplemented:
        return b
    if type(b) is float and not reverse:

        def scalar_backward(dy: Any) -> Any:
            if b == 0.0:
                return _core.zeros(dy.shape, dy.dtype, dy.device)
            slope = _core.binary_scalar("pow", kept.get("pow"), b - 1.0, False)
            return _mul(dy, _core.binary_scalar("mul", slope, b, False))

        if not records(a):
            return wrap(_core.binary_scalar("pow", a, b, False))
        kept = Saved(a._array)
        y = _core.binary_scalar("pow", a, b, False)
        return record("pow", y, (a,), lambda dy: (scalar_backward(dy),))
    if type(b) is float:
        y = _core.binary_scalar("pow", a, b, True)
        if not records(a):
            return wrap(y)
        kept_y, slope = Saved(y), math.log(b) if b > 0 else math.nan

        def exponent_backward(dy: Any) -> Any:
            y = kept_y.get("pow")
            if b == 0:
                # y is 0, 1, infinite or NaN; a finite one is no slope, though times log 0 it were NaN or -inf
                held = _core.binary_scalar("minimum", _core.binary_scalar("maximum", y, -1.0, False), 1.0, False)
                return _mul(dy, _core.binary("sub", held, y))
            return _mul(dy, _core.binary_scalar("mul", y, slope, False))

        return record("pow", y, (a,), lambda dy: (exponent_backward(dy),))
    a, b = (b, a) if reverse else (a, b)

    def da(dy: Any, a: Any, b: Any) -> Any:
        slope = _mul(b, _core.binary("pow", a, _core.binary_scalar("sub", b, 1.0, False)))
        return _zero_where(_is_zero(b), _mul(dy, slope))

    def db(dy: Any, a: Any, b: Any) -> Any:
        slope = _mul(_core.binary("pow", a, b), _core.unary("log", a))
        # 0 where a is 0 and b is not below 0, else above 0: the power is 1 wherever a is not 0, even if b is NaN
        below = _core.binary("pow", _core.binary_scalar("maximum", _negative(b), 0.0, False), _is_zero(a))
        return _mul(dy, _zero_where(_is_zero(below), slope))

    return _pair("pow", a, b, da, db, ("ab", "ab"))


def neg(x: Any) -> Tensor:
    """-x."""
    y = _negative(x)
    return record("neg", y, (x,), lambda dy: (_negative(dy),)) if records(x) else wrap(y)


def exp(x: Any) -> Tensor:
    """e ** x, element by element; on the tape where x is.

    Args:
        x: a Tensor or an array of any shape, float32 or float64.

    Returns:
        a new Tensor of the shape, dtype and device of x.

    Raises:
        DTypeError: x is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.exp([0.0]).item()
        1.0
    """
    y = _core.unary("exp", x)
    if not records(x):
        return wrap(y)
    kept = Saved(y)
    return record("exp", y, (x,), lambda dy: (_mul(dy, kept.get("exp")),))


def log(x: Any) -> Tensor:
    """The natural logarithm, element by element; -inf at 0, NaN below; on the tape where x is.

    Args:
        x: a Tensor or an array of any shape, float32 or float64.

    Returns:
        a new Tensor of the shape, dtype and device of x.

    Raises:
        DTypeError: x is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.log([1.0]).item()
        0.0
    """
    if not records(x):
        return wrap(_core.unary("log", x))
    kept = Saved(x._array)
    y = _core.unary("log", x)
    return record("log", y, (x,), lambda dy: (_div(dy, kept.get("log")),))


def sqrt(x: Any) -> Tensor:
    """The square root, element by element; NaN below 0, and its slope at 0 is inf.

    Args:
        x: a Tensor or an array of any shape, float32 or float64.

    Raises:
        DTypeError: x is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.Tensor([4.0]).sqrt().item()
        2.0
    """
    y = _core.unary("sqrt", x)
    if not records(x):
        return wrap(y)
    kept = Saved(y)
    return record("sqrt", y, (x,), lambda dy: (_core.binary_scalar("mul", _div(dy, kept.get("sqrt")), 0.5, False),))


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where `condition` holds, else b; all three broadcast.

    Args:
        condition: a bool array; a, b: Tensors, arrays or numbers.

    Raises:
        DTypeError: condition is not bool, or a or b an array of integers; ShapeError: shapes that do not broadcast;
            DeviceError: Tensors on two devices.

    Example:
        >>> import seqcore
        >>> seqcore.where([True, False], [1.0, 2.0], 0.0)
        Tensor([1., 0.])
    """
    condition = as_ndarray("where", "condition", condition)
    if condition.dtype != np.bool_:
        raise DTypeError(message("where", "condition", "bool", condition.dtype, "compare, for example x > 0"))
    shape = condition.shape
    a, b = both("where", a, b, shape)
    y = _core.where(condition, a, b)
    if not records(a, b):
        return wrap(y)
    try:
        condition = np.array(np.broadcast_to(condition, y.shape) if shape != y.shape else condition)
    except MemoryError:
        raise no_room("where", "a copy of condition") from None
    shapes, needs = (a.shape, b.shape), (a._requires_grad, b._requires_grad)

    def run(dy: Any) -> Any:
        zero = _core.zeros(dy.shape, dy.dtype, dy.device)
        return (
            unbroadcast(_core.where(condition, dy, zero), shapes[0]) if needs[0] else None,
            unbroadcast(_core.where(condition, zero, dy), shapes[1]) if needs[1] else None,
        )

    return record("where", y, (a, b), run)


def compare(function: Any, x: Any, other: Any) -> Any:
    """NumPy's comparison of the values, a bool ndarray; NotImplemented for what is no array of numbers."""
    if other is None or isinstance(other, (str, bytes, type)):
        return NotImplemented
    if _number("compare", "other", other) is None:
        other = as_ndarray("compare", "other", other)
    values = x._array.numpy(False)
    try:
        made = np.empty(np.broadcast_shapes(values.shape, np.shape(other)), np.bool_)
        given = (values, other) if isinstance(other, np.ndarray) else (values,)
        for *parts, into in pieces(*given, made):
            into[...] = function(*parts) if len(parts) == 2 else function(parts[0], other)
        return made if made.ndim else made[()]
    except TypeError:
        return NotImplemented
    except MemoryError:
        raise no_room("compare", "the result") from None
    except ValueError:
        wanted = f"a shape that broadcasts with {values.shape}"
        raise ShapeError(message("compare", "other", wanted, np.shape(other))) from None


def unbroadcast(array: Any, shape: Any) -> Any:
    """The gradient of what was broadcast from `shape`: summed over the axes along which it was repeated."""
    given = array.shape
    if given == shape:
        return array
    lead = len(given) - len(shape)
    axes = [i for i, n in enumerate(given) if i < lead or (shape[i - lead] == 1 and n != 1)]
    return _core.sum(array, axes, False).reshape(shape)


def _negative(x: Any) -> Any:
    return _core.unary("neg", x)


def _is_zero(x: Any) -> Any:
    """1 where x is 0, NaN where it is NaN, else 0."""
    return _core.binary_scalar("pow", _core.unary("abs", x), 0.0, True)


def _zero_where(flat: Any, x: Any) -> Any:
    """0 where `flat` is 1, x where it is 0, whatever x is.

    By arithmetic, as `_core.where` wants its condition on the host: x ** 0 is 1 even of NaN, and x ** 1 is x.
    """
    return _core.binary("sub", _core.binary("pow", x, _core.binary_scalar("sub", flat, 1.0, True)), flat)


def _mul(a: Any, b: Any) -> Any:
    return _core.binary("mul", a, b)


def _div(a: Any, b: Any) -> Any:
    return _core.binary("div", a, b)


def _number(op: str, name: str, value: Any) -> float | None:
    """The value as a float if it is a number or a 0-d array of another library: those never change the dtype."""
    if isinstance(value, (int, float)) or (isinstance(value, np.generic) and value.dtype.kind in "iuf"):
        try:
            return float(value)
        except OverflowError:
            raise DTypeError(message(op, name, "a number that float64 holds", shown(value))) from None
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf":
        # what is masked is no number, and refused as an array
        return None if np.ma.is_masked(value) else float(value)
    return None


def operand(op: str, a: Any, value: Any) -> Any:
    """The second operand: a float, a Tensor, or NotImplemented for what is neither a number nor an array."""
    if isinstance(value, Tensor):
        return value
    number = _number(op, "other", value)
    if number is not None:
        return number
    if not isinstance(value, (np.ndarray, list, tuple)) and not (
        hasattr(value, "__dlpack__") or hasattr(value, "__array__")
    ):
        return NotImplemented
    return as_floats(op, "other", value, a._array.device, a._array.shape, a._array.dtype)


def both(op: str, a: Any, b: Any, beside: Any = None) -> tuple[Tensor, Tensor]:
    """Two operands of which either may be no Tensor, as Tensors of one dtype; `beside` as `as_tensor` has it."""
    device = next((t._array.device for t in (a, b) if isinstance(t, Tensor)), "cpu")
    numbers = _number(op, "a", a), _number(op, "b", b)
    if None not in numbers:
        return as_tensor(op, "a", numbers[0]), as_tensor(op, "b", numbers[1])
    if numbers[0] is None:
        a = as_floats(op, "a", a, device, beside, dtype_beside((b,)))
    if numbers[1] is None:
        b = as_floats(op, "b", b, device, beside, dtype_beside((a,)))
    if numbers[0] is not None:
        a = wrap(_core.fill((), numbers[0], _float_of(b), device))
    if numbers[1] is not None:
        b = wrap(_core.fill((), numbers[1], _float_of(a), device))
    return promoted(a, b)


def _float_of(x: Any) -> str:
    """The dtype of a number beside x: integers are refused later, in the words of the operation."""
    return "float32" if x._array.dtype == "int64" else x._array.dtype


def promoted(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Both in one dtype, PyTorch's rule: the wider one, but a 0-d operand does not widen one that has axes."""
    if a._array.dtype == b._array.dtype or "int64" in (a._array.dtype, b._array.dtype):
        return a, b
    rank = bool(a._array.shape), bool(b._array.shape)
    wide = "float64" if rank[0] == rank[1] else (a if rank[0] else b)._array.dtype
    return a.to(dtype=wide), b.to(dtype=wide)


def _scalar(op: str, a: Any, value: Any, reverse: Any, run: Any) -> Tensor:
    y = _core.binary_scalar(op, a, value, reverse)
    return record(op, y, (a,), lambda dy: (run(dy),)) if records(a) else wrap(y)


def _pair(op: str, a: Any, b: Any, da: Any, db: Any, reads: tuple[str, str]) -> Tensor:
    """`op` of two Tensors, whose gradients are da and db of (dy, a, b); `reads` says which operands each reads.

    What nothing will read is not kept: it costs no memory, and may change before backward.
    """
    a, b = promoted(a, b)
    if not records(a, b):
        return wrap(_core.binary(op, a, b))
    shapes, needs = (a._array.shape, b._array.shape), (a._requires_grad, b._requires_grad)
    read = (reads[0] if needs[0] else "") + (reads[1] if needs[1] else "")
    kept_a = Saved(a._array) if "a" in read else None
    kept_b = Saved(b._array) if "b" in read else None
    y = _core.binary(op, a, b)

    def run(dy: Any) -> Any:
        x, z = kept_a and kept_a.get(op), kept_b and kept_b.get(op)
        return (
            unbroadcast(da(dy, x, z), shapes[0]) if needs[0] else None,
            unbroadcast(db(dy, x, z), shapes[1]) if needs[1] else None,
        )

    return record(op, y, (a, b), run)
