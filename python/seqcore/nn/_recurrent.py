"""Recurrent layers: stacks of them over a sequence."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .. import tensor as functions
from .._arguments import flag, integer, not_built, probability
from ..errors import DTypeError, ShapeError, message
from ..tensor import Tensor, as_floats
from . import init
from ._module import Module
from ._parameter import room, zeros

__all__ = ["LSTM"]


class _Recurrent(Module):
    """What is the same in every kind of recurrent layer: parameters, layouts, what is remembered of a call."""

    _kind: str
    _gates: int
    _checked: Any  # checks the parameters of a stack, for calls to come

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size = integer(self._kind, "input_size", input_size, 1)
        self.hidden_size = integer(self._kind, "hidden_size", hidden_size, 1)
        self.num_layers = integer(self._kind, "num_layers", num_layers, 1)
        self.bias = flag(self._kind, "bias", bias)
        self.batch_first = flag(self._kind, "batch_first", batch_first)
        self.dropout = probability(self._kind, "dropout", dropout)
        not_built(self._kind, "bidirectional", flag(self._kind, "bidirectional", bidirectional), False)
        not_built(self._kind, "proj_size", integer(self._kind, "proj_size", proj_size, 0), 0)
        self.bidirectional, self.proj_size = False, 0
        if self.dropout and self.num_layers == 1:
            warnings.warn(
                message(self._kind, "dropout", "0 with one layer, as it acts between layers", self.dropout),
                stacklevel=2,
            )
        rows = self._gates * self.hidden_size
        # many layers that memory does not hold are refused before the first is made, not after hours
        room(self._kind, self.num_layers * rows * (2 * self.hidden_size + 2 * self.bias))
        for k in range(self.num_layers):
            width = self.input_size if k == 0 else self.hidden_size
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, self.hidden_size)}
            if self.bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            for name, shape in shapes.items():
                setattr(self, f"{name}_l{k}", zeros(self._kind, shape, device, dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the parameters anew."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__.pop("_layers", None)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self.__dict__.pop("_layers", None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_layers"}

    def _weights(self) -> Any:
        """Per layer the four parameters, as the operation takes them; remembered, as a step is short."""
        own = self.__dict__
        names = ("weight_ih_l", "weight_hh_l", *(("bias_ih_l", "bias_hh_l") if self.bias else ()))
        none = (None,) * (4 - len(names))
        # getattr for what was deleted: its error names the parameter
        layers = [
            tuple([own[n] if (n := f"{name}{k}") in own else getattr(self, n) for name in names]) + none
            for k in range(self.num_layers)
        ]
        own["_layers"] = weights = self._checked(layers)
        return weights

    def _other_layouts(self, run: Any, x: Any, states: dict[str, Any], weights: Any, dropout: float) -> Any:
        """y and the last states by `run`, for lists, unbatched and batch-first input."""
        # a matrix cannot have three axes
        x, *last = (np.asarray(a) if isinstance(a, np.matrix) else a for a in (x, *states.values()))
        states = dict(zip(states, last, strict=True))
        op = self._kind.lower()
        x = x if isinstance(x, np.ndarray) else self._floats(op, "input", x)
        batched = x.ndim == 3
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            axes = "B, T" if self.batch_first else "T, B"
            hint = f"the last axis is the feature axis; this layer has input_size={self.input_size}"
            wanted = f"({axes}, {self.input_size}) or (T, {self.input_size})"
            raise ShapeError(message(op, "input", wanted, tuple(x.shape), hint))
        batch = x.shape[0 if self.batch_first else 1] if batched else 1
        full = (self.num_layers, batch, self.hidden_size)
        given: list[Any] = []
        for name, state in states.items():
            if state is not None:
                state = state if isinstance(state, np.ndarray) else self._floats(op, name, state)
                expected: tuple[int, ...] = full if batched else (full[0], full[2])
                if tuple(state.shape) != expected:
                    hint = "states are (num_layers, B, hidden_size), without B for unbatched x"
                    raise ShapeError(message(op, name, expected, tuple(state.shape), hint))
                state = state if batched else _viewed(state, full)
            given.append(state)
        if not batched:
            x = _viewed(x, (x.shape[0], 1, x.shape[1]))
        elif self.batch_first:
            x = x.transpose(0, 1) if isinstance(x, Tensor) else x.swapaxes(0, 1)
        y, *last = run(x, *given, weights, dropout)
        if not batched:
            return _viewed(y, (y.shape[0], full[2])), *(_viewed(s, (full[0], full[2])) for s in last)
        return (y.transpose(0, 1) if self.batch_first else y), *last

    def _floats(self, op: str, name: str, value: Any) -> Tensor:
        """As `as_floats`; another dtype than the parameters' is refused in the words of what was given, as a Tensor of
        it would be told to use `to`."""
        made, wanted = as_floats(op, name, value), next(self.parameters()).dtype
        if made is not value and made.dtype != wanted:
            hint = f'convert one of them, for example numpy.asarray({name}, "{wanted}")'
            raise DTypeError(message(op, name, f"{wanted}, as weight_ih_l0", made.dtype, hint))
        return made

    def extra_repr(self) -> str:
        """Sizes and options that are not the default."""
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        changed = {name: getattr(self, name) for name, default in defaults.items() if getattr(self, name) != default}
        return ", ".join([text, *(f"{name}={value}" for name, value in changed.items())])


def _viewed(x: Any, shape: Any) -> Any:
    """A Tensor or an array under another shape; the Tensor may still be written to in place."""
    return functions.viewed(x, shape) if isinstance(x, Tensor) else x.reshape(shape)


class LSTM(_Recurrent):
    """A stack of long short-term memory layers.

    For each step, with i, f, g, o the blocks of rows of the weights in this order:
    i = σ(W_ii x + b_ii + W_hi h + b_hi); f = σ(...); g = tanh(...); o = σ(...); c' = f c + i g; h' = o tanh(c').

    Args:
        input_size, hidden_size: features of x and of h and c.
        num_layers: how many layers; each takes the outputs of the one below.
        bias: whether there are b_ih and b_hh.
        batch_first: x and y are (B, T, ...) in place of (T, B, ...); states are not.
        dropout: in training, the probability of a zero in the outputs of every layer but the last.
        bidirectional, proj_size: only the defaults False and 0 are built.
        device, dtype: of the parameters; None is the CPU and float32.

    Inputs: x (T, B, input_size) or, unbatched, (T, input_size), an array or Tensor; hx, a pair (h0, c0) of
        (num_layers, B, hidden_size) or, unbatched, (num_layers, hidden_size), or None for zeros.
    Outputs: y (T, B, hidden_size), the last layer's, and the pair (h_n, c_n) of all layers.

    Attributes: weight_ih_l{k} (4 * hidden_size, input_size or hidden_size), weight_hh_l{k} (4 * hidden_size,
        hidden_size), bias_ih_l{k}, bias_hh_l{k} (4 * hidden_size,), at first uniform in ±1/sqrt(hidden_size).

    Raises:
        ShapeError, DTypeError, DeviceError: the inputs do not fit, or a dtype or device that parameters cannot have;
        ValueError, TypeError: hx is no pair of states, a size is below 1 or no integer, or dropout no probability;
        MemoryError: sizes that no memory holds; NotImplementedError: an option that is not built.

    Warns:
        UserWarning: dropout with one layer, where it does nothing.

    Example:
        >>> import numpy as np, seqcore
        >>> lstm = seqcore.nn.LSTM(3, 5, num_layers=2)
        >>> y, (h_n, c_n) = lstm(np.zeros((7, 2, 3), np.float32))
        >>> y.shape, h_n.shape
        ((7, 2, 5), (2, 2, 5))
    """

    _kind, _gates, _checked = "LSTM", 4, functions.LstmWeights

    def forward(self, input: Any, hx: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """y and (h_n, c_n) of the input x."""
        # one short step is a few microseconds: what is usual is looked at first, and sizes are checked below
        weights = self.__dict__.get("_layers")
        if weights is None or not weights.is_current():
            weights = self._weights()
        dropout = self.dropout if self.dropout and self.training and self.num_layers > 1 else 0.0
        usual = type(hx) is tuple and len(hx) == 2 and hx[0] is not None and hx[1] is not None
        h0, c0 = hx if usual else _pair(hx)
        x = input
        if (type(x) is np.ndarray or isinstance(x, Tensor)) and x.ndim == 3 and not self.batch_first:
            y, h_n, c_n = functions.lstm(x, h0, c0, weights, dropout)
            return y, (h_n, c_n)
        y, h_n, c_n = self._other_layouts(functions.lstm, x, {"h0": h0, "c0": c0}, weights, dropout)
        return y, (h_n, c_n)


def _pair(hx: Any) -> Any:
    """The states of an hx that is not the usual tuple of two: a list, None, or a mistake."""
    if hx is None:
        return None, None
    hint = "give both states, hx=(h0, c0)"
    if not isinstance(hx, (tuple, list)):
        raise TypeError(message("lstm", "hx", "a pair (h0, c0) or None", type(hx).__name__, hint))
    if len(hx) != 2:
        raise ValueError(message("lstm", "hx", "a pair (h0, c0)", f"{len(hx)} of them", hint))
    if hx[0] is None or hx[1] is None:
        raise TypeError(message("lstm", "hx", "two states", "None for one", hint))
    return hx
