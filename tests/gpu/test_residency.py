"""What goes to the GPU, comes back, and is submitted: counted from outside by seqcore.debug.gpu_counters()."""

import numpy as np
import pytest

import seqcore
from seqcore import Tensor, nn
from seqcore.models import LanguageModel
from torch_compare import rounded

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(7)


def counted(function):
    """(result, counters of the second call): the first builds what is built once."""
    function()
    seqcore.debug.gpu_counters()
    result = function()
    return result, seqcore.debug.gpu_counters()


def test_counters():
    """Each call starts anew; what the host sends and takes back is counted to the byte."""
    seqcore.debug.gpu_counters()
    assert seqcore.debug.gpu_counters() == {"dispatches": 0, "submits": 0, "bytes_up": 0, "bytes_back": 0}
    x = rounded(RNG, (40, 5))
    t = Tensor(x, device="gpu")
    assert seqcore.debug.gpu_counters()["bytes_up"] >= x.nbytes
    assert np.array_equal(t.numpy(), x)
    found = seqcore.debug.gpu_counters()
    assert found["bytes_back"] == x.nbytes and found["submits"] <= 2 and found["dispatches"] == 0
    t + t
    found = seqcore.debug.gpu_counters()
    assert found["dispatches"] == 1 and found["bytes_back"] == 0 and found["bytes_up"] < 1024


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("steps", [1, 37, 300])
def test_lstm_dispatches_and_submits(steps, states, layers):
    """Forward at most T + 4 dispatches a layer, backward at most T + 8 with weight gradients, one submit a chunk.

    The chunk of so little work is the whole sequence.
    """
    lstm = nn.LSTM(5, 7, layers).to("gpu")
    x = Tensor(rounded(RNG, (steps, 3, 5)), True, "gpu")
    hx = tuple(Tensor(rounded(RNG, (layers, 3, 7)), True, "gpu") for _ in range(2)) if states else None
    dy = Tensor(rounded(RNG, (steps, 3, 7)), device="gpu")
    (y, _), forward = counted(lambda: lstm(x, hx))
    assert forward["dispatches"] <= layers * (steps + 4)
    assert forward["submits"] <= 1 and forward["bytes_back"] == 0
    for p in (x, *lstm.parameters(), *(hx or ())):
        p.grad = None
    seqcore.debug.gpu_counters()
    y.backward(dy)
    backward = seqcore.debug.gpu_counters()
    assert backward["dispatches"] <= layers * (steps + 8)
    assert backward["submits"] <= 1 and backward["bytes_back"] == 0
    with seqcore.no_grad():
        _, inference = counted(lambda: lstm(x, hx))
    assert inference["dispatches"] <= layers * (steps + 4) and inference["submits"] <= 1
    # uniforms of the steps, some of 256 bytes each, and nothing like the tensors themselves
    assert inference["bytes_up"] <= layers * (steps + 8) * 256


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_a_training_step_reads_nothing_back(optimizer):
    """Forward, loss, backward, clipping and optimizer step; only what the user looks at comes back.

    lesson 8: no silent fallback: the results say where they are, and the dispatches are counted.
    """
    seqcore.manual_seed(1)
    model = LanguageModel("abcdefgh", embedding=6, hidden=10, layers=2, dropout=0.2).to("gpu")
    rule = getattr(seqcore.optim, optimizer)(model.parameters(), lr=0.01)
    ids = RNG.integers(0, 8, (13, 4))
    carried = [None]

    def step():
        logits, state = model(ids[:-1], carried[0])
        loss = model.loss(logits, ids[1:])
        rule.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rule.step()
        carried[0] = tuple(s.detach() for s in state)
        return loss, norm

    step()
    (loss, norm), found = counted(step)
    assert found["bytes_back"] == 0
    assert found["submits"] <= 3
    # two LSTM layers of 12 steps forward and backward, and what is around them: no dispatch an element or parameter
    assert 2 * 2 * 12 < found["dispatches"] <= 2 * (2 * 12 + 12) + 100
    # ids, targets and uniforms: not the weights
    assert found["bytes_up"] <= found["dispatches"] * 512 + 4 * ids.nbytes
    assert np.isfinite(loss.item()) and np.isfinite(norm.item())
    assert seqcore.debug.gpu_counters()["bytes_back"] == 8
    assert all(p.device == "gpu:0" and p.grad.device == "gpu:0" for p in model.parameters())


def test_views_and_states_stay():
    """What Python does between the kernels (shapes, indices, detach, lists of parameters) moves nothing back."""
    a = Tensor(rounded(RNG, (6, 4, 5)), True, "gpu")
    seqcore.debug.gpu_counters()
    b = seqcore.cat([a[1:, ::2], a[[0, 0, 1, 2, 3]][:, :2]], 1).reshape(5, -1).T
    c = seqcore.stack([b, b * 2]).permute(2, 0, 1).mean((0, 1), keepdim=True)
    c = seqcore.where(np.ones(c.shape, bool), c, 0.0)
    c.sum().backward()
    a.grad.detach().reshape(-1)[3:7].sum()
    repr(type(a)), len(a), a.shape, a.dtype, a.device, a.grad.ndim
    assert seqcore.debug.gpu_counters()["bytes_back"] == 0


def test_item_reads_four_bytes():
    t = Tensor(rounded(RNG, (100, 100)), device="gpu").sum()
    seqcore.debug.gpu_counters()
    assert isinstance(t.item(), float)
    assert seqcore.debug.gpu_counters()["bytes_back"] == 4


def test_memory_is_used_again():
    """fault 35: as many steps as one likes hold no more memory than a few."""
    lstm = nn.LSTM(64, 64).to("gpu")
    x = Tensor(rounded(RNG, (20, 8, 64)), device="gpu")
    sizes = []
    for i in range(60):
        lstm(x)[0].sum().backward()
        lstm.zero_grad()
        if i in (20, 59):
            lstm.weight_hh_l0.numpy()
            with open("/proc/self/status", encoding="ascii") as file:
                sizes.append(next(int(line.split()[1]) for line in file if line.startswith("VmRSS")))
    assert sizes[1] - sizes[0] < 4096, sizes
