"""The compiled core. Written by `make stubs` from the Rust sources: do not edit."""

from collections.abc import Sequence
from typing import Any, Self, final

__all__ = [
    "Array",
    "CheckpointError",
    "DTypeError",
    "DeviceError",
    "DeviceLostError",
    "InternalError",
    "Saved",
    "SeqcoreError",
    "ShapeError",
    "__version__",
    "activation",
    "activation_backward",
    "array",
    "assign",
    "cpu_info",
    "error_kinds",
    "num_threads",
    "remember_main_thread",
    "set_num_threads",
    "zeros",
]

__version__: str

class SeqcoreError(Exception):
    """Base of every exception that is seqcore's own."""

class CheckpointError(SeqcoreError, ValueError):
    """A file that is no whole, known checkpoint."""

class DTypeError(SeqcoreError, TypeError):
    """An array of the wrong element type."""

class DeviceError(SeqcoreError, RuntimeError):
    """A wrong, absent or failing device."""

class InternalError(SeqcoreError, RuntimeError):
    """A mistake in seqcore; please report it."""

class ShapeError(SeqcoreError, ValueError):
    """An array of the wrong rank or size."""

class DeviceLostError(DeviceError):
    """The device has gone; tensors on it are lost, those on the CPU are not."""

@final
class Array:
    """Memory and shape. Several may share one memory (`reshape`); the version is the memory's."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """Sizes of the axes."""

    @property
    def dtype(self) -> str:
        """NumPy's name of the element type."""

    @property
    def device(self) -> str:
        """"cpu" or "gpu:N"."""

    @property
    def version(self) -> int:
        """How many times the memory was written to in place."""

    @property
    def id(self) -> int:
        """A number that no other memory of this process has."""

    def reshape(self, shape: Sequence[int]) -> Array:
        """The same memory under another shape."""

    def numpy(self, writeable: bool) -> Any:
        """An ndarray: of this memory when it lies on the CPU, else of a copy. A view that may be written to is given
        only if `writeable` is asked for and no backward call will read this memory.
        """

    def to(self, device: str, dtype: str | None = None) -> Array:
        """A copy, on `device` and of `dtype`."""

    def assign(self, other: Array) -> None:
        """Writes all of `other` (same shape and dtype, any device) over this memory."""

@final
class Saved:
    """What a backward call will read: an array and its version. While it lives the memory is shown read-only; memory
    that somebody outside may write to is copied first.
    """

    def __new__(cls, value: Any) -> Self: ...

    def get(self, op: str) -> Array:
        """The array, if it is still what it was."""

def activation(function: str, x: Any) -> Array:
    """y = f(x), element by element; function is "sigmoid", "tanh" or "relu"."""

def activation_backward(function: str, y: Any, dy: Any) -> Array:
    """dx, from y = f(x) and dy, the gradient of y."""

def array(value: Any, device: str = "cpu") -> Array:
    """An `Array` of its own memory from anything that is an array."""

def assign(pairs: Sequence[tuple[Array, Array]]) -> None:
    """Writes every second array over its first: all or none, and no other call sees some of them written."""

def cpu_info() -> dict[str, Any]:
    """The kernel path in use, all that this CPU has, and the threads."""

def error_kinds() -> list[tuple[str, str]]:
    """The kinds and the Python class of each, for the test that raises every one."""

def num_threads() -> int:
    """How many threads a call may use."""

def remember_main_thread() -> None:
    """Says that this thread is the main one: at import, and in the child after a fork."""

def set_num_threads(n: int) -> None:
    """Says how many threads a call may use, at least 1."""

def zeros(shape: Sequence[int], dtype: str, device: str) -> Array:
    """New memory of zeros."""
