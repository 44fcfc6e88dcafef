"""Writing in place while the tape records, beside PyTorch in float64: which writes are refused at backward, since it
would read what is gone, and the gradients where they are not.
"""

import random
import re

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor
from seqcore.nn import functional
from torch_compare import EXACT

IDS = [2, 0, 2]
MASK = np.array([[True, False], [False, True], [True, True]])
RNG = np.random.default_rng(11)
# away from 0 and 1, where slopes are 0
A, B = RNG.uniform(0.3, 0.9, (3, 2)), RNG.uniform(1.2, 1.9, (3, 2))

# operation: (how it is called on the module, on a and on b; which of a and b it has)
OPERATIONS = {
    "add": (lambda m, a, b: a + b, "ab"),
    "sub": (lambda m, a, b: a - b, "ab"),
    "mul": (lambda m, a, b: a * b, "ab"),
    "div": (lambda m, a, b: a / b, "ab"),
    "pow": (lambda m, a, b: a**b, "ab"),
    "broadcast mul": (lambda m, a, b: a * copied(m, b[0]), "ab"),
    "add number": (lambda m, a, b: a + 2, "a"),
    "sub number": (lambda m, a, b: a - 2, "a"),
    "number sub": (lambda m, a, b: 2 - a, "a"),
    "mul number": (lambda m, a, b: a * 2, "a"),
    "div number": (lambda m, a, b: a / 2, "a"),
    "number div": (lambda m, a, b: 2 / a, "a"),
    "pow number": (lambda m, a, b: a**3, "a"),
    "pow 0": (lambda m, a, b: a**0, "a"),
    "number pow": (lambda m, a, b: 2**a, "a"),
    "neg": (lambda m, a, b: -a, "a"),
    "exp": (lambda m, a, b: a.exp(), "a"),
    "log": (lambda m, a, b: a.log(), "a"),
    "sqrt": (lambda m, a, b: a.sqrt(), "a"),
    "where": (lambda m, a, b: m.where(MASK if m is seqcore else torch.tensor(MASK), a, b), "ab"),
    "sum": (lambda m, a, b: a.sum(0), "a"),
    "mean": (lambda m, a, b: a.mean(0), "a"),
    "permute": (lambda m, a, b: copied(m, a.permute(1, 0)), "a"),
    "cat": (lambda m, a, b: m.cat([a, b], 1), "ab"),
    "stack": (lambda m, a, b: m.stack([a, b], 1), "ab"),
    "slice": (lambda m, a, b: copied(m, a[1:]), "a"),
    "rows": (lambda m, a, b: a[IDS], "a"),
    "mask": (lambda m, a, b: a[MASK if m is seqcore else torch.tensor(MASK)], "a"),
    "sigmoid": (lambda m, a, b: a.sigmoid(), "a"),
    "tanh": (lambda m, a, b: a.tanh(), "a"),
    "relu": (lambda m, a, b: a.relu(), "a"),
    "matmul": (lambda m, a, b: copied(m, a.T) @ b, "ab"),
    "matmul of itself": (lambda m, a, b: a @ copied(m, a.T), "a"),
    "matmul 1-d": (lambda m, a, b: m.matmul(copied(m, a[:, 0]), b), "ab"),
    "matmul, stacked": (lambda m, a, b: m.stack([a, a]) @ copied(m, b.T), "ab"),
    "linear": (lambda m, a, b: nn_of(m).linear(a, b), "ab"),
    "linear, three axes": (lambda m, a, b: nn_of(m).linear(m.stack([a, a]), b, b[:, 0]), "ab"),
    "embedding": (lambda m, a, b: nn_of(m).embedding(IDS if m is seqcore else torch.tensor(IDS), a), "a"),
    "cross_entropy": (lambda m, a, b: losses(m, a, [1, 0, 1]), "a"),
    "cross_entropy, three axes": (lambda m, a, b: losses(m, m.stack([a, b]), [[1, 0], [2, 1]]), "ab"),
    "cross_entropy, one axis": (lambda m, a, b: losses(m, copied(m, a[0]), 1), "a"),
}
# where PyTorch saves other things: (operation, which of a, b, y is written to): why
PERMITTED = {
    ("pow 0", "a"): "the slope is 0 whatever a is",
    ("number pow", "a"): "backward reads the result alone",
    ("pow", "y"): "the power is computed again from a and b",
}
REFUSED = {
    ("number div", "a"): "PyTorch saves 1 / a in memory of its own; this reads a, which costs no memory",
}


def nn_of(module):
    return functional if module is seqcore else torch.nn.functional


def copied(module, a):
    """Slices and transposed tensors are views in PyTorch, and copies here."""
    return a if module is seqcore else a.clone()


def losses(module, a, target):
    return nn_of(module).cross_entropy(a, target if module is seqcore else torch.tensor(target), reduction="none")


def parts(module, needs):
    """Leaves, and what is computed from them: a leaf that requires grad may not be written to."""
    made = {}
    for name, values in (("a", A), ("b", B)):
        need = name in needs
        leaf = Tensor(values, need) if module is seqcore else torch.tensor(values, requires_grad=need)
        made[name] = leaf, leaf * 1
    return made


def outcome(module, call, needs, written):
    """The gradients, or that backward refused, after one of a, b, y was written to."""
    made = parts(module, needs)
    a, b = made["a"][1], made["b"][1]
    y = call(module, a, b)
    if written:
        {"a": a, "b": b, "y": y}[written].__iadd__(1.0)
    dy = np.linspace(1, 2, int(np.prod(y.shape))).reshape(tuple(y.shape))
    try:
        (y * (Tensor(dy) if module is seqcore else torch.tensor(dy))).sum().backward()
    except RuntimeError as error:
        if not re.search("in place|inplace", str(error)):
            raise
        return "refused"
    return [made[name][0].grad for name in "ab"]


def assert_same(ours, theirs, what=""):
    for mine, want in zip(ours, theirs, strict=True):
        assert (mine is None) == (want is None), what
        if want is not None:
            want = want.numpy()
            assert np.abs(mine.numpy() - want).max(initial=0) <= EXACT * max(np.abs(want).max(initial=0), 1), what


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_an_operation_saves_is_what_pytorch_saves(name):
    call, operands = OPERATIONS[name]
    for needs in {"a": ["a"], "ab": ["a", "b", "ab"]}[operands]:
        for written in (None, *operands, "y"):
            ours, theirs = (outcome(module, call, needs, written) for module in (seqcore, torch))
            if (name, written) in REFUSED:
                assert (ours, theirs != "refused") == ("refused", True), (needs, written)
                continue
            if (name, written) in PERMITTED and theirs == "refused":
                theirs = outcome(torch, call, needs, None)
            assert (ours == "refused") == (theirs == "refused"), (needs, written, ours, theirs)
            if ours != "refused":
                assert_same(ours, theirs, (needs, written))


def test_ids_changed_since_do_no_harm():
    """The gradient goes where the rows came from: the ids are kept as they were read."""
    for written in (lambda ids: ids.zero_(), lambda ids: ids.__setitem__(0, 1), lambda ids: ids.numpy().fill(1)):
        ids, weight = Tensor(np.array(IDS)), Tensor(A, requires_grad=True)
        y = functional.embedding(ids, weight)
        written(ids)
        y.sum().backward()
        assert weight.grad.numpy()[:, 0].tolist() == [1, 0, 2]


# all of y is overwritten, by a constant or by c, which may require grad
OVERWRITES = {
    "...": lambda y, c: y.__setitem__(..., 5.0),
    ":": lambda y, c: y.__setitem__(slice(None), 5.0),
    "0:": lambda y, c: y.__setitem__(slice(0, None), 5.0),
    "::1, :": lambda y, c: y.__setitem__((slice(None, None, 1), slice(None)), 5.0),
    "ids": lambda y, c: y.__setitem__([0, 1, 2], 5.0),
    "mask": lambda y, c: y.__setitem__([True] * 3, 5.0),
    "... = c": lambda y, c: y.__setitem__(..., c),
    ": = c[0]": lambda y, c: y.__setitem__(slice(None), c[0]),
    "copy_": lambda y, c: y.copy_(c),
    "copy_ broadcast": lambda y, c: y.copy_(c[:1]),
    "copy_ of itself": lambda y, c: y.copy_(y),
    "copy_ of a result": lambda y, c: y.copy_(y * 2 + c),
    "zero_": lambda y, c: y.zero_(),
    "*= 0": lambda y, c: y.__imul__(0.0),
}


@pytest.mark.parametrize("name", OVERWRITES)
@pytest.mark.parametrize("needs", ["a", "b", "ab"])
@pytest.mark.parametrize("mode", ["recorded", "no_grad", "in between"])
def test_a_tensor_that_was_overwritten(name, needs, mode):
    """Its old values get zeros for a gradient, not None, and it requires grad as before."""
    results = []
    for module in (seqcore, torch):
        made = parts(module, needs)
        y, c = made["a"][1], made["b"][1]
        z = y * 3 if mode == "in between" else None
        if mode == "no_grad":
            with module.no_grad():
                OVERWRITES[name](y, c)
        else:
            OVERWRITES[name](y, c)
        facts = [y.requires_grad, y.is_leaf]
        y = y if z is None else y + z
        if y.requires_grad:
            y.backward(Tensor(B) if module is seqcore else torch.tensor(B))
        results.append((facts, y.detach().numpy(), [made[k][0].grad for k in "ab"]))
    (facts, values, grads), (want_facts, want_values, want_grads) = results
    assert facts == want_facts
    assert np.allclose(values, want_values, rtol=EXACT)
    assert_same(grads, want_grads)


# steps of random programs on tensors of shape (3, 2): what they do, on the module, with a, b, a number and an index.
# What gives a tensor adds it to those that later steps take; slices, views in PyTorch, are copied there.
STEPS = {
    "add": lambda m, a, b, c, i: a + b,
    "mul": lambda m, a, b, c, i: a * b,
    "div": lambda m, a, b, c, i: a / b,
    "mul number": lambda m, a, b, c, i: a * c,
    "pow number": lambda m, a, b, c, i: a**3,
    "sigmoid": lambda m, a, b, c, i: a.sigmoid(),
    "tanh": lambda m, a, b, c, i: a.tanh(),
    "exp": lambda m, a, b, c, i: a.tanh().exp(),
    "matmul": lambda m, a, b, c, i: a @ copied(m, copied(m, b.T) @ a),
    "rows": lambda m, a, b, c, i: a[[1, 1, 0]],
    "sum": lambda m, a, b, c, i: a.sum(0) + b,
    "detach": lambda m, a, b, c, i: a.detach(),
    "reshape": lambda m, a, b, c, i: a.reshape(2, 3).reshape(3, 2),
    "+=": lambda m, a, b, c, i: a.__iadd__(b),
    "*=": lambda m, a, b, c, i: a.__imul__(b if a is not b else c),
    "/= number": lambda m, a, b, c, i: a.__itruediv__(c),
    "set": lambda m, a, b, c, i: a.__setitem__(i, copied(m, b[i])),
    "set number": lambda m, a, b, c, i: a.__setitem__(i, c),
    "copy_": lambda m, a, b, c, i: a.copy_(b),
    "zero_": lambda m, a, b, c, i: a.zero_(),
    "backward": lambda m, a, b, c, i: a.sum().backward(),
}
INDICES = [..., np.s_[:], np.s_[1:], np.s_[:, 1], 1, (2, 0), [2, 0], [True, False, True], np.s_[:2, [1]]]
# what is refused here alone, by design
STRICTER = "memory shared by reshape|a graph that was not used yet"


def stepped(module, pool, step):
    """Runs a step of a program; gives the refusal."""
    name, a, b, number, index, recorded = step
    try:
        with module.enable_grad() if recorded else module.no_grad():
            made = STEPS[name](module, pool[a], pool[b], number, index)
    except RuntimeError as error:
        return str(error)
    if made is not None and made is not pool[a]:
        pool.append(made)
    return None


@pytest.mark.parametrize("seed", range(300))
def test_random_programs(seed):
    random_of = random.Random(seed)
    made = [parts(module, "a" if seed % 4 == 0 else "ab") for module in (seqcore, torch)]
    pools = [[*m["a"], m["b"][1]] for m in made]
    refusals = [None, None]
    for _ in range(random_of.randint(3, 8)):
        name, recorded = random_of.choice([*STEPS]), random_of.random() > 0.1
        a, b = (random_of.randrange(len(pools[0])) for _ in "ab")
        # PyTorch's views made under no_grad have rules of their own
        step = name, a, b, random_of.choice([-1.5, 0.5, 2.0]), random_of.choice(INDICES), recorded or name == "reshape"
        refusals = [stepped(module, pool, step) for module, pool in zip((seqcore, torch), pools, strict=True)]
        if any(refusals):
            break
        for mine, want in zip(*pools, strict=True):
            assert (mine.requires_grad, mine.is_leaf) == (want.requires_grad, want.is_leaf), step
            assert np.allclose(mine.numpy(copy=True), want.detach().numpy(), 1e-9, 1e-9, equal_nan=True), step
    if not any(refusals):
        refusals = [
            stepped(m, p, ("backward", -1, 0, 0, 0, True)) for m, p in zip((seqcore, torch), pools, strict=True)
        ]
    ours, theirs = refusals
    if ours is None or theirs is not None or not re.search(STRICTER, ours):
        assert (ours is None) == (theirs is None), refusals
    if ours is None:
        for name in "ab":
            mine, want = (m[name][0].grad for m in made)
            assert (mine is None) == (want is None)
            assert want is None or np.allclose(mine.numpy(), want.numpy(), 1e-9, 1e-9, equal_nan=True)
