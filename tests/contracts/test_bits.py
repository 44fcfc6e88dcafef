"""The same bits: alone or in a batch, with any number of threads, whole or step by step, on every path with FMA.

Compared as integers (S-18, S-164), on sizes that no tile divides; the golden file holds hashes that every machine must
give, for inputs from an integer generator.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import seqcore
from integers import bits, ids, numbers
from programs import program
from seqcore import _core, nn, ops, optim

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bits.json"
FMA = ["avx2", "avx512"]
# T, B, I, H: odd, all different (S-162)
SHAPES = [(7, 32, 13, 29), (37, 32, 5, 67), (3, 32, 130, 257)]


def has(isa):
    return isa in _core.cpu_info()["features"]


def weights(seed, input, hidden, scale=0.3):
    shapes = {"weight_ih": (4 * hidden, input), "weight_hh": (4 * hidden, hidden), "bias_ih": (4 * hidden,)}
    shapes |= {"bias_hh": (4 * hidden,)}
    return {n: numbers(seed + i, *shape, scale=scale) for i, (n, shape) in enumerate(shapes.items())}


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = seqcore.num_threads()
    seqcore.set_num_threads(request.param)
    yield request.param
    seqcore.set_num_threads(before)


def integers(array):
    return np.ascontiguousarray(array).view(np.uint32)


def same(a, b):
    return np.array_equal(integers(a), integers(b))


def lstm(x, h, c, w, dy, dh, dc):
    y, h_n, c_n, saved = ops.lstm(x, h, c, w)
    grads = ops.lstm_backward(saved, dy, dh, dc)
    return {"y": y, "h_n": h_n, "c_n": c_n, **grads}


def case(shape, seed=1):
    steps, batch, input, hidden = shape
    x, dy = numbers(seed, steps, batch, input), numbers(seed + 1, steps, batch, hidden)
    return [x, *(numbers(seed + i, batch, hidden) for i in (2, 3)), weights(seed + 10, input, hidden), dy] + [
        numbers(seed + i, batch, hidden) for i in (4, 5)
    ]


ROWS = {"x": 1, "dy": 1, "y": 1, "h0": 0, "c0": 0, "h_n": 0, "c_n": 0}


def row(found, b):
    """What belongs to row b of the results: forward and input gradients."""
    return {name: np.take(found[name], [b], axis) for name, axis in ROWS.items() if name in found}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_alone_or_among_32(shape, threads):
    x, h, c, w, dy, dh, dc = case(shape)
    whole = lstm(x, h, c, w, dy, dh, dc)
    for b in (0, 5, 31):
        one = slice(b, b + 1)
        alone = lstm(x[:, one], h[one], c[one], w, dy[:, one], dh[one], dc[one])
        for name, value in row(whole, b).items():
            assert same(value, alone[name]), (name, b)
    linear, _ = ops.linear(x, w["weight_ih"], w["bias_ih"])
    for b in (0, 31):
        assert same(ops.linear(x[3 % len(x), b], w["weight_ih"], w["bias_ih"])[0], linear[3 % len(x), b])


@pytest.mark.parametrize("shape", SHAPES)
def test_any_number_of_threads(shape):
    given = case(shape)
    found = set()
    before = seqcore.num_threads()
    for n in (1, 2, 3, 8):
        seqcore.set_num_threads(n)
        found.add(bits(lstm(*given), layers(), steps_of_optimizers()))
    seqcore.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("batch", [1, 3])
def test_whole_or_step_by_step(batch, threads):
    """Also the step class on which streaming stands, and with chunks of other lengths."""
    x, h, c, w, *_ = case((9, batch, 13, 29))
    y, h_n, c_n, _ = ops.lstm(x, h, c, w)
    step = _core.LstmStep(*w.values(), batch=batch)
    step.set_state(h, c)
    hs, cs = h, c
    for t in range(len(x)):
        one, hs, cs, _ = ops.lstm(x[t : t + 1], hs, cs, w)
        assert same(one[0], y[t]) and same(step.step(x[t]), y[t])
    assert same(hs, h_n) and same(cs, c_n) and all(same(a.numpy(False), b) for a, b in zip(step.state(), (hs, cs)))
    first = ops.lstm(x[:4], h, c, w)
    rest = ops.lstm(x[4:], first[1], first[2], w)
    assert same(np.concatenate([first[0], rest[0]]), y) and same(rest[2], c_n)
    module = nn.LSTM(13, 29)
    module.load_state_dict({f"{n}_l0": a for n, a in w.items()})
    with seqcore.no_grad():
        assert same(module(x, (h[None], c[None]))[0].numpy(), y)


def test_segments_of_backward_join_to_the_whole(threads):
    """The gradients of a sequence in two segments, the last first: dx and the states', bit for bit."""
    x, h, c, w, dy, dh, dc = case((9, 4, 13, 29))
    whole = lstm(x, h, c, w, dy, dh, dc)
    first = ops.lstm(x[:4], h, c, w)
    later = ops.lstm(x[4:], first[1], first[2], w)
    back = ops.lstm_backward(later[3], dy[4:], dh, dc)
    front = ops.lstm_backward(first[3], dy[:4], back["h0"], back["c0"])
    assert same(np.concatenate([front["x"], back["x"]]), whole["x"])
    assert same(front["h0"], whole["h0"]) and same(front["c0"], whole["c0"])


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38, -0.0, 1e-42], ids=str)
def test_a_row_never_sees_its_neighbours(poison, threads):
    """lesson 5: the other rows full of what is contagious; this row keeps its bits, forward and backward."""
    given = case((7, 9, 13, 29))
    want = lstm(*given)
    for b in (0, 4, 8):
        x, h, c, w, dy, dh, dc = [a if isinstance(a, dict) else a.copy() for a in given]
        others = [i for i in range(9) if i != b]
        for array in (x, dy):
            array[:, others] = poison
        for array in (h, c, dh, dc):
            array[others] = poison
        found = lstm(x, h, c, w, dy, dh, dc)
        for name, value in row(found, b).items():
            assert same(value, row(want, b)[name]), (name, b)
        y, saved = ops.linear(x.reshape(-1, 13), w["weight_ih"], w["bias_ih"])
        clean, clean_saved = ops.linear(given[0].reshape(-1, 13), w["weight_ih"], w["bias_ih"])
        assert same(y.reshape(7, 9, -1)[:, b], clean.reshape(7, 9, -1)[:, b])
        dx, clean_dx = (ops.linear_backward(s, np.tile(d, (1, 1, 4)).reshape(63, -1))["x"]
                        for s, d in ((saved, dy), (clean_saved, given[4])))  # fmt: skip
        assert same(dx.reshape(7, 9, -1)[:, b], clean_dx.reshape(7, 9, -1)[:, b])
        logits = np.where(np.arange(9)[:, None] == b, given[0][0], poison).astype(np.float32)
        target = ids(3, 13, 9)
        each, saved = ops.cross_entropy(logits, target, reduction="none")
        clean, clean_saved = ops.cross_entropy(given[0][0], target, reduction="none")
        assert same(each[b], clean[b])
        ones = np.ones(9, np.float32)
        grads = [ops.cross_entropy_backward(s, ones)["input"][b] for s in (saved, clean_saved)]
        assert same(*grads)


def layers():
    """Every operation once, forward and backward."""
    found = {}
    x, w = numbers(1, 33, 45), numbers(2, 51, 45, scale=0.5)
    y, saved = ops.linear(x, w, numbers(3, 51))
    found["linear"] = y, ops.linear_backward(saved, numbers(4, 33, 51))
    for name in ("sigmoid", "tanh", "relu"):
        y, saved = getattr(ops, name)(numbers(5, 777, scale=6))
        found[name] = y, getattr(ops, f"{name}_backward")(saved, numbers(6, 777))
    y, saved = ops.embedding(ids(7, 50, 91), numbers(8, 50, 7))
    found["embedding"] = y, ops.embedding_backward(saved, numbers(9, 91, 7))
    target = ids(10, 301, 19)
    target[3] = -100
    for reduction in ("mean", "sum", "none"):
        loss, saved = ops.cross_entropy(numbers(11, 19, 301, scale=8), target, reduction=reduction)
        given = None if reduction != "none" else numbers(12, 19)
        found[f"cross_entropy {reduction}"] = loss, ops.cross_entropy_backward(saved, given)
    seqcore.manual_seed(5)
    y, saved = ops.dropout(numbers(13, 1001), 0.3)
    found["dropout"] = y, ops.dropout_backward(saved, numbers(14, 1001))
    t = seqcore.Tensor(numbers(15, 23, 37), requires_grad=True)
    u = seqcore.Tensor(numbers(16, 37, 31), requires_grad=True)
    z = (seqcore.exp(t @ u * 0.25).mean() + seqcore.log(t * t + 1.0).sum()) / 3.0
    z.backward()
    found["tape"] = z, t.grad, u.grad
    deep = nn.LSTM(9, 17, num_layers=3)
    deep.load_state_dict({n: numbers(40 + i, *p.shape, scale=0.4) for i, (n, p) in enumerate(deep.named_parameters())})
    x = seqcore.Tensor(numbers(17, 11, 3, 9), requires_grad=True)
    y, states = deep(x, (numbers(18, 3, 3, 17), numbers(19, 3, 3, 17)))
    (y * y).sum().backward()
    found["stack"] = y, *states, x.grad, [p.grad for p in deep.parameters()]
    return found


def steps_of_optimizers():
    """Parameters after three steps of each, with clipping."""
    found = {}
    makers = {
        "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        "adam": lambda p: optim.Adam(p, lr=0.01),
        "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    }
    for name, make in makers.items():
        parameters = [nn.Parameter(numbers(60, 41, 7)), nn.Parameter(numbers(61, 13))]
        optimizer = make(parameters)
        for step in range(3):
            for i, p in enumerate(parameters):
                p.grad = numbers(70 + 10 * step + i, *p.shape)
            norm = nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        found[name] = norm, parameters
    return found


def golden():
    """Name to hash."""
    hashes = {}
    for shape in SHAPES:
        found = lstm(*case(shape))
        hashes |= {f"lstm {shape} {name}": bits(value) for name, value in found.items()}
    for name, value in {**layers(), **steps_of_optimizers()}.items():
        hashes[name] = bits(value)
    return hashes


def test_golden_hashes():
    """Machines of different make check each other: the file was written by another one."""
    if not _fused():
        pytest.skip("no FMA")
    want = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = golden()
    assert found == want, {name: found[name] for name in want if found.get(name) != want[name]}


def _fused():
    return _core.cpu_info()["isa"] != "portable"


PRINT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import test_bits
"""


@pytest.mark.parametrize("isa", FMA)
def test_golden_hashes_on_every_path(isa):
    """fault 23: AVX2 and AVX-512 bit for bit."""
    if not has(isa):
        pytest.skip(f"no {isa}")
    source = PRINT + "print(json.dumps(test_bits.golden()))"
    found = json.loads(program(source, Path(__file__).parent, SEQCORE_ISA=isa))
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_the_portable_path_agrees(tmp_path):
    """fault 23: within 2e-6 of the largest magnitude; gradients of weights 5e-6 (S-159)."""
    source = PRINT + "import numpy as np\nnp.savez(sys.argv[2], **test_bits.lstm(*test_bits.case(test_bits.SHAPES[1])))"
    program(source, Path(__file__).parent, tmp_path / "portable.npz", SEQCORE_ISA="portable")
    want = lstm(*case(SHAPES[1]))
    with np.load(tmp_path / "portable.npz") as found:
        for name, value in want.items():
            limit = 5e-6 if "weight" in name or "bias" in name else 2e-6
            assert np.abs(found[name] - value).max() <= limit * np.abs(value).max() > 0, name


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    assert _fused() and not os.environ.get("SEQCORE_ISA")
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
