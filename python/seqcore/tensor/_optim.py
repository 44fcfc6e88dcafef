"""Steps of optimizers over many tensors at once: one call each, in place, all tensors or none."""

from .. import _core
from ._tensor import wrap

__all__ = ["adam_step", "clip_grad_norm", "sgd_step", "zeros_like"]


def zeros_like(tensor):
    """Zeros of the same shape, dtype and device."""
    array = tensor._array
    return wrap(_core.zeros(array.shape, array.dtype, array.device))


def _arrays(tensors):
    return [None if t is None else t._array for t in tensors]


def sgd_step(params, grads, buffers, lr, momentum, dampening, weight_decay, nesterov, maximize, first):
    """One step of SGD (S-144): params and buffers are written to; `first` says which buffers are still empty."""
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


def adam_step(params, grads, m, v, vmax, steps, lr, betas, eps, weight_decay, decoupled, maximize):
    """One step of Adam or, `decoupled`, AdamW (S-145, S-146); `steps` counts from 1, this step included."""
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


def clip_grad_norm(grads, max_norm, error_if_nonfinite):
    """The norm over all gradients, which are scaled in place where it is above max_norm (S-151, S-152)."""
    return wrap(_core.clip_grad_norm(_arrays(grads), max_norm, error_if_nonfinite))
