"""The tape: what is used once, what is stale, what goes into `.grad`, how deep it may be."""

import asyncio
import collections
import functools
import gc
import operator
import re
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

import seqcore
from programs import program
from seqcore import Tensor, nn, ops, optim
from seqcore.nn import functional
from torch_compare import raised, rounded

RNG = np.random.default_rng(3)


def leaf(*shape):
    return Tensor(rounded(RNG, shape), requires_grad=True)


def test_used_once():
    """S-24: twice through one graph, or no gradient for several elements, is a RuntimeError."""
    t = leaf(3)
    y = (t * t).sum()
    y.backward()
    before = t.grad.numpy().copy()
    with pytest.raises(RuntimeError, match="used"):
        y.backward()
    assert np.array_equal(t.grad.numpy(), before)
    with pytest.raises(RuntimeError, match=r"shape \(3,\)"):
        (t * t).backward()
    with pytest.raises(RuntimeError):
        Tensor([1.0]).backward()
    with pytest.raises(seqcore.ShapeError):
        (t * t).backward(np.ones(4, np.float32))
    with pytest.raises(seqcore.DTypeError):
        (t * t).backward(np.ones(3))


def test_gradients_add_up():
    """S-24."""
    t = leaf(3)
    for _ in range(3):
        (t * 2).sum().backward()
    assert t.grad.numpy().tolist() == [6.0] * 3
    t.backward(np.ones(3, np.float32))
    assert t.grad.numpy().tolist() == [7.0] * 3


# what writes to a tensor, under the names of its methods
IN_PLACE = {
    "copy_": lambda p: p.copy_(np.full(p.shape, 2.0, np.float32)),
    "zero_": lambda p: p.zero_(),
    "__iadd__": lambda p: p.__iadd__(1.0),
    "__isub__": lambda p: p.__isub__(1.0),
    "__imul__": lambda p: p.__imul__(2.0),
    "__itruediv__": lambda p: p.__itruediv__(2.0),
    "__setitem__ element": lambda p: p.__setitem__((1,) * p.ndim, 2.0),
    "__setitem__ row": lambda p: p.__setitem__(0, 2.0),
    "__setitem__ slice": lambda p: p.__setitem__(slice(0, 3), 9.0),
    "__setitem__ steps": lambda p: p.__setitem__((Ellipsis, slice(None, None, -2)), 9.0),
    "__setitem__ ids": lambda p: p.__setitem__([0, 2], 9.0),
    "__setitem__ mask": lambda p: p.__setitem__(np.arange(len(p)) > 0, 9.0),
    "__setitem__ all": lambda p: p.__setitem__(..., 2.0),
    "reshaped": lambda p: p.reshape(-1).__iadd__(1.0),
}
# these never record, so that they need no `no_grad`
UNRECORDED = {
    "detached": lambda p: p.detach().__iadd__(1.0),
    "detached, a slice": lambda p: p.detach().__setitem__(slice(0, 2), 9.0),
    "zeros_": nn.init.zeros_,
    "ones_": nn.init.ones_,
    "constant_": lambda p: nn.init.constant_(p, 3.0),
    "uniform_": nn.init.uniform_,
    "normal_": nn.init.normal_,
}
OF_MODULES = {
    "load_state_dict": lambda m: m.load_state_dict({name: t.numpy() * 2 for name, t in m.state_dict().items()}),
    "SGD": lambda m: optim.SGD(m.parameters(), lr=0.1).step(),
    "SGD momentum": lambda m: optim.SGD(m.parameters(), lr=0.1, momentum=0.9).step(),
    "Adam": lambda m: optim.Adam(m.parameters(), lr=0.1).step(),
    "Adam amsgrad": lambda m: optim.Adam(m.parameters(), lr=0.1, amsgrad=True).step(),
    "AdamW": lambda m: optim.AdamW(m.parameters(), lr=0.1).step(),
}
# these write to `.grad`
OF_GRADIENTS = {
    "clip_grad_norm_": lambda m: nn.utils.clip_grad_norm_(m.parameters(), 0.1),
    "zero_grad": lambda m: m.zero_grad(set_to_none=False),
}
MUTATORS = [*IN_PLACE, *UNRECORDED, *OF_MODULES]


def mutate(name, module, p):
    """Changes p, a parameter of the module, which has gradients."""
    with seqcore.no_grad():
        if name in OF_MODULES:
            OF_MODULES[name](module)
        else:
            {**IN_PLACE, **UNRECORDED}[name](p)


def with_gradients(module, device):
    module.to(device)
    for p in module.parameters():
        p.grad = Tensor(np.ones(p.shape, np.float32), device=device)
    return module


def test_every_mutator_is_in_the_tables():
    """A new one that is not would be tested by nobody."""
    methods = {name for name in dir(Tensor) if name.endswith("_") and name[0] != "_"} - {"requires_grad_"}
    methods |= {name for name in dir(operator) if name.startswith("__i") and hasattr(Tensor, name)}
    optimizers = set(optim.__all__) - {"Optimizer"}
    wanted = methods | {"__setitem__"} | set(nn.init.__all__) | optimizers | set(nn.utils.__all__)
    assert wanted <= {name.split()[0] for name in (*MUTATORS, *OF_GRADIENTS)}


@pytest.mark.parametrize("name", MUTATORS)
@pytest.mark.parametrize("kind", ["linear", "lstm", "mul"])
def test_a_parameter_changed_since_is_refused(name, kind, device):
    """fault 14: every mutator, through any alias, and no gradient is changed."""
    module = with_gradients(nn.LSTM(3, 5) if kind == "lstm" else nn.Linear(3, 5), device)
    p = module.weight_hh_l0 if kind == "lstm" else module.weight
    x = Tensor(rounded(RNG, (7, 2, 3)), requires_grad=True, device=device)
    y = module(x)[0] if kind == "lstm" else module(x) if kind == "linear" else p * p
    mutate(name, module, p)
    grads = [q.grad for q in module.parameters()]
    shapes = "|".join(re.escape(str(q.shape)) for q in module.parameters())
    with pytest.raises(RuntimeError, match=rf"got one of shape ({shapes}) that was changed in place"):
        y.sum().backward()
    assert x.grad is None
    assert all(a is b for a, b in zip(grads, [q.grad for q in module.parameters()], strict=True))


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_a_gradient_changed_since_is_refused(name, device):
    """fault 14: what was computed from `.grad` before it was clipped."""
    module = with_gradients(nn.Linear(3, 5), device)
    t = Tensor(rounded(RNG, (5, 3)), requires_grad=True, device=device)
    y = t * module.weight.grad
    OF_GRADIENTS[name](module)
    with pytest.raises(RuntimeError, match="changed in place"):
        y.sum().backward()
    assert t.grad is None


def test_an_activation_changed_since_is_refused():
    t = leaf(3)
    y = t.sigmoid()
    z = y * 2
    y += 1
    with pytest.raises(RuntimeError, match="changed"):
        z.sum().backward()


@pytest.mark.parametrize("name", MUTATORS)
@pytest.mark.parametrize("kind", ["linear", "lstm"])
def test_packed_weights_follow_every_mutation(name, kind, device):
    """Stale packed copies: after each mutator the layer computes with the new weights."""
    x = Tensor(rounded(RNG, (7, 2, 3)), device=device)
    make = {"linear": nn.Linear, "lstm": nn.LSTM}[kind]
    module = with_gradients(make(3, 5), device)

    def run(module):
        with seqcore.no_grad():
            return module(x)[0].numpy(copy=True)

    before = run(module)
    mutate(name, module, module.weight_hh_l0 if kind == "lstm" else module.weight)
    fresh = make(3, 5).to(device)
    fresh.load_state_dict({key: t.numpy() for key, t in module.state_dict().items()})
    assert np.array_equal(run(module), run(fresh))
    assert not np.array_equal(run(module), before), "it changed nothing: stale weights would not show"


def linear_both_ways(weight, device):
    x = np.linspace(-1, 1, 15 * weight.shape[1], dtype=np.float32).reshape(15, -1)
    x = Tensor(x, requires_grad=True, device=device)
    y = functional.linear(x, weight)
    y.sum().backward()
    return y.numpy(), x.grad.numpy()


def lstm_both_ways(weight):
    rows, columns = weight.shape
    x = np.linspace(-1, 1, 15 * columns, dtype=np.float32).reshape(5, 3, columns)
    weight_hh = np.linspace(-1, 1, rows * rows // 4, dtype=np.float32).reshape(rows, rows // 4)
    y, _, _, saved = ops.lstm(x, None, None, {"weight_ih": weight, "weight_hh": weight_hh})
    return y, ops.lstm_backward(saved, np.ones_like(y), None, None)["x"]


def check_each_shape(both_ways, device):
    values = rounded(RNG, (64, 8))
    memory = Tensor(values, device=device)
    for rows in (64, 128, 32, 64, 256, 128):
        shape = (rows, 512 // rows)
        got = both_ways(memory.reshape(shape))
        alone = both_ways(Tensor(values.reshape(shape), device=device))
        assert all(np.array_equal(a, b) for a, b in zip(got, alone, strict=True)), shape


def test_packed_weights_are_of_one_shape(device):
    """Tensors that `reshape` lets share memory share no packed copy, in whatever order they are used."""
    check_each_shape(lambda weight: linear_both_ways(weight, device), device)


def test_packed_weights_of_an_lstm_are_of_one_shape():
    check_each_shape(lstm_both_ways, "cpu")


def test_in_place_on_a_leaf_needs_no_grad(device):
    t = Tensor(rounded(RNG, (3,)), requires_grad=True, device=device)
    for change in IN_PLACE.values():
        with pytest.raises(RuntimeError):
            change(t)
    y = t * 2
    y.reshape(3)
    with pytest.raises(RuntimeError, match="reshape"):
        y += 1  # the other shape would keep the old history


def test_caller_arrays_are_copied_where_backward_reads_them():
    """An array that the caller writes to after forward does not change the gradient."""
    linear, lstm = nn.Linear(3, 2), nn.LSTM(3, 5)
    for module in (linear, lambda x: lstm(x)[0]):
        x = rounded(RNG, (7, 2, 3))
        want_module = linear if module is linear else lstm
        want_module.zero_grad()
        module(x.copy()).sum().backward()
        want = [p.grad.numpy().copy() for p in want_module.parameters()]
        want_module.zero_grad()
        y = module(x)
        x[...] = 1e9
        y.sum().backward()
        assert all(np.array_equal(p.grad.numpy(), w) for p, w in zip(want_module.parameters(), want, strict=True))
    ids = np.array([1, 0, 2])
    embedding = nn.Embedding(4, 2)
    y = embedding(ids)
    ids[:] = 3
    y.sum().backward()
    assert embedding.weight.grad.numpy()[:, 0].tolist() == [1, 1, 1, 0]


def test_arrays_that_backward_does_not_read_are_not_copied():
    """A forward pass over 256 MiB in 64 MiB of room."""
    source = """
    import resource
    import numpy as np, seqcore
    from seqcore import nn
    x = np.ones((4096, 1, 16384), np.float32)
    linear, lstm = nn.Linear(16384, 1), nn.LSTM(16384, 1)
    frozen = nn.Linear(16384, 1)
    frozen.weight.requires_grad_(False)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20),) * 2)
    with seqcore.no_grad():
        linear(x), lstm(x)
    frozen(x).sum().backward()
    print(frozen.bias.grad.item())
    try:
        linear(x)  # which backward will read
    except MemoryError:
        print("copied")
    """
    assert program(source) == "4096.0\ncopied"


def test_an_array_is_read_once():
    """y and the gradients are of one and the same input, whatever the caller's array gives the next time."""

    class Array:
        def __init__(self, *values):
            self.values, self.dtype, self.shape = iter(values), values[0].dtype, values[0].shape

        def __array__(self, dtype=None, copy=None):
            return next(self.values)

    x, weight = np.ones((2, 3), np.float32), leaf(4, 3)
    y = functional.linear(Array(x, 2 * x), weight)
    y.sum().backward()
    assert np.array_equal(weight.grad.numpy(), np.full((4, 3), 2.0))
    y, saved = ops.linear(Array(x, 2 * x), weight.numpy(copy=True))
    assert np.array_equal(ops.linear_backward(saved, np.ones_like(y))["weight"], np.full((4, 3), 2.0))
    ids, table = np.array([0, 1]), leaf(3, 2)
    functional.embedding(Array(ids, ids + 1), table).sum().backward()
    assert table.grad.numpy()[:, 0].tolist() == [1, 1, 0]
    _, saved = ops.embedding(Array(ids, ids + 1), table.numpy(copy=True))
    assert ops.embedding_backward(saved, np.ones((2, 2), np.float32))["weight"][:, 0].tolist() == [1, 1, 0]


def test_a_gradient_of_another_shape_than_it_says():
    class Array:
        shape = (3,)

        def __array__(self, dtype=None, copy=None):
            return np.ones(5, np.float32)

    x = leaf(3)
    with pytest.raises(seqcore.ShapeError, match=r"backward: gradient: expected \(3,\), got \(5,\)"):
        (x * 2.0).backward(Array())
    assert x.grad is None


def test_grads_share_no_memory():
    """S-11: one gradient that reaches two leaves is two arrays, and the caller's own stays the caller's."""
    a, b = leaf(3), leaf(3)
    given = Tensor(np.ones(3, np.float32))
    (a + b).backward(given)
    nn.utils.clip_grad_norm_([a], 0.1)
    assert b.grad.numpy().tolist() == [1.0] * 3 and given.numpy().tolist() == [1.0] * 3
    a.backward(given)
    lstm = nn.LSTM(3, 5)
    lstm(rounded(RNG, (7, 2, 3)))[0].sum().backward()
    grads = [p.grad.numpy() for p in lstm.parameters()]
    assert not any(np.shares_memory(x, y) for i, x in enumerate(grads) for y in grads[:i])


def test_no_grad_per_thread_nested_and_as_decorator():
    t = leaf(2)
    seen = []
    with seqcore.no_grad():
        thread = threading.Thread(target=lambda: seen.append((t * 2).requires_grad))
        thread.start()
        thread.join()
        with seqcore.enable_grad():
            assert (t * 2).requires_grad
        assert not (t * 2).requires_grad
    assert seen == [True] and (t * 2).requires_grad

    @seqcore.no_grad()
    def double():
        return t * 2

    @seqcore.no_grad()
    def doubles():
        for _ in range(2):
            yield t * 2

    assert not double().requires_grad
    for y in doubles():
        assert not y.requires_grad and (t * 2).requires_grad
    with pytest.raises(ZeroDivisionError), seqcore.no_grad():
        raise ZeroDivisionError
    assert (t * 2).requires_grad


@seqcore.no_grad()
def sums_under_no_grad():
    """Whether the mode held at each moment, and what came in."""
    t, seen = leaf(2), []
    total = 0
    while True:
        try:
            sent = yield total, seen
        except ValueError as error:
            seen.append(((t * 2).requires_grad, str(error)))
            continue
        except GeneratorExit:
            seen.append(((t * 2).requires_grad, "closed"))
            raise
        seen.append(((t * 2).requires_grad, sent))
        if sent is None:
            return total
        total += sent


def test_no_grad_of_a_generator():
    """Everything that a caller does with a generator reaches the one that is decorated."""
    t, running = leaf(2), sums_under_no_grad()
    assert next(running)[0] == 0 and running.send(0)[0] == 0 and running.send(3)[0] == 3
    total, seen = running.throw(ValueError("x"))
    assert total == 3 and seen == [(False, 0), (False, 3), (False, "x")] and (t * 2).requires_grad
    running.close()
    assert seen[3:] == [(False, "closed")] and (t * 2).requires_grad
    running = sums_under_no_grad()
    next(running)
    with pytest.raises(KeyError):
        running.throw(KeyError("y"))
    running = sums_under_no_grad()
    next(running)
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == 0 and (t * 2).requires_grad


def test_no_grad_of_a_coroutine():
    t = leaf(2)

    @seqcore.no_grad()
    async def double():
        first = t * 2
        await asyncio.sleep(0)
        return first.requires_grad, (t * 2).requires_grad

    async def both():
        beside = asyncio.create_task(double())
        await asyncio.sleep(0)
        mine = (t * 2).requires_grad
        return await double(), await beside, mine, (t * 2).requires_grad

    assert asyncio.run(both()) == ((False, False), (False, False), True, True)
    with pytest.raises(TypeError, match="no_grad: function: expected no asynchronous generator"):

        @seqcore.no_grad()
        async def doubles():
            yield t * 2

    async def doubled(scale):
        yield t * scale

    with pytest.raises(TypeError, match="no_grad: function: expected no asynchronous generator"):
        seqcore.no_grad()(functools.partial(doubled, 2))
    with pytest.raises(TypeError, match="no_grad: function: expected a function"):
        seqcore.no_grad()(3)


def test_threads_add_to_one_grad():
    """fault 15: no sum is lost."""
    t = leaf(50)

    def work():
        for _ in range(50):
            (t * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert t.grad.numpy().tolist() == [400.0] * 50


def test_graphs_are_freed_without_the_collector():
    gc.disable()
    try:
        t = leaf(3)
        kept = weakref.ref(t)
        y = (t.sigmoid() * t).sum()
        del t, y
        assert kept() is None
    finally:
        gc.enable()


def test_deep_tapes():
    """fault 33: 10^6 steps, backward and drop, on a small stack."""
    program = """if True:
        import seqcore
        t = seqcore.Tensor([1.0], requires_grad=True)
        y = t
        for _ in range(1_000_000):
            y = y + 1.0
        y.backward()
        assert t.grad.item() == 1.0
        y = t
        for _ in range(1_000_000):
            y = y.sigmoid()
        del y
        print("whole")
    """
    run = ["sh", "-c", 'ulimit -s 1024; exec "$0" -c "$1"', sys.executable, program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0 and done.stdout == "whole\n", done.stderr


def test_requires_grad_rules():
    assert isinstance(raised(Tensor, [1, 2], True), seqcore.DTypeError)
    y = leaf(2) * 2
    with pytest.raises(RuntimeError):
        y.requires_grad = False
    assert not y.detach().requires_grad and y.detach().is_leaf
    assert not y.is_leaf and leaf(2).is_leaf


def test_a_leaf_that_was_frozen_since(device):
    """It gets no gradient; written to by what requires grad, it is no leaf, and nothing gets one."""
    grads = []
    for make in (lambda v: Tensor(v, True, device), lambda v: torch.tensor(v, requires_grad=True)):
        a, b, c = (make([1.0, 2.0]) for _ in "abc")
        y, z = a * b, a * 2
        a.requires_grad_(False)
        y.sum().backward()
        grads.append((a.grad, b.grad.numpy().tolist()))
        a += c
        with pytest.raises(RuntimeError):
            (z + a).sum().backward()
        assert a.requires_grad and not a.is_leaf
        if isinstance(c, Tensor):
            assert a.grad is None and c.grad is None
    assert grads[0] == grads[1] == (None, [1.0, 2.0])


@pytest.mark.parametrize("op", ["mul", "div"])
@pytest.mark.parametrize("other", ["array", "tensor", "itself"])
def test_in_place_products_can_be_gone_back_through(op, other, device):
    values, by = np.array([1.0, -2.0, 3.0], np.float32), np.array([2.0, 3.0, 0.5], np.float32)

    def run(make, array, add):
        x, w = make(values), make(by)
        y = x + 1.0
        right = {"array": array(by), "tensor": w, "itself": y}[other]
        if make is theirs_of:
            y = y * right if op == "mul" else y / right
        elif op == "mul":
            y *= right
        else:
            y /= right
        z = y * array(by)
        y += add  # neither reads y
        (z + y).sum().backward()
        return x.grad, w.grad

    def theirs_of(v):
        return torch.tensor(v, requires_grad=True)

    ours = run(lambda v: Tensor(v, requires_grad=True, device=device), lambda v: v, 1.0)
    theirs = run(theirs_of, torch.tensor, 1.0)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-6)


LISTS = {
    "Tensor": (lambda g, dtype: Tensor([g, 2.0], dtype=dtype), "data"),
    "nested": (lambda g, dtype: Tensor([[1.0, 3.0], (g, 2.0)], dtype=dtype), "data"),
    "sequence": (lambda g, dtype: Tensor(collections.UserList([g, 2.0]), dtype=dtype), "data"),
    "cat": (lambda g, dtype: seqcore.cat([[g], Tensor([2.0], dtype=dtype)]), r"tensors\[0\]"),
    "stack": (lambda g, dtype: seqcore.stack([Tensor([1.0, 2.0], dtype=dtype), [g, 2.0]]), r"tensors\[1\]"),
    "add": (lambda g, dtype: operator.add(Tensor([1.0, 2.0], dtype=dtype), [g, 1.0]), "other"),
    "+=": (lambda g, dtype: operator.iadd(Tensor([1.0, 2.0], dtype=dtype), [g, 1.0]), "other"),
    "matmul": (lambda g, dtype: Tensor([[1.0, 2.0]], dtype=dtype) @ [g, 1.0], "b"),
    "setitem": (lambda g, dtype: Tensor([1.0, 2.0], dtype=dtype).__setitem__(slice(None), [g, 2.0]), "value"),
    "copy_": (lambda g, dtype: Tensor([1.0, 2.0], dtype=dtype).copy_([g, 2.0]), "source"),
    "where": (lambda g, dtype: seqcore.where([True, False], [g, 1.0], Tensor([1.0, 2.0], dtype=dtype)), "a"),
    "exp": (lambda g, dtype: seqcore.exp([g, 1.0]), "x"),
    "relu": (lambda g, dtype: nn.functional.relu([[g, 1.0]]), "input"),
    "linear": (lambda g, dtype: nn.Linear(2, 1)([[g, 1.0]]), "input"),
    "cross_entropy": (lambda g, dtype: nn.functional.cross_entropy([[g, 1.0]], [0]), "input"),
    "backward": (lambda g, dtype: Tensor([1.0, 2.0], True, dtype=dtype).backward([g, 1.0]), "gradient"),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_list_does_not_lose_a_gradient(name, dtype, device):
    """NumPy makes an array of it, which has none: refused, as all that a Tensor stands in by itself is recorded."""
    if dtype == "float64" and device != "cpu":
        return
    call, argument = LISTS[name]
    g = Tensor(3.0, requires_grad=True, device=device, dtype=dtype)
    for given in (g, g * 2):
        wanted = rf"^\S+: {argument}: expected float.* got a \w+ with a Tensor that requires grad\. Hint: .*stack"
        with pytest.raises(seqcore.DTypeError, match=wanted):
            call(given, dtype)
        with seqcore.no_grad(), pytest.raises(seqcore.DTypeError, match=wanted):
            call(given, dtype)
    # what needs none is a number; and afterwards as before
    call(g.detach(), dtype)
    assert np.asarray(g).tolist() == 3.0 and np.asarray([g, 2.0]).tolist() == [3.0, 2.0]
    joined = seqcore.stack([g, g * 2])
    joined.sum().backward()
    assert joined.numpy().tolist() == [3.0, 6.0] and g.grad.item() == 3.0
