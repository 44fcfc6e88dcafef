"""Tensors larger than a kernel sees in one binding (128 MiB on the software adapter): right, or a MemoryError that says
so, and never a wrong number.
"""

import numpy as np
import pytest

import seqcore
from seqcore import Tensor, nn
from seqcore.nn import functional as F
from torch_compare import FORWARD, WEIGHTS, error, raised, rounded

pytestmark = pytest.mark.gpu

N = (1 << 25) + 70


@pytest.fixture(scope="module")
def large():
    x = np.resize(rounded(np.random.default_rng(0), (9_973,)), N)
    return x, Tensor(x, device="gpu")


IN_PIECES = {
    "as it is": lambda x, t: (t, x),
    "binary": lambda x, t: (t + t, x + x),
    "number": lambda x, t: (t * 3.0, x * np.float32(3)),
    "relu": lambda x, t: (t.relu(), np.maximum(x, 0)),
    "broadcast": lambda x, t: (t.reshape(2, -1) * x[: N // 2], x.reshape(2, -1) * x[: N // 2]),
}
REFUSED_OR_RIGHT = {
    "where": lambda x, t: (seqcore.where(x > 0, t, 0.5), np.where(x > 0, x, np.float32(0.5))),
    "reverse": lambda x, t: (t[::-1], x[::-1]),
    "take": lambda x, t: (t[[0, N - 1, 5]], x[[0, N - 1, 5]]),
    "cat": lambda x, t: (seqcore.cat([t[:100], t]), np.concatenate([x[:100], x])),
    "sum": lambda x, t: (t.sum(), x.sum(dtype=np.float64)),
    "columns": lambda x, t: (t.reshape(-1, 2).sum(0), x.reshape(-1, 2).sum(0, dtype=np.float64)),
    "embedding": lambda x, t: (F.embedding(np.array([0, N // 2 - 1]), t.reshape(-1, 2)), x.reshape(-1, 2)[[0, -1]]),
    "product": lambda x, t: (t.reshape(-1, 2) @ np.eye(2, dtype=np.float32), x.reshape(-1, 2)),
}


@pytest.mark.parametrize("name", IN_PIECES)
def test_in_pieces(large, name):
    got, want = IN_PIECES[name](*large)
    assert np.array_equal(got.numpy(), want)


@pytest.mark.parametrize("name", REFUSED_OR_RIGHT)
def test_refused_or_right(large, name):
    refused = raised(REFUSED_OR_RIGHT[name], *large)
    if refused is None:
        got, want = REFUSED_OR_RIGHT[name](*large)
        assert error(got.numpy(), want) <= FORWARD
    else:
        assert isinstance(refused, MemoryError) and "bytes of one tensor" in str(refused) and "at most" in str(refused)
    assert np.array_equal((Tensor(large[0][:3], device="gpu") * 2).numpy(), 2 * large[0][:3])


def test_random_and_optimizer(large):
    x, t = large
    seqcore.manual_seed(1)
    want = F.dropout(Tensor(x), 0.3).numpy()
    seqcore.manual_seed(1)
    assert np.array_equal(F.dropout(t, 0.3).numpy(), want)
    p, q = Tensor(x, True, "gpu"), Tensor(x, True)
    for leaf in (p, q):
        leaf.grad = Tensor(x, device=leaf.device)
        nn.utils.clip_grad_norm_([leaf], 1.0)
        seqcore.optim.Adam([leaf], lr=0.1).step()
    assert error(p.numpy(), q.numpy()) <= FORWARD


def test_lstm_in_pieces_of_the_sequence():
    """143 MB of gates: rows keep the bits that they have in a small batch, and weights get the CPU's gradients."""
    steps, batch, hidden = 40, 7000, 32
    seqcore.manual_seed(0)
    cpu, gpu = nn.LSTM(4, hidden), nn.LSTM(4, hidden)
    gpu.load_state_dict(cpu.state_dict())
    gpu.to("gpu")
    x = rounded(np.random.default_rng(1), (steps, batch, 4))
    dy = rounded(np.random.default_rng(2), (steps, batch, hidden))

    def run(module, rows):
        t = Tensor(x[:, rows], True, next(module.parameters()).device)
        module.zero_grad()
        y, (h, c) = module(t)
        ((y * dy[:, rows]).sum() + (h * c).sum()).backward()
        return [a.numpy() for a in (y, t.grad)], [p.grad.numpy() for p in module.parameters()]

    (y, dx), weights = run(gpu, slice(None))
    (some_y, some_dx), _ = run(gpu, slice(6990, 7000))
    assert y[:, 6990:].tobytes() == some_y.tobytes() and dx[:, 6990:].tobytes() == some_dx.tobytes()
    (want_y, want_dx), wanted = run(cpu, slice(None))
    assert error(y, want_y) <= FORWARD and error(dx, want_dx) <= FORWARD
    for got, want in zip(weights, wanted, strict=True):
        # both are chains of 280,000 terms, one fused and one not (S-159)
        assert error(got, want) <= 4 * WEIGHTS
