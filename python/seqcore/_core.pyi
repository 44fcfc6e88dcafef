"""The compiled core. Written by `make stubs` from the Rust sources: do not edit."""

from collections.abc import Sequence
from typing import Any, Self, final

from typing_extensions import disjoint_base

__all__ = [
    "Array",
    "CheckpointError",
    "DTypeError",
    "DeviceError",
    "DeviceLostError",
    "InternalError",
    "LstmStep",
    "RecurrentLayers",
    "RecurrentSaved",
    "Saved",
    "SeqcoreError",
    "ShapeError",
    "Switch",
    "__version__",
    "activation",
    "activation_backward",
    "adam_step",
    "array",
    "assign",
    "assign_at",
    "assign_strided",
    "binary",
    "binary_scalar",
    "cat",
    "clip_grad_norm",
    "copy_strided",
    "cpu_info",
    "cross_entropy",
    "devices",
    "dropout",
    "embedding",
    "embedding_backward",
    "fill",
    "gpu_counters",
    "gradient",
    "ids_through",
    "in_list",
    "interpreter_ends",
    "last_ids",
    "linear",
    "linear_backward",
    "lstm",
    "lstm_backward",
    "lstm_layers",
    "matmul",
    "ndarray",
    "num_threads",
    "place_strided",
    "put_add",
    "remember_main_thread",
    "set_num_threads",
    "sgd_step",
    "shaders",
    "sum",
    "take",
    "unary",
    "where",
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

    def assign(self, other: Array, version: int | None = None) -> None:
        """Writes all of `other` (same shape and dtype, any device) over this memory.

        With a `version`, of what `other` was made from: RuntimeError where this memory is of another by now.
        """

@final
class LstmStep:
    """One layer with its state, advanced a step at a time on the caller's thread: nothing is allocated when `out` is
    given. The bits are those of the whole-sequence call.
    """

    def __new__(cls, weight_ih: Any, weight_hh: Any, bias_ih: Any | None = None, bias_hh: Any | None = None, batch: int = 1) -> Self:
        """`batch` rows from state zero; the weights as of now (float32, on the CPU)."""

    def step(self, x: Any, out: Any | None = None) -> Any:
        """h (B, H) after x (B, I), in `out` where it is given."""

    def state(self) -> tuple[Array, Array]:
        """h and c (B, H), copies."""

    def set_state(self, h: Any, c: Any) -> None:
        """Puts h and c (B, H) in place of what is there."""

@final
class RecurrentLayers:
    """The parameters of a stack, checked once: a module that is called for every step keeps one. It is good as long as
    every tensor still has the memory it had.
    """

    def is_current(self) -> bool:
        """Whether every tensor still has the memory it had."""

@final
class RecurrentSaved:
    """What a stack's backward call needs: opaque, usable once."""

@final
class Saved:
    """What a backward call will read: an array and its version. While it lives the memory is shown read-only; memory
    that somebody outside may write to is copied first.
    """

    def __new__(cls, value: Any) -> Self: ...

    def get(self, op: str) -> Array:
        """The array, if it is still what it was."""

@disjoint_base
class Switch:
    """For a block, gives a context variable a value and remembers what stood before: it holds (value, before). A subclass
    says in `_switch` which: the variable's get and set, and the value. A step in a block is a few microseconds, so
    nothing more is looked up.
    """

    def __new__(cls, function: Any | None = None) -> Self: ...

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> None: ...

def activation(function: str, x: Any, name: str = "x") -> Array:
    """y = f(x), element by element; function is "sigmoid", "tanh" or "relu". `name` is what errors call x."""

def activation_backward(function: str, y: Any, dy: Any) -> Array:
    """dx, from y = f(x) and dy, the gradient of y."""

def adam_step(params: Sequence[Any], grads: Sequence[Any], m: Sequence[Any], v: Sequence[Any], vmax: Sequence[Any] | None, steps: Sequence[int], lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool, maximize: bool) -> None:
    """One step of Adam (AdamW with `decoupled`) on all params, in place on them, m, v and, for AMSGrad, vmax; `steps`
    counts this step.
    """

def array(value: Any, device: str = "cpu", op: str = "Tensor", name: str = "data", beside: Sequence[int] | None = None, listed: str = "float32") -> Array:
    """An `Array` of its own memory from anything that is an array; errors call it `name` of `op`. One that does not
    broadcast with the shape `beside` is refused before it is copied. `listed` is the dtype of floats in a list.
    """

def assign(pairs: Sequence[tuple[Array, Array]]) -> None:
    """Writes every second array over its first: all or none, and no other call sees some of them written."""

def assign_at(into: Array, ids: Any, values: Array) -> None:
    """Writes the values (rows, ids, width), or a single one, at the ids of every row of into (rows, bound, width), in
    place: all of them or none. No id comes twice but -1, where nothing is written, unless there is one value.
    """

def assign_strided(into: Array, values: Array, shape: Sequence[int], strides: Sequence[int], offset: int) -> None:
    """Writes values, broadcast to shape, over what a view of into shows, in place: all of them or none. The view holds
    no element twice.
    """

def binary(function: str, a: Any, b: Any) -> Array:
    """f(a, b), element by element; function is one of add, sub, mul, div, pow, maximum, minimum."""

def binary_scalar(function: str, a: Any, value: float, reversed: bool = False) -> Array:
    """f(a, value), or f(value, a) when reversed; the number takes the array's dtype."""

def cat(arrays: Sequence[Any], axis: int = 0) -> Array:
    """The arrays one after the other along an axis."""

def clip_grad_norm(grads: Sequence[Any], max_norm: float, error_if_nonfinite: bool) -> Array:
    """The norm of all grads together before clipping, 0-d; scales them in place so that it is at most max_norm. One that
    is given twice counts once.
    """

def copy_strided(a: Any, shape: Sequence[int], strides: Sequence[int], offset: int) -> Array:
    """A new array of what a view of a's memory shows; strides and offset in elements."""

def cpu_info() -> dict[str, Any]:
    """The kernel path in use, all that this CPU has, and the threads."""

def cross_entropy(logits: Any, targets: Any, ignore_index: int, reduction: str, need_grad: bool) -> tuple[Array, Array | None]:
    """(loss, gradient): the cross-entropy of logits (N, C) against class ids (N,), with loss 0-d or, for reduction
    "none", (N,). The gradient (N, C), None unless it is needed, is that of the reduced loss, or of each row's own.
    """

def devices() -> list[dict[str, Any]]:
    """The devices of this machine, as dicts: the CPU, then the adapters that "gpu:0", "gpu:1", … name. None is opened.
    In a child of the process that opened the GPU there is the CPU alone.
    """

def dropout(x: Any, p: float, seed: int, stream: int, name: str = "x") -> Array:
    """x with each element dropped with probability p and the others scaled by 1/(1-p); which, is a function of seed,
    stream and the element's place. The same call on dy gives dx. `name` is what errors call x.
    """

def embedding(weight: Any, ids: Any, name: str = "ids") -> tuple[Array, Array]:
    """Rows of weight (vocabulary, features) by their number: (..., features) for ids (...); and the ids, in memory that
    nobody else has, as they were read. `name` is what errors call the ids.
    """

def embedding_backward(dy: Any, ids: Any, num_embeddings: int, padding_idx: int | None = None) -> Array:
    """dweight (num_embeddings, features) from dy (..., features), the gradient of y = embedding(weight, ids); row
    padding_idx gets none.
    """

def fill(shape: Sequence[int], value: float, dtype: str, device: str) -> Array:
    """An array of one value."""

def gpu_counters() -> dict[str, Any]:
    """What was sent to all GPUs since the last call."""

def gradient(value: Any, dtype: str, shape: Sequence[int], op: str, name: str) -> Array:
    """The gradient of a result of this dtype and shape: an `Array` as it is, anything else in memory of its own."""

def ids_through(ids: Any, view: tuple[Sequence[int], Sequence[int], int], axes: tuple[int, int], len: int) -> tuple[Array, int]:
    """Of what ids pick from the axes from .. to of a view (shape, strides, offset) of len elements, seen as one axis: the
    blocks of `width` elements that lie side by side, as ids of all such blocks of the memory, and width.
    """

def in_list() -> bool:
    """Whether this thread makes an array of a list, which a Tensor that requires grad must refuse."""

def interpreter_ends() -> None:
    """Called as the interpreter ends (by `atexit`): calls of other threads may still be running."""

def last_ids(ids: Any, bound: int) -> Array:
    """The ids, but -1 where the same one comes again: those whose values `assign_at` is to write."""

def linear(x: Any, weight: Any, bias: Any | None = None, name: str = "x", keep_x: bool = False, keep_weight: bool = False) -> tuple[Array, Saved | None, Saved | None]:
    """y = x weightᵀ + bias, with x (..., in), weight (out, in), bias (out,) and y (..., out); and x and weight as they were
    read, where they are to be kept for backward. `name` is what errors call x.
    """

def linear_backward(x: Any | None, weight: Any | None, dy: Any, need_bias: bool) -> tuple[Array | None, Array | None, Array | None]:
    """(dx, dweight, dbias) from dy, the gradient of y = linear(x, weight, bias): dx where the weight is given, dweight where
    x is, dbias where `need_bias`; else None.
    """

def lstm(x: Any, h0: Any | None, c0: Any | None, weights: Any, dropout: float, seed: int, stream: int, save: bool, own: bool = False, name: str = "x") -> tuple[Array, Array, Array, RecurrentSaved | None]:
    """y, h_n, c_n and, with `save`, what `lstm_backward` needs, of a stack of layers: x (T, B, I), states (L, B, H).
    `weights` are from `lstm_layers`, or per layer weight_ih, weight_hh, bias_ih and bias_hh.

    With `own` the caller may write to every array given and returned: `saved` keeps copies, and parameters are
    called by their names without `_l0`. `name` is what errors call x.
    """

def lstm_backward(saved: RecurrentSaved, dy: Any | None, dh_n: Any | None, dc_n: Any | None, need_x: bool, need_states: bool, need_weights: bool) -> tuple[Array | None, Array | None, Array | None, list[list[Array]] | None]:
    """dx, dh0, dc0 and per layer dweight_ih, dweight_hh and, with biases, dbias, as far as asked for. None for dy, dh_n
    or dc_n is zero. Uses `saved` up.
    """

def lstm_layers(weights: Any) -> RecurrentLayers:
    """The parameters of a stack, checked once: per layer weight_ih, weight_hh, bias_ih and bias_hh, as tensors."""

def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """c = a b for (m, k) and (k, n), or for batches of such with equal leading axes; a transposed operand is given with
    its last two axes swapped.
    """

def ndarray(op: str, name: str, value: Any) -> Any:
    """Anything that is an array as a plain ndarray of whatever dtype; errors call it `name` of `op`."""

def num_threads() -> int:
    """How many threads a call may use."""

def place_strided(values: Any, full_shape: Sequence[int], strides: Sequence[int], offset: int) -> Array:
    """Zeros of full_shape with values written through a view that holds no element twice."""

def put_add(values: Any, ids: Any, bound: int) -> Array:
    """Zeros (rows, bound, width) with the values (rows, ids, width) added at the ids of every row, in their order; -1 adds
    none.
    """

def remember_main_thread() -> None:
    """Notes which thread is the main one: at import, and in the child after a fork, where nobody is inside a call."""

def set_num_threads(n: Any) -> None:
    """Says how many threads a call may use."""

def sgd_step(params: Sequence[Any], grads: Sequence[Any], buffers: Sequence[Any | None], lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool, first: Sequence[bool]) -> None:
    """One step of SGD on all params, in place on them and on their momentum buffers; `first` says which buffers have no
    value yet.
    """

def shaders() -> dict[str, Any]:
    """The embedded shaders: name to (source, manifest as JSON)."""

def sum(a: Any, axes: Sequence[int] | None = None, keepdims: bool = False) -> Array:
    """The sum over axes (all where None)."""

def take(a: Any, ids: Any) -> Array:
    """Of a (rows, bound, width) in each row the blocks that the ids name: (rows, ids, width). -1 gives zeros."""

def unary(function: str, x: Any) -> Array:
    """f(x), element by element; function is one of neg, exp, log, sqrt, abs, square."""

def where(condition: Any, a: Any, b: Any) -> Array:
    """a where the condition (an array of bool) holds, else b."""

def zeros(shape: Sequence[int], dtype: str, device: str) -> Array:
    """New memory of zeros."""
