"""The shipped shaders through wgpu-py, an implementation that is not ours: another host, another release of naga.

Both sides get the same buffers on the same driver, so results are equal bit for bit; and what wgpu-py computes is held
against float64 PyTorch too. Only the manifest of `seqcore.debug.shaders()` says how buffers are bound.
"""

import json
import math
import struct

import numpy as np
import pytest
import torch
import wgpu

import seqcore
from seqcore import Tensor
from seqcore.nn import functional as F
from torch_compare import FORWARD, WEIGHTS, assert_close, error, rounded

pytestmark = pytest.mark.gpu

SHADERS = seqcore.debug.shaders()


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


class Other:
    """The adapter that seqcore takes, opened by wgpu-py."""

    def __init__(self):
        mine = next(d for d in seqcore.devices() if d["device"] == "gpu:0")
        found = [
            adapter
            for adapter in wgpu.gpu.enumerate_adapters_sync()
            if adapter.info["device"] == mine["name"] and adapter.info["backend_type"].lower() == mine["backend"]
        ]
        assert found, f"wgpu-py does not see {mine}"
        self.device = found[0].request_device_sync()

    def buffer(self, array):
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST
        data = np.ascontiguousarray(array).tobytes().ljust(16, b"\0")
        return self.device.create_buffer_with_data(data=data, usage=usage)

    def empty(self, *shape):
        """NaN everywhere: a kernel must write every element."""
        return self.buffer(np.full(shape, np.nan, np.float32))

    def read(self, buffer, *shape):
        data = np.frombuffer(self.device.queue.read_buffer(buffer), np.float32)
        return data[: int(np.prod(shape))].reshape(shape)

    def run(self, shader, entry, buffers, params, groups, constants=None):
        """One dispatch for each of `params`, in one pass; `buffers` in the order of their bindings."""
        source, manifest = SHADERS[shader]
        bindings = json.loads(manifest)["entries"][entry]["bindings"]
        uniform, storage = bindings[0], bindings[1:]
        assert uniform["type"] == "uniform" and len(storage) == len(buffers)
        records = b"".join(self.record(uniform, p).ljust(256, b"\0") for p in params)
        records = self.device.create_buffer_with_data(data=records, usage=wgpu.BufferUsage.UNIFORM)
        types = [{"type": "uniform", "has_dynamic_offset": True}] + [{"type": b["type"]} for b in storage]
        stage = wgpu.ShaderStage.COMPUTE
        layout = self.device.create_bind_group_layout(
            entries=[
                {"binding": b["binding"], "visibility": stage, "buffer": t}
                for b, t in zip(bindings, types, strict=True)
            ]
        )
        bound = [{"buffer": records, "offset": 0, "size": uniform["size"]}]
        bound += [{"buffer": b, "offset": 0, "size": b.size} for b in buffers]
        group = self.device.create_bind_group(
            layout=layout,
            entries=[{"binding": b["binding"], "resource": r} for b, r in zip(bindings, bound, strict=True)],
        )
        compute = {"module": self.device.create_shader_module(code=source), "entry_point": entry}
        pipeline = self.device.create_compute_pipeline(
            layout=self.device.create_pipeline_layout(bind_group_layouts=[layout]),
            compute=compute | ({"constants": constants} if constants else {}),
        )
        encoder = self.device.create_command_encoder()
        work = encoder.begin_compute_pass()
        work.set_pipeline(pipeline)
        for i in range(len(params)):
            work.set_bind_group(0, group, [256 * i])
            work.dispatch_workgroups(groups, 1, 1)
        work.end()
        self.device.queue.submit([encoder.finish()])

    @staticmethod
    def record(uniform, params):
        data = bytearray(uniform["size"])
        assert params.keys() <= {name for name, _, _ in uniform["fields"]}
        for name, kind, offset in uniform["fields"]:
            value = params.get(name, 0)
            struct.pack_into("<f" if kind == "f32" else "<I", data, offset, value if kind == "f32" else value % 2**32)
        return bytes(data)

    def product(self, m, n, k, a, b, c, kernel="rows", begin=0, biases=(), block=None, a_block=0, b_block=0):
        """C (m, n) = A B; `a` and `b` are (buffer, start, outer stride, stride of k)."""
        params = {"m": m, "n": n, "k_end": k, "block": block or k, "c_row": n, "begin": begin}
        params |= {"a_start": a[1], "a_row": a[2], "a_k": a[3], "a_block": a_block}
        params |= {"b_start": b[1], "b_column": b[2], "b_k": b[3], "b_block": b_block}
        bias = [*biases, a[0], a[0]][:2]
        across = 8
        while across < min(64, -(-n // 4)):
            across *= 2
        if kernel == "rows":
            groups = -(-m // (512 // across)) * -(-n // (4 * across))
        else:
            groups = -(-m // 64) * -(-n // 64)
        params |= {"count": 1, "tiles": groups}
        constants = {"ACROSS": across} if kernel == "rows" else None
        self.run("gpu/gemm", kernel, [a[0], b[0], *bias, c], [params], groups, constants)


@pytest.fixture(scope="module")
def other():
    return Other()


def test_the_manifest_is_true():
    """Every shader: its entries stand in the source, bindings are numbered, sizes are those that WebGPU asks for."""
    assert {"lstm/step", "lstm/step_backward", "gpu/gemm", "loss/cross_entropy", "dropout/mask"} <= SHADERS.keys()
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
    assert np.array_equal(bits(found), bits(linear(x).numpy()))
    assert error(found, x.astype(np.float64) @ weight.T + bias) <= FORWARD


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("size", [(7, 2, 3, 5), (37, 3, 20, 33), (5, 17, 4, 70)])
def test_lstm(other, size, states):
    """Forward and backward, step by step: y, h_n, c_n, dx, dh0, dc0, dW_ih and dW_hh."""
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
    theirs |= {"dx": other.read(dx, T, B, E), "dw_ih": other.read(dw, 4 * H, E)}
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
    ours = {"y": out, "c_n": c_n[0], "dx": t.grad, "dw_ih": lstm.weight_ih_l0.grad}
    if states:
        ours |= {"dh0": hx[0].grad[0], "dc0": hx[1].grad[0]}
    for name, tensor in ours.items():
        assert np.array_equal(bits(tensor.numpy()), bits(theirs[name])), name

    # and both are right
    twin = torch.nn.LSTM(E, H).double()
    twin.load_state_dict({n: torch.tensor(p.numpy()).double() for n, p in lstm.state_dict().items()})
    z = torch.tensor(x).double().requires_grad_()
    s = [torch.tensor(a[None]).double().requires_grad_() for a in (h0, c0)]
    want, (h_n, c_n) = twin(z, tuple(s) if states else None)
    ((want * torch.tensor(dy)).sum() + (h_n * torch.tensor(dh_n)).sum() + (c_n * torch.tensor(dc_n)).sum()).backward()
    exact = {"y": want, "c_n": c_n[0], "dx": z.grad, "dw_ih": twin.weight_ih_l0.grad}
    if states:
        exact |= {"dh0": s[0].grad[0], "dc0": s[1].grad[0]}
    for name, value in exact.items():
        assert_close(name, theirs[name], value, WEIGHTS if name == "dw_ih" else FORWARD)


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (11, 97), (70, 300)])
def test_cross_entropy(other, rows, classes):
    rng = np.random.default_rng(rows)
    logits, targets = rounded(rng, (rows, classes), scale=3.0), rng.integers(0, classes, rows)
    if rows > 1:
        targets[1] = -100
    kept = int((targets >= 0).sum())
    words = other.buffer(np.where(targets < 0, 0xFFFFFFFF, targets).astype(np.uint32))
    losses, gradient, total = other.empty(rows), other.empty(rows, classes), other.empty(1)
    params = [{"rows": rows, "classes": classes, "scale": 1 / kept, "divisor": float(kept)}]
    buffers = [words, other.buffer(logits), losses, gradient]
    other.run("loss/cross_entropy", "loss_and_gradient", buffers, params, rows)
    other.run("loss/cross_entropy", "reduce_losses", [losses, total], params, 1)
    x = Tensor(logits, True, "gpu")
    loss = F.cross_entropy(x, targets)
    loss.backward()
    assert np.array_equal(bits(other.read(gradient, rows, classes)), bits(x.grad.numpy()))
    assert bits(other.read(total, 1))[0] == bits(loss.numpy().reshape(1))[0]
    z = torch.tensor(logits).double().requires_grad_()
    want = torch.nn.functional.cross_entropy(z, torch.tensor(targets))
    want.backward()
    assert_close("loss", other.read(total, 1)[0], want, FORWARD)
    assert_close("gradient", other.read(gradient, rows, classes), z.grad, FORWARD)


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
        assert np.array_equal(bits(F.dropout(Tensor(x, device=device), p).numpy()), bits(other.read(y, count)))
