"""The tape: which operation made a tensor, from what, and how gradients go back through it.

A `Node` is one operation that was recorded. `backward` visits nodes from the newest to the oldest, so every node has
the whole gradient of its outputs when its turn comes; it uses no recursion, and a node lets go of all it holds as
soon as it has run.
"""

from __future__ import annotations

import collections
import contextvars
import functools
import heapq
import inspect
import itertools
import operator
import os
import threading
from typing import Any

from .. import _core
from .._arguments import function as check_function
from ..errors import message

__all__ = ["Node", "at_once", "backward", "enable_grad", "is_recording", "no_grad", "records"]

# (recording, what stood before): a linked list, so that a context manager needs no state of its own
_mode: contextvars.ContextVar[Any] = contextvars.ContextVar("seqcore_recording", default=(True, None))


def is_recording() -> bool:
    """Whether operations on tensors that require grad are recorded here."""
    return _mode.get()[0]


def records(*inputs: Any) -> bool:
    """Whether an operation on these inputs is recorded here: one of them is a Tensor that requires grad."""
    if _mode.get()[0]:
        for value in inputs:
            if getattr(value, "_requires_grad", False):
                return True
    return False


def at_once(calls: Any) -> None:
    """Makes calls of functions written in C: Python handles no signal between them, so Ctrl-C falls before or after."""
    collections.deque(map(operator.call, calls), maxlen=0)


class _Recording(_core.Switch):
    """Switches recording in a block or, as a decorator, in a function, generator or coroutine; per thread and per
    asyncio task."""

    _switch = (_mode.get, _mode.set, True)

    def __call__(self, function: Any) -> Any:
        op = type(self).__name__
        if inspect.isasyncgenfunction(check_function(op, "function", function)):
            hint = f"use `with {op}():` inside it"
            name = getattr(function, "__qualname__", "one")
            raise TypeError(message(op, "function", "no asynchronous generator", name, hint))
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                # the mode holds while the generator runs, not while its caller does
                running = function(*args, **kwargs)
                try:
                    with self:
                        value = next(running)
                    while True:
                        try:
                            sent = yield value
                        except GeneratorExit:
                            with self:
                                running.close()
                            raise
                        except BaseException as error:
                            with self:
                                value = running.throw(error)
                        else:
                            with self:
                                value = running.send(sent)
                except StopIteration as stop:
                    return stop.value

            return generator

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return coroutine

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return wrapped


class no_grad(_Recording):
    """A context manager, and with parentheses a decorator, under which nothing is recorded and nothing saved.

    Example:
        >>> import seqcore
        >>> t = seqcore.Tensor([1.0], requires_grad=True)
        >>> with seqcore.no_grad():
        ...     (t * 2).requires_grad
        False
    """

    _switch = (_mode.get, _mode.set, False)


class enable_grad(_Recording):
    """The opposite of `no_grad`, for use inside it.

    Example:
        >>> import seqcore
        >>> t = seqcore.Tensor([1.0], requires_grad=True)
        >>> with seqcore.no_grad(), seqcore.enable_grad():
        ...     (t * 2).requires_grad
        True
    """


_order = itertools.count()


class Node:
    """One recorded operation.

    `edges` has an entry per input: None (needs no gradient), a leaf Tensor, or (node, which of its outputs).
    `run` takes one gradient Array per output (None where none came) and gives one per input, or None.
    """

    __slots__ = ("edges", "op", "order", "outputs", "run")

    def __init__(self, op: str, inputs: Any, run: Any, outputs: Any = 1) -> None:
        self.op = op
        self.edges = tuple([t._edge or t if t._requires_grad else None for t in inputs])
        self.run = run
        self.outputs = outputs
        self.order = next(_order)

    def __repr__(self) -> str:
        return f"<{self.op}>"


# `.grad` is read, added to and written back: two threads' sums must not overwrite each other
_accumulate = threading.RLock()


def _after_fork() -> None:
    global _accumulate
    _accumulate = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def backward(tensor: Any, gradient: Any, wrap: Any, given: Any) -> None:
    """Adds to `.grad` of every leaf below `tensor`, or changes none of them when something fails.

    Args:
        tensor: where to begin; gradient: its gradient, an Array; wrap: makes a Tensor of an Array.
        given: whether `gradient` is memory that somebody else has.
    """
    leaves: dict[Any, Any] = {}
    waiting: dict[Node, list[Any]] = {}
    heap: list[tuple[int, Node]] = []

    def send(edge: Any, array: Any) -> None:
        if type(edge) is not tuple:
            leaf = edge._array
            if (array.dtype, array.device) != (leaf.dtype, leaf.device):
                # a module's `to` came after the forward call
                array = array.to(leaf.device, leaf.dtype)
            total = leaves.get(edge)
            leaves[edge] = array if total is None else _core.binary("add", total, array)
            return
        node, place = edge
        arrays = waiting.get(node)
        if arrays is None:
            arrays = waiting[node] = [None] * node.outputs
            heapq.heappush(heap, (-node.order, node))
        total = arrays[place]
        arrays[place] = array if total is None else _core.binary("add", total, array)

    send(tensor._edge or tensor, gradient)
    while heap:
        _, node = heapq.heappop(heap)
        run, edges, arrays = node.run, node.edges, waiting.pop(node)
        if run is None:
            hint = "run forward again, or call detach() on what is carried over"
            got = "one that backward went through before"
            raise RuntimeError(message("backward", node.op, "a graph that was not used yet", got, hint))
        node.run = None
        node.edges = ()
        for edge, array in zip(edges, run(*arrays), strict=True):
            if edge is not None and array is not None:
                send(edge, array)
        del run, edges, arrays

    for leaf in leaves:
        if leaf._edge is not None:
            got = f"one of shape {leaf.shape} that was frozen and then written to"
            raise RuntimeError(message("backward", "tensor", "leaves that are leaves still", got, "write to a copy"))
    # one Array may have reached several leaves; each leaf's grad is memory of its own
    taken = {gradient.id} if given else set()
    with _accumulate:
        grads = []
        # what was frozen since gets none, as in PyTorch
        leaves = {leaf: array for leaf, array in leaves.items() if leaf._requires_grad}
        for leaf, array in leaves.items():
            if leaf._grad is not None:
                array = _core.binary("add", leaf._grad, array)
            elif array.id in taken:
                # a copy made where it lies: `to` would fetch it from a GPU and send it back
                array = _core.binary_scalar("mul", array, 1.0, False)
            taken.add(array.id)
            grads.append(array)
        at_once(
            [functools.partial(setattr, leaf, "_grad", wrap(array)) for leaf, array in zip(leaves, grads, strict=True)]
        )
