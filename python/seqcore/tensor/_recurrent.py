"""Stacks of recurrent layers over a sequence, on the tape."""

from __future__ import annotations

from typing import Any

from .. import _core, runtime
from ._tape import is_recording
from ._tensor import Tensor, leaves, record_many, wrap

__all__ = ["LstmWeights", "lstm"]


class LstmWeights:
    """The parameters of a stack, checked once: what a layer keeps that is called for every step.

    It is good as long as none of them has moved to other memory.

    Args:
        layers: a list with, per layer, weight_ih (4 * hidden_size, input_size or hidden_size), weight_hh
            (4 * hidden_size, hidden_size) and, both or neither, bias_ih and bias_hh (4 * hidden_size,) or None.

    Raises:
        ShapeError, DTypeError, DeviceError: the parameters do not fit each other; ValueError: no layer, or one bias.

    Example:
        >>> from seqcore import nn, tensor
        >>> layer = nn.LSTM(3, 2, bias=False)
        >>> weights = tensor.LstmWeights([(layer.weight_ih_l0, layer.weight_hh_l0, None, None)])
        >>> weights.is_current()
        True
    """

    __slots__ = ("checked", "is_current", "layers")

    def __init__(self, layers: Any) -> None:
        self.layers = layers
        self.checked = _core.lstm_layers(layers)
        self.is_current = self.checked.is_current


def lstm(x: Any, h0: Any, c0: Any, weights: Any, dropout: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """y, h_n, c_n of a stack of LSTM layers.

    Args:
        x: (T, B, I); h0, c0: (L, B, H) or None for zeros; weights: `LstmWeights`.
        dropout: the probability of a zero in each layer's output but the last's.

    Raises:
        ShapeError, DTypeError, DeviceError: the arguments do not fit each other.

    Example:
        >>> from seqcore import nn, tensor
        >>> layer = nn.LSTM(3, 2, bias=False)
        >>> weights = tensor.LstmWeights([(layer.weight_ih_l0, layer.weight_hh_l0, None, None)])
        >>> y, h_n, c_n = tensor.lstm([[[0.0, 0.0, 0.0]]], None, None, weights)
        >>> y.shape, h_n.shape, c_n.shape
        ((1, 1, 2), (1, 1, 2), (1, 1, 2))
    """
    seed, stream = runtime.draw(len(weights.layers)) if dropout else (0, 0)
    if not is_recording():
        y, h_n, c_n, _ = _core.lstm(x, h0, c0, weights.checked, dropout, seed, stream, False, False, "input")
        return wrap(y), wrap(h_n), wrap(c_n)
    made = _recorded("lstm", _core.lstm, _core.lstm_backward, x, (h0, c0), weights, (dropout, seed, stream))
    return made[0], made[1], made[2]


def _recorded(op: str, forward: Any, backward: Any, x: Any, states: Any, weights: Any, draw: Any) -> tuple[Tensor, ...]:
    """y and the last states, with a record on the tape where a gradient is asked for."""
    inputs = [x, *states]
    for layer in weights.layers:
        inputs += layer
    needs = [isinstance(t, Tensor) and t._requires_grad for t in inputs]
    record, own = any(needs), 1 + len(states)
    *results, saved = forward(x, *states, weights.checked, *draw, record, False, "input")
    if not record:
        return tuple(map(wrap, results))
    wanted = needs[0], any(needs[1:own]), any(needs[own:])
    count = len(inputs)

    def run(dy: Any, *dlast: Any) -> Any:
        dx, *dinitial, layers = backward(saved, dy, *dlast, *wanted)
        grads = [dx, *dinitial]
        for ih, hh, *biases in layers or ():
            # one of both where b_ih and b_hh are only added (S-34); the tape copies where it must
            grads += (ih, hh, biases[0], biases[-1]) if biases else (ih, hh, None, None)
        return grads + [None] * (count - len(grads))

    return tuple(record_many(op, tuple(results), leaves(inputs), run))
