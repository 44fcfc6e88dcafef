"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from .._arguments import flag, not_built, number, shown
from ..errors import message
from ..tensor import adam_step, zeros_like
from ._optimizer import Optimizer

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and its square.

    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps), with t
    counted for each parameter.

    Args:
        params: Tensors or groups; lr, eps, weight_decay: numbers from 0; betas: b1 and b2, each in [0, 1).
        amsgrad: divides by the largest v so far; maximize: climbs.
        decoupled_weight_decay: decay as in AdamW.
        foreach, fused: ignored; capturable, differentiable: only False is built.

    Raises:
        ValueError: an option outside its range; TypeError: an option or parameter of another kind.

    Source: Kingma and Ba 2015; Reddi et al. 2018 for amsgrad.

    Example:
        >>> import seqcore
        >>> p = seqcore.nn.Parameter([1.0])
        >>> p.sum().backward()
        >>> seqcore.optim.Adam([p], lr=0.5).step()
        >>> round(p.item(), 6)
        0.5
    """

    _name = "Adam"
    _remembered = ("step", "exp_avg", "exp_avg_sq")
    _optional = ("max_exp_avg_sq",)
    _squares = ("exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: Any = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: Any = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        for option, value in (("capturable", capturable), ("differentiable", differentiable)):
            not_built(self._name, option, flag(self._name, option, value), False)
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        defaults |= {"maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, defaults)

    def _check(self, group: Any) -> None:
        for option in ("lr", "eps", "weight_decay"):
            number(self._name, option, group[option])
        for option in ("amsgrad", "maximize", "decoupled_weight_decay"):
            flag(self._name, option, group[option])
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(message(self._name, "betas", "two numbers in [0, 1)", shown(betas)))
        for beta in betas:
            number(self._name, "betas", beta, 0.0, 1.0)

    def _step(self, group: Any, params: Any) -> None:
        names = ("exp_avg", "exp_avg_sq") + (("max_exp_avg_sq",) if group["amsgrad"] else ())
        states = []
        for p in params:
            old = self.state.get(p, {})
            new = {name: old[name] if name in old else zeros_like(p) for name in names}
            states.append({**old, "step": old.get("step", 0) + 1, **new})
        adam_step(
            params,
            [p.grad for p in params],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else None,
            [state["step"] for state in states],
            float(group["lr"]),
            [float(beta) for beta in group["betas"]],
            float(group["eps"]),
            float(group["weight_decay"]),
            bool(group["decoupled_weight_decay"]),
            bool(group["maximize"]),
            self.state,
            list(zip(params, states, strict=True)),
        )


class AdamW(Adam):
    """Adam whose weight decay multiplies the parameter by 1 - lr weight_decay, apart from the gradient.

    Args:
        as Adam's, with weight_decay 0.01.

    Source: Loshchilov and Hutter 2019.

    Raises:
        ValueError, TypeError: as Adam.

    Example:
        >>> import seqcore
        >>> seqcore.optim.AdamW([seqcore.nn.Parameter([1.0])]).defaults["weight_decay"]
        0.01
    """

    _name = "AdamW"

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: Any = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: Any = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: Any = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            decoupled_weight_decay=True,
        )

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        for group in self.param_groups:  # Adam's state says otherwise
            group["decoupled_weight_decay"] = True
