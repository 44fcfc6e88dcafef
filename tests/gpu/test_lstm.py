"""nn.LSTM on the GPU against float64 PyTorch, and against what the CPU computes.

lesson 3: states are never zero, I != H, T != B. lesson 4: every subset of {y, h_n, c_n} gets a gradient.
"""

import itertools

import numpy as np
import pytest
import torch

import seqcore
from torch_compare import FORWARD, WEIGHTS, assert_close, compare, error, rounded, subsets, twins

pytestmark = pytest.mark.gpu

GRID = [
    dict(zip(("layers", "bias", "steps", "batch", "sizes", "states"), (*values, i % 3 != 0), strict=True))
    for i, values in enumerate(
        itertools.product((1, 2, 3), (True, False), (1, 2, 37), (1, 3, 17), ((5, 7), (3, 2), (31, 33)))
    )
    if values[2] != values[3]
]


def inputs(steps, batch, sizes, layers, states=True, seed=3):
    rng = np.random.default_rng(seed)
    given = {"x": rounded(rng, (steps, batch, sizes[0]))}
    if states:
        given["h0"] = rounded(rng, (layers, batch, sizes[1]), scale=0.5)
        given["c0"] = rounded(rng, (layers, batch, sizes[1]))
    return given


def run(module):
    """S-69: d(loss) may come through any of y, h_n, c_n."""

    def call(x, h0=None, c0=None):
        return module(x, None if h0 is None else (h0, c0))

    return call


def both(*args, **options):
    return twins(seqcore.nn.LSTM, torch.nn.LSTM, *args, device="gpu", **options)


@pytest.mark.parametrize("case", GRID, ids=lambda c: "-".join(map(str, c.values())).replace(" ", ""))
def test_grid(case):
    sizes, layers = case["sizes"], case["layers"]
    ours, theirs = both(*sizes, layers, bias=case["bias"])
    given = inputs(case["steps"], case["batch"], sizes, layers, case["states"])
    # as on the CPU: each layer adds its own rounding to that of the layer below
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], limit=FORWARD * layers, device="gpu")


@pytest.mark.parametrize("outputs", subsets(3), ids=str)
@pytest.mark.parametrize("layers", [1, 2])
def test_subsets_of_outputs(outputs, layers):
    ours, theirs = both(3, 5, layers)
    given = inputs(7, 2, (3, 5), layers)
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], outputs=outputs, device="gpu")


@pytest.mark.parametrize("states", [True, False])
def test_batch_first(states):
    """S-38."""
    ours, theirs = both(3, 5, 2, batch_first=True)
    given = inputs(7, 4, (3, 5), 2, states)
    given["x"] = np.ascontiguousarray(given["x"].swapaxes(0, 1))
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], device="gpu")


def test_unbatched():
    """S-39."""
    ours, theirs = both(3, 5, 2)
    given = {name: array[:, 0] for name, array in inputs(7, 2, (3, 5), 2).items()}
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], device="gpu")


def test_hundred_steps():
    """The longest sequence for which the contract names 2e-6 against the CPU."""
    ours, theirs = both(20, 33)
    compare(run(ours), run(theirs), inputs(100, 5, (20, 33), 1), modules=[(ours, theirs)], device="gpu")


def test_some_parts_frozen():
    """S-70, S-77: only what requires a gradient gets one, in eval mode too."""
    for frozen in (("x",), ("h0", "c0"), ("weights",), ("x", "h0", "c0")):
        ours, theirs = both(3, 5)
        ours.eval()
        given = {n: seqcore.Tensor(a, n not in frozen, "gpu") for n, a in inputs(7, 2, (3, 5), 1).items()}
        other = {n: torch.tensor(t.numpy()).double().requires_grad_(n not in frozen) for n, t in given.items()}
        if "weights" in frozen:
            ours.requires_grad_(False)
            theirs.requires_grad_(False)
        run(ours)(*given.values())[0].sum().backward()
        run(theirs)(*other.values())[0].sum().backward()
        for name, tensor in given.items():
            assert (tensor.grad is None) == (name in frozen)
            if tensor.grad is not None:
                assert_close(name, tensor.grad, other[name].grad, FORWARD)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                assert_close(name, p.grad, q.grad, WEIGHTS)


def test_nothing():
    """S-30, fault 6: no steps give the initial state, no rows give nothing; weight gradients are zero."""
    lstm = seqcore.nn.LSTM(3, 5).to("gpu")
    h, c = rounded(np.random.default_rng(0), (2, 1, 2, 5))
    y, (h_n, c_n) = lstm(np.zeros((0, 2, 3), np.float32), (h, c))
    assert y.shape == (0, 2, 5) and y.numpy().shape == (0, 2, 5)
    assert np.array_equal(h_n.numpy(), h) and np.array_equal(c_n.numpy(), c)
    y, (h_n, c_n) = lstm(np.zeros((7, 0, 3), np.float32))
    assert y.shape == (7, 0, 5) and h_n.shape == (1, 0, 5)
    (y.sum() + c_n.sum()).backward()
    assert all(not p.grad.numpy().any() for p in lstm.parameters())


def on_both(build, x, seed=5):
    """Outputs and gradients of one module on the CPU and on the GPU, from the same weights and random state."""
    seqcore.manual_seed(seed)
    cpu = build()
    gpu = build()
    gpu.load_state_dict(cpu.state_dict())
    found = []
    for module, device in ((cpu, "cpu"), (gpu.to("gpu"), "gpu")):
        seqcore.manual_seed(seed)
        t = seqcore.Tensor(x, True, device)
        out = module(t)
        y = out[0] if isinstance(out, tuple) else out
        (y * y).sum().backward()
        found.append([y.numpy(), t.grad.numpy(), *(p.grad.numpy() for p in module.parameters())])
    return zip(*found, strict=True)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_between_layers_is_the_cpu_s(p):
    """S-27, S-42: the mask is a function of seed and position, so another mask would show at once."""
    x = rounded(np.random.default_rng(2), (7, 4, 3))
    for cpu, gpu in on_both(lambda: seqcore.nn.LSTM(3, 16, 3, dropout=p), x):
        assert error(gpu, cpu) <= WEIGHTS


def test_step_by_step_is_the_whole():
    lstm = seqcore.nn.LSTM(3, 5, 2).to("gpu")
    x = rounded(np.random.default_rng(6), (7, 2, 3))
    with seqcore.no_grad():
        whole, last = lstm(x)
        hx, parts = None, []
        for t in range(7):
            y, hx = lstm(x[t : t + 1], hx)
            parts.append(y.numpy())
    assert np.concatenate(parts).tobytes() == whole.numpy().tobytes()
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(hx, last, strict=True))


def test_state_that_is_carried():
    """S-71: detached, and the second part's gradient is PyTorch's."""
    ours, theirs = both(3, 5)
    x = rounded(np.random.default_rng(7), (7, 2, 3))
    _, hx = ours(x)
    _, other = theirs(torch.tensor(x).double())
    y, _ = ours(x, tuple(s.detach() for s in hx))
    z, _ = theirs(torch.tensor(x).double(), tuple(s.detach() for s in other))
    y.sum().backward()
    z.sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert_close(name, p.grad, q.grad, WEIGHTS)


def test_weights_that_change_are_packed_anew():
    """S-71: after an optimizer step, load_state_dict or copy_ nothing of the old weights is used."""
    lstm, x = seqcore.nn.LSTM(3, 5).to("gpu"), rounded(np.random.default_rng(8), (7, 2, 3))
    for change in ("step", "load", "copy"):
        lstm(x)[0].sum().backward()
        if change == "step":
            seqcore.optim.SGD(lstm.parameters(), lr=0.5).step()
        elif change == "load":
            lstm.load_state_dict({n: p.numpy() * 2 for n, p in lstm.state_dict().items()})
        else:
            with seqcore.no_grad():
                lstm.weight_hh_l0.copy_(lstm.weight_hh_l0 * 3)
        fresh = seqcore.nn.LSTM(3, 5)
        fresh.load_state_dict({n: p.numpy() for n, p in lstm.state_dict().items()})
        with seqcore.no_grad():
            assert error(lstm(x)[0].numpy(), fresh(x)[0].numpy()) <= FORWARD, change
