"""wgpu-py, which is not ours, as a host of the shipped shaders, and cases of those that need few dispatches.

A case runs every entry point of a shader there on the buffers that seqcore gets, on the same driver, so that results are
equal bit for bit; and it holds them against float64 too. `gpu/test_wgpu_py.py` runs the cases and has the long ones.
"""

import json
import math
import operator
import struct

import numpy as np
import torch
import wgpu

import seqcore
from seqcore import Tensor
from seqcore.nn import functional as F
from torch_compare import FORWARD, WEIGHTS, assert_close, rounded

SHADERS = seqcore.debug.shaders()
# of a shader: a function that runs every entry there and compares, and for each entry (a text in it, what breaks it)
CASES = {}


def bits(array):
    return np.ascontiguousarray(array).view(np.uint32)


def same(name, theirs, ours):
    assert np.array_equal(bits(theirs), bits(ours)), f"{name}: bits differ"


def right(name, theirs, ours, exact, limit=FORWARD):
    """What wgpu-py computed is what seqcore did, and both are right."""
    same(name, theirs, ours.numpy())
    assert_close(name, theirs, exact, limit)


def case(shader, **breaks):
    """The function below is the case of `shader`; `breaks` has (text, what to put there) for each entry."""

    def keep(function):
        CASES[shader] = (function, breaks)
        return function

    return keep


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
        self.ran = set()

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
        self.ran.add((shader, entry))
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

    def elements(self, shader, entry, buffers, *params):
        """Kernels in which a thread is an element: workgroups as the manifest's size wants them."""
        lanes = json.loads(SHADERS[shader][1])["entries"][entry]["workgroup_size"][0]
        self.run(shader, entry, buffers, params, -(-params[0]["count"] // lanes))

    @staticmethod
    def record(uniform, params):
        data = bytearray(uniform["size"])
        assert params.keys() <= {name for name, _, _ in uniform["fields"]}
        for name, kind, offset in uniform["fields"]:
            value = params.get(name, 0)
            struct.pack_into("<f" if kind == "f32" else "<I", data, offset, value if kind == "f32" else value % 2**32)
        return bytes(data)

    def product(self, m, n, k, a, b, c, kernel="rows", begin=0, biases=(), block=None, a_block=0, b_block=0):
        """C (m, n) = A B + what `begin` says; `a` and `b` are (buffer, start, outer stride, stride of k)."""
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


@case("gpu/probe", functions=("p * r + 5.0000001201e-1", "p * r + 0.499"), random_words=("weyl * 9u", "weyl * 8u"))
def probe(other):
    x = rounded(np.random.default_rng(0), (1000,), scale=3)
    z, t = x.astype(np.float64), Tensor(x, device="gpu")
    exact = {"exp": np.exp(z), "sigmoid": 1 / (1 + np.exp(-z)), "tanh": np.tanh(z)}
    for number, (name, want) in enumerate(exact.items()):
        y = other.empty(1000)
        other.elements("gpu/probe", "functions", [other.buffer(x), y], {"count": 1000, "function": number})
        right(name, other.read(y, 1000), getattr(t, name)(), want)
    # known answers of Philox 4x32-10 (Salmon et al. 2011): counter, key, words; the counter's lower half is `block`,
    # and the block before it comes first, so that the lower word's carry is seen
    for counter, key, words in (
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([2**32 - 1] * 4, [2**32 - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ):
        before = (counter[0] + 2**32 * counter[1] - 1) % 2**64
        params = {"count": 2, "block_low": before % 2**32, "block_high": before // 2**32}
        params |= dict(zip(("seed_low", "seed_high", "stream_low", "stream_high"), key + counter[2:], strict=True))
        found = other.empty(8)
        other.elements("gpu/probe", "random_words", [found], params)
        same("random words", other.read(found, 8)[4:], np.array(words, np.uint32))


@case(
    "activation/activation",
    forward=("y[i] = sigmoid(v)", "y[i] = sigmoid(v + 0.001)"),
    backward=("d * (1.0 - v * v)", "d * (1.0 - v)"),
)
def activation(other):
    rng = np.random.default_rng(1)
    x, dy = rounded(rng, (1000,), scale=3), rounded(rng, (1000,))
    for number, name in enumerate(("sigmoid", "tanh", "relu")):
        y, dx, params = other.empty(1000), other.empty(1000), {"count": 1000, "function": number}
        other.elements("activation/activation", "forward", [other.buffer(x), y], params)
        other.elements("activation/activation", "backward", [y, other.buffer(dy), dx], params)
        t, z = Tensor(x, True, "gpu"), torch.tensor(x).double().requires_grad_()
        out, want = getattr(F, name)(t), getattr(torch, name)(z)
        out.backward(Tensor(dy, device="gpu"))
        want.backward(torch.tensor(dy).double())
        right(name, other.read(y, 1000), out, want)
        right(f"gradient of {name}", other.read(dx, 1000), t.grad, z.grad)


def walk(shape, **steps):
    """A view of six axes as uniforms have it: sizes n1 to n5, and the steps of each operand by its letter."""
    sizes = [1] * (6 - len(shape)) + list(shape)
    fields = {f"n{i}": sizes[i] for i in range(1, 6)}
    for letter, along in steps.items():
        fields |= {f"{letter}{6 - len(along) + i}": step for i, step in enumerate(along)}
    return fields


@case(
    "elementwise/arithmetic",
    unary=("return root(x)", "return root(x + 0.01)"),
    number=("select(v, one.value, one.reversed", "select(v, one.value, 1u - one.reversed"),
    fill=("bitcast<f32>(one.function)", "f32(one.function)"),
    binary=("b[at_b])", "b[at_a % 3u])"),
    choose=("(at_c & 31u)", "(at_b & 31u)"),
)
def arithmetic(other):
    name, put = "elementwise/arithmetic", other.buffer
    rng = np.random.default_rng(2)
    shape, count = (4, 3, 50), 600
    a, b = (rounded(rng, s) for s in (shape, (3, 1)))
    positive, y = np.abs(a) + np.float32(0.1), other.empty(count)
    functions = {
        0: lambda v: -v,
        1: lambda v: v.exp() if isinstance(v, Tensor) else np.exp(v),
        2: lambda v: v.log() if isinstance(v, Tensor) else np.log(v),
        3: lambda v: v.sqrt() if isinstance(v, Tensor) else np.sqrt(v),
    }
    for number, function in functions.items():
        other.elements(name, "unary", [put(positive), y], {"count": count, "function": number})
        right(number, other.read(y, *shape), function(Tensor(positive, device="gpu")), function(positive.astype(float)))
    # Tensor has no function that is just these, nor the greater and the lesser below; they round once at most, so NumPy
    # gives the bits
    for number, function in {4: np.abs, 5: np.square}.items():
        other.elements(name, "unary", [put(a), y], {"count": count, "function": number})
        same(number, other.read(y, *shape), function(a))
    pairs = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
    for number, function in enumerate(pairs):
        steps = walk(shape, a=(150, 50, 1), b=(0, 1, 0))
        other.elements(name, "binary", [put(positive), put(b), y], {"count": count, "function": number} | steps)
        ours = function(Tensor(positive, device="gpu"), Tensor(b, device="gpu"))
        right(function.__name__, other.read(y, *shape), ours, function(positive.astype(float), b))
        for turned in (0, 1):
            params = {"count": count, "function": number, "value": 1.75, "reversed": turned}
            other.elements(name, "number", [put(positive), y], params)
            ours, exact = (
                function(1.75, v) if turned else function(v, 1.75)
                for v in (Tensor(positive, device="gpu"), positive.astype(float))
            )
            right(f"{function.__name__} of a number", other.read(y, *shape), ours, exact)
    for number, function in {5: np.maximum, 6: np.minimum}.items():
        other.elements(name, "number", [put(a), y], {"count": count, "function": number, "value": 0.25})
        same(number, other.read(y, *shape), function(a, np.float32(0.25)))
    word = int(bits(np.float32([-2.5]))[0])
    other.elements(name, "fill", [y], {"count": count, "function": word})
    same("fill", other.read(y, count), np.full(count, -2.5, np.float32))
    holds = rng.random(shape) < 0.5
    words = put(np.packbits(holds, bitorder="little"))
    steps = walk(shape, c=(150, 50, 1), a=(150, 50, 1), b=(0, 1, 0))
    other.elements(name, "choose", [words, put(a), put(b), y], {"count": count} | steps)
    ours = seqcore.where(holds, Tensor(a, device="gpu"), Tensor(b, device="gpu"))
    right("where", other.read(y, *shape), ours, np.where(holds, a, b))


@case(
    "pick/pick",
    take=("ids[i / p.width % p.ids];\n        var word", "ids[0u];\n        var word"),
    assign_at=("source[select(i, 0u, p.one != 0u)]", "source[0u]"),
    sum_segments=("segments[segment + 1u]", "segments[segment] + 1u"),
    sum_rows=("rows[row + 3u]", "rows[row + 1u] + 1u"),
)
def picks(other):
    """Of each of three rows, one id so often that its places take three segments."""
    name, put = "pick/pick", other.buffer
    rng = np.random.default_rng(3)
    front, bound, width = 3, 9, 70
    ids = rng.permutation([3] * 600 + [0, 7, 7, 8] * 10)
    x, dy = rounded(rng, (front, bound, width)), rounded(rng, (front, len(ids), width))
    y, dx = other.empty(*dy.shape), put(np.zeros_like(x))
    sizes = {"front": front, "ids": len(ids), "bound": bound, "width": width}
    other.elements(name, "take", [put(x), put(ids.astype(np.uint32)), y], sizes | {"count": dy.size})
    order, segments, rows = np.argsort(ids, kind="stable"), [], []
    for row in np.unique(ids):
        run = np.flatnonzero(ids[order] == row)
        rows.append((row, len(segments)))
        segments += range(run[0], run[-1] + 1, 256)
    count, plan = len(segments), [order, [*segments, len(ids)], np.ravel([*rows, (0, len(segments))])]
    order, segments, table = (put(np.asarray(words, np.uint32)) for words in plan)
    sums = other.empty(count, front, width)
    params = sizes | {"count": count * front * width}
    other.elements(name, "sum_segments", [order, segments, put(dy), sums], params)
    other.elements(name, "sum_rows", [table, sums, dx], sizes | {"count": len(rows) * front * width})
    t, z = Tensor(x, True, "gpu"), torch.tensor(x).double().requires_grad_()
    out, want = t[:, ids], z[:, torch.tensor(ids)]
    out.backward(Tensor(dy, device="gpu"))
    want.backward(torch.tensor(dy).double())
    right("picked", other.read(y, *dy.shape), out, want)
    right("gradient", other.read(dx, *x.shape), t.grad, z.grad, WEIGHTS)
    # a skipped id among them
    into, values, ids = put(x), rounded(rng, (front, 4, width)), np.array([5, -1, 0, 8])
    params = sizes | {"count": values.size, "ids": 4}
    other.elements(name, "assign_at", [put(values), put(ids.astype(np.uint32)), into], params)
    t, want = Tensor(x, device="gpu"), x.copy()
    t[:, [5, 8, 0, 8]] = values
    want[:, [5, 0, 8]] = values[:, [0, 2, 3]]
    right("written", other.read(into, *x.shape), t, want)


@case(
    "reduce/sum",
    rows=("parts[lane + 2u]", "parts[lane + 1u]"),
    columns=("k * p.inner]", "k]"),
    join=("sums[2u * l + 1u]", "sums[2u * l]"),
)
def sums(other):
    """Twenty blocks of 128 terms: two levels of joins, the first with a part of a group."""
    n = 2500
    for entry, outer, inner, lanes in (("rows", 3, 1, 4), ("columns", 3, 5, 64)):
        x = rounded(np.random.default_rng(4), (outer, n, inner))
        source, left, width = other.buffer(x), n, 128
        while left > 1:
            blocks = -(-left // width)
            y = other.empty(outer, blocks, inner)
            params = {"count": outer * blocks * inner, "n": left, "inner": inner, "blocks": blocks}
            other.run("reduce/sum", entry, [source, y], [params], -(-params["count"] // lanes))
            source, left, width, entry, lanes = y, blocks, 16, "join", 64
        right("sum", other.read(source, outer, inner), Tensor(x, device="gpu").sum(1), x.astype(float).sum(1))


@case(
    "shape/move",
    copy_strided=("[view.dense_start + i] =", "[view.dense_start + i / 2u] ="),
    place_strided=("target_words[position(i)] = source[view.dense_start + i]", "target_words[i] = source[i]"),
)
def moves(other):
    name, put = "shape/move", other.buffer
    rng = np.random.default_rng(5)
    x = rounded(rng, (4, 6, 50))

    def turned(array):
        return array[:, 1::2, 10:].transpose(*((0, 2) if isinstance(array, Tensor) else (2, 1, 0)))

    want = turned(x)
    view = {"count": want.size, "view_start": 60} | walk(want.shape, s=(1, 100, 300))
    y, back = other.empty(*want.shape), put(np.zeros_like(x))
    other.elements(name, "copy_strided", [put(x), y], view)
    other.elements(name, "place_strided", [y, back], view)
    t = Tensor(x, True, "gpu")
    out = turned(t)
    out.backward(Tensor(np.ascontiguousarray(want), device="gpu"))
    placed = np.zeros_like(x)
    turned(placed)[...] = want
    right("view", other.read(y, *want.shape), out, want)
    right("gradient of a view", other.read(back, *x.shape), t.grad, placed)


# of an entry: the optimizer and its options, how many buffers it keeps, and what the uniform holds at step t
OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1, "weight_decay": 0.2, "maximize": True}, 0, lambda t: {"flags": 2, "size": 0.1}),
    "sgd_momentum": (
        "SGD",
        {"lr": 0.1, "weight_decay": 0.2, "momentum": 0.9, "nesterov": True},
        1,
        lambda t: {"flags": 1 + 4 * (t == 1), "size": 0.1, "momentum": 0.9, "rest": 1.0},
    ),
    "adam": (
        "AdamW",
        {"lr": 0.1, "weight_decay": 0.2},
        2,
        lambda t: adam(t) | {"keep": 1 - 0.1 * 0.2, "weight_decay": 0},
    ),
    "adam_largest": ("Adam", {"lr": 0.1, "weight_decay": 0.2, "amsgrad": True}, 3, lambda t: adam(t) | {"keep": 1}),
}


def adam(t):
    params = {"size": 0.1 / (1 - 0.9**t), "new_1": 1 - 0.9, "beta_2": 0.999, "new_2": 1 - 0.999, "eps": 1e-8}
    return params | {"root": math.sqrt(1 - 0.999**t)}


@case(
    "optim/step",
    sgd=("p.size * gradient(i, param[i])", "p.size * grad[i]"),
    sgd_momentum=("g + p.momentum * b", "b"),
    adam=("(sqrt(v) / p.root + p.eps)", "(sqrt(v) + p.eps)"),
    adam_largest=("select(v, before, v <= before)", "v"),
)
def optimizers(other):
    rng = np.random.default_rng(6)
    x, gradients = rounded(rng, (100,)), [rounded(rng, (100,), scale=s) for s in (1, 1, 0.1)]
    for entry, (name, options, kept, params) in OPTIMIZERS.items():
        # momentum's first step takes whatever the buffer holds; moments begin at 0
        begin = np.full(100, np.nan if kept == 1 else 0, np.float32)
        buffers = [other.buffer(begin) for _ in range(kept)]
        param = other.buffer(x)
        ours, exact = Tensor(x, True, "gpu"), torch.tensor(x).double().requires_grad_()
        optimizer = [getattr(m, name)([p], **options) for m, p in ((seqcore.optim, ours), (torch.optim, exact))]
        for t, g in enumerate(gradients, 1):
            fields = {"count": 100, "weight_decay": 0.2} | params(t)
            other.elements("optim/step", entry, [param, other.buffer(g), *buffers], fields)
            ours.grad, exact.grad = Tensor(g, device="gpu"), torch.tensor(g).double()
            for one in optimizer:
                one.step()
        right(entry, other.read(param, 100), ours, exact)


@case(
    "optim/clip",
    squares=("sum += g * g", "sum += abs(g)"),
    join=("bitcast<u32>(it.all)", "bitcast<u32>(it.all * 0.5)"),
    finish=("p.limit / (result + 1e-6)", "p.limit / result * 1.01"),
    scale=("g * bitcast<f32>(wanted[1]) * bitcast<f32>(wanted[2])", "g"),
)
def clipping(other):
    rng = np.random.default_rng(7)
    gradients = [rounded(rng, (9000,), scale=1e15), rounded(rng, (100,), scale=1e16)]
    there, partial, first = [other.buffer(g) for g in gradients], other.empty(12), 0
    for buffer, g in zip(there, gradients, strict=True):
        groups = -(-len(g) // 4096)
        params = {"count": len(g), "range": 4096, "first": first}
        other.run("optim/clip", "squares", [buffer, partial], [params], groups)
        first += groups
    norm, action, joined = other.empty(1), other.empty(4), other.empty(3)
    # all at once, so that joining them first does not change a bit
    other.run("optim/clip", "join", [partial, joined], [{"count": first, "range": first}], 1)
    params = {"count": 1, "limit": 1.5, "limit_64": 1.5 / 2**64}
    other.run("optim/clip", "finish", [joined, norm, action], [params], 1)
    ours, exact = [], []
    for g in gradients:
        ours.append(Tensor(np.zeros_like(g), True, "gpu"))
        exact.append(torch.zeros(len(g), dtype=torch.float64, requires_grad=True))
        ours[-1].grad, exact[-1].grad = Tensor(g, device="gpu"), torch.tensor(g).double()
    total, want = seqcore.nn.utils.clip_grad_norm_(ours, 1.5), torch.nn.utils.clip_grad_norm_(exact, 1.5)
    right("norm", other.read(norm, 1)[0], total, want)
    for buffer, p, z in zip(there, ours, exact, strict=True):
        other.elements("optim/clip", "scale", [buffer, action], {"count": p.shape[0]})
        right("clipped", other.read(buffer, *p.shape), p.grad, z.grad)
