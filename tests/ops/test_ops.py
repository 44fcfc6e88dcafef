"""seqcore.ops: arrays in, arrays out, explicit backward."""

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, ops
from torch_compare import EXACT, FORWARD, WEIGHTS, assert_close, finite_differences, raised, rounded, subsets

RNG = np.random.default_rng(6)


def lstm_case(dtype="float32", bias=True, steps=7, batch=2, sizes=(3, 5)):
    weights = {"weight_ih": rounded(RNG, (4 * sizes[1], sizes[0]), dtype, 0.5)}
    weights["weight_hh"] = rounded(RNG, (4 * sizes[1], sizes[1]), dtype, 0.5)
    if bias:
        weights |= {name: rounded(RNG, (4 * sizes[1],), dtype) for name in ("bias_ih", "bias_hh")}
    x = rounded(RNG, (steps, batch, sizes[0]), dtype)
    h0, c0 = rounded(RNG, (2, batch, sizes[1]), dtype)
    return x, h0, c0, weights


def torch_lstm(x, h0, c0, weights, grads, chosen):
    module = torch.nn.LSTM(x.shape[2], h0.shape[1], bias="bias_ih" in weights).double()
    module.load_state_dict({f"{n}_l0": torch.tensor(w).double() for n, w in weights.items()})
    x, h0, c0 = (torch.tensor(a).double().requires_grad_() for a in (x, h0[None], c0[None]))
    y, (h_n, c_n) = module(x, (h0, c0))
    sum(
        (out * torch.tensor(grads[i]).double()).sum() for i, out in enumerate((y, h_n[0], c_n[0])) if i in chosen
    ).backward()
    found = {"x": x.grad, "h0": h0.grad[0], "c0": c0.grad[0]}
    return (y, h_n[0], c_n[0]), found | {n: getattr(module, f"{n}_l0").grad for n in weights}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chosen", subsets(3), ids=str)
def test_lstm(chosen, bias, dtype):
    """S-34, S-69: every gradient through every subset of the results; the caller's arrays are not written to."""
    x, h0, c0, weights = lstm_case(dtype, bias)
    grads = [rounded(RNG, s, dtype) for s in ((7, 2, 5), (2, 5), (2, 5))]
    kept = [a.copy() for a in (*grads, x, h0, c0)]
    *results, saved = ops.lstm(x, h0, c0, weights)
    got = ops.lstm_backward(saved, *(g if i in chosen else None for i, g in enumerate(grads)))
    want, want_grads = torch_lstm(x, h0, c0, weights, grads, chosen)
    for i in range(3):
        assert type(results[i]) is np.ndarray
        assert_close(f"result {i}", results[i], want[i], EXACT if dtype == "float64" else FORWARD, dtype)
    assert set(got) == {"x", "h0", "c0", *weights}
    for name, grad in want_grads.items():
        limit = EXACT if dtype == "float64" else WEIGHTS if name in weights else FORWARD
        assert_close(name, got[name], grad, limit, dtype)
    assert all(np.array_equal(a, b) for a, b in zip(kept, (*grads, x, h0, c0), strict=True))
    assert not any(np.shares_memory(a, b) for n, a in got.items() for m, b in got.items() if n < m)


def test_lstm_finite_differences():
    """S-160."""
    x, h0, c0, weights = lstm_case("float64", steps=4)
    dy, dh, dc = (RNG.standard_normal(s) for s in ((4, 2, 5), (2, 5), (2, 5)))
    given = {"x": x, "h0": h0, "c0": c0, **weights}

    def loss(**changed):
        now = {**given, **changed}
        y, h_n, c_n, _ = ops.lstm(now["x"], now["h0"], now["c0"], {n: now[n] for n in weights})
        return (y * dy).sum() + (h_n * dh).sum() + (c_n * dc).sum()

    grads = ops.lstm_backward(ops.lstm(x, h0, c0, weights)[3], dy, dh, dc)
    for name, array in given.items():
        want = finite_differences(lambda a, name=name: loss(**{name: a}), array)
        assert np.abs(grads[name] - want).max() < 1e-6 * np.abs(want).max(), name


def test_lstm_saved():
    """`saved` is usable once, and owns what the caller could still write to."""
    x, h0, c0, weights = lstm_case()
    dy = rounded(RNG, (7, 2, 5))
    want = ops.lstm_backward(ops.lstm(x, h0, c0, weights)[3], dy)
    y, h_n, c_n, saved = ops.lstm(x, h0, c0, weights)
    for array in (x, h0, c0, *weights.values(), y, h_n, c_n):
        array[...] = 1e9
    assert isinstance(raised(ops.lstm_backward, saved, dy[:3]), seqcore.ShapeError)  # saved is not used up by that
    got = ops.lstm_backward(saved, dy)
    assert all(got[n].tobytes() == want[n].tobytes() for n in want)
    with pytest.raises(RuntimeError):
        ops.lstm_backward(saved, dy)
    assert isinstance(raised(ops.lstm_backward, None, dy), TypeError)
    assert isinstance(raised(ops.linear_backward, saved, dy), TypeError)


def test_lstm_without_states_or_gradients():
    """S-70."""
    x, h0, _, weights = lstm_case()
    y, _, _, saved = ops.lstm(x, None, None, weights)
    zeros = np.zeros_like(h0)
    assert np.array_equal(y, ops.lstm(x, zeros, zeros, weights)[0])
    assert all(not g.any() for g in ops.lstm_backward(saved).values())


def test_lstm_weights():
    x, h0, c0, weights = lstm_case()
    want = ops.lstm(x, h0, c0, weights)[0]
    assert np.array_equal(ops.lstm(x, h0, c0, {n: Tensor(w) for n, w in weights.items()})[0], want)
    for bad in ({}, {"weight_ih": weights["weight_ih"]}, {**weights, "weight_hr": x}, {**weights, "weight_ih_l0": x}):
        assert isinstance(raised(ops.lstm, x, h0, c0, bad), ValueError)
    assert isinstance(raised(ops.lstm, x, h0, c0, [weights["weight_ih"]]), TypeError)
    assert "no weight_hh" in str(raised(ops.lstm, x, h0, c0, {**weights, "weight_hh": None}))
    changed = {n: Tensor(w) for n, w in weights.items()}
    saved = ops.lstm(x, h0, c0, changed)[3]
    changed["weight_hh"] += 1
    with pytest.raises(RuntimeError, match="changed"):  # fault 14
        ops.lstm_backward(saved, np.ones((7, 2, 5), np.float32))


def test_lstm_weights_that_are_none():
    """None is as no bias; a mapping need have no more than `keys` and items."""
    x, h0, c0, weights = lstm_case(bias=False)

    class Mapping:
        def keys(self):
            return iter([*weights, "bias_ih", "bias_hh"])

        def __getitem__(self, name):
            return weights.get(name)

    y, _, _, saved = ops.lstm(x, h0, c0, weights)
    want = ops.lstm_backward(saved, y)
    for given in ({**weights, "bias_ih": None, "bias_hh": None}, Mapping()):
        saved = ops.lstm(x, h0, c0, given)[3]
        got = ops.lstm_backward(saved, y)
        assert got.keys() == want.keys()
        assert all(np.array_equal(got[name], want[name]) for name in want)
    assert isinstance(
        raised(ops.lstm, x, h0, c0, {**weights, "bias_ih": np.zeros(20, "f4"), "bias_hh": None}), ValueError
    )


def test_others():
    x, w, b = rounded(RNG, (7, 3)), rounded(RNG, (5, 3)), rounded(RNG, (5,))
    dy = rounded(RNG, (7, 5))
    y, saved = ops.linear(x, w, b)
    kept = x.copy(), w.copy()
    y[...] = x[...] = w[...] = 0
    grads = ops.linear_backward(saved, dy)
    for name, want in {"x": dy @ kept[1], "weight": dy.T @ kept[0], "bias": dy.sum(0)}.items():
        assert_close(name, grads[name], want.astype(np.float64), 1e-6)
    for name in ("sigmoid", "tanh", "relu"):
        y, saved = getattr(ops, name)(kept[0])
        t = torch.tensor(kept[0], dtype=torch.float64, requires_grad=True)
        want = getattr(torch, name)(t)
        want.backward(torch.tensor(dy[:, :3]).double())
        assert_close(name, y, want, FORWARD)
        y[...] = 0
        got = getattr(ops, f"{name}_backward")(saved, dy[:, :3])["x"]
        assert_close(name, got, t.grad, FORWARD)
        with pytest.raises(RuntimeError):
            getattr(ops, f"{name}_backward")(saved, dy[:, :3])
    y, saved = ops.dropout(np.ones((7, 5), np.float32), 0.5)
    assert np.array_equal(ops.dropout_backward(saved, np.ones((7, 5), np.float32))["x"], y)
    ids = np.array([4, 1, 4])
    y, saved = ops.embedding(ids, b.reshape(5, 1))
    ids[...] = 0
    assert ops.embedding_backward(saved, np.ones((3, 1), np.float32))["weight"].ravel().tolist() == [0, 1, 0, 0, 2]
    for reduction in ("mean", "sum", "none"):
        loss, saved = ops.cross_entropy(dy, np.arange(7) % 5, reduction=reduction)
        dloss = rounded(RNG, np.shape(loss))
        got = ops.cross_entropy_backward(saved, dloss)["input"]
        t = torch.tensor(dy, dtype=torch.float64, requires_grad=True)
        want = torch.nn.functional.cross_entropy(t, torch.arange(7) % 5, reduction=reduction)
        want.backward(torch.tensor(dloss).double())
        assert_close(reduction, loss, want, FORWARD)
        assert_close(reduction, got, t.grad, FORWARD)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("gradient", [np.inf, -np.inf, np.nan, 2.0])
def test_ignored_rows_get_no_gradient(gradient, reduction):
    """S-122: not even of an infinite gradient, by which 0 would be NaN."""
    x, target = rounded(RNG, (3, 4)), [-100, 1, -100]
    dloss = np.array([gradient, 1.0, gradient] if reduction == "none" else gradient, np.float32)
    t = torch.tensor(x, requires_grad=True)
    torch.nn.functional.cross_entropy(t, torch.tensor(target), reduction=reduction).backward(torch.tensor(dloss))
    assert not t.grad[[0, 2]].any()
    ids = np.array(target)
    for given in (target, ids, Tensor(target)):
        _, saved = ops.cross_entropy(x, given, reduction=reduction)
        ids[...] = 0  # `saved` owns what the caller could still write to
        got = ops.cross_entropy_backward(saved, dloss)["input"]
        # of inf, PyTorch's own gradient of the target's logit is inf - inf
        wanted = np.where(np.isinf(got) & np.isnan(t.grad.numpy()), got, t.grad.numpy())
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)
        ids[...] = target
