"""Stochastic gradient descent."""

from __future__ import annotations

import math
from typing import Any

from .._arguments import flag, not_built, number
from ..errors import message
from ..tensor import sgd_step, zeros_like
from ._optimizer import Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent, with momentum where asked for.

    g += weight_decay p; the first time buf = g, later buf = momentum buf + (1 - dampening) g; p -= lr buf or,
    with Nesterov, lr (g + momentum buf).

    Args:
        params: Tensors or groups; lr, momentum, dampening, weight_decay: numbers from 0
            (dampening any finite one).
        nesterov: needs momentum and no dampening; maximize: climbs.
        foreach, fused: ignored; differentiable: only False is built.

    Raises:
        ValueError: an option outside its range; TypeError: an option or parameter of another kind.

    Source: Sutskever et al. 2013, as PyTorch computes it.

    Example:
        >>> import seqcore
        >>> p = seqcore.nn.Parameter([1.0])
        >>> p.sum().backward()
        >>> seqcore.optim.SGD([p], lr=0.5).step()
        >>> p.item()
        0.5
    """

    _remembered = ()
    _optional = ("momentum_buffer",)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: Any = None,
        differentiable: bool = False,
        fused: Any = None,
    ) -> None:
        not_built("SGD", "differentiable", flag("SGD", "differentiable", differentiable), False)
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "nesterov": nesterov, "maximize": maximize})

    def _check(self, group: Any) -> None:
        number("SGD", "lr", group["lr"])
        number("SGD", "weight_decay", group["weight_decay"])
        momentum = number("SGD", "momentum", group["momentum"])
        dampening = number("SGD", "dampening", group["dampening"], -math.inf)
        flag("SGD", "maximize", group["maximize"])
        if flag("SGD", "nesterov", group["nesterov"]) and (momentum <= 0 or dampening != 0):
            raise ValueError(message("SGD", "nesterov", "momentum above 0 and no dampening", (momentum, dampening)))

    def _step(self, group: Any, params: Any) -> None:
        buffers = [self.state.get(p, {}).get("momentum_buffer") for p in params]
        first = [buffer is None for buffer in buffers]
        if group["momentum"]:
            buffers = [zeros_like(p) if new else buffer for p, buffer, new in zip(params, buffers, first, strict=True)]
            kept = [{**self.state.get(p, {}), "momentum_buffer": b} for p, b in zip(params, buffers, strict=True)]
            after = list(zip(params, kept, strict=True))
        else:
            buffers, after = [None] * len(params), []
        sgd_step(
            params,
            [p.grad for p in params],
            buffers,
            float(group["lr"]),
            float(group["momentum"]),
            float(group["dampening"]),
            float(group["weight_decay"]),
            bool(group["nesterov"]),
            bool(group["maximize"]),
            first,
            self.state,
            after,
        )
