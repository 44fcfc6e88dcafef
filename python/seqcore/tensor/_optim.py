"""Steps of optimizers over many tensors at once: one call each, in place, all tensors or none."""

from __future__ import annotations

from typing import Any

from .. import _core
from ._tensor import Tensor, wrap

__all__ = ["adam_step", "clip_grad_norm", "sgd_step", "zeros_like"]


def zeros_like(tensor: Any) -> Tensor:
    """Zeros of the same shape, dtype and device."""
    array = tensor._array
    return wrap(_core.zeros(array.shape, array.dtype, array.device))


def _arrays(tensors: Any) -> list[Any]:
    return [None if t is None else t._array for t in tensors]


def sgd_step(
    params: Any,
    grads: Any,
    buffers: Any,
    lr: Any,
    momentum: Any,
    dampening: Any,
    weight_decay: Any,
    nesterov: Any,
    maximize: Any,
    first: Any,
) -> None:
    """One step of SGD: params and buffers are written to; `first` says which buffers are still empty."""
    _core.sgd_step(
        _arrays(params),
        _arrays(grads),
        _arrays(buffers),
        lr,
        momentum,
        dampening,
        weight_decay,
        nesterov,
        maximize,
        first,
    )


def adam_step(
    params: Any,
    grads: Any,
    m: Any,
    v: Any,
    vmax: Any,
    steps: Any,
    lr: Any,
    betas: Any,
    eps: Any,
    weight_decay: Any,
    decoupled: Any,
    maximize: Any,
) -> None:
    """One step of Adam or, `decoupled`, AdamW; `steps` counts from 1, this step included."""
    vmax = None if vmax is None else _arrays(vmax)
    _core.adam_step(
        _arrays(params),
        _arrays(grads),
        _arrays(m),
        _arrays(v),
        vmax,
        steps,
        lr,
        betas[0],
        betas[1],
        eps,
        weight_decay,
        decoupled,
        maximize,
    )


def clip_grad_norm(grads: Any, max_norm: Any, error_if_nonfinite: Any) -> Tensor:
    """The norm over all gradients, which are scaled in place where it is above max_norm."""
    return wrap(_core.clip_grad_norm(_arrays(grads), max_norm, error_if_nonfinite))
