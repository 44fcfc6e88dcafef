"""lesson 1: grid limits. A peer's LSTM is silently wrong when batch x length exceeds 65,536 (rocm-libraries#10551), and
WebGPU allows 65,535 workgroups per dimension: sizes on both sides of it, forward and backward, for every kernel.
"""

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, nn
from seqcore.nn import functional as F
from torch_compare import assert_close, compare, error, rounded, twins

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(7)
# sums over so many terms (S-159)
MANY = 1e-5
GROUPS = 65_535
LONG = (GROUPS + 1) * 256 + 3  # elements of kernels with 256 in a workgroup
SHORT = (GROUPS + 1) * 64 + 3  # with 64


def chain(terms):
    """Weight gradients are one chain of additions by contract: a random walk of so many roundings, eight times over.
    PyTorch's own f32 bias gradients, which are chains too, lie as far off."""
    return 8 * terms**0.5 * 2**-24


@pytest.mark.parametrize("rows", ["all", "some"])
@pytest.mark.parametrize(("steps", "batch"), [(5, 13_107), (13_107, 5), (4, 16_384), (7, 10_000), (1, 70_000)])
def test_lstm(steps, batch, rows):
    """batch x length of 65,535, 65,536 and 70,000. With a gradient through some rows alone, among them the last and
    both sides of 65,536, the sums are short, and a row left out would show."""
    ours, theirs = twins(nn.LSTM, torch.nn.LSTM, 3, 2, device="gpu")
    given = {"x": rounded(RNG, (steps, batch, 3)), "h0": rounded(RNG, (1, batch, 2)), "c0": rounded(RNG, (1, batch, 2))}
    chosen = np.zeros(steps * batch, np.float32)
    chosen[[0, 17, 65_534, min(65_535, steps * batch - 1), min(65_536, steps * batch - 1), -1]] = 1
    chosen = chosen.reshape(steps, batch, 1)

    def ours_of(x, h, c):
        y, hx = ours(x, (h, c))
        return (y, *hx) if rows == "all" else y * chosen

    def theirs_of(x, h, c):
        y, hx = theirs(x, (h, c))
        return (y, *hx) if rows == "all" else y * torch.tensor(chosen)

    compare(
        ours_of,
        theirs_of,
        given,
        modules=[(ours, theirs)],
        limit=MANY if steps > 1000 else None,  # S-159
        weights=chain(steps * batch) if rows == "all" else MANY if steps > 1000 else None,
        device="gpu",
    )


def test_lstm_of_as_many_steps():
    """66,000 dispatches one after the other, in several submissions and pieces."""
    seqcore.manual_seed(5)
    ours = nn.LSTM(2, 3).to("gpu")
    theirs = nn.LSTM(2, 3)
    theirs.load_state_dict({n: p.numpy() for n, p in ours.state_dict().items()})
    theirs.double()
    x = rounded(RNG, (66_000, 1, 2))
    found = []
    for module, t in ((ours, Tensor(x, True, "gpu")), (theirs, Tensor(x, True, dtype="float64"))):
        y, (h, c) = module(t)
        (y.sum() + (h * c).sum()).backward()
        found.append([a.numpy() for a in (y, c, t.grad, *(p.grad for p in module.parameters()))])
    for a, b in zip(*found, strict=True):
        assert error(a, b) <= MANY


def test_lstm_of_more_than_65535_workgroups_a_step():
    """A workgroup has four rows."""
    ours, theirs = twins(nn.LSTM, torch.nn.LSTM, 1, 2, device="gpu")
    batch = 4 * (GROUPS + 1) + 1
    x = rounded(RNG, (2, batch, 1))
    y, _ = ours(t := Tensor(x, True, "gpu"))
    z, _ = theirs(u := torch.tensor(x).double().requires_grad_())
    y.sum().backward()
    z.sum().backward()
    assert_close("y", y, z, 2e-6)
    assert_close("gradient of x", t.grad, u.grad, 2e-6)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close("gradient", p.grad, q.grad, chain(2 * batch))


@pytest.fixture(scope="module")
def long():
    x = np.resize(rounded(RNG, (9_973,)), LONG)
    return x, Tensor(x, device="gpu")


@pytest.mark.parametrize("name", ["neg", "number", "binary", "where", "sigmoid", "relu", "slice", "dropout"])
def test_elementwise(long, name):
    x, t = long
    if name == "dropout":
        found = []
        for device in ("cpu", "gpu"):
            seqcore.manual_seed(3)
            found.append(F.dropout(t if device == "gpu" else Tensor(x), 0.4).numpy())
        assert found[0].tobytes() == found[1].tobytes()
        return
    got, want = {
        "neg": lambda: (-t, -x),
        "number": lambda: (t * 3.0, x * np.float32(3)),
        "binary": lambda: (t + t, x + x),
        "where": lambda: (seqcore.where(x > 0, t, 1.5), np.where(x > 0, x, np.float32(1.5))),
        "sigmoid": lambda: (t.sigmoid(), 1 / (1 + np.exp(-x))),
        "relu": lambda: (t.relu(), np.maximum(x, 0)),
        "slice": lambda: (t[::-1], x[::-1]),
    }[name]()
    got = got.numpy()
    if name == "sigmoid":
        assert np.abs(got - want).max() <= 2e-6
    else:
        assert np.array_equal(got, want)


def test_elementwise_backward(long):
    """Activation, slice and product, back."""
    x, _ = long
    t = Tensor(x, True, "gpu")
    (t.relu()[1:] * 2.0).sum().backward()
    want = np.where(x > 0, np.float32(2), np.float32(0))
    want[0] = 0
    assert np.array_equal(t.grad.numpy(), want)


def test_sums():
    x = np.resize(rounded(RNG, (9_973,)), (4 * GROUPS + 9, 3))
    t = Tensor(x, device="gpu")
    for axis in (None, 0, 1):
        assert error(t.sum(axis).numpy(), x.astype(np.float64).sum(axis)) <= MANY
    wide = np.resize(x, (2, SHORT))
    assert error(Tensor(wide, device="gpu").sum(0).numpy(), wide.astype(np.float64).sum(0)) <= 2e-6


def test_index_by_integers(long):
    x, t = long
    ids = np.arange(LONG) * 5 % 1000
    with seqcore.no_grad():
        assert np.array_equal(t[ids].numpy(), x[ids])
    t = Tensor(x, True, "gpu")
    few = np.concatenate([RNG.integers(0, LONG, 1000), [0, 0, LONG - 1]])
    t[few].sum().backward()
    assert np.array_equal(t.grad.numpy(), np.bincount(few, minlength=LONG).astype(np.float32))


def test_embedding():
    layer = nn.Embedding(50, 64).to("gpu")
    ids = RNG.integers(0, 50, GROUPS + 9)
    y = layer(ids)
    assert np.array_equal(y.numpy(), layer.weight.numpy()[ids])
    y.sum().backward()
    assert np.array_equal(layer.weight.grad.numpy()[:, 0], np.bincount(ids, minlength=50).astype(np.float32))
    many = nn.Embedding(GROUPS + 9, 2).to("gpu")
    rows = np.arange(GROUPS + 9)
    (many(rows) * 3.0).sum().backward()
    assert (many.weight.grad.numpy() == 3).all()


def test_cross_entropy():
    """A workgroup has one row."""
    targets = RNG.integers(0, 3, GROUPS + 9)
    targets[5] = -100
    for reduction in ("mean", "none"):
        compare(
            lambda x, r=reduction: F.cross_entropy(x, targets, reduction=r),
            lambda x, r=reduction: torch.nn.functional.cross_entropy(x, torch.tensor(targets), reduction=r),
            {"x": rounded(RNG, (GROUPS + 9, 3))},
            limit=MANY if reduction == "mean" else None,
            device="gpu",
        )


@pytest.mark.parametrize("kernel", ["rows", "tile"])
def test_products(kernel, monkeypatch):
    """More workgroups than 65,535: rows have 64 rows each where the product is narrow, tiles 64."""
    monkeypatch.setenv("SEQCORE_GPU_GEMM", kernel)
    m = 64 * (GROUPS + 1) + 5
    a, b = np.resize(rounded(RNG, (9_973,)), (m, 1)), rounded(RNG, (1, 2))
    assert np.array_equal((Tensor(a, device="gpu") @ Tensor(b, device="gpu")).numpy(), a * b)


def test_optimizer_and_clipping():
    x = np.resize(rounded(RNG, (9_973,)), SHORT)
    for rule in (seqcore.optim.SGD, seqcore.optim.Adam):
        p, q = Tensor(x, True, "gpu"), Tensor(x, True)
        for t in (p, q):
            t.grad = Tensor(x, device=t.device)
            norm = nn.utils.clip_grad_norm_([t], 1.0)
            assert abs(norm.item() - np.sqrt((x.astype(np.float64) ** 2).sum())) <= 2e-6 * norm.item()
            rule([t], lr=0.1).step()
        assert error(p.numpy(), q.numpy()) <= 2e-6
