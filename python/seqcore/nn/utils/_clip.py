"""Clipping gradients by their norm."""

from __future__ import annotations

import math
from typing import Any

from ..._arguments import flag, not_built, real, several, shown
from ...errors import message
from ...tensor import Tensor, clip_grad_norm

__all__ = ["clip_grad_norm_"]


def clip_grad_norm_(
    parameters: Any, max_norm: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: Any = None
) -> Tensor:
    """Scales all gradients, in place, so that their joint norm is at most `max_norm`.

    Args:
        parameters: one Tensor or an iterable of them; those without a gradient are skipped, doubled ones count once.
        max_norm: at least 0; norm_type: only 2 is built; error_if_nonfinite: whether inf and NaN raise.
        foreach: ignored.

    Returns:
        the norm before, a 0-d Tensor.

    Raises:
        ValueError: max_norm below 0 or NaN; NotImplementedError: another norm_type.
        RuntimeError: the norm is not finite and that was to be an error; no gradient has changed then.

    Source: Pascanu et al. 2013.

    Example:
        >>> import seqcore
        >>> p = seqcore.nn.Parameter([0.0, 0.0])
        >>> p.grad = seqcore.Tensor([3.0, 4.0])
        >>> seqcore.nn.utils.clip_grad_norm_([p], 1.0).item()
        5.0
    """
    op = "clip_grad_norm_"
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    parameters = several(op, "parameters", parameters, "Tensors", _checked)
    error_if_nonfinite = flag(op, "error_if_nonfinite", error_if_nonfinite)
    max_norm = real(op, "max_norm", max_norm)
    if math.isnan(max_norm) or max_norm < 0:
        raise ValueError(message(op, "max_norm", "a number from 0", max_norm))
    not_built(op, "norm_type", real(op, "norm_type", norm_type), 2.0)
    grads = {id(p.grad): p.grad for p in parameters if p.grad is not None}
    if not grads:
        return Tensor(0.0)
    return clip_grad_norm(list(grads.values()), max_norm, error_if_nonfinite)


def _checked(p: Any) -> Tensor:
    if not isinstance(p, Tensor):
        raise TypeError(message("clip_grad_norm_", "parameters", "Tensors", shown(p)))
    return p
