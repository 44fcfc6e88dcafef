"""What a forward call keeps for its backward call, and how arrays come in and go out."""

from __future__ import annotations

from typing import Any

from .. import _core
from ..errors import DeviceError, message

__all__ = ["Saved", "array_of", "arrays_only", "gradient", "out", "take"]


class Saved:
    """What a backward call needs: opaque, usable once, with copies of whatever the caller could still write to."""

    __slots__ = ("_content", "_op")

    def __init__(self, op: str, *content: Any) -> None:
        self._op = op
        self._content: tuple[Any, ...] | None = content

    def __repr__(self) -> str:
        return f"<saved by {self._op}{'' if self._content else ', used'}>"


class take:
    """The content of `saved`, checked to be what `op` gave; it is used up when the block ends without an error."""

    def __init__(self, saved: Any, op: str) -> None:
        if not isinstance(saved, Saved) or saved._op != op:
            got = f"what {saved._op} gave" if isinstance(saved, Saved) else type(saved).__name__
            raise TypeError(message(f"{op}_backward", "saved", f"what {op} gave", got))
        if saved._content is None:
            raise RuntimeError(
                message(f"{op}_backward", "saved", "one that was not used", "one that was", f"call {op} again")
            )
        self._saved = saved

    def __enter__(self) -> Any:
        return self._saved._content

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self._saved._content = None


def array_of(value: Any) -> Any:
    """The Array of a Tensor; None of anything else, its class too."""
    return None if isinstance(value, type) else getattr(value, "_array", None)


def arrays_only(op: str, **arguments: Any) -> None:
    """DeviceError for Tensors on a GPU: these functions are for arrays on the CPU."""
    for name, value in arguments.items():
        array = array_of(value)
        if array is not None and array.device != "cpu":
            hint = "seqcore.nn.functional works on GPU tensors"
            raise DeviceError(message(op, name, "an array on the CPU", f"a tensor on {array.device}", hint))


def gradient(op: str, name: str, value: Any, shape: Any, dtype: str) -> Any:
    """The array of a gradient, checked against the result that it belongs to."""
    arrays_only(op, **{name: value})
    return _core.gradient(value, dtype, shape, op, name)


def out(array: Any) -> Any:
    """The ndarray of a result."""
    return None if array is None else array.numpy(True)
