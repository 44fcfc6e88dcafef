"""Steps of optimizers over many tensors at once: one call each, in place, all tensors or none."""

from __future__ import annotations

import functools
from typing import Any

from .. import _core
from ._tape import at_once
from ._tensor import Tensor, wrap

__all__ = ["adam_step", "clip_grad_norm", "sgd_step"]


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
    state: Any,
    after: Any,
) -> None:
    """One step of SGD: params and buffers are written to; `first` says which buffers are still empty.

    `state`, a dict, is updated with the pairs `after`.
    """
    _and_update(
        state,
        after,
        _core.sgd_step,
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
    state: Any,
    after: Any,
) -> None:
    """One step of Adam or, `decoupled`, AdamW; `steps` counts from 1, this step included.

    `state`, a dict, is updated with the pairs `after`.
    """
    vmax = None if vmax is None else _arrays(vmax)
    _and_update(
        state,
        after,
        _core.adam_step,
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


def _and_update(state: Any, after: Any, step: Any, *arguments: Any) -> None:
    """Makes the step and updates the state: Ctrl-C falls before both or after both."""
    at_once([functools.partial(step, *arguments), functools.partial(state.update, after)])


def clip_grad_norm(grads: Any, max_norm: Any, error_if_nonfinite: Any) -> Tensor:
    """The norm over all gradients, which are scaled in place where it is above max_norm."""
    return wrap(_core.clip_grad_norm(_arrays(grads), max_norm, error_if_nonfinite))
