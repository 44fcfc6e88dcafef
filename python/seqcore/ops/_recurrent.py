"""LSTM: one layer in one direction."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from ..errors import ShapeError, message
from ._saved import Saved, array_of, arrays_only, out, take

__all__ = ["lstm", "lstm_backward"]

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def lstm(
    x: Any, h0: Any = None, c0: Any = None, weights: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Saved]:
    """One LSTM layer over a sequence.

    i, f, g, o are the four blocks of rows of the weights, in this order:
    i = σ(W_ii x + b_ii + W_hi h + b_hi), f, o alike, g = tanh(...); c' = f c + i g; h' = o tanh(c').

    Args:
        x: (T, B, input_size), float32 or float64; all others have its dtype.
        h0, c0: (B, hidden_size) or None for zeros.
        weights: a mapping with `weight_ih` (4 * hidden_size, input_size), `weight_hh` (4 * hidden_size, hidden_size)
            and, both or neither (left out or None), `bias_ih`, `bias_hh` (4 * hidden_size,). Tensors in it use their
            packed copies.

    Returns:
        y (T, B, hidden_size), h_n and c_n (B, hidden_size), and `saved` for `lstm_backward`.

    Raises:
        ShapeError, DTypeError: sizes or dtypes do not fit; DeviceError: a Tensor on a GPU; TypeError: `weights` is no
            mapping; ValueError: unknown or missing names in it.

    Source: Hochreiter and Schmidhuber 1997, with forget gate (Gers et al. 2000), as PyTorch computes it.

    Example:
        >>> import numpy as np
        >>> from seqcore import ops
        >>> rng = np.random.default_rng(0)
        >>> weights = {"weight_ih": rng.standard_normal((8, 3)), "weight_hh": rng.standard_normal((8, 2))}
        >>> y, h_n, c_n, saved = ops.lstm(rng.standard_normal((5, 1, 3)), None, None, weights)
        >>> grads = ops.lstm_backward(saved, np.ones_like(y), None, None)
        >>> sorted(grads)
        ['c0', 'h0', 'weight_hh', 'weight_ih', 'x']
    """
    weights = _named("lstm", weights)
    arrays_only("lstm", x=x, h0=h0, c0=c0, **weights)
    given = tuple(weights.get(name) for name in _NAMES)
    h0, c0 = (None if s is None else _layered("lstm", name, s) for name, s in (("h0", h0), ("c0", c0)))
    y, h_n, c_n, saved = _core.lstm(x, h0, c0, [given], 0.0, 0, 0, True, True)
    h_n, c_n = h_n.reshape(h_n.shape[1:]), c_n.reshape(c_n.shape[1:])
    return out(y), out(h_n), out(c_n), Saved("lstm", saved, list(weights), h_n.shape, h_n.dtype)


def lstm_backward(saved: Any, dy: Any = None, dh_n: Any = None, dc_n: Any = None) -> dict[str, np.ndarray]:
    """The gradients of `lstm`, from those of its results.

    Args:
        saved: what `lstm` gave; it can be used once.
        dy: (T, B, hidden_size) or None; dh_n, dc_n: (B, hidden_size) or None. None is zero; all have the dtype of x.

    Returns:
        a dict of new arrays: `x`, `h0`, `c0` and the names that were in `weights`, None aside.

    Raises:
        ShapeError, DTypeError: a gradient is not as its result; DeviceError: it is a Tensor on a GPU; TypeError:
            `saved` is not of `lstm`; RuntimeError: it was used before, or a Tensor that was given has changed since.

    Example:
        >>> import numpy as np
        >>> from seqcore import ops
        >>> weights = {"weight_ih": np.zeros((8, 3)), "weight_hh": np.zeros((8, 2))}
        >>> y, h_n, c_n, saved = ops.lstm(np.ones((5, 1, 3)), None, None, weights)
        >>> grads = ops.lstm_backward(saved, np.ones((5, 1, 2)))
        >>> grads["x"].shape, grads["h0"].shape
        ((5, 1, 3), (1, 2))
    """
    with take(saved, "lstm") as (core, names, shape, dtype):
        arrays_only("lstm_backward", dy=dy, dh_n=dh_n, dc_n=dc_n)
        dh_n = None if dh_n is None else _layered("lstm_backward", "dh_n", dh_n, shape)
        dc_n = None if dc_n is None else _layered("lstm_backward", "dc_n", dc_n, shape)
        if dy is None and dh_n is None and dc_n is None:
            dh_n = np.zeros((1, *shape), dtype)
        found: Any = _core.lstm_backward(core, dy, dh_n, dc_n, True, True, True)
        dx, dh0, dc0, [(dih, dhh, *dbias)] = found
        shape = list(shape)
        grads = {"x": out(dx), "h0": out(dh0.reshape(shape)), "c0": out(dc0.reshape(shape))}
        found = {"weight_ih": dih, "weight_hh": dhh}
        if dbias:
            found |= {"bias_ih": dbias[0], "bias_hh": dbias[0]}
        for name in names:
            # the two biases are added, so their gradients are equal (S-34), but no two results share memory (S-11)
            grads[name] = out(found[name]).copy() if name == "bias_hh" else out(found[name])
        return grads


def _named(op: str, weights: Any) -> dict[str, Any]:
    """The parameters that there are; None stands for one that is not."""
    if not hasattr(weights, "keys"):
        raise TypeError(message(op, "weights", "a mapping", type(weights).__name__))
    given = {name: weights[name] for name in weights.keys()}
    unknown = sorted(str(n) for n in given if n not in _NAMES)
    given = {name: value for name, value in given.items() if value is not None}
    missing = [n for n in _NAMES[:2] if n not in given]
    if unknown or missing:
        wrong = [f"unknown {', '.join(unknown)}"] if unknown else []
        wrong += [f"no {' and no '.join(missing)}"] if missing else []
        expected = "weight_ih and weight_hh, and both or neither of bias_ih and bias_hh"
        raise ValueError(message(op, "weights", expected, "; ".join(wrong)))
    return given


def _layered(op: str, name: str, state: Any, shape: Any = None) -> Any:
    """A state (B, H) as the stack of one layer that it is."""
    if isinstance(state, np.ndarray):
        array: Any = np.asarray(state) if isinstance(state, np.matrix) else state
    else:
        array = array_of(state)
        array = _core.array(state, "cpu", op, name) if array is None else array
    if len(array.shape) != 2:
        raise ShapeError(message(op, name, "(B, hidden_size)", tuple(array.shape)))
    if shape is not None and tuple(array.shape) != tuple(shape):
        raise ShapeError(message(op, name, f"{tuple(shape)} = (B, hidden_size)", tuple(array.shape)))
    if isinstance(state, (list, tuple)):
        return [state]  # what is wrong with its dtype is then said of a list
    return array[None] if isinstance(array, np.ndarray) else array.reshape([1, *array.shape])
