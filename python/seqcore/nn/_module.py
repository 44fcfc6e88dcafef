"""Module: parameters, buffers and other modules under names, as attributes of one object."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from .. import runtime
from .._arguments import flag, function, no_room, shown, text
from ..errors import DTypeError, message
from ..tensor import Tensor, as_tensor, at_once, overwrite, own_memory, snapshot, values_for, versions, zero_grads
from ._parameter import Parameter

__all__ = ["Module"]


class _Keys(NamedTuple):
    missing_keys: list
    unexpected_keys: list


class Module:
    """Base of all layers and models: assign Parameters, buffers and Modules as attributes, define `forward`.

    Raises:
        NotImplementedError: called without a `forward` of its own; TypeError: a Parameter is replaced by anything but
            another or None.

    Example:
        >>> import seqcore
        >>> class Net(seqcore.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.out = seqcore.nn.Linear(2, 1)
        ...     def forward(self, x):
        ...         return self.out(x).tanh()
        >>> [name for name, _ in Net().named_parameters()]
        ['out.weight', 'out.bias']
    """

    training = True
    _buffers: ClassVar[dict] = {}  # name: whether it is in the state_dict; an instance gets its own when it has any

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(message(type(self).__name__, "forward", "a method of its own", "none"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # ---- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        known, is_buffer = self.__dict__.get(name), name in self._buffers
        hint: str | None = None
        kinds: Any
        # as in PyTorch: a Parameter or Module may take a buffer's place, and a Parameter a module's
        if isinstance(known, Parameter):
            what, kinds = "a Parameter", Parameter
            hint = f"self.{name}.copy_(...) under no_grad writes values"
        elif isinstance(known, Module):
            what, kinds = "a Module", Module | Parameter
        else:
            what, kinds = "a Tensor", (Tensor | Module if is_buffer else object)
        if value is not None and not isinstance(value, kinds):
            raise TypeError(message(type(self).__name__, name, f"{what} or None", type(value).__name__, hint))
        if is_buffer and isinstance(value, Parameter | Module):
            self._forget_buffer(name)
        elif is_buffer and value is not None:
            own_memory(value)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        if name in self._buffers:
            self._forget_buffer(name)

    def _forget_buffer(self, name: str) -> None:
        rest = {other: persistent for other, persistent in self._buffers.items() if other != name}
        object.__setattr__(self, "_buffers", rest)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Names a Tensor that is part of the state but no parameter.

        Args:
            tensor: a Tensor, an array (copied) or None; persistent: whether it is in the state_dict.
        """
        op = "register_buffer"
        self._check_new(name, None)
        if isinstance(tensor, Parameter):
            hint = "detach() gives a Tensor of its values"
            raise TypeError(message(op, name, "a Tensor that is no Parameter", "a Parameter", hint))
        persistent = flag(op, "persistent", persistent)
        if tensor is not None:
            tensor = as_tensor(op, "tensor", tensor)
            own_memory(tensor)
        object.__setattr__(self, "_buffers", {**self._buffers, name: persistent})
        object.__setattr__(self, name, tensor)

    def register_parameter(self, name: str, param: Any) -> None:
        """As an assignment, where the name may come from a string."""
        self._check_new(name, Parameter)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(message("register_parameter", name, "a Parameter or None", type(param).__name__))
        setattr(self, name, param)

    def add_module(self, name: str, module: Any) -> None:
        """As an assignment, where the name may come from a string."""
        self._check_new(name, Module)
        if module is not None and not isinstance(module, Module):
            raise TypeError(message("add_module", name, "a Module or None", type(module).__name__))
        setattr(self, name, module)

    def _check_new(self, name: str, kind: Any) -> None:
        """KeyError for the name of anything but a `kind`, or None for a buffer, which a new one may replace."""
        if not isinstance(name, str):
            raise TypeError(message(type(self).__name__, "name", "a string", type(name).__name__))
        if not name or "." in name:
            raise KeyError(message(type(self).__name__, "name", "a name without dots", repr(name)))
        known, is_buffer = getattr(self, name, None), name in self._buffers
        may_replace = is_buffer if kind is None else not is_buffer and isinstance(known, kind | None)
        if hasattr(self, name) and not may_replace:
            raise KeyError(message(type(self).__name__, "name", "a new name", repr(name)))

    # ---- what there is

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, Module) of the modules directly below, each once."""
        seen = set()
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules directly below."""
        return (module for _, module in self.named_children())

    def named_modules(self, memo: Any = None, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, Module) of this module and all below, each once."""
        if not isinstance(memo, set | None):
            raise TypeError(message("named_modules", "memo", "a set or None", shown(memo)))
        memo = set() if memo is None else memo
        if id(self) in memo:
            return
        memo.add(id(self))
        yield prefix, self
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                yield from value.named_modules(memo, f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below, each once."""
        return (module for _, module in self.named_modules())

    def _named(self, op: str, prefix: Any, recurse: Any, remove_duplicate: Any, wanted: Any) -> Iterator[Any]:
        text(op, "prefix", prefix)
        recurse, remove_duplicate = flag(op, "recurse", recurse), flag(op, "remove_duplicate", remove_duplicate)
        return self._found(prefix, recurse, remove_duplicate, wanted)

    def _found(self, prefix: str, recurse: bool, remove_duplicate: bool, wanted: Any) -> Iterator[tuple[str, Any]]:
        memo = set()
        modules = self.named_modules(prefix=prefix) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in list(module.__dict__.items()):
                if isinstance(value, Tensor) and wanted(module, name, value):
                    if remove_duplicate and id(value) in memo:
                        continue
                    memo.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(path, Parameter), each once also where it has several names."""
        return self._named(
            "named_parameters",
            prefix,
            recurse,
            remove_duplicate,
            lambda module, name, value: isinstance(value, Parameter),
        )

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The Parameters of this module and all below, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, Tensor) of the buffers, each once."""
        return self._named(
            "named_buffers", prefix, recurse, remove_duplicate, lambda module, name, value: name in module._buffers
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and all below."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named_state(self, prefix: str = "", path: Any = ()) -> Iterator[tuple[str, Tensor]]:
        """(path, Tensor) of parameters and persistent buffers under every name that they have."""
        if any(module is self for module in path):
            return
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Parameter) or (isinstance(value, Tensor) and self._buffers.get(name)):
                yield prefix + name, value
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Module):
                yield from value._named_state(f"{prefix}{name}.", (*path, self))

    # ---- state

    def state_dict(self) -> dict[str, Tensor]:
        """A dict of path to Tensor: copies, all of one moment, that later training does not change."""
        named = dict(self._named_state())
        different = {id(t): t for t in named.values()}
        copies = dict(zip(different, snapshot(list(different.values())), strict=True))
        return {name: copies[id(t)] for name, t in named.items()}

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> _Keys:
        """Writes the arrays of a mapping (as of PyTorch's `state_dict()`) into parameters and buffers.

        Args:
            state_dict: name to array or Tensor of the right shape; values are cast to the parameter's dtype.
            strict: whether missing and unexpected names are errors.

        Returns:
            the lists `missing_keys` and `unexpected_keys`.

        Raises:
            RuntimeError: names, sizes or values (1e300 in float32) do not fit; all of them are listed, and nothing was
                written.

        Example:
            >>> import seqcore
            >>> layer = seqcore.nn.Linear(2, 1)
            >>> keys = layer.load_state_dict({"weight": [[1.0, 2.0]], "bias": [0.5]})
            >>> layer([3.0, 4.0]).item()
            11.5
        """
        op = "load_state_dict"
        if not hasattr(state_dict, "keys"):
            raise TypeError(message(op, "state_dict", "a mapping", type(state_dict).__name__))
        strict = flag(op, "strict", strict)
        mine = dict(self._named_state())
        given = {str(name): state_dict[name] for name in state_dict.keys()}
        missing = [name for name in mine if name not in given]
        unexpected = [name for name in given if name not in mine]
        trouble, hints = [], list[str]()
        if strict and missing:
            trouble.append(f"missing: {', '.join(map(_shown, missing))}")
        if strict and unexpected:
            trouble.append(f"unexpected: {', '.join(map(_shown, unexpected))}")
        pairs = []
        for name, tensor in mine.items():
            if name in given:
                try:
                    pairs.append((tensor, values_for(op, _shown(name), tensor, given[name])))
                except MemoryError:
                    raise no_room(op, f"what {_shown(name)} becomes") from None
                except RecursionError:  # no fault of the value
                    raise
                # what else is raised here is of a signal's handler, or of a foreign array that is read
                except (RuntimeError, TypeError, ValueError) as error:
                    said, _, hint = (str(error).splitlines() or [repr(error)])[0].partition(" Hint: ")
                    said, hints = said.rstrip("."), [*hints, hint]
                    ours = said.startswith(f"{op}: ")
                    trouble.append(said.removeprefix(f"{op}: ") if ours else f"{_shown(name)}: {said}")
        if trouble:
            wanted = f"the names and sizes of {type(self).__name__}"
            got = "; ".join([*trouble, "nothing was loaded"])
            raise RuntimeError(message(op, "state_dict", wanted, got, next(filter(None, hints), None)))
        overwrite(pairs)
        return _Keys(missing, unexpected)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; with `set_to_none=False` makes them 0."""
        set_to_none = flag("zero_grad", "set_to_none", set_to_none)
        zero_grads(self.parameters(), set_to_none)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freezes or thaws all parameters."""
        requires_grad = flag("requires_grad_", "requires_grad", requires_grad)
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def train(self, mode: bool = True) -> Self:
        """Says whether dropout is active, here and in all modules below."""
        if not isinstance(mode, (bool, np.bool_)):
            raise ValueError(message("train", "mode", "True or False", shown(mode)))
        for module in self.modules():
            object.__setattr__(module, "training", bool(mode))
        return self

    def eval(self) -> Self:
        """`train(False)`; gradients can be asked for all the same."""
        return self.train(False)

    def apply(self, fn: Any) -> Self:
        """Calls `fn` on every module below, then on this one."""
        function("apply", "fn", fn)
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self, device: Any = None, dtype: Any = None) -> Self:
        """Moves parameters, buffers and gradients to `device` and casts them to `dtype`, in place: all or none.

        Other Tensors among the attributes stay as they are. A buffer that an operation gave keeps its history, but
        under `no_grad`.

        Raises:
            DeviceError: no such device; DTypeError: float64 on a GPU.
        """
        if dtype is None and device is not None and not runtime.is_device(device):
            device, dtype = None, device
        place = None if device is None else runtime.place(device)
        name = None if dtype is None else runtime.dtype_name(dtype, place or "cpu", "to")
        if name == "int64":
            raise DTypeError(message("to", "dtype", "float32 or float64", name))
        tensors = {id(t): t for t in (*self.parameters(), *self.buffers())}
        # again where another thread wrote meanwhile
        before = None
        while before != (before := versions(tensors.values())):
            every = [t for tensor in tensors.values() for t in (tensor, tensor.grad) if t is not None]
            changes = [change for t in every for change in _moves(t, place, name)]
        at_once(changes)
        return self

    def cpu(self) -> Self:
        """Moves all to the CPU."""
        return self.to("cpu")

    def float(self) -> Self:
        """Casts all to float32."""
        return self.to(dtype="float32")

    def double(self) -> Self:
        """Casts all to float64."""
        return self.to(dtype="float64")

    # ---- print

    def extra_repr(self) -> str:
        """What stands in the parentheses of a module that has no modules below."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._shown_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        head = [extra] if extra else []
        return f"{type(self).__name__}(\n  " + "\n  ".join(head + lines) + "\n)"

    def _shown_children(self) -> list[tuple[str, Module]]:
        return [(name, value) for name, value in self.__dict__.items() if isinstance(value, Module)]


def _shown(name: str) -> str:
    """A name from outside, on one line and of bounded length."""
    text = name if name.isprintable() and name else ascii(name)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _moves(tensor: Any, place: str | None, name: str | None) -> list[Any]:
    """The calls that move a tensor: a leaf stays one, what an operation gave has the move as its last operation."""
    made = tensor.to(place, name if tensor.dtype.kind == "f" else None)
    slots = ("_array",) if tensor.is_leaf else ("_array", "_edge", "_requires_grad")
    return [functools.partial(setattr, tensor, slot, getattr(made, slot)) for slot in slots]
