"""Clipping gradients by their norm."""

from __future__ import annotations

import math
from typing import Any

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
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    if isinstance(max_norm, bool) or not hasattr(max_norm, "__float__"):
        raise TypeError(message("clip_grad_norm_", "max_norm", "a number", type(max_norm).__name__))
    max_norm = float(max_norm)
    if math.isnan(max_norm) or max_norm < 0:
        raise ValueError(message("clip_grad_norm_", "max_norm", "a number from 0", max_norm))
    if float(norm_type) != 2.0:
        raise NotImplementedError(message("clip_grad_norm_", "norm_type", "2, the rest is not built yet", norm_type))
    grads = {id(p.grad): p.grad for p in parameters if p.grad is not None}
    if not grads:
        return Tensor(0.0)
    return clip_grad_norm(list(grads.values()), max_norm, bool(error_if_nonfinite))
