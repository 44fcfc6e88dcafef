"""Tensor arithmetic against PyTorch: broadcasting, promotion, gradients."""

import numpy as np
import pytest
import torch

import seqcore
from torch_compare import compare, raised, rounded

RNG = np.random.default_rng(7)
A, B, C = rounded(RNG, (3, 4, 5)), rounded(RNG, (4, 1)), np.abs(rounded(RNG, (4, 5))) + np.float32(0.25)

CASES = {
    "add": (lambda a, b: a + b, A, B),
    "sub": (lambda a, b: a - b, A, B),
    "rsub": (lambda a, b: b - a, A, B),
    "mul": (lambda a, b: a * b, A, B),
    "div": (lambda a, b: a / b, A, C),
    "rdiv": (lambda a, b: b / a, C, B),
    "pow": (lambda a, b: a**b, C, B),
    "numbers": (lambda a, b: 2 / a + a / 3 - 1 + (4 - b) * 2 + 2**b + (1 + a), C, B),
    "square": (lambda a, b: a**3 * b**2, A, B),
    "twice": (lambda a, b: a * a + a * b * a, A, B),  # S-24: one tensor, many uses
    "log": (lambda a, b: a.log() + b, C, B),
    "exp": (lambda a, b: a.exp() * b, A, B),
    "sqrt": (lambda a, b: a.sqrt() * b, C, B),
    "neg": (lambda a, b: -a * b, A, B),
    "sigmoid": (lambda a, b: a.sigmoid() * b, A, B),
    "tanh": (lambda a, b: a.tanh() * b, A, B),
    "relu": (lambda a, b: a.relu() * b, A, B),
    "outer": (lambda a, b: a + b, rounded(RNG, (3, 1, 5)), rounded(RNG, (2, 1, 4, 1))),
    "one": (lambda a, b: a * b, rounded(RNG, (1,)), rounded(RNG, (257, 3))),
    "long": (lambda a, b: a * b, rounded(RNG, (1000, 3)), rounded(RNG, (1000, 1))),
}


@pytest.mark.parametrize("name", CASES)
def test_against_torch(name, engine):
    function, a, b = CASES[name]
    compare(function, function, {"a": a, "b": b}, **engine)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_arrays_on_either_side(name):
    """S-14: an ndarray on the left asks the Tensor."""
    operate = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
    }[name]
    t = seqcore.Tensor(A)
    for got, want in ((operate(t, C), operate(A, C)), (operate(C, t), operate(C, A))):
        assert isinstance(got, seqcore.Tensor)
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)
    with pytest.raises(TypeError):
        np.add(A, t)


def test_promotion():
    """S-13: numbers and 0-d arrays keep the tensor's dtype; float64 arrays of some rank widen; lists are float32."""
    t, zero = seqcore.Tensor(A), seqcore.Tensor(np.float32(2))
    wide = np.ones(5)
    for other in (2, 2.5, np.float64(2), np.array(2.0), [1.0] * 5, np.int64(3), True):
        assert (t * other).dtype == np.float32, other
        assert (other * t).dtype == np.float32, other
    assert (t * wide).dtype == np.float64
    assert (wide * t).dtype == np.float64
    assert (seqcore.Tensor(wide) * [1.0] * 5).dtype == np.float64
    assert (seqcore.Tensor(2.0, dtype="float64") * t).dtype == np.float32
    assert (zero * seqcore.Tensor(2.0, dtype="float64")).dtype == np.float64
    assert (zero * wide).dtype == np.float64
    leaf = seqcore.Tensor(A, requires_grad=True)
    (leaf * wide).sum().backward()
    assert leaf.grad.dtype == np.float32
    theirs = torch.tensor(A)
    for other in (2.5, torch.tensor(2.0, dtype=torch.float64), torch.ones(5, dtype=torch.float64)):
        ours = seqcore.Tensor(other.numpy()) if isinstance(other, torch.Tensor) else other
        assert str((theirs * other).dtype).endswith(str((t * ours).dtype))


@pytest.mark.parametrize("write", ["__iadd__", "__isub__", "__imul__", "__itruediv__"])
def test_in_place_by_what_needs_no_gradient(write):
    """What no gradient reads may be written over."""
    grads = []
    for make in (lambda v: seqcore.Tensor(v), torch.tensor):
        leaf, mask = make(A).requires_grad_(), make(np.abs(A) + 1)
        product = leaf * 3
        product = getattr(product, write)(mask)
        product.sum().backward()
        grads.append(np.asarray(leaf.grad))
    np.testing.assert_allclose(*grads, rtol=1e-6)


def test_where(device):
    condition = A > 0
    compare(
        lambda a, b: seqcore.where(condition, a, b),
        lambda a, b: torch.where(torch.tensor(condition), a, b),
        {"a": A, "b": B},
        device=device,
    )
    x = seqcore.Tensor([-1.0, 2.0], requires_grad=True, device=device)
    y = seqcore.where([True, False], 0.0, x * np.float32(np.inf))
    assert y.numpy().tolist() == [0.0, np.inf]  # selected, not multiplied (S-19)
    with pytest.raises(seqcore.DTypeError):
        seqcore.where([1, 0], x, 0.0)


def test_pow_at_the_edges():
    x = np.array([0.0, 1.0, 2.0], np.float32)
    for exponent in (0.0, 1.0, 2.0, 0.5):
        ours, theirs = seqcore.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        (ours**exponent).sum().backward()
        (theirs**exponent).sum().backward()
        np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-6)


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 1.5, 3.0, -3.0, np.inf, -np.inf, np.nan])


def test_slopes_of_pow_at_special_values(engine):
    """Every pair of them, under gradients that are finite and not: 0 where b is 0, and in b where a is 0 <= b."""
    a, b, dy = (v.ravel() for v in np.meshgrid(SPECIAL, SPECIAL, [1.0, -2.0, 0.0, np.inf, np.nan]))
    ours = [seqcore.Tensor(v, True, **engine) for v in (a, b)]
    theirs = [torch.tensor(v, requires_grad=True) for v in (a, b)]
    (ours[0] ** ours[1]).backward(seqcore.Tensor(dy, **engine))
    (theirs[0] ** theirs[1]).backward(torch.tensor(dy))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("base", [0.0, -0.0, 1.0, -2.0, 2.0, np.inf, np.nan])
def test_slopes_of_powers_of_a_number(base, engine):
    ours, theirs = seqcore.Tensor(SPECIAL, True, **engine), torch.tensor(SPECIAL, requires_grad=True)
    (base**ours).sum().backward()
    (base**theirs).sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("number", [0.0, -2.0, 1e-30, 1e30, np.inf, np.nan])
def test_slopes_of_a_number_over_extreme_values(number, engine):
    """(number / x) / x, as PyTorch has it of two tensors: x * x would be 0 or infinite."""
    values = np.array([*SPECIAL, 1e-18, -1e-17, 1e25, -1e20, 3e-30, 1e10])
    values = values.astype(engine["dtype"])
    ours, theirs = seqcore.Tensor(values, True, **engine), torch.tensor(values.astype(np.float64), requires_grad=True)
    (number / ours).sum().backward()
    (torch.full_like(theirs, number) / theirs).sum().backward()
    with np.errstate(over="ignore"):
        want = theirs.grad.numpy().astype(engine["dtype"])
    # subnormals may be flushed
    np.testing.assert_allclose(ours.grad.numpy(), want, rtol=1e-6, atol=np.finfo(engine["dtype"]).tiny)


def test_errors_name_the_operation():
    """What the user wrote, not the function of the core that would compute it."""
    ids, t = seqcore.Tensor([1, 2]), seqcore.Tensor([1.0, 2.0])
    calls = {
        "add: a": lambda: ids + 1,
        "sub: a": lambda: 1 - ids,
        "mul: a": lambda: ids * ids,
        "mul: b": lambda: t * ids,
        "div: a": lambda: ids / 2,
        "pow: b": lambda: t**ids,
        "neg: x": lambda: -ids,
        "exp: x": lambda: ids.exp(),
        "mean: a": lambda: ids.mean(),
    }
    for start, call in calls.items():
        with pytest.raises(seqcore.DTypeError, match=f"^{start}: expected float32 or float64, got int64"):
            call()


def test_comparisons_are_arrays_of_bool():
    t = seqcore.Tensor([1.0, 2.0, 3.0])
    for got in (t > 1, t >= 2, t < [2.0, 2.0, 2.0], t <= t, t == 2, t != np.float32(2)):
        assert type(got) is np.ndarray and got.dtype == bool and got.shape == (3,)
    assert not t == None  # noqa: E711
    assert t != "text"
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        bool(t)
    assert bool(seqcore.Tensor([2.0])) and not bool(seqcore.Tensor(0.0))


def test_unknown_operands():
    t = seqcore.Tensor([1.0])
    for other in (None, "1", object(), {"a": 1}):
        with pytest.raises(TypeError):
            t + other
        with pytest.raises(TypeError):
            other * t
    for other in (np.array([1]), np.array([True]), np.array([1j]), np.array(["a"]), np.array([None])):
        with pytest.raises(seqcore.DTypeError):
            t + other
    with pytest.raises(seqcore.ShapeError):
        seqcore.Tensor(A) + np.ones((3, 4), np.float32)


def test_pythons_numbers_are_not_rounded_beside_float64():
    large, small = 123456789.0, 0.1
    x = seqcore.Tensor(np.zeros(6))
    x[0], x[1:2], x[np.array([2])], x[np.arange(6) == 3] = small, [small], small, [large]
    x[4:] = (1e300, 2**53 - 1)
    assert x.numpy().tolist() == [small, small, small, large, 1e300, 2**53 - 1]
    x[...] = small
    assert (x.numpy() == small).all()
    assert (x.copy_([large] * 6).numpy() == large).all() and (x + [small] * 6).numpy()[0] == large + small
    assert seqcore.Tensor([small], dtype="float64").item() == small and seqcore.Tensor([small]).dtype == np.float32
    y = seqcore.Tensor(np.ones(1), requires_grad=True)
    (y * 1.0).backward([small])
    assert y.grad.item() == small
    for wrong in (["a"], [1, [2]], [None], [True], 10**400):
        assert isinstance(raised(x.copy_, wrong), (TypeError, ValueError, OverflowError))
