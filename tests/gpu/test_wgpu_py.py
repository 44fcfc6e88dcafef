"""The shipped shaders through wgpu-py, an implementation that is not ours: another host, another release of naga.

Both sides get the same buffers on the same driver, so results are equal bit for bit; and what wgpu-py computes is held
against float64 too. Only the manifest of `seqcore.debug.shaders()` says how buffers are bound. Every entry point of
every shader has a case, here or in `wgpu_cases.py`, and a change of its text that the case must notice.
"""

import json
import math

import numpy as np
import pytest
import torch
import wgpu

import seqcore
from seqcore import Tensor
from seqcore.nn import functional as F
from torch_compare import FORWARD, WEIGHTS, assert_close, rounded
from wgpu_cases import CASES, SHADERS, Other, case, right, same

pytestmark = pytest.mark.gpu

ENTRIES = [(shader, entry) for shader, (_, manifest) in SHADERS.items() for entry in json.loads(manifest)["entries"]]


@pytest.fixture(scope="module")
def other():
    return Other()


def test_the_manifest_is_true():
    """Every shader: its entries stand in the source, bindings are numbered, sizes are those that WebGPU asks for."""
    for name, (source, manifest) in SHADERS.items():
        for entry, about in json.loads(manifest)["entries"].items():
            assert f"fn {entry}(" in source, (name, entry)
            numbers = [b["binding"] for b in about["bindings"]]
            assert numbers == sorted(set(numbers)) and numbers[0] == 0
            assert len(numbers) <= 8, "7 storage bindings and the uniform"
            assert about["bindings"][0]["size"] % 16 == 0
            assert about["workgroup_bytes"] <= 16384
            assert np.prod(about["workgroup_size"]) <= 256


def test_every_shader_compiles_there(other):
    """lesson 9: a pipeline that fails to compile can take the device with it, so every one is made."""
    for name, (source, manifest) in SHADERS.items():
        module = other.device.create_shader_module(code=source)
        for entry, about in json.loads(manifest)["entries"].items():
            # an entry whose bindings the layout does not cover would be refused
            layout = other.device.create_bind_group_layout(
                entries=[
                    {"binding": b["binding"], "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": b["type"]}}
                    for b in about["bindings"]
                ]
            )
            layout = other.device.create_pipeline_layout(bind_group_layouts=[layout])
            made = other.device.create_compute_pipeline(layout=layout, compute={"module": module, "entry_point": entry})
            assert made is not None, (name, entry)


@pytest.mark.parametrize("kernel", ["rows", "tile"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (7, 5, 3), (65, 33, 67), (9, 100, 300)])
def test_product(other, kernel, m, k, n, monkeypatch):
    monkeypatch.setenv("SEQCORE_GPU_GEMM", kernel)
    rng = np.random.default_rng(m)
    x, weight, bias = rounded(rng, (m, k)), rounded(rng, (n, k)), rounded(rng, (n,))
    c = other.empty(m, n)
    one = other.buffer(bias)
    other.product(m, n, k, (other.buffer(x), 0, k, 1), (other.buffer(weight), 0, k, 1), c, kernel, 1, (one,))
    found = other.read(c, m, n)
    linear = seqcore.nn.Linear(k, n).to("gpu")
    linear.load_state_dict({"weight": weight, "bias": bias})
    right("product", found, linear(x), x.astype(np.float64) @ weight.T + bias)


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("size", [(7, 2, 3, 5), (37, 3, 20, 33), (5, 17, 4, 70)])
def test_lstm(other, size, states):
    """Forward and backward, step by step: y, h_n, c_n, dx, dh0, dc0, dW_ih, dW_hh and db."""
    T, B, E, H = size
    rng = np.random.default_rng(H)
    x, dy = rounded(rng, (T, B, E)), rounded(rng, (T, B, H))
    h0, c0, dh_n, dc_n = (rounded(rng, (B, H), scale=0.7) for _ in range(4))
    w_ih, w_hh = rounded(rng, (4 * H, E), scale=0.3), rounded(rng, (4 * H, H), scale=0.3)
    b_ih, b_hh = rounded(rng, (4 * H,)), rounded(rng, (4 * H,))
    state, gate = B * H, 4 * B * H

    # there
    put = other.buffer
    X, W, U = put(x), put(w_ih), put(w_hh)
    gates, y, c = other.empty(T, B, 4 * H), other.empty(T, B, H), other.empty(T, B, H)
    packed = other.empty(H, H, 4)
    grid = -(-B // 4) * -(-H // 64)
    other.run("lstm/step", "pack", [U, packed], [{"units": H}], -(-H * H // 64))
    biases = (put(b_ih), put(b_hh))
    other.product(T * B, 4 * H, E, (X, 0, E, 1), (W, 0, E, 1), gates, begin=2, biases=biases)
    steps = [
        {
            "rows": B,
            "units": H,
            "gates_start": t * gate,
            "h_start": t * state,
            "c_start": t * state,
            "h_before": max(t - 1, 0) * state,
            "c_before": max(t - 1, 0) * state,
            "first": 0 if t else (1 if states else 2),
        }
        for t in range(T)
    ]
    H0, C0 = put(h0), put(c0)
    other.run("lstm/step", "forward", [packed, H0, C0, gates, y, c], steps, grid)
    theirs = {"y": other.read(y, T, B, H), "c_n": other.read(c, T, B, H)[-1]}
    theirs["h_n"] = theirs["y"][-1]
    back = [
        {
            "rows": B,
            "units": H,
            "gates_start": t * gate,
            "gates_after": (t + 1) * gate,
            "c_start": t * state,
            "c_before": max(t - 1, 0) * state,
            "y_start": t * state,
            "flags": (1 + 32 if t == T - 1 else 0) + ((4 if states else 2) if t == 0 else 0),
        }
        for t in reversed(range(T))
    ]
    dc = put(dc_n)
    other.run("lstm/step_backward", "backward", [U, gates, c, C0, put(dy), put(dh_n), dc], back, grid)
    dx, dh0 = other.empty(T, B, E), other.empty(B, H)
    other.product(T * B, E, 4 * H, (gates, 0, 4 * H, 1), (W, 0, 1, E), dx)
    other.run("lstm/step_backward", "initial", [U, gates, dh0], [{"rows": B, "units": H}], grid)
    dw = other.empty(4 * H, E)
    last = T - 1
    blocks = {"block": B, "a_block": -gate, "b_block": -B * E}
    other.product(4 * H, E, T * B, (gates, last * gate, 1, 4 * H), (X, last * B * E, 1, E), dw, **blocks)
    # step t meets h of step t - 1, the first one h0
    du, db = other.empty(4 * H, H), other.empty(4 * H)
    blocks["b_block"] = -state
    other.product(4 * H, H, last * B, (gates, last * gate, 1, 4 * H), (y, (last - 1) * state, 1, H), du, **blocks)
    if states:
        other.product(4 * H, H, B, (gates, 0, 1, 4 * H), (H0, 0, 1, H), du, begin=3)
    one = put(np.ones(1, np.float32))
    other.product(4 * H, 1, T * B, (gates, last * gate, 1, 4 * H), (one, 0, 0, 0), db, block=B, a_block=-gate)
    theirs |= {"dx": other.read(dx, T, B, E), "dw_ih": other.read(dw, 4 * H, E)}
    theirs |= {"dw_hh": other.read(du, 4 * H, H), "db": other.read(db, 4 * H)}
    if states:
        theirs |= {"dh0": other.read(dh0, B, H), "dc0": other.read(dc, B, H)}

    # here
    lstm = seqcore.nn.LSTM(E, H).to("gpu")
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    lstm.load_state_dict(dict(zip(names, (w_ih, w_hh, b_ih, b_hh), strict=True)))
    t = Tensor(x, True, "gpu")
    hx = (Tensor(h0[None], True, "gpu"), Tensor(c0[None], True, "gpu"))
    out, (h_n, c_n) = lstm(t, hx if states else None)
    ((out * dy).sum() + (h_n * dh_n).sum() + (c_n * dc_n).sum()).backward()
    ours = {"y": out, "h_n": h_n[0], "c_n": c_n[0], "dx": t.grad}
    ours |= {"dw_ih": lstm.weight_ih_l0.grad, "dw_hh": lstm.weight_hh_l0.grad, "db": lstm.bias_ih_l0.grad}
    if states:
        ours |= {"dh0": hx[0].grad[0], "dc0": hx[1].grad[0]}
    assert theirs.keys() == ours.keys()
    for name, tensor in ours.items():
        same(name, theirs[name], tensor.numpy())

    # and both are right
    twin = torch.nn.LSTM(E, H).double()
    twin.load_state_dict({n: torch.tensor(p.numpy()).double() for n, p in lstm.state_dict().items()})
    z = torch.tensor(x).double().requires_grad_()
    s = [torch.tensor(a[None]).double().requires_grad_() for a in (h0, c0)]
    want, (h_n, c_n) = twin(z, tuple(s) if states else None)
    ((want * torch.tensor(dy)).sum() + (h_n * torch.tensor(dh_n)).sum() + (c_n * torch.tensor(dc_n)).sum()).backward()
    exact = {"y": want, "h_n": h_n[0], "c_n": c_n[0], "dx": z.grad}
    exact |= {"dw_ih": twin.weight_ih_l0.grad, "dw_hh": twin.weight_hh_l0.grad, "db": twin.bias_ih_l0.grad}
    if states:
        exact |= {"dh0": s[0].grad[0], "dc0": s[1].grad[0]}
    assert theirs.keys() == exact.keys()
    for name, value in exact.items():
        assert_close(name, theirs[name], value, WEIGHTS if name.startswith(("dw", "db")) else FORWARD)


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (11, 97), (70, 300)])
def test_cross_entropy(other, rows, classes):
    rng = np.random.default_rng(rows)
    logits, targets = rounded(rng, (rows, classes), scale=3.0), rng.integers(0, classes, rows)
    if rows > 1:
        targets[1] = -100
    kept = int((targets >= 0).sum())
    words = other.buffer(np.where(targets < 0, 0xFFFFFFFF, targets).astype(np.uint32))
    losses, gradient, total, alone = other.empty(rows), other.empty(rows, classes), other.empty(1), other.empty(rows)
    params = [{"rows": rows, "classes": classes, "scale": 1 / kept, "divisor": float(kept), "part": 65536}]
    buffers = [words, other.buffer(logits), losses, gradient]
    other.run("loss/cross_entropy", "loss", [*buffers[:2], alone], params, rows)
    other.run("loss/cross_entropy", "loss_and_gradient", buffers, params, rows)
    other.run("loss/cross_entropy", "reduce_losses", [losses, total], params, 1)
    x = Tensor(logits, True, "gpu")
    loss = F.cross_entropy(x, targets)
    loss.backward()
    each = F.cross_entropy(Tensor(logits, device="gpu"), targets, reduction="none")
    z = torch.tensor(logits).double().requires_grad_()
    want = torch.nn.functional.cross_entropy(z, torch.tensor(targets))
    want.backward()
    right("loss", other.read(total, 1)[0], loss, want)
    right("gradient", other.read(gradient, rows, classes), x.grad, z.grad)
    exact = torch.nn.functional.cross_entropy(z, torch.tensor(targets), reduction="none")
    right("losses", other.read(alone, rows), each, exact)


def test_cross_entropy_of_long_rows(other):
    """Rows of more classes than one workgroup takes."""
    rows, classes, part = 2, (1 << 20) + 70, 1 << 16
    rng = np.random.default_rng(rows)
    logits, targets = rounded(rng, (rows, classes), scale=3.0), np.array([5, classes - 1])
    parts = -(-classes // part)
    words, there = other.buffer(targets.astype(np.uint32)), other.buffer(logits)
    made, losses, alone, gradient = (other.empty(*s) for s in ((rows, parts, 3), (rows,), (rows,), (rows, classes)))
    params = [{"rows": rows, "classes": classes, "scale": 1.0, "divisor": 1.0, "part": part, "parts": parts}]
    other.run("loss/cross_entropy", "reduce_parts", [made, there], params, rows * parts)
    other.run("loss/cross_entropy", "loss_of_parts", [words, there, alone, made], params, rows)
    buffers = [words, there, losses, gradient, made]
    other.run("loss/cross_entropy", "loss_and_gradient_of_parts", buffers, params, rows * parts)
    x = Tensor(logits, True, "gpu")
    loss = F.cross_entropy(x, targets, reduction="none")
    loss.sum().backward()
    z = torch.tensor(logits).double().requires_grad_()
    want = torch.nn.functional.cross_entropy(z, torch.tensor(targets), reduction="none")
    want.sum().backward()
    right("losses", other.read(losses, rows), loss, want)
    right("losses alone", other.read(alone, rows), loss, want)
    right("gradient", other.read(gradient, rows, classes), x.grad, z.grad)


@pytest.mark.parametrize("count", [1, 5, 256, 1027])
def test_dropout(other, count):
    """Philox there gives the mask of the CPU here, bit for bit."""
    x = rounded(np.random.default_rng(count), (count,))
    seed, stream, p = 0x1234_5678_9ABC_DEF0, 1, 0.3
    y = other.empty(count)
    params = {
        "count": count,
        "threshold": math.ceil(p * 2**24),
        "scale": 1 / (1 - p),
        "seed_low": seed & 0xFFFFFFFF,
        "seed_high": seed >> 32,
        "stream_low": stream,
    }
    other.run("dropout/mask", "dropout", [other.buffer(x), y], [params], -(-count // 256))
    for device in ("cpu", "gpu"):
        seqcore.manual_seed(seed)
        F.dropout(Tensor(x, device=device), p)  # takes stream 0
        same(f"dropout on {device}", other.read(y, count), F.dropout(Tensor(x, device=device), p).numpy())


@case(
    "gpu/gemm", tile=("s1 = s1 + left.y * right", "s1 = s1 + left.x * right"), rows=("s3 + a[a_k + r3]", "s3 + a[a_k]")
)
def products(other):
    with pytest.MonkeyPatch.context() as patch:
        for kernel in ("rows", "tile"):
            test_product(other, kernel, 9, 100, 300, patch)


@case(
    "lstm/step_backward",
    backward=("1.0 - squashed * squashed", "1.0 - squashed"),
    initial=("store(row + 1u, unit, sum.r1)", "store(row + 1u, unit, sum.r0)"),
)
def lstm_backward(other):
    test_lstm(other, (7, 2, 3, 5), True)


@case(
    "lstm/step",
    forward=("o * tanh_f32(cell)", "o * cell"),
    pack=("weight_hh[source + 3u * gate]", "weight_hh[source + 2u * gate]"),
)
def lstm_forward(other):
    test_lstm(other, (7, 2, 3, 5), True)


@case(
    "loss/cross_entropy",
    loss=("if lane == 0u && number < p.rows {", "if lane == 0u && number < p.rows - 1u {"),
    loss_and_gradient=("select(0.0, 1.0, c == t)", "select(0.0, 1.0, c == 0u)"),
    reduce_losses=("numbers[0] / p.divisor", "numbers[0]"),
    reduce_parts=("bits_of(it.sum)", "bits_of(it.sum * 1.5)"),
    loss_of_parts=("min(number, p.rows - 1u);\n    let it = joined", "0u;\n    let it = joined"),
    loss_and_gradient_of_parts=("min(begin + p.part, p.classes), it, lane", "begin, it, lane"),
)
def cross_entropy(other):
    test_cross_entropy(other, 11, 97)
    test_cross_entropy_of_long_rows(other)


@case("dropout/mask", dropout=("x[i] * p.scale", "x[i]"))
def dropout(other):
    test_dropout(other, 1027)


def test_every_entry_has_a_case():
    """And no case is of an entry that is gone."""
    assert sorted((shader, entry) for shader, (_, breaks) in CASES.items() for entry in breaks) == sorted(ENTRIES)
    assert len(ENTRIES) > 30


@pytest.mark.parametrize(("shader", "entry"), ENTRIES)
def test_every_entry_computes(other, shader, entry):
    """Parametrised by the manifests: the case of an entry dispatches it and compares."""
    compare, _ = CASES[shader]
    other.ran.clear()
    compare(other)
    assert (shader, entry) in other.ran


@pytest.mark.parametrize(("shader", "entry"), ENTRIES)
def test_a_broken_entry_is_noticed(other, shader, entry, monkeypatch):
    """The comparisons can fail: each does when a term of the entry's text is replaced."""
    compare, breaks = CASES[shader]
    source, manifest = SHADERS[shader]
    term, instead = breaks[entry]
    assert term in source
    monkeypatch.setitem(SHADERS, shader, (source.replace(term, instead), manifest))
    with pytest.raises(AssertionError, match=r"bits differ|error .* above"):
        compare(other)
