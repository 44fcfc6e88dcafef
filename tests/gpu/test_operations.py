"""What is particular to the GPU in operations and modules, against float64 PyTorch or the CPU.

The operations of Tensor are held on both devices in tests/tensor/, LSTM in tests/nn/.
"""

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, nn
from seqcore.nn import functional as F
from torch_compare import FORWARD, WEIGHTS, assert_close, compare, error, raised, rounded, twins

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-9, 4e-5, 0.3, 10.0, 50.0, 90.0])
def test_sigmoid_and_tanh_at_every_magnitude(magnitude):
    """S-161: a small number must be as right as a large one; beyond 45 some drivers give NaN."""
    x = magnitude * np.linspace(0.5, 1, 65).astype(np.float32)
    for name in ("tanh", "sigmoid"):
        for sign in (1, -1):
            got = getattr(Tensor(sign * x, device="gpu"), name)().numpy()
            want = getattr(torch.tensor(sign * x).double(), name)().numpy()
            # 8 units in the last place, above what f32 can hold
            assert np.all(np.abs(got - want) <= 1e-6 * np.abs(want) + 1.2e-38), (name, magnitude)


def test_nan_and_infinity():
    """S-19, fault 12: as PyTorch has them, whatever the driver makes of max(NaN, 0)."""
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 3e38, -3e38, 1.0], np.float32)
    t, u = Tensor(x, device="gpu"), torch.tensor(x)
    for name in ("relu", "tanh", "sigmoid", "exp", "sqrt", "log"):
        got, want = getattr(t, name)().numpy(), getattr(u, name)().numpy()
        np.testing.assert_allclose(got, want, rtol=2e-6, err_msg=name)
    for name, function in {"add": lambda a: a + a, "sub": lambda a: a - a, "mul": lambda a: a * 0.0}.items():
        np.testing.assert_array_equal(function(t).numpy(), function(u).numpy(), err_msg=name)
    np.testing.assert_array_equal((1.0 / t).numpy(), (1.0 / u).numpy())
    assert np.signbit((t * 1.0).numpy()[3])


@pytest.mark.parametrize("shape", [(1, 70000), (70000, 1), (300, 301), (65536,), (2, 4097, 3)])
def test_long_sums(shape):
    x = rounded(RNG, shape) + np.float32(1)
    for axis in (None, *range(len(shape))):
        got = Tensor(x, device="gpu").sum(axis).numpy()
        assert error(got, x.astype(np.float64).sum(axis)) <= FORWARD, axis


@pytest.mark.parametrize("kernel", ["tile", "rows"])
def test_both_products(kernel, monkeypatch):
    """What software adapters and what hardware take, each at the edges of its tiles and past a chunk of k."""
    monkeypatch.setenv("SEQCORE_GPU_GEMM", kernel)
    for m, k, n in ((1, 1, 1), (63, 17, 65), (64, 16, 64), (129, 3, 257), (2, 40000, 3)):
        a, b = rounded(RNG, (m, k)), rounded(RNG, (k, n))
        got = (Tensor(a, device="gpu") @ Tensor(b, device="gpu")).numpy()
        limit = FORWARD if k < 1000 else 1e-5  # S-159: sums of over a thousand terms
        assert error(got, a.astype(np.float64) @ b) <= limit, (m, k, n)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (7, 5), (3, 2, 5), (70, 5)])
def test_linear(shape, bias):
    ours, theirs = twins(nn.Linear, torch.nn.Linear, 5, 3, bias, device="gpu")
    compare(ours, theirs, {"x": rounded(RNG, shape)}, modules=[(ours, theirs)], device="gpu")


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (), (700,)])
def test_embedding(shape, padding_idx):
    """S-136: repeated ids add up, more than a segment of them too; the padding row gets no gradient."""
    ours, theirs = twins(nn.Embedding, torch.nn.Embedding, 6, 5, padding_idx, device="gpu")
    ids = RNG.integers(0, 6, shape)
    if ids.size > 1:
        ids.flat[: max(2, ids.size // 2)] = 3
    compare(ours, theirs, {"ids": ids}, modules=[(ours, theirs)], device="gpu")


def test_embedding_by_ids_on_the_gpu_and_out_of_range():
    layer = nn.Embedding(6, 5).to("gpu")
    ids = np.array([[0, 5], [3, 3]])
    want = layer(ids).numpy()
    assert np.array_equal(layer(Tensor(ids, device="gpu")).numpy(), want)
    for bad in ([6], [-1], [2**31 - 1]):
        assert isinstance(raised(layer, np.array(bad)), IndexError), bad
        assert isinstance(raised(layer, Tensor(np.array(bad), device="gpu")), IndexError), bad
    assert isinstance(raised(layer, np.array([2**40])), IndexError)


def test_integers_that_a_gpu_cannot_hold():
    """They have 32 bits there: what does not fit is refused, not cut."""
    kept = np.array([0, -1, -100, 2**31 - 1, -(2**31)])
    assert np.array_equal(Tensor(kept, device="gpu").numpy(), kept)
    for bad in (2**31, 2**40, -(2**31) - 1):
        for make in (lambda ids: Tensor(ids, device="gpu"), lambda ids: Tensor(ids).to("gpu")):
            error = raised(make, np.array([1, bad]))
            assert isinstance(error, ValueError) and str(bad) in str(error)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", ["none", "some", "first"])
@pytest.mark.parametrize("classes", [2, 63, 64, 65, 300])
def test_cross_entropy(reduction, ignored, classes):
    """S-120, S-122: ignored rows count neither in the sum nor in the mean, and get a gradient of zero."""
    logits, targets = rounded(RNG, (11, classes), scale=3.0), RNG.integers(0, classes, 11)
    if ignored != "none":
        targets[[0] if ignored == "first" else [1, 4, 10]] = -100
    options = {"reduction": reduction}
    compare(
        lambda x: F.cross_entropy(x, targets, **options),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor(targets), **options),
        {"x": logits},
        device="gpu",
    )


def test_cross_entropy_at_the_edges():
    """S-122, S-125: nothing kept is NaN (mean) or 0 (sum); huge and infinite logits do not overflow."""
    x = Tensor(np.ones((3, 4), np.float32), True, "gpu")
    ignored = np.full(3, -100)
    loss = F.cross_entropy(x, ignored)
    assert np.isnan(loss.item())
    assert F.cross_entropy(x, ignored, reduction="sum").item() == 0
    rows = np.array([[1e38, -1e38, 0, 3e38], [-np.inf, 0, 1, 2], [5, np.nan, 0, 0]], np.float32)
    for targets in ([3, 1, 0], [3, 0, 2]):
        got = F.cross_entropy(Tensor(rows, device="gpu"), np.array(targets), reduction="none").numpy()
        want = torch.nn.functional.cross_entropy(
            torch.tensor(rows).double(), torch.tensor(targets), reduction="none"
        ).numpy()
        np.testing.assert_allclose(got, want, rtol=2e-6)
    for bad in ([4, 0, 0], [-1, 0, 0]):
        assert isinstance(raised(F.cross_entropy, x, np.array(bad)), IndexError)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1,), (5, 7), (1025,), (33, 128)])
def test_dropout_is_the_cpu_s_bit_for_bit(shape, p):
    """S-27."""
    x = rounded(RNG, shape)
    found = []
    for device in ("cpu", "gpu"):
        seqcore.manual_seed(12)
        F.dropout(Tensor(x, device=device), 0.5)  # the second call, so that the stream counts too
        t = Tensor(x, True, device)
        y = F.dropout(t, p)
        y.backward(x)
        found.append((y.numpy(), t.grad.numpy()))
    for cpu, gpu in zip(*found, strict=True):
        assert cpu.tobytes() == gpu.tobytes()


OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-3}),
    "amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True}),
    "adamw": ("AdamW", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "maximize": ("AdamW", {"lr": 0.01, "maximize": True}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    """S-144 to S-146: ten steps with their own gradients, one tensor longer than a workgroup."""
    kind, options = OPTIMIZERS[name]
    start = [rounded(RNG, shape) for shape in ((5, 7), (300,), (1,))]
    ours = [Tensor(a, True, "gpu") for a in start]
    theirs = [torch.tensor(a).double().requires_grad_() for a in start]
    mine = getattr(seqcore.optim, kind)(ours, **options)
    other = getattr(torch.optim, kind)(theirs, **options)
    for step in range(10):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            gradient = rounded(np.random.default_rng(100 * step + i), start[i].shape)
            p.grad, q.grad = Tensor(gradient, device="gpu"), torch.tensor(gradient).double()
        mine.step()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        assert p.device == "gpu:0"
        assert_close(name, p, q, WEIGHTS)


@pytest.mark.parametrize("limit", [0.5, 1e6, np.inf])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_clipping(limit, scale):
    """S-149: the norm, and the gradients after it."""
    grads = [rounded(RNG, shape, scale=scale) for shape in ((5, 7), (3000,), (1,))]
    ours = [Tensor(np.zeros_like(g), True, "gpu") for g in grads]
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads]
    for p, q, g in zip(ours, theirs, grads, strict=True):
        p.grad, q.grad = Tensor(g, device="gpu"), torch.tensor(g).double()
    got = nn.utils.clip_grad_norm_(ours, limit)
    want = torch.nn.utils.clip_grad_norm_(theirs, limit)
    assert abs(got.item() - want.item()) <= FORWARD * want.item()
    for p, q in zip(ours, theirs, strict=True):
        assert_close("clipped", p.grad, q.grad, FORWARD)


def test_clipping_large_and_infinite():
    """S-149, S-19: a norm beyond the squares' range is right; NaN spreads to all, as in PyTorch."""
    for values in ([3e30, 4e30], [1e-30, 2e-30], [np.nan, 1.0], [np.inf, 1.0]):
        g = np.array(values, np.float32)
        p, q = Tensor(np.zeros(2, np.float32), True, "gpu"), torch.zeros(2, dtype=torch.float64, requires_grad=True)
        p.grad, q.grad = Tensor(g, device="gpu"), torch.tensor(g).double()
        got, want = nn.utils.clip_grad_norm_([p], 1.0).item(), torch.nn.utils.clip_grad_norm_([q], 1.0).item()
        np.testing.assert_allclose(got, want, rtol=2e-6)
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=2e-6)
    p.grad = Tensor(g, device="gpu")
    with pytest.raises(RuntimeError):
        nn.utils.clip_grad_norm_([p], 1.0, error_if_nonfinite=True)


def test_a_network_of_everything():
    """Sequential of layers with an LSTM between, one backward, against the CPU."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 5), nn.ReLU())
            self.lstm = nn.LSTM(5, 7, 2, dropout=0.2)
            self.out = nn.ModuleList([nn.Linear(7, 3), nn.Sigmoid()])

        def forward(self, x):
            return self.out[1](self.out[0](self.lstm(self.inner(x))[0]))

    x = rounded(RNG, (6, 3, 4))
    seqcore.manual_seed(4)
    cpu, gpu = Net(), Net()
    gpu.load_state_dict(cpu.state_dict())
    found = []
    for net, device in ((cpu, "cpu"), (gpu.to("gpu"), "gpu")):
        seqcore.manual_seed(9)
        t = Tensor(x, True, device)
        y = net(t)
        (y**2).mean().backward()
        found.append([y.numpy(), t.grad.numpy(), *(p.grad.numpy() for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        assert error(b, a) <= WEIGHTS
