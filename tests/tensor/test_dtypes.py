"""Which dtype a result has: PyTorch's rule where dtypes meet, and floats are never cut to integers unasked."""

import array
import itertools
import math
import operator

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, nn
from seqcore.tensor import as_ndarray, values_for
from torch_compare import raised

NAMES = ("int64", "float32", "float64")
MIXED = [names for n in (2, 3) for names in itertools.product(NAMES, repeat=n)]
VALUES = {"int64": [3, 2**24 + 1], "float32": [1.7, -2.9], "float64": [0.1, 1e-300]}


@pytest.mark.parametrize("names", MIXED, ids="-".join)
@pytest.mark.parametrize("op", ["cat", "stack"])
def test_joins_of_dtypes(op, names, device):
    arrays = [np.array(VALUES[name], name) for name in names]
    if device != "cpu" and "float64" in names:
        tensor = Tensor([1.0, 2.0], device=device)
        for given in ([tensor, *arrays], [*arrays, tensor]):
            assert isinstance(raised(getattr(seqcore, op), given), seqcore.DTypeError)
        return
    # the first as an array, which is as good as a Tensor
    ours = [arrays[0], *(Tensor(a, requires_grad=a.dtype != np.int64, device=device) for a in arrays[1:])]
    theirs = [torch.tensor(a, requires_grad=i > 0 and a.dtype != np.int64) for i, a in enumerate(arrays)]
    got, want = getattr(seqcore, op)(ours), getattr(torch, op)(theirs)
    assert str(got.dtype) == str(want.dtype).removeprefix("torch.")
    assert np.array_equal(got.numpy(), want.detach().numpy())
    assert got.requires_grad == want.requires_grad
    if want.requires_grad:
        dy = np.arange(1.0, want.numel() + 1).reshape(want.shape).astype(got.dtype)
        got.backward(dy)
        want.backward(torch.tensor(dy))
        for a, b in zip(ours[1:], theirs[1:], strict=True):
            assert (a.grad is None) == (b.grad is None)
            if b.grad is not None:
                assert a.grad.dtype == a.dtype and np.array_equal(a.grad.numpy(), b.grad.numpy())


def test_joins_of_pythons_numbers():
    for given, want in (
        ([1, 2.5], "float32"),
        ([1, 2], "int64"),
        ([2.5, np.int32(1)], "float32"),
        ([1, np.float64(0.1)], "float64"),
    ):
        made = seqcore.stack(given)
        assert made.dtype == want and np.array_equal(made.numpy(), np.array(given, want))
        made = seqcore.cat([[one] if type(one) in (int, float) else np.array([one]) for one in given])
        assert made.dtype == want and np.array_equal(made.numpy(), np.array(given, want))
    # beside float64 they are not rounded on the way
    assert seqcore.cat([[0.1], np.array([0.2])]).numpy().tolist() == [0.1, 0.2]
    assert seqcore.stack([0.1, Tensor(0.2, dtype="float64")]).numpy().tolist() == [0.1, 0.2]
    for given in (([0.1, 0.1], np.zeros(2)), (np.zeros(2), [0.1, 0.1])):
        assert seqcore.where([True, False], *given).numpy().sum() == 0.1


FLOATS = {
    "number": 2.5,
    "whole number": 2.0,
    "list": [1.5, 2.5],
    "array": np.array([1.5, 2.5]),
    "0-d": np.float32(2.5),
    "Tensor": Tensor([1.5, 2.5]),
}


@pytest.mark.parametrize("value", FLOATS.values(), ids=list(FLOATS))
def test_integers_are_not_overwritten_by_floats(value, device):
    if isinstance(value, Tensor):
        value = value.to(device)
    t = Tensor([3, 4], device=device)
    for call in (
        lambda: t.copy_(value),
        lambda: t.__setitem__(slice(None), value),
        lambda: t.__setitem__([0, 1], value),
        lambda: t.__setitem__(np.array([True, True]), value),
        lambda: t.__iadd__(value),
        lambda: seqcore.where([True, False], t, value),
    ):
        assert isinstance(raised(call), seqcore.DTypeError)
    assert t.numpy().tolist() == [3, 4] and t.dtype == np.int64
    with pytest.raises(seqcore.DTypeError, match="expected integers, got float"):
        values_for("load_state_dict", "t", t, np.array([1.5, 2.0]))
    # as asked
    assert Tensor(value, dtype="int64").dtype == np.int64
    t[:] = [5, 6]
    t.copy_(np.array([7, 8], np.int8))
    assert t.numpy().tolist() == [7, 8]


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_what_int64_does_not_hold_is_no_integer(name, device):
    if name == "float64" and device != "cpu":
        return  # lies on the CPU alone
    limit = 2.0**63
    for wrong in (math.nan, math.inf, -math.inf, 1e30, limit, -2 * limit):
        values = np.array([1.0, wrong], name)
        for call in (
            lambda values=values: Tensor(values, dtype="int64"),
            lambda values=values: Tensor(values.tolist(), dtype="int64"),
            lambda values=values: Tensor(values, device=device).to(dtype="int64"),
        ):
            with pytest.raises(ValueError, match=r"^\w+: data: expected numbers that int64 holds, got -?(nan|inf|\d)"):
                call()
    # the last that it does, and fractions, cut as NumPy cuts them
    given = [-limit, np.nextafter(np.array(limit, name), 0), 2.9, -2.9, -0.0] if device == "cpu" else [2.9, -2.9, -0.0]
    values = np.array(given, name)
    made = Tensor(values, device=device).to(dtype="int64").numpy()
    assert made.tolist() == values.astype(np.int64).tolist()


def test_a_number_beside_integers_is_no_error_of_another_function():
    t = Tensor([3, 4])
    for call in (lambda: seqcore.where([True, False], t, 2.5), lambda: seqcore.where([True, False], 2, t)):
        with pytest.raises(seqcore.DTypeError, match=r"^where: [ab]: expected float32 or float64, got int64"):
            call()


def test_initial_values_of_integers():
    t = Tensor([3, 4])
    for call in (
        lambda: nn.init.uniform_(t, 0.0, 9.0),
        lambda: nn.init.normal_(t),
        lambda: nn.init.constant_(t, 2.5),
    ):
        assert isinstance(raised(call), TypeError)
    assert t.numpy().tolist() == [3, 4]
    assert nn.init.constant_(t, 2**60 + 1).numpy().tolist() == [2**60 + 1] * 2
    assert nn.init.ones_(t).numpy().tolist() == [1, 1] and nn.init.zeros_(t).numpy().tolist() == [0, 0]


def test_initial_values_that_float32_does_not_hold():
    t = Tensor([3.0, 4.0])
    for op, argument, call in (
        ("constant_", "val", lambda v: nn.init.constant_(t, v)),
        ("uniform_", "a", lambda v: nn.init.uniform_(t, v, 0.0)),
        ("uniform_", "b", lambda v: nn.init.uniform_(t, 0.0, v)),
        ("normal_", "mean", lambda v: nn.init.normal_(t, v)),
        ("normal_", "std", lambda v: nn.init.normal_(t, 0.0, v)),
    ):
        for value in (1e40, -1e40):
            with pytest.raises(ValueError, match=rf"^{op}: {argument}: expected a number that float32 holds, got"):
                call(value)
    assert t.numpy().tolist() == [3.0, 4.0]
    assert nn.init.constant_(t, math.inf).numpy().tolist() == [math.inf] * 2
    assert nn.init.constant_(Tensor(t, dtype="float64"), 1e40).numpy().tolist() == [1e40] * 2


@pytest.mark.parametrize("other", [1.5, 1, [1.0, 2.0], np.array([1.0, 2.0], np.float32)], ids=str)
@pytest.mark.parametrize("symbol", ["sub", "mul"])
def test_arithmetic_on_integers_names_the_operation_called(symbol, other, device):
    write = {"sub": operator.isub, "mul": operator.imul}[symbol]
    if isinstance(other, np.ndarray):
        other = Tensor(other, requires_grad=True, device=device)
    t = Tensor([3, 4], device=device)
    with pytest.raises(seqcore.DTypeError, match=rf"^{symbol}: a: expected float32 or float64, got int64"):
        write(t, other)
    assert t.numpy().tolist() == [3, 4]


def test_integers_made_of_a_list_of_floats_are_not_rounded_to_float32():
    for value in (16777217.5, -16777219.0, 2.0**53 + 2):
        want = torch.tensor([value, 1.5], dtype=torch.int64).tolist()
        assert Tensor([value, 1.5], dtype="int64").numpy().tolist() == want == [int(value), 1]


def test_numbers_beyond_float32_are_infinite(recwarn):
    """As in PyTorch, however they are given, and nobody warns of it."""
    t, inf = Tensor([1.0, 2.0]), math.inf
    for value in (1e40, -1e300):
        want = torch.tensor([value, 1.0]).tolist()
        assert want == [math.copysign(inf, value), 1.0]
        for made in (
            Tensor([value, 1.0]),
            Tensor(array.array("d", [value, 1.0])),
            Tensor(memoryview(np.array([value, 0.0, 1.0, 0.0]))[::2]),
            Tensor(np.array([value, 1.0]), dtype="float32"),
            seqcore.stack([Tensor(value), Tensor(1.0)]),
            seqcore.cat([[value], [1.0]]),
            seqcore.where([True, False], value, 1.0),
            seqcore.where(True, [value, 1.0], t),
            t * 0 + [value, 1.0],
            nn.functional.linear([[value], [1.0]], [[1.0]]).reshape(2),
        ):
            assert made.dtype == np.float32 and made.numpy().tolist() == want
        t[0] = value
        assert t[0].item() == want[0]
        t[:] = [value, 1.0]
        assert t.numpy().tolist() == want
        t.zero_()
        assert Tensor([value], dtype="float64").item() == value
    assert not recwarn.list


MANY = (1 << 15) + 3  # more than are converted at once
LISTS = {
    "floats": lambda: [0.1, -1e300] * MANY,
    "integers": lambda: [1, -(2**62)] * MANY,
    "bools": lambda: [True, False] * MANY,
    "as many as are converted at once": lambda: [1, 2] * (1 << 14),
    "integers, then a float": lambda: [2**60 + 1] * MANY + [0.5],
    "bools, then an integer": lambda: [True] * MANY + [7],
    "integers, then large ones": lambda: [-1] * MANY + [2**63],
    "large integers": lambda: [2**63] * MANY,
    "large integers, then one below 0": lambda: [2**63] * MANY + [-1],
    "integers, then one too large": lambda: [1] * MANY + [2**70],
    "numbers of NumPy": lambda: [np.float32(0.1)] * MANY,
    "numbers of NumPy, then others": lambda: [np.float32(0.1)] * MANY + [0.1],
    "small integers of NumPy, then large": lambda: [np.int8(1)] * MANY + [300],
    "arrays without axes": lambda: [np.array(1.5)] * MANY,
    "tensors": lambda: [Tensor(1.5)] * (MANY // 8) + [0.1] * MANY,
    "rows": lambda: [[1.0, 2.0]] * MANY,
    "a row at the end": lambda: [1.0] * MANY + [[2.0]],
    "a string at the end": lambda: [1.0] * MANY + ["a"],
    "nothing at the end": lambda: [1.0] * MANY + [None],
    "strings": lambda: ["a"] * MANY,
}


@pytest.mark.parametrize("name", LISTS)
def test_a_long_list_is_what_numpy_makes_of_it(name):
    given = LISTS[name]()
    want, got = raised(np.asarray, given), raised(as_ndarray, "op", "name", given)
    assert (want is None) == (got is None)
    if want is not None:
        assert isinstance(got, seqcore.ShapeError) and str(want).splitlines()[0].rstrip(".") in str(got)
        return
    want, got = np.asarray(given), as_ndarray("op", "name", given)
    assert got.dtype == want.dtype and got.shape == want.shape and type(got) is np.ndarray
    assert got.tolist() == want.tolist() if want.dtype.kind == "O" else got.tobytes() == want.tobytes()
    assert got.flags.writeable and got.flags.c_contiguous


def test_ids_are_of_numpys_own_int64():
    """Of its two types of 64 bits the one that `np.int64` names."""
    assert type(Tensor([1]).numpy()[0]) is np.int64 and type(Tensor([1])[0].numpy()[()]) is np.int64
