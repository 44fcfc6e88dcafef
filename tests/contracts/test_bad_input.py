"""The table of operations: every array argument in every layout, and one thing wrong at a time."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import seqcore
from integers import bits, ids, numbers
from seqcore import nn, ops

W = {"weight_ih": (20, 3), "weight_hh": (20, 5), "bias_ih": (20,), "bias_hh": (20,)}


def _lstm(x, h0, c0, dy, dh_n, dc_n, **weights):
    y, h_n, c_n, saved = ops.lstm(x, h0, c0, weights)
    return y, h_n, c_n, ops.lstm_backward(saved, dy, dh_n, dc_n)


def _linear(x, weight, bias, dy):
    y, saved = ops.linear(x, weight, bias)
    return y, ops.linear_backward(saved, dy)


def _map(name):
    def run(x, dy):
        y, saved = getattr(ops, name)(x)
        return y, getattr(ops, f"{name}_backward")(saved, dy)

    return run


def _dropout(x, dy):
    seqcore.manual_seed(3)
    y, saved = ops.dropout(x, 0.4)
    return y, ops.dropout_backward(saved, dy)


def _embedding(weight, dy):
    y, saved = ops.embedding(ids(9, 6, 4, 2), weight)
    return y, ops.embedding_backward(saved, dy)


def _cross_entropy(input, dloss):
    loss, saved = ops.cross_entropy(input, ids(8, 7, 5), reduction="none")
    return loss, ops.cross_entropy_backward(saved, dloss)


def _module(x, h0, c0):
    seqcore.manual_seed(1)
    y, (h_n, c_n) = nn.LSTM(3, 5)(x, (h0[None] if isinstance(h0, np.ndarray) else [h0], c0[None]))
    return y, h_n, c_n


# operation: function and its float arguments with their shapes
OPS = {
    "lstm": (
        _lstm,
        {"x": (7, 2, 3), "h0": (2, 5), "c0": (2, 5), "dy": (7, 2, 5), "dh_n": (2, 5), "dc_n": (2, 5), **W},
    ),
    "linear": (_linear, {"x": (4, 6, 3), "weight": (5, 3), "bias": (5,), "dy": (4, 6, 5)}),
    **{name: (_map(name), {"x": (5, 7), "dy": (5, 7)}) for name in ("sigmoid", "tanh", "relu")},
    "dropout": (_dropout, {"x": (5, 7), "dy": (5, 7)}),
    "embedding": (_embedding, {"weight": (6, 3), "dy": (4, 2, 3)}),
    "cross_entropy": (_cross_entropy, {"input": (5, 7), "dloss": (5,)}),
}
# a shape of any rank is right for these
ANY_SHAPE = {(name, "x") for name in ("sigmoid", "tanh", "relu", "dropout")} | {("dropout", "dy")}
ARGUMENTS = [(op, name) for op, (_, arguments) in OPS.items() for name in arguments]


def good(op, dtype=np.float32):
    return {name: numbers(i + 1, *shape, dtype=dtype) for i, (name, shape) in enumerate(OPS[op][1].items())}


def run(op, **changed):
    return bits(OPS[op][0](**{**good(op), **changed}))


WANT = {}


def want(op):
    if op not in WANT:
        WANT[op] = run(op)
    return WANT[op]


def misaligned(array, offset):
    raw = np.zeros(array.nbytes + 8, np.uint8)
    made = raw[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def spread(array, steps):
    """The same numbers in a larger array, with gaps, some axes backwards."""
    steps = (steps * 4)[: array.ndim]
    shape = tuple(n * abs(s) + 1 for n, s in zip(array.shape, steps, strict=True))
    wide = np.full(shape, np.nan, array.dtype)
    view = wide[tuple(slice(None, n * s, s) if s > 0 else slice(n * -s, 0, s) for n, s in zip(array.shape, steps))]
    view[...] = array
    return view


class Plain(np.ndarray):
    """A subclass without a meaning of its own."""


LAYOUTS = st.one_of(
    st.builds(lambda: np.asfortranarray),
    st.builds(lambda offset: lambda a: misaligned(a, offset), st.integers(1, 7)),
    st.builds(lambda s: lambda a: spread(a, s), st.lists(st.sampled_from([1, 2, 3, -1, -2]), min_size=4, max_size=4)),
    st.builds(lambda: lambda a: a.astype(a.dtype.newbyteorder())),
    st.builds(lambda: lambda a: a.view(Plain)),
    st.builds(lambda: lambda a: np.ma.masked_array(a)),
    st.builds(lambda: lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0)),
    st.builds(lambda: lambda a: seqcore.Tensor(a)),
)


def test_every_operation_is_in_the_table():
    assert OPS.keys() == {name for name in ops.__all__ if not name.endswith("_backward")}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(ARGUMENTS), LAYOUTS, LAYOUTS, st.booleans())
def test_layouts_change_no_bit(argument, layout, other, frozen):
    """fault 3, S-1, S-2, S-4, S-7: one argument, then all of them, in layouts that NumPy can have; none is written."""
    op, name = argument
    given = good(op)
    changed = layout(given[name])
    if frozen and isinstance(changed, np.ndarray):
        changed.flags.writeable = False
    before = np.asarray(changed).tobytes()
    assert run(op, **{name: changed}) == want(op)
    assert np.asarray(changed).tobytes() == before
    assert run(op, **{n: other(a) for n, a in given.items()}) == want(op)


REFUSED = {
    "object": lambda a: a.astype(object),
    "string": lambda a: a.astype("U8"),
    "bytes": lambda a: a.astype("S8"),
    "structured": lambda a: a.view([("f", "f4")]),
    "datetime": lambda a: np.zeros(a.shape, "M8[s]"),
    "timedelta": lambda a: np.zeros(a.shape, "m8[s]"),
    "complex": lambda a: a.astype(np.complex64),
    "bool": lambda a: a > 0,
    "int": lambda a: a.astype(np.int64),
    "uint8": lambda a: np.abs(a).astype(np.uint8),
    "float16": lambda a: a.astype(np.float16),
    "long double": lambda a: a.astype(np.longdouble),
    "masked": lambda a: np.ma.masked_array(a, np.arange(a.size).reshape(a.shape) == 1),
    "list of None": lambda a: np.where(a < 9, None, None).tolist(),
    "list of words": lambda a: a.astype("U8").tolist(),
}


@pytest.mark.parametrize(("op", "name"), ARGUMENTS)
def test_what_is_no_float_array(op, name):
    """fault 2, fault 4, S-5, S-6, S-20: DTypeError that names the argument, what was expected and what came."""
    for kind, make in REFUSED.items():
        value = make(good(op)[name])
        with pytest.raises(seqcore.DTypeError) as caught:
            run(op, **{name: value})
        text = str(caught.value)
        assert name in text and "expected" in text and "got" in text, (kind, text)
        assert text.startswith(op.split("_")[0]), (kind, text)


@pytest.mark.parametrize(("op", "name"), ARGUMENTS)
def test_mixed_precision(op, name):
    """S-12: one argument in float64 among float32."""
    with pytest.raises(seqcore.DTypeError) as caught:
        run(op, **{name: good(op)[name].astype(np.float64)})
    assert "float64" in str(caught.value) and "float32" in str(caught.value)


def legitimate(op, name, shape):
    """More rows of a table and other numbers of classes are no mistake."""
    if (op, name) == ("embedding", "weight"):
        return len(shape) == 2 and shape[1] == 3 and shape[0] > ids(9, 6, 4, 2).max()
    return (op, name) == ("cross_entropy", "input") and len(shape) == 2 and shape[0] == 5


@pytest.mark.parametrize(("op", "name"), [pair for pair in ARGUMENTS if pair not in ANY_SHAPE])
def test_wrong_shapes(op, name):
    """fault 2, fault 5, S-3, S-20, S-39: one rank more, one less, one size more, one less."""
    array = good(op)[name]
    wrong = [array[None], array[0], np.float32(1), np.ones((1,) * 33, np.float32), np.ones((1,) * 64, np.float32)]
    for axis in range(array.ndim):
        wrong += [np.repeat(array, 2, axis), np.take(array, range(array.shape[axis] - 1), axis)]
    named = 0
    for value in wrong:
        if legitimate(op, name, np.shape(value)):
            continue
        with pytest.raises((ValueError, IndexError)) as caught:
            run(op, **{name: value})
        text = str(caught.value)
        assert "expected" in text and "got" in text, (np.shape(value), text)
        named += name in text
    assert named >= len(wrong) // 2


@pytest.mark.parametrize("op", OPS)
def test_an_error_changes_nothing(op):
    """S-21: after every error the next call has the bits of the first."""
    for name in OPS[op][1]:
        with pytest.raises((TypeError, ValueError)):
            run(op, **{name: object()})
    assert run(op) == want(op)


def test_saved_is_used_once_and_survives_an_error():
    """fault 2, S-24: a wrong gradient leaves `saved` as it was; another operation's is refused."""
    y, saved = ops.linear(numbers(1, 4, 3), numbers(2, 5, 3))
    for wrong in (np.ones((4, 6), np.float32), np.ones((4, 5)), None, "dy"):
        with pytest.raises((TypeError, ValueError)):
            ops.linear_backward(saved, wrong)
    ops.linear_backward(saved, y)
    with pytest.raises(RuntimeError):
        ops.linear_backward(saved, y)
    for other in (saved, None, 1, y):
        with pytest.raises((TypeError, RuntimeError)):
            ops.tanh_backward(other, y)


def test_empty_batches():
    """fault 6, S-30: no rows, no steps; no division by zero, no NaN."""
    weights = {name: numbers(i, *shape) for i, (name, shape) in enumerate(W.items())}
    h, c = numbers(7, 2, 5), numbers(8, 2, 5)
    y, h_n, c_n, saved = ops.lstm(np.zeros((0, 2, 3), np.float32), h, c, weights)
    assert y.shape == (0, 2, 5) and np.array_equal(h_n, h) and np.array_equal(c_n, c)
    grads = ops.lstm_backward(saved, y, h, c)
    assert np.array_equal(grads["h0"], h) and np.array_equal(grads["c0"], c) and not grads["weight_ih"].any()
    y, h_n, c_n, saved = ops.lstm(np.zeros((4, 0, 3), np.float32), None, None, weights)
    grads = ops.lstm_backward(saved, y)
    assert y.shape == (4, 0, 5) and h_n.shape == (0, 5) and not any(g.any() for g in grads.values())
    y, saved = ops.linear(np.zeros((0, 3), np.float32), numbers(1, 5, 3), numbers(2, 5))
    grads = ops.linear_backward(saved, y)
    assert y.shape == (0, 5) and grads["weight"].shape == (5, 3) and not grads["weight"].any()
    for name in ("sigmoid", "tanh", "relu", "dropout"):
        y, saved = getattr(ops, name)(np.zeros((3, 0), np.float32))
        assert getattr(ops, f"{name}_backward")(saved, y)["x"].shape == (3, 0)
    y, saved = ops.embedding(np.zeros((0, 2), int), numbers(1, 4, 3))
    assert y.shape == (0, 2, 3) and not ops.embedding_backward(saved, y)["weight"].any()


def test_weights_of_a_step_of_another_rank():
    """The one that is wrong is named."""
    from seqcore import _core

    for wrong, weights in {
        "weight_ih": (numbers(0, 12), numbers(1, 12, 3)),
        "weight_hh": (numbers(0, 12, 3), 1.0),
    }.items():
        with pytest.raises(seqcore.ShapeError, match=rf"^lstm step: {wrong}: expected \(4 \* hidden_size, "):
            _core.LstmStep(*weights)


def test_memory_that_overlaps():
    """fault 13, S-9: the memory for a result must be right, and no part of the input's; nothing is written else."""
    from seqcore import _core

    step = _core.LstmStep(*(numbers(i, *shape) for i, shape in enumerate([(12, 3), (12, 3), (12,), (12,)])))
    base = numbers(9, 2, 3)
    frozen = np.zeros((1, 3), np.float32)
    frozen.flags.writeable = False
    wrong = [base[:1], base.reshape(-1)[1:4].reshape(1, 3), frozen, np.zeros((1, 3)), np.zeros((1, 4), np.float32)]
    wrong += [
        np.zeros((1, 6), np.float32)[:, ::2],
        np.zeros((2, 3), np.float32),
        [[0.0] * 3],
        np.ma.zeros((1, 3), "f4"),
    ]
    before = base.copy(), bits(*[s.numpy(False) for s in step.state()])
    for out in wrong:
        with pytest.raises(ValueError, match="out"):
            step.step(base[:1], out)
    assert np.array_equal(base, before[0]) and bits(*[s.numpy(False) for s in step.state()]) == before[1]
    assert np.shares_memory(step.step(base[:1], base[1:]), base[1:])


def test_special_values_against_pytorch():
    """fault 12, S-19, S-73, S-74: NaN, inf and -0.0 as PyTorch; subnormals count as 0 and are 0."""
    import torch

    from torch_compare import rounded

    special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 3e38, -3e38, 1e-42, -1e-42, 1.0], np.float32)
    flushed = np.where(np.abs(special) < 2**-126, np.copysign(np.float32(0), special), special).astype(np.float32)
    for name in ("sigmoid", "tanh", "relu"):
        y, saved = getattr(ops, name)(special)
        t = torch.tensor(flushed, requires_grad=True)
        theirs = getattr(torch, name)(t)
        theirs.sum().backward()
        dx = getattr(ops, f"{name}_backward")(saved, np.ones(10, np.float32))["x"]
        np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=2e-6)
        np.testing.assert_allclose(dx, t.grad.numpy(), rtol=2e-6, atol=1e-7)
    rng = np.random.default_rng(3)
    module = torch.nn.LSTM(3, 5)
    weights = {n[:-3]: rounded(rng, tuple(p.shape)) for n, p in module.named_parameters()}
    module.load_state_dict({f"{n}_l0": torch.tensor(a) for n, a in weights.items()})
    for value in (np.nan, np.inf, -np.inf, 3e38):
        for place in ("x", "h", "c"):
            given = {"x": rounded(rng, (4, 3, 3)), "h": rounded(rng, (3, 5)), "c": rounded(rng, (3, 5))}
            given[place][..., 1, 0] = value
            x, h, c = (torch.tensor(given[n], requires_grad=True) for n in "xhc")
            y, _ = module(x, (h[None], c[None]))
            module.zero_grad()
            y.sum().backward()
            ours, _, _, saved = ops.lstm(*given.values(), weights)
            grads = ops.lstm_backward(saved, np.ones_like(ours))
            np.testing.assert_allclose(ours, y.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=f"{value} in {place}")
            theirs = {n: p.grad.numpy() for n, p in module.named_parameters()}
            for n in ("weight_ih", "weight_hh"):
                assert np.array_equal(np.isfinite(grads[n]), np.isfinite(theirs[f"{n}_l0"])), (value, place, n)


def test_lengths_do_not_exist_yet():
    """S-16, S-41: an argument that is not built is an error by name, never ignored."""
    with pytest.raises(TypeError, match="lengths"):
        nn.LSTM(3, 5)(np.zeros((2, 1, 3), np.float32), lengths=[2])
    assert not hasattr(nn, "LSTMCell")


def test_kinks_of_the_tape():
    """S-25: where(x > 0, log x, x) has no gradient at 0; relu's is 0 there; the root's is inf."""
    x = seqcore.Tensor([0.0, 4.0], requires_grad=True)
    seqcore.where(x > 0, seqcore.log(x), x).sum().backward()
    assert np.isnan(x.grad.numpy()[0]) and x.grad.numpy()[1] == 0.25
    x.grad = None
    (x**0.5).sum().backward()
    assert np.isinf(x.grad.numpy()[0]) and x.grad.numpy()[1] == 0.25
    x.grad = None
    nn.functional.relu(x).sum().backward()
    assert x.grad.numpy().tolist() == [0.0, 1.0]


def test_state_of_all_layers():
    """S-37: h_n holds every layer's last step, y the top layer's."""
    lstm = nn.LSTM(3, 5, num_layers=2)
    y, (h_n, _) = lstm(numbers(1, 6, 2, 3))
    assert h_n.shape == (2, 2, 5) and np.array_equal(h_n.numpy()[1], y.numpy()[-1])
    bottom = nn.LSTM(3, 5)
    bottom.load_state_dict({n: p for n, p in lstm.state_dict().items() if n.endswith("_l0")})
    assert np.array_equal(bottom(numbers(1, 6, 2, 3))[1][0].numpy()[0], h_n.numpy()[0])


def test_gradients_from_stored_outputs():
    """S-75, S-163: tanh' and sigmoid' at large arguments, by the tensor's scale, against float64."""
    from torch_compare import FORWARD, error

    x = np.linspace(-12, 12, 4001, dtype=np.float32)
    for name, slope in {
        "tanh": lambda a: 1 - np.tanh(a) ** 2,
        "sigmoid": lambda a: np.exp(-a) / (1 + np.exp(-a)) ** 2,
    }.items():
        _, saved = getattr(ops, name)(x)
        got = getattr(ops, f"{name}_backward")(saved, np.ones_like(x))["x"]
        assert error(got, slope(x.astype(np.float64))) <= FORWARD
