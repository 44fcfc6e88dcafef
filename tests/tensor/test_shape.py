"""Reshaping, joining, sums and products against PyTorch."""

import numpy as np
import pytest
import torch

import seqcore
from torch_compare import compare, raised, rounded

RNG = np.random.default_rng(8)
A, B = rounded(RNG, (3, 4, 5)), rounded(RNG, (3, 2, 5))

SHAPES = {
    "reshape": lambda a: a.reshape(5, -1) * 2,
    "reshape tuple": lambda a: a.reshape((2, 30)),
    "permute": lambda a: a.permute(2, 0, 1),
    "transpose": lambda a: a.transpose(0, -1),
    "sum": lambda a: a.sum(),
    "sum axis": lambda a: a.sum(1),
    "sum first": lambda a: a.sum(0),
    "sum axes": lambda a: a.sum((0, -1)),
    "sum keepdim": lambda a: a.sum(-1, keepdim=True),
    "mean": lambda a: a.mean(),
    "mean axes": lambda a: a.mean((0, 2), True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name, engine):
    compare(SHAPES[name], SHAPES[name], {"a": A}, **engine)


def test_no_axes_are_all_in_pytorch_and_none_in_numpy():
    ours, theirs = seqcore.Tensor(A), torch.tensor(A)
    for dim in ((), []):
        for name, keep in (("sum", False), ("sum", True), ("mean", False), ("mean", True)):
            want = getattr(theirs, name)(dim=dim, keepdim=keep)
            got = getattr(ours, name)(dim=dim, keepdim=keep)
            assert got.shape == tuple(want.shape) and np.allclose(got.numpy(), want.numpy())
    for name in ("sum", "mean"):
        assert np.array_equal(getattr(ours, name)(axis=()).numpy(), getattr(A, name)(axis=()))
        assert np.array_equal(getattr(np, name)(ours, axis=()).numpy(), A)


def test_joins(device):
    joins = {"a": A, "b": B}
    compare(lambda a, b: seqcore.cat([a, b, a], 1), lambda a, b: torch.cat([a, b, a], 1), joins, device=device)
    compare(lambda a: seqcore.stack([a, a * 2], 1), lambda a: torch.stack([a, a * 2], 1), {"a": A}, device=device)
    compare(lambda a: a[0].T, lambda a: a[0].T, {"a": A}, device=device)


PRODUCTS = [
    ((4, 5), (5, 2)),
    ((3, 4, 5), (5, 2)),
    ((3, 4, 5), (3, 5, 2)),
    ((4, 5), (5,)),
    ((5,), (5, 2)),
    ((5,), (5,)),
    ((5,), (3, 5, 2)),
    ((2, 1, 4, 5), (3, 5, 2)),
    ((3, 4, 5), (5,)),
    ((65, 33), (33, 67)),
]


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
def test_matmul(a, b, engine):
    inputs = {"a": rounded(RNG, a), "b": rounded(RNG, b)}
    compare(lambda a, b: a @ b, lambda a, b: a @ b, inputs, **engine)
    compare(seqcore.matmul, torch.matmul, inputs, **engine)


def test_shapes_that_do_not_fit():
    t = seqcore.Tensor(A)
    for call in (
        lambda: t.reshape(7, -1),
        lambda: t.reshape(-1, -1),
        lambda: t.permute(0, 1),
        lambda: t @ seqcore.Tensor(A),
        lambda: t @ 2.0,
        lambda: seqcore.cat([A, A[0]]),
        lambda: seqcore.cat([A, A[:, :2]], 0),
        lambda: seqcore.stack([A, B]),
        lambda: seqcore.Tensor([1.0, 2.0]).item(),
        lambda: seqcore.Tensor([[1.0], [2.0, 3.0]]),
    ):
        assert isinstance(raised(call), seqcore.ShapeError)
    for call in (lambda: t.sum(3), lambda: t.transpose(0, 5), lambda: seqcore.cat([A, A], 3)):
        assert isinstance(raised(call), IndexError)
    assert np.isnan(seqcore.Tensor(np.zeros((0, 2), np.float32)).mean().item())  # S-26
