"""PyTorch's names, argument order and defaults, in every function and constructor of nn, nn.functional and optim."""

import inspect
import typing

import pytest
import torch

import seqcore
from seqcore import nn, optim
from torch_compare import raised

# what is not as in PyTorch, and why
EXCEPTIONS = {
    "nn.Parameter": "data is needed: there are no uninitialized parameters",
    "nn.Sequential.extend": "takes any modules, as ModuleList.extend does, and has its name for them",
}

# PyTorch's are compiled, and only their documentation says what they take
COMPILED = {"nn.functional.linear": lambda input, weight, bias=None: None}

INHERITED = ("step", "zero_grad", "state_dict", "load_state_dict", "add_param_group")


def names(module):
    """What is public there and no module."""
    return [n for n in module.__all__ if not inspect.ismodule(getattr(module, n))]


def methods(cls):
    """Public methods of a class and its constructor, without what Python gives every class."""
    found = [n for n, f in inspect.getmembers(cls, callable) if not n.startswith("_") and not hasattr(object, n)]
    return ["__init__", *found] if cls.__init__ is not object.__init__ else found


def cases():
    """(name, ours, PyTorch's) of functions, constructors and methods that both have."""
    places = {
        "nn": (nn, torch.nn),
        "nn.functional": (nn.functional, torch.nn.functional),
        "nn.init": (nn.init, torch.nn.init),
        "nn.utils": (nn.utils, torch.nn.utils),
        "optim": (optim, torch.optim),
    }
    for place, (ours, theirs) in places.items():
        for name in names(ours):
            mine, other = getattr(ours, name), getattr(theirs, name)
            if not inspect.isclass(mine):
                yield f"{place}.{name}", mine, other
                continue
            if issubclass(mine, seqcore.Tensor):
                yield f"{place}.{name}", mine.__init__, other.__new__
                continue
            for method in methods(mine):
                if hasattr(other, method):
                    suffix = "" if method == "__init__" else f".{method}"
                    yield f"{place}.{name}{suffix}", getattr(mine, method), getattr(other, method)


CASES = {name: (ours, theirs) for name, ours, theirs in cases()}


def parameters(function):
    """(positional, by name alone) as dicts of name to default, without self and *args."""
    found = [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
    positional = {p.name: p.default for p in found if p.kind is p.POSITIONAL_OR_KEYWORD}
    return positional, {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY}


def signatures(name, function):
    """PyTorch's signature; where it takes *args, those of its overloads."""
    function = COMPILED.get(name, function)
    return [parameters(f) for f in typing.get_overloads(function) or [function]]


def fits(ours, theirs):
    """Whether every call that ours takes means the same there."""
    (positional, named), (their_positional, their_named) = ours, theirs
    if "args" in their_positional or list(positional) != list(their_positional)[: len(positional)]:
        return False
    all_theirs = {**their_positional, **their_named}
    # an overload writes ... for a default that it does not say
    return all(all_theirs.get(name, raised) in (value, ...) for name, value in {**positional, **named}.items())


def test_what_is_compared():
    assert len(CASES) > 100
    for name in ("nn.LSTM", "nn.LSTM.forward", "nn.functional.linear", "nn.Embedding.from_pretrained", "optim.AdamW"):
        assert name in CASES


@pytest.mark.parametrize("name", CASES)
def test_signature(name):
    """Ours are the first of PyTorch's, in their order and with their defaults."""
    ours, theirs = CASES[name]
    found = parameters(ours), signatures(name, theirs)
    if name in EXCEPTIONS:
        assert not any(fits(found[0], other) for other in found[1]), "no exception any more"
    else:
        assert any(fits(found[0], other) for other in found[1]), found


def test_input_by_name():
    """Every layer and function takes its input as `input`."""
    x = seqcore.Tensor([[[1.0, -2.0]]])
    weight = seqcore.Tensor([[3.0, 4.0]])
    f = nn.functional
    assert f.linear(input=x, weight=weight).numpy().tolist() == [[[-5.0]]]
    assert f.relu(x, False).numpy().tolist() == f.relu(input=x, inplace=False).numpy().tolist() == [[[1.0, 0.0]]]
    for function in (f.sigmoid, f.tanh, f.dropout):
        assert function(input=x).shape == x.shape
    layers = (nn.Dropout(), nn.Identity(), nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Linear(2, 2), nn.Sequential())
    for layer in layers:
        assert layer(input=x).shape == x.shape
    assert nn.Embedding(3, 2)(input=[0, 1]).shape == (2, 2)
    assert nn.LSTM(2, 3)(input=x)[0].shape == (1, 1, 3)


def test_inplace_is_refused_by_name():
    error = raised(nn.functional.relu, seqcore.Tensor([1.0]), True)
    assert isinstance(error, NotImplementedError) and "relu: inplace: expected False" in str(error)
