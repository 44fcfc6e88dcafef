"""What goes to the GPU, comes back, and is submitted: counted from outside by seqcore.debug.gpu_counters()."""

import re
from pathlib import Path

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


def test_products_of_a_large_lstm_are_cut_at_submissions():
    """Each submission more is one dispatch more, and no other: so Ctrl-C does not wait for all of a product."""
    lstm = nn.LSTM(256, 256).to("gpu")
    x = Tensor(rounded(RNG, (12, 64, 256)), True, "gpu")
    dy = Tensor(rounded(RNG, (12, 64, 256)), device="gpu")
    (y, _), forward = counted(lambda: lstm(x))
    assert forward["dispatches"] <= 12 + 4 + forward["submits"]
    seqcore.debug.gpu_counters()
    y.backward(dy)
    backward = seqcore.debug.gpu_counters()
    assert backward["dispatches"] <= 12 + 8 + backward["submits"]


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


def test_ids_that_are_on_the_gpu_are_not_read_back():
    """They are checked here, by what they were made of; those that were made there are read once."""
    model = LanguageModel("abcdefgh", embedding=6, hidden=10, layers=1).to("gpu")
    ids, following = (Tensor(RNG.integers(0, 8, (5, 4)), device="gpu") for _ in range(2))
    x = Tensor(rounded(RNG, (8, 3)), True, "gpu")

    def step(ids, following):
        logits, _ = model(ids)
        model.loss(logits, following).backward()
        x[ids].sum().backward()

    step(ids, following)
    _, found = counted(lambda: step(ids, following))
    assert found["bytes_back"] == 0 and found["submits"] <= 1
    made = ids[1:]
    _, found = counted(lambda: step(made, following[1:]))
    assert found["bytes_back"] == 4 * made.numpy().size  # of the second call: `made` is known already
    ids[0, 0] = 8  # what was known of them is known no longer
    with pytest.raises(IndexError, match="8 at"):
        model(ids)
    ids.copy_(following)
    assert np.array_equal(ids.numpy(), following.numpy()) and np.array_equal(
        ids.to(dtype="float32").numpy(), following.numpy()
    )
    shown = ids.numpy()
    shown[:] = 99
    assert np.array_equal(ids.numpy(), following.numpy())


F = nn.functional
IDS = RNG.integers(0, 6, (4, 3))


def written(a, b, write):
    """What is made of a when `write` writes b into it."""
    made = a * 1
    write(made, b)
    return made


# of a (6, 5), above 0, and b (6, 5); the names are those of the tape
OPERATIONS = {
    "add": lambda a, b: a + b,
    "add, broadcast": lambda a, b: a[:1] + b[:, :1],
    "sub": lambda a, b: (1 - a) - b,
    "mul": lambda a, b: (2 * a) * b,
    "div": lambda a, b: (1 / a) / b,
    "pow": lambda a, b: a**b,
    "pow, broadcast": lambda a, b: a[:1] ** b[:, :1],
    "pow, of a number": lambda a, b: 2**b + 0**a + (-1) ** b,
    "pow, to a number": lambda a, b: a**0.5 + b**2 + b**0,
    "neg": lambda a, b: -a,
    "exp": lambda a, b: a.exp(),
    "log": lambda a, b: a.log(),
    "sqrt": lambda a, b: a.sqrt(),
    "where": lambda a, b: seqcore.where(np.eye(6, 5) > 0, a, b),
    "sigmoid": lambda a, b: a.sigmoid(),
    "tanh": lambda a, b: a.tanh(),
    "relu": lambda a, b: b.relu(),
    "sum": lambda a, b: a.sum(0, keepdim=True) + b.sum(),
    "mean": lambda a, b: a.mean(1, keepdim=True) + b.mean(),
    "reshape": lambda a, b: a.reshape(5, 6),
    "expand": lambda a, b: a.reshape(2, 3, 5) @ b[0],
    "permute": lambda a, b: a.T + b.transpose(0, 1),
    "cat": lambda a, b: seqcore.cat([a, b], 1),
    "stack": lambda a, b: seqcore.stack([a, b]),
    "getitem": lambda a, b: a[1:, ::2],
    "getitem, picked": lambda a, b: a[[0, 3, 3]] + a[np.array([1, 2, 2])],
    "setitem": lambda a, b: written(a, b, lambda made, b: made.__setitem__(slice(1, 3), b[:2])),
    "setitem, picked": lambda a, b: written(a, b, lambda made, b: made.__setitem__([0, 3], b[:2])),
    "setitem, all": lambda a, b: written(a, b, lambda made, b: made.__setitem__(slice(None), b)),
    "+=": lambda a, b: written(a, b, lambda made, b: made.__iadd__(b)),
    "-=": lambda a, b: written(a, b, lambda made, b: made.__isub__(b)),
    "*=": lambda a, b: written(a, b.detach(), lambda made, b: made.__imul__(b)),
    "/=": lambda a, b: written(a, b.detach(), lambda made, b: made.__itruediv__(b)),
    "copy_": lambda a, b: written(a, b, lambda made, b: made.copy_(b)),
    "zero_": lambda a, b: written(a, b, lambda made, b: made.zero_()) + a,
    "matmul": lambda a, b: a @ b.T,
    "matmul, vector": lambda a, b: a @ b[0],
    "matmul, many": lambda a, b: a.reshape(2, 3, 5) @ b.reshape(2, 5, 3),
    "linear": lambda a, b: F.linear(a, b, b[:, 0]),
    "embedding": lambda a, b: F.embedding(IDS, a),
    "embedding, padding": lambda a, b: F.embedding(IDS, a, 2),
    "dropout": lambda a, b: F.dropout(a, 0.5),
    "cross_entropy": lambda a, b: F.cross_entropy(a, [0, 1, 2, 3, 4, 0]),
    "cross_entropy, none": lambda a, b: F.cross_entropy(a.reshape(2, 5, 3), IDS[:2] % 5, reduction="none"),
    "lstm": lambda a, b: nn.LSTM(5, 3).to("gpu")(a.reshape(3, 2, 5))[0],
    "lstm, unbatched": lambda a, b: nn.LSTM(5, 3, 2, dropout=0.5).to("gpu")(a)[0],
    "clip": lambda a, b: a * nn.utils.clip_grad_norm_([b], 1.0),
}


def families():
    """What can be recorded: the literal names that the family modules give the tape."""
    folder = Path(seqcore.tensor.__file__).parent
    calls = re.compile(r"""\b(?:record|_recorded|_pair|_scalar|_apply)\(\s*"(\w+)\"""")
    return {name for path in folder.glob("_*.py") for name in calls.findall(path.read_text(encoding="utf-8"))}


def test_every_operation_is_there():
    """A new operation of the tape has its line above; `to` is a transfer, and asked for."""
    known = families()
    assert {"add", "pow", "sum", "lstm", "linear", "relu"} <= known
    assert known - {name.split(",")[0] for name in OPERATIONS} <= {"to"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_read_nothing_back(name):
    """Neither forward nor backward brings anything to the host that nobody looks at."""
    a = Tensor(np.abs(rounded(RNG, (6, 5))) + np.float32(0.25), True, "gpu")
    b = Tensor(rounded(RNG, (6, 5)), True, "gpu")
    a.grad, b.grad = a.detach() * 1, b.detach() * 1
    seqcore.debug.gpu_counters()
    y = OPERATIONS[name](a, b)
    assert seqcore.debug.gpu_counters()["bytes_back"] == 0
    dy = Tensor(rounded(RNG, y.shape), device="gpu")
    seqcore.debug.gpu_counters()
    y.backward(dy)
    found = seqcore.debug.gpu_counters()
    assert found["bytes_back"] == 0 and found["dispatches"] > 0
    assert y.device == a.grad.device == b.grad.device == "gpu:0"


def test_what_has_no_single_value_is_not_read():
    t = Tensor(rounded(RNG, (100, 100)), device="gpu")
    seqcore.debug.gpu_counters()
    for function in (Tensor.item, float, bool):
        with pytest.raises(ValueError, match="one element"):
            function(t)
    assert seqcore.debug.gpu_counters()["bytes_back"] == 0


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
