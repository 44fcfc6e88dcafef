"""Optimizer: parameters in groups, with what an algorithm remembers of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._arguments import flag, function, several, shown
from ..errors import ShapeError, message
from ..tensor import Tensor, as_ndarray, enable_grad, overwrite, snapshot, values_for, zero_grads, zeros_like

__all__ = ["Optimizer"]


class Optimizer:
    """Base of the optimizers.

    Args:
        params: an iterable of leaf Tensors, or of dicts with "params" and options of their own.
        defaults: the options of groups that do not say otherwise.

    Attributes: param_groups, a list of dicts; state, a dict of what is remembered of each parameter.

    Raises:
        ValueError: no parameters, one twice or one that is no leaf; TypeError: params or defaults of another kind.

    Example:
        >>> import seqcore
        >>> p = seqcore.nn.Parameter([1.0])
        >>> optimizer = seqcore.optim.SGD([{"params": [p], "lr": 0.1}])
        >>> isinstance(optimizer, seqcore.optim.Optimizer), optimizer.param_groups[0]["lr"]
        (True, 0.1)
    """

    _counts = ("step",)  # what of a state is a count and no tensor of the parameter's shape
    _squares: tuple[str, ...] = ()  # what is a mean of squares, whose root a step takes
    # what an algorithm remembers of a parameter once it has stepped (None: it does not say), and what only with some
    # options
    _remembered: tuple[str, ...] | None = None
    _optional: tuple[str, ...] = ()

    def __init__(self, params: Any, defaults: Any) -> None:
        if isinstance(params, Tensor):
            raise TypeError(message(type(self).__name__, "params", "an iterable of Tensors", "a Tensor", "[tensor]"))
        if not isinstance(defaults, Mapping):
            raise TypeError(message(type(self).__name__, "defaults", "a mapping of options", shown(defaults)))
        self.defaults = dict(defaults)
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        name = type(self).__name__
        groups = several(name, "params", params, "Tensors", lambda p: p if isinstance(p, dict) else _leaf(name, p))
        if not groups:
            raise ValueError(message(name, "params", "at least one Tensor", "none"))
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group: Any) -> None:
        """Adds parameters with options of their own.

        Args:
            param_group: a dict of "params" (a Tensor or an iterable of them) and options in place of the defaults.

        Raises:
            ValueError: a parameter that is there already, or a wrong option; TypeError: no Tensor.
        """
        name = type(self).__name__
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(message(name, "param_group", 'a dict with "params"', type(param_group).__name__))
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else params
        params = several(name, "params", params, "Tensors", lambda p: _leaf(name, p))
        here = [id(p) for p in params] + [id(p) for group in self.param_groups for p in group["params"]]
        if len(set(here)) != len(here):
            raise ValueError(message(name, "params", "each Tensor once", "one twice", "drop the duplicate"))
        group = {**self.defaults, **param_group, "params": params}
        self._check(group)
        self.param_groups.append(group)

    def _check(self, group: Any) -> None:
        """ValueError for a wrong option."""

    def step(self, closure: Any = None) -> Any:
        """Changes the parameters that have a gradient, those of a group all together or, on an error, none.

        Args:
            closure: computes the loss again; its result is given back.

        Raises:
            ValueError, TypeError: a group has a wrong option by now; no parameter has changed then.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = function(type(self).__name__, "closure", closure)()
        # groups are dicts that anybody may change: all are looked at before the first one steps
        for group in self.param_groups:
            self._check(group)
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step(group, params)
        return loss

    def _step(self, group: Any, params: Any) -> None:
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; with `set_to_none=False` makes them 0."""
        set_to_none = flag("zero_grad", "set_to_none", set_to_none)
        zero_grads((p for group in self.param_groups for p in group["params"]), set_to_none)

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """PyTorch's form: {"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}, all copies.

        Options that are NumPy's numbers or 0-d arrays are Python's numbers there.
        """
        order = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        groups = [
            {name: [order[id(p)] for p in v] if name == "params" else _plain(v) for name, v in group.items()}
            for group in self.param_groups
        ]
        held = [(order[id(p)], name, value) for p, state in self.state.items() for name, value in state.items()]
        held.sort(key=lambda entry: entry[0])
        tensors = [value for _, _, value in held if isinstance(value, Tensor)]
        copies = iter(snapshot(tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for number, name, value in held:
            # counts are 0-d tensors there (S-149)
            copy = next(copies) if isinstance(value, Tensor) else Tensor(float(value))
            state.setdefault(number, {})[name] = copy
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Any) -> None:
        """Goes on from a `state_dict()`, also one of PyTorch's as arrays.

        Raises:
            ValueError: groups or sizes differ from those here, or a state is not this algorithm's (one that is empty,
                as before the first step, is); TypeError: a part of another kind. Nothing has changed then.
        """
        op = "load_state_dict"
        if not hasattr(state_dict, "keys") or {"state", "param_groups"} - set(state_dict.keys()):
            raise ValueError(message(op, "state_dict", 'a mapping with "state" and "param_groups"', "another"))
        groups = state_dict["param_groups"]
        by_number = self._numbered(groups)
        state: dict[Tensor, dict[str, Any]] = {}
        if not isinstance(state_dict["state"], Mapping):
            raise TypeError(message(op, "state", "a mapping of numbers", type(state_dict["state"]).__name__))
        for number, entry in state_dict["state"].items():
            if number not in by_number:
                raise ValueError(message(op, "state", f"numbers among {list(by_number)}", repr(number)[:80]))
            p = by_number[number]
            state[p] = {name: self._loaded(p, name, value) for name, value in self._own(entry).items()}
        new_groups = []
        for group, values in zip(self.param_groups, groups, strict=True):
            changed = {name: value for name, value in values.items() if name in group and name != "params"}
            # JSON and others know lists only
            changed = {n: tuple(v) if isinstance(v, list) else v for n, v in changed.items()}
            self._check({**group, **changed})
            new_groups.append({**group, **changed})
        self.state, self.param_groups = state, new_groups

    def _numbered(self, groups: Any) -> dict[int, Tensor]:
        """The parameters by the numbers that groups of a state_dict give them."""
        op = "load_state_dict"
        if not isinstance(groups, (list, tuple)):
            raise TypeError(message(op, "param_groups", "a list of mappings", type(groups).__name__))
        numbers: list[int] = []
        for group in groups:
            if not isinstance(group, Mapping):
                raise TypeError(message(op, "param_groups", "a list of mappings", f"one of {type(group).__name__}"))
            if "params" not in group:
                raise ValueError(message(op, "param_groups", 'mappings with "params"', "one without"))
            params = group["params"]
            if not isinstance(params, (list, tuple)) or not all(
                isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in params
            ):
                raise TypeError(message(op, "params", "a list of integers", shown(params)))
            numbers += params
        mine, given = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in groups]
        if mine != given:
            raise ValueError(message(op, "param_groups", f"groups of {mine} parameters", given))
        if len(set(numbers)) != len(numbers):
            raise ValueError(message(op, "params", "each number once", repr(numbers)[:80]))
        return dict(zip(numbers, (p for group in self.param_groups for p in group["params"]), strict=True))

    def _own(self, entry: Any) -> dict[str, Any]:
        """A parameter's state as loaded, if it is of this algorithm: all of it, or nothing before the first step."""
        op = "load_state_dict"
        if not isinstance(entry, Mapping):
            raise TypeError(message(op, "state", "a mapping of names for each parameter", type(entry).__name__))
        if self._remembered is None:
            return dict(entry)
        # PyTorch writes None for what an option does not need
        found = {name: value for name, value in entry.items() if value is not None or name not in self._optional}
        wanted = set(self._remembered)
        if found and not wanted <= found.keys() <= wanted | set(self._optional):
            names = ", ".join(self._remembered + tuple(f"{name} (optional)" for name in self._optional))
            got = ", ".join(sorted(map(str, found)))[:80]
            hint = f"it is loaded into {type(self).__name__}; load it into the optimizer that it was saved from"
            raise ValueError(message(op, "state", f"{type(self).__name__}'s {names}", got, hint))
        return found

    def _loaded(self, p: Any, name: str, value: Any) -> Any:
        op = "load_state_dict"
        if name in self._counts:
            wanted = "an integer from 0 to below 2^53"
            try:
                array = as_ndarray(op, name, value)
            except ShapeError:  # lists of lists of several lengths
                raise TypeError(message(op, name, wanted, type(value).__name__)) from None
            if array.dtype.kind not in "fiu":
                raise TypeError(message(op, name, wanted, shown(value)))
            if array.size != 1:
                raise ValueError(message(op, name, wanted, f"an array of {array.shape}"))
            count = float(array.reshape(()))
            # beyond, float64 would not count on
            if not (0 <= count < 1 << 53 and count == int(count)):
                raise ValueError(message(op, name, wanted, count))
            return int(count)
        if value is None:
            raise TypeError(message(op, name, f"an array of {p.shape}", "None"))
        tensor = zeros_like(p)
        try:
            overwrite([(tensor, values_for(op, name, p, value))])
        except (ValueError, TypeError) as error:
            if str(error).startswith(f"{op}: "):
                raise
            got = f"none ({str(error).rstrip('.')})"
            raise ValueError(message(op, name, f"an array of {p.shape}", got)) from error
        if name in self._squares and (tensor.numpy() < 0).any():
            # NaN is what a run that diverged remembers, and its state is one to look at and to go on from
            raise ValueError(message(op, name, "means of squares, from 0", "one below 0"))
        return tensor

    def __repr__(self) -> str:
        groups = [
            ", ".join(f"{name}={value!r}" for name, value in group.items() if name != "params")
            + f", {len(group['params'])} parameters"
            for group in self.param_groups
        ]
        return f"{type(self).__name__}({'; '.join(groups)})"


def _plain(value: Any) -> Any:
    """An option with numbers of Python's in place of NumPy's and of 0-d arrays: JSON holds no others."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_plain, value))
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _leaf(name: str, p: Any) -> Tensor:
    if not isinstance(p, Tensor):
        raise TypeError(message(name, "params", "Tensors", type(p).__name__))
    if not p.is_leaf:
        raise ValueError(message(name, "params", "leaf Tensors", "the result of an operation"))
    return p
