"""What a row may depend on: nothing but itself. lesson 5: NaN in one row spread on a peer (p#177016). And what a result
may depend on: the adapter and the numbers, not the run, the batch, or what other threads do.
"""

import threading

import numpy as np
import pytest

import seqcore
from seqcore import Tensor, nn
from seqcore.nn import functional as F
from torch_compare import rounded

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(7)
POISON = {"nan": np.nan, "inf": np.inf, "large": 3e38}


def row_of(function, x, axis, row):
    """Bits of a row's output and input gradient, out of `x`."""
    t = Tensor(x, True, "gpu")
    y = function(t)
    # the same gradient for every row
    y.backward(np.full(y.shape, 0.7, np.float32))
    taken = [np.take(a.numpy(), row, a_axis) for a, a_axis in ((y, axis if y.ndim > axis else 0), (t.grad, axis))]
    return [a.tobytes() for a in taken]


def lstm_module():
    seqcore.manual_seed(1)
    return nn.LSTM(5, 33, 2).to("gpu")


CASES = {
    "lstm": (lambda: (lambda m: lambda x: m(x)[0])(lstm_module()), (11, 32, 5), 1),
    "linear": (lambda: nn.Linear(5, 37).to("gpu"), (32, 5), 0),
    "linear of steps": (lambda: nn.Linear(5, 3).to("gpu"), (32, 4, 5), 0),
    "cross entropy": (
        lambda: lambda x: F.cross_entropy(x, np.full(len(x), 3), reduction="none"),
        (32, 97),
        0,
    ),
    "activations": (lambda: lambda x: x.tanh().sigmoid().relu(), (32, 9), 0),
    "sum": (lambda: lambda x: x.sum(1), (32, 700), 0),
}


@pytest.mark.parametrize("kernel", ["rows", "tile"])
@pytest.mark.parametrize("name", CASES)
def test_a_row_alone_is_the_row_in_the_batch(name, kernel, monkeypatch):
    """S-18, S-164: output and input gradient, bit for bit, for batches on both sides of the tiles' sizes."""
    monkeypatch.setenv("SEQCORE_GPU_GEMM", kernel)
    make, shape, axis = CASES[name]
    function, x = make(), rounded(RNG, shape)
    rows = np.moveaxis(x, axis, 0)
    for row in (0, 17, 31):
        want = row_of(function, np.moveaxis(rows[row : row + 1], 0, axis), axis, 0)
        for first, last in ((0, 32), (row, min(32, row + 3)), (max(0, row - 8), row + 1)):
            assert row_of(function, np.moveaxis(rows[first:last], 0, axis), axis, row - first) == want


@pytest.mark.parametrize("kernel", ["rows", "tile"])
@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("name", CASES)
def test_a_row_beside_wild_rows(name, poison, kernel, monkeypatch):
    """lesson 5, S-18, S-19: a row beside rows of NaN, inf and 3e38 keeps its bits, forward and back."""
    monkeypatch.setenv("SEQCORE_GPU_GEMM", kernel)
    make, shape, axis = CASES[name]
    function, x = make(), rounded(RNG, shape)
    for row in (0, 1, 17, 31):
        want = row_of(function, x, axis, row)
        wild = np.full(shape, POISON[poison], np.float32)
        np.moveaxis(wild, axis, 0)[row] = np.moveaxis(x, axis, 0)[row]
        assert row_of(function, wild, axis, row) == want


def test_states_beside_wild_states():
    """lesson 5, with states of NaN in the other rows, and their gradients."""
    lstm, x = lstm_module(), rounded(RNG, (6, 9, 5))
    h, c = rounded(RNG, (2, 9, 33)), rounded(RNG, (2, 9, 33))

    def row(h, c):
        hx = tuple(Tensor(s, True, "gpu") for s in (h, c))
        y, (h_n, c_n) = lstm(x, hx)
        (y.sum(2).sum(0)[4] + (h_n * c_n)[:, 4].sum()).backward()
        found = (y[:, 4], h_n[:, 4], c_n[:, 4], hx[0].grad[:, 4], hx[1].grad[:, 4])
        return [t.numpy().tobytes() for t in found]

    want = row(h, c)
    for value in POISON.values():
        wild = [np.full_like(s, value) for s in (h, c)]
        for s, own in zip(wild, (h, c), strict=True):
            s[:, 4] = own[:, 4]
        assert row(*wild) == want


@pytest.mark.parametrize("part", ["y", "h_n", "c_n"])
def test_a_gradient_through_one_output(part):
    """lesson 4: a peer crashed when only h_n received a gradient (p#96416). lesson 3: with states that are not zero
    (p#95137), each of them and each weight gets the gradient that the CPU computes."""
    found = []
    for device in ("cpu", "gpu"):
        seqcore.manual_seed(5)
        lstm = nn.LSTM(3, 5, 2).to(device)
        rng = np.random.default_rng(2)
        x = Tensor(rounded(rng, (7, 2, 3)), True, device)
        hx = [Tensor(rounded(rng, (2, 2, 5)), True, device) for _ in range(2)]
        y, (h_n, c_n) = lstm(x, hx)
        out = {"y": y, "h_n": h_n, "c_n": c_n}[part]
        out.backward(rounded(rng, out.shape))
        found.append([t.grad.numpy() for t in (x, *hx, *lstm.parameters())])
    for cpu, gpu in zip(*found, strict=True):
        assert cpu.any() and np.abs(cpu - gpu).max() <= 5e-6 * np.abs(cpu).max()


def training(seed, steps=4):
    """Bits of everything after some steps of training on the GPU; draws nothing from the shared random state."""
    rng = np.random.default_rng(seed)
    lstm, out = nn.LSTM(6, 17, 2), nn.Linear(17, 5)
    net = nn.ModuleList([lstm, out])
    for p in net.parameters():
        with seqcore.no_grad():
            p.copy_(rounded(rng, p.shape, scale=0.3))
    net.to("gpu")
    rule = seqcore.optim.Adam(net.parameters(), lr=0.01)
    found = []
    for _ in range(steps):
        x, targets = rounded(rng, (9, 7, 6)), rng.integers(0, 5, 63)
        loss = F.cross_entropy(out(lstm(x)[0]).reshape(63, 5), targets)
        rule.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        rule.step()
        found.append(loss.numpy().tobytes())
    return (
        found + [p.numpy().tobytes() for p in net.parameters()] + [p.grad.numpy().tobytes() for p in net.parameters()]
    )


def test_the_same_bits_on_every_run():
    want = training(3)
    assert all(training(3) == want for _ in range(3))


def test_threads():
    """fault 15: two Python threads, each with its own model, compute what each computes alone."""
    want = {seed: training(seed) for seed in (1, 2, 3)}
    wrong = []

    def work(seed):
        try:
            wrong.extend((seed, i) for i in range(4) if training(seed) != want[seed])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in want]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads) and not wrong


def test_threads_on_one_module():
    """fault 15: forward and backward of one module from several threads; outputs are those of one thread."""
    lstm = lstm_module().requires_grad_(False)
    x = [rounded(np.random.default_rng(i), (11, 3 + i, 5)) for i in range(3)]

    def once(i):
        t = Tensor(x[i], True, "gpu")
        y = lstm(t)[0]
        y.sum().backward()
        return y.numpy().tobytes() + t.grad.numpy().tobytes()

    want = [once(i) for i in range(3)]
    wrong = []

    def work(i):
        try:
            wrong.extend(i for _ in range(10) if once(i) != want[i])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads) and not wrong
