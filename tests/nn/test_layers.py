"""Linear, Embedding, Dropout, activations and cross-entropy against PyTorch."""

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, nn
from torch_compare import compare, raised, rounded, same_exception, twins

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (7, 5), (3, 2, 5), (1, 5), (33, 5)])
def test_linear(shape, bias, dtype):
    ours, theirs = twins(nn.Linear, torch.nn.Linear, 5, 3, bias, dtype=dtype)
    compare(ours, theirs, {"x": rounded(RNG, shape)}, dtype, [(ours, theirs)])


def test_linear_with_frozen_parts():
    x = Tensor(rounded(RNG, (7, 5)), requires_grad=True)
    for part in ("weight", "bias"):
        layer = nn.Linear(5, 3)
        getattr(layer, part).requires_grad_(False)
        layer(x).sum().backward()
        assert getattr(layer, part).grad is None
    layer = nn.Linear(5, 3)
    y = layer(x.numpy())
    with seqcore.no_grad():
        layer.weight += 1  # not read by backward: x needs no gradient
    y.sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
@pytest.mark.parametrize("shape", [(7,), (3, 4), ()])
def test_embedding(shape, padding_idx):
    """S-136: repeated ids add up, the padding row gets no gradient and keeps its value in forward."""
    ours, theirs = twins(nn.Embedding, torch.nn.Embedding, 6, 5, padding_idx)
    ids = RNG.integers(0, 6, shape)
    if ids.size > 1:
        ids.flat[:2] = 3
    compare(ours, theirs, {"ids": ids}, modules=[(ours, theirs)])


def test_embedding_options():
    for option in ({"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}):
        assert isinstance(raised(nn.Embedding, 3, 2, **option), NotImplementedError)
    assert isinstance(raised(nn.Embedding, 3, 2, 7), ValueError)
    for requires_grad in (False, True):
        error = raised(nn.functional.embedding, [0], Tensor(1.0, requires_grad=requires_grad), 0)
        assert isinstance(error, seqcore.ShapeError) and "embedding: weight: expected (vocabulary" in str(error)
    table = rounded(RNG, (4, 2))
    layer = nn.Embedding.from_pretrained(table, padding_idx=1)
    assert np.array_equal(layer.weight.numpy(), table) and not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad


@pytest.mark.parametrize("name", ["Sigmoid", "Tanh", "ReLU"])
def test_activations(name):
    """S-115 to S-117: saturated, at the kink, and with NaN and inf."""
    ours, theirs = getattr(nn, name)(), getattr(torch.nn, name)()
    compare(ours, theirs, {"x": rounded(RNG, (7, 3), scale=4)})
    x = np.array([0.0, -0.0, 100.0, -100.0, np.inf, -np.inf, np.nan], np.float32)
    mine, other = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(mine), theirs(other)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), atol=1e-37)
    y.sum().backward()
    z.sum().backward()
    number = ~np.isnan(x)
    np.testing.assert_allclose(mine.grad.numpy()[number], other.grad.numpy()[number], atol=1e-30)


def test_dropout():
    """S-27, S-28: scaled in training, nothing in eval; what is dropped is 0 even if it was NaN."""
    seqcore.manual_seed(5)
    x = np.full((100, 50), 2.0, np.float32)
    layer = nn.Dropout(0.25)
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(2 / 0.75)} and abs((y == 0).mean() - 0.25) < 0.03
    assert not np.array_equal(layer(x).numpy(), y)
    seqcore.manual_seed(5)
    assert np.array_equal(layer(x).numpy(), y)
    assert np.array_equal(layer.eval()(x).numpy(), x)
    bad = np.full(1000, np.nan, np.float32)
    assert (nn.Dropout(0.5)(bad).numpy() == 0).any()
    t = Tensor(x, requires_grad=True)
    y = nn.Dropout(0.25)(t)
    y.sum().backward()
    np.testing.assert_allclose(t.grad.numpy() * 2, y.numpy(), rtol=1e-6)
    assert not nn.Dropout(1.0)(x).numpy().any() and np.array_equal(nn.Dropout(0.0)(x).numpy(), x)


def test_dropout_options():
    """S-29."""
    for p in (-0.1, 1.5, float("nan")):
        assert isinstance(raised(nn.Dropout, p), ValueError)
    for p in (True, "0.5", None):
        assert isinstance(raised(nn.Dropout, p), TypeError)
    assert isinstance(raised(nn.Dropout, 0.5, True), NotImplementedError)
    for value in (Tensor([1]), np.array([1]), [1]):
        refused = {str(raised(nn.functional.dropout, value, p, t)) for p, t in ((0.5, True), (0.5, False), (0.0, True))}
        assert len(refused) == 1 and "dropout: input: expected float32 or float64, got int64. Hint: " in refused.pop()


CASES = {
    "plain": ((7, 5), {}),
    "sum": ((7, 5), {"reduction": "sum"}),
    "none": ((7, 5), {"reduction": "none"}),
    "ignored": ((7, 5), {"ignore_index": 2}),
    "one": ((5,), {}),
    "axis 1": ((3, 5, 4), {}),
    "axis 1, none": ((3, 5, 2, 2), {"reduction": "none"}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_cross_entropy(name, dtype):
    """S-122: the mean is over the targets that are kept. S-125: the class axis is 1."""
    shape, options = CASES[name]
    ids = RNG.integers(0, 5, shape[:-1] if len(shape) == 1 else shape[:1] + shape[2:])
    if name == "ignored":
        ids[:3] = 2
    ours, theirs = nn.CrossEntropyLoss(**options), torch.nn.CrossEntropyLoss(**options)
    target = torch.tensor(ids)
    compare(lambda x: ours(x, ids), lambda x: theirs(x, target), {"x": rounded(RNG, shape, scale=3)}, dtype)


def test_cross_entropy_edges():
    """S-122, S-126: all ignored is NaN with a zero gradient; a logit of -inf costs inf only where it is the target."""
    x = Tensor(rounded(RNG, (3, 5)), requires_grad=True)
    loss = nn.functional.cross_entropy(x, np.array([-100] * 3))
    assert np.isnan(loss.item())
    loss.backward()
    assert not x.grad.numpy().any()
    logits = np.array([[0.0, -np.inf, 1.0]], np.float32)
    assert nn.functional.cross_entropy(logits, [1]).item() == np.inf
    assert np.isfinite(nn.functional.cross_entropy(logits, [0]).item())
    one = torch.tensor(logits)
    for bad in ([3], [-1]):
        same_exception(
            lambda bad=bad: nn.functional.cross_entropy(logits, bad),
            lambda bad=bad: torch.nn.functional.cross_entropy(one, torch.tensor(bad)),
        )
    for shape, ids in (((7, 5), (6,)), ((7, 5), (7, 1)), ((3, 4, 5), (3, 4)), ((), ())):
        assert isinstance(
            raised(nn.functional.cross_entropy, np.ones(shape, np.float32), np.zeros(ids, int)), ValueError
        )
    assert isinstance(
        raised(nn.functional.cross_entropy, np.ones((3, 5), np.float32), np.ones(3, np.float32)), TypeError
    )
    for options in ({"weight": [1.0]}, {"label_smoothing": 0.1}, {"size_average": True}):
        assert isinstance(raised(nn.CrossEntropyLoss, **options), NotImplementedError)
    assert isinstance(raised(nn.CrossEntropyLoss, reduction="avg"), ValueError)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 65535, 65536, 200_003])
def test_normal_values_are_those_of_one_array(size, dtype):
    """Box and Muller's, made at once of Philox 4x64-10's bits: one of a pair from each half of them."""
    seqcore.manual_seed(5)
    half = (size + 1) // 2
    bits = np.random.Philox(key=np.array([5, 0], np.uint64)).random_raw(2 * half)
    u = (bits >> np.uint64(11)) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log1p(-u[:half])), 2.0 * np.pi * u[half:]
    whole = 0.3 + 1.7 * np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
    t = nn.init.normal_(seqcore.Tensor(np.zeros(size), dtype=dtype), 0.3, 1.7)
    np.testing.assert_array_equal(t.numpy(), whole.astype(dtype))


@pytest.mark.parametrize("size", [(3, 5), (1, 70_000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_values_are_rounded_once(size, dtype):
    """The same bits as one array of Philox 4x64-10's, made at once."""
    seqcore.manual_seed(5)
    seed, stream = seqcore.runtime.draw()
    bits = np.random.Philox(key=np.array([seed, stream], np.uint64)).random_raw(size[0] * size[1])
    want = (-0.3 + 0.8 * ((bits >> np.uint64(11)) * 2.0**-53)).astype(dtype).reshape(size)
    seqcore.manual_seed(5)
    t = nn.init.uniform_(seqcore.Tensor(np.zeros(size, dtype)), -0.3, 0.5)
    assert t.dtype == dtype and np.array_equal(t.numpy(), want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_values_are_below_b(dtype):
    """Also where half of them would be rounded to it."""
    one = 2.0 ** (np.finfo(dtype).nmant + 1)  # from here on every other integer
    values = nn.init.uniform_(seqcore.Tensor(np.zeros(99), dtype=dtype), one, one + 4).numpy()
    assert set(values) == {one, one + 2}
    assert set(nn.init.uniform_(seqcore.Tensor(np.zeros(99), dtype=dtype), one, one + 2).numpy()) == {one}
    with np.errstate(all="raise"):
        assert set(nn.init.uniform_(seqcore.Tensor(np.zeros(99), dtype=dtype), 0.0, 0.0).numpy()) == {0.0}


@pytest.mark.parametrize(("a", "b"), [(2.0, 1.0), (np.inf, 1.0), (0.0, np.inf), (np.inf, np.inf), (0.0, np.nan)])
def test_uniform_values_need_an_interval(a, b):
    t = seqcore.Tensor([5.0])
    with pytest.raises(ValueError, match=r"^uniform_: b: expected a number from a = .*, both finite, got "):
        nn.init.uniform_(t, a, b)
    assert t.item() == 5.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_normal_values_need_a_distribution(value):
    t = seqcore.Tensor([5.0])
    with pytest.raises(ValueError, match=r"^normal_: std: expected a finite number from 0, got "):
        nn.init.normal_(t, 0.0, value)
    if value != -1.0:
        with pytest.raises(ValueError, match=r"^normal_: mean: expected a finite number, got "):
            nn.init.normal_(t, value)
    assert t.item() == 5.0
    assert nn.init.normal_(t, -2.0, 0.0).item() == -2.0


def test_a_sum_of_no_losses_is_0_and_not_minus_0(engine):
    for rows, target in ((0, []), (2, [-100, -100])):
        logits = Tensor(np.zeros((rows, 3)), requires_grad=True, **engine)
        loss = nn.functional.cross_entropy(logits, np.array(target, np.int64), reduction="sum")
        loss.backward()
        assert loss.item() == 0 and not np.signbit(loss.item()) and not logits.grad.numpy().any()


def test_an_ignored_row_has_no_gradient_whatever_comes_from_above(device):
    values, target = rounded(RNG, (3, 4)).astype(np.float32), np.array([-100, 1, 2])
    ours = Tensor(values, requires_grad=True, device=device)
    theirs = torch.tensor(values, requires_grad=True)
    # the ignored row's loss is 0: its logarithm's gradient is infinite
    nn.functional.cross_entropy(ours, target, reduction="none").log().sum().backward()
    torch.nn.functional.cross_entropy(theirs, torch.tensor(target), reduction="none").log().sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)
    for value in (ours, theirs):
        value.grad = None
    (nn.functional.cross_entropy(ours, np.full(3, -100)) * 2).backward()
    assert (ours.grad.numpy() == 0).all()
