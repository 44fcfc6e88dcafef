"""The GPU does what the CPU does at the edges: many axes, integers, nothing at all, numbers that are not finite."""

import numpy as np
import pytest

import seqcore
from seqcore import Tensor
from seqcore.nn import functional as F
from torch_compare import raised

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
A = RNG.standard_normal((2, 1, 3, 2, 1, 2, 3, 2)).astype(np.float32)
B = RNG.standard_normal((1, 2, 1, 2, 3, 1, 3, 1)).astype(np.float32)
IDS = np.arange(12).reshape(3, 4)


def same(function, *arrays):
    """Values, dtype and shape, or the exception's type."""
    found = []
    for device in ("cpu", "gpu"):

        def call(device=device):
            got = function(*(Tensor(a, device=device) for a in arrays))
            return got.numpy() if isinstance(got, Tensor) else np.asarray(got)

        error = raised(call)
        found.append(type(error) if error else call())
    cpu, gpu = found
    if isinstance(cpu, type) or isinstance(gpu, type):
        assert cpu is gpu
    else:
        assert cpu.dtype == gpu.dtype and cpu.shape == gpu.shape
        np.testing.assert_allclose(gpu, cpu, rtol=1e-5, atol=1e-6)


def backward_of_many_axes(t, u):
    t, u = t.detach().requires_grad_(), u.detach().requires_grad_()
    (t * u).permute(7, 5, 3, 1, 6, 4, 2, 0)[::-1, :, :, ::-1].exp().sum().backward()
    return u.grad


MANY_AXES = {
    "permute": lambda t, u: t.permute(7, 5, 3, 1, 6, 4, 2, 0),
    "broadcast": lambda t, u: t * u,
    "where": lambda t, u: seqcore.where(A > 0, t, u),
    "sum": lambda t, u: t.sum((0, 2, 4, 6)),
    "slice": lambda t, u: t[::-1, ..., ::-1, :, ::-1],
    "backward": backward_of_many_axes,
}


@pytest.mark.parametrize("name", MANY_AXES)
def test_eight_axes(name):
    same(MANY_AXES[name], A, B)


INTEGERS = {
    "cat": lambda t: seqcore.cat([t, t], 1),
    "stack": lambda t: seqcore.stack([t, t]),
    "index": lambda t: t[[2, 0]],
    "slice": lambda t: t[::-1, 1:],
    "transpose": lambda t: t.T,
    "add": lambda t: t + t,
    "number": lambda t: t * 2 + 1,
    "sum": lambda t: t.sum(),
    "negative": lambda t: -t,
    "compare": lambda t: t > 3,
    "float": lambda t: t.float(),
    "where": lambda t: seqcore.where(IDS > 3, t, t),
    "item": lambda t: t[1, 1].item(),
    "matmul": lambda t: t @ t.T,
    "exp": lambda t: t.exp(),
    "from floats": lambda t: (t.float() * 1.7 - 9.9).to(dtype="int64"),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name):
    same(INTEGERS[name], IDS)


NOTHING = {
    "add": lambda t: t + t,
    "sum": lambda t: t.sum(),
    "sum of rows": lambda t: t.sum(0),
    "sum of columns": lambda t: t.sum(1),
    "mean": lambda t: t.mean(),
    "product": lambda t: t @ np.ones((3, 2), np.float32),
    "product of nothing": lambda t: t.T @ t,
    "cat": lambda t: seqcore.cat([t, t]),
    "index": lambda t: t[:, 1],
    "tanh": lambda t: t.tanh(),
    "dropout": lambda t: F.dropout(t, 0.5),
    "cross entropy": lambda t: F.cross_entropy(t, np.zeros(0, int)),
    "sum of losses": lambda t: F.cross_entropy(t, np.zeros(0, int), reduction="sum"),
    "where": lambda t: seqcore.where(np.zeros((0, 3), bool), t, 1.0),
    "move": lambda t: t.to("cpu"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing(name):
    """S-26, fault 6."""
    same(NOTHING[name], np.zeros((0, 3), np.float32))


EDGES = {
    "power": lambda t: t**t,
    "root": lambda t: t**0.5,
    "cube": lambda t: t**3,
    "inverse square": lambda t: t**-2,
    "power of two": lambda t: 2**t,
    "power of zero": lambda t: 0**t,
    "over zero": lambda t: t / 0,
    "log": lambda t: t.log(),
    "sqrt": lambda t: t.sqrt(),
    "exp": lambda t: t.exp(),
}


@pytest.mark.parametrize("name", EDGES)
def test_not_finite(name):
    """fault 12: forward and gradient; subnormals apart, which the CPU takes as 0 and adapters as they like."""

    def both(t):
        t = t.detach().requires_grad_()
        y = EDGES[name](t)
        y.sum().backward()
        return seqcore.stack([y.detach(), t.grad])

    same(both, np.array([0, -0.0, 1, -1, 2, -2.5, np.inf, -np.inf, np.nan, 2e-38, 3e38, -3, 0.5, 88, -80, 89], "f"))
