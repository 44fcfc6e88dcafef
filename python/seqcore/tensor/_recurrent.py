"""A stack of LSTM layers over a sequence, on the tape."""

from __future__ import annotations

from typing import Any

from .. import _core, runtime
from ._tape import is_recording
from ._tensor import Tensor, leaves, record_many, wrap

__all__ = ["LstmWeights", "lstm"]


class LstmWeights:
    """The parameters of a stack, checked once: what a layer keeps that is called for every step.

    `layers` has per layer (weight_ih, weight_hh, bias_ih or None, bias_hh or None), as tensors. It is good as long
    as none of them has moved to other memory.
    """

    __slots__ = ("checked", "is_current", "layers")

    def __init__(self, layers: Any) -> None:
        self.layers = layers
        self.checked = _core.lstm_layers(layers)
        self.is_current = self.checked.is_current


def lstm(x: Any, h0: Any, c0: Any, weights: Any, dropout: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """y, h_n, c_n of a stack of LSTM layers.

    Args:
        x: (T, B, I); h0, c0: (L, B, H) or None; weights: `LstmWeights`.
        dropout: the probability of a zero in each layer's output but the last's.

    Raises:
        ShapeError, DTypeError, DeviceError: the arguments do not fit each other.
    """
    seed, stream = runtime.draw(len(weights.layers)) if dropout else (0, 0)
    if not is_recording():
        y, h_n, c_n, _ = _core.lstm(x, h0, c0, weights.checked, dropout, seed, stream, False)
        return wrap(y), wrap(h_n), wrap(c_n)
    inputs = [x, h0, c0]
    for layer in weights.layers:
        inputs += layer
    needs = [isinstance(t, Tensor) and t._requires_grad for t in inputs]
    record = any(needs)
    saved: Any
    y, h_n, c_n, saved = _core.lstm(x, h0, c0, weights.checked, dropout, seed, stream, record)
    if not record:
        return wrap(y), wrap(h_n), wrap(c_n)
    need_x, need_states, need_weights = needs[0], needs[1] or needs[2], any(needs[3:])
    given = [t is not None for t in inputs]

    def run(dy: Any, dh_n: Any, dc_n: Any) -> Any:
        dx, dh0, dc0, layers = _core.lstm_backward(saved, dy, dh_n, dc_n, need_x, need_states, need_weights)
        grads = [dx, dh0, dc0]
        for ih, hh, *biases in layers or ():
            bias = biases[0] if biases else None
            # b_ih and b_hh are added, so their gradients are equal (S-34); the tape copies where it must
            grads += (ih, hh, bias, bias)
        grads += [None] * (len(given) - len(grads))
        return grads

    made = record_many("lstm", (y, h_n, c_n), leaves(inputs), run)
    return made[0], made[1], made[2]
