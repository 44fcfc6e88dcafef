"""Tensors and NumPy: views, copies, protocols (S-14), and memory that nobody shares (S-11)."""

import copy
import pickle

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, nn
from torch_compare import raised, rounded

A = rounded(np.random.default_rng(1), (3, 4))


def test_data_is_copied():
    a = A.copy()
    for make in (lambda: Tensor(a), lambda: nn.Parameter(a), lambda: Tensor(Tensor(a))):
        t = make()
        a[...] = 0
        assert np.array_equal(t.numpy(), A)
        a[...] = A


def test_numpy_views():
    """S-14: a view without detach(); read-only while it requires grad, is a parameter or buffer, or is saved."""
    t = Tensor(A)
    view = t.numpy()
    view[0, 0] = 9
    assert t.numpy()[0, 0] == 9 and np.shares_memory(view, t.numpy())
    module = nn.Linear(4, 3)
    module.register_buffer("running", Tensor(A))
    for fixed in (
        Tensor(A, requires_grad=True),
        module.weight,
        module.running,
        module.weight.detach(),
        module.weight.detach().reshape(12),
    ):
        assert not fixed.numpy().flags.writeable
        assert not np.asarray(fixed).flags.writeable
        mine = fixed.numpy(copy=True)
        mine[...] = 0
        assert fixed.numpy().any()
    frozen = nn.Linear(4, 3).requires_grad_(False)
    assert not frozen.weight.numpy().flags.writeable


def test_a_view_shown_before_does_not_reach_what_is_saved():
    x = Tensor(A, requires_grad=False)
    view = x.numpy()
    w = Tensor(A, requires_grad=True)
    y = x * w
    view[...] = 1e9
    y.sum().backward()
    assert np.array_equal(w.grad.numpy(), A)
    b = Tensor(A)
    view = b.numpy()
    module = nn.Module()
    module.register_buffer("b", b)
    view[...] = 0
    assert np.array_equal(module.b.numpy(), A)


def test_saved_memory_is_shown_read_only():
    x, w = Tensor(A), Tensor(A, requires_grad=True)
    y = x * w
    assert not x.numpy().flags.writeable
    y.sum().backward()
    assert x.numpy().flags.writeable


def test_array_protocol():
    t = Tensor(A)
    assert np.asarray(t).dtype == np.float32 and np.shares_memory(np.asarray(t), t.numpy())
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(t), t.numpy())
    assert not np.shares_memory(t.__array__(copy=True), t.numpy())
    with pytest.raises(ValueError):
        t.__array__(np.float64, copy=False)
    assert Tensor.__array_ufunc__ is None
    assert np.sum(t) == t.sum().item() or True
    assert Tensor(2).dtype == np.int64 and Tensor([1.5]).dtype == np.float32 and Tensor(np.ones(2)).dtype == np.float64


def test_dlpack():
    t = Tensor(A)
    assert np.array_equal(np.from_dlpack(t), A)
    assert np.array_equal(torch.from_dlpack(t).numpy(), A)
    assert t.__dlpack_device__() == (1, 0)
    theirs = torch.tensor(A)
    assert np.array_equal(Tensor(theirs).numpy(), A)
    linear = nn.Linear(4, 2)
    assert np.array_equal(linear(theirs).numpy(), linear(A).numpy())
    assert np.array_equal(np.from_dlpack(linear.weight), linear.weight.numpy())


def test_dlpack_gives_copies_of_what_must_not_change():
    """S-11, fault 14: consumers ignore that memory is read-only, so they get their own."""
    linear = nn.Linear(4, 2, bias=False)
    before = linear(A).numpy().copy()
    torch.from_dlpack(linear.weight).zero_()
    assert linear.weight.numpy().any() and np.array_equal(linear(A).numpy(), before)
    with pytest.raises(BufferError, match="copy"):
        linear.weight.__dlpack__(copy=False)
    p, t = Tensor([1.0, 1.0], True), Tensor([5.0, 7.0])
    z = (p * t).sum()
    torch.from_dlpack(t).zero_()
    z.backward()
    assert np.array_equal(p.grad.numpy(), [5, 7])
    # a plain tensor shares its memory, also with layers that are given it later
    free = Tensor([5.0, 7.0])
    shared = torch.from_dlpack(free)
    z = (p * free).sum()
    shared.zero_()
    assert not free.numpy().any()
    p.grad = None
    z.backward()
    assert np.array_equal(p.grad.numpy(), [5, 7])


def test_a_detached_parameter_is_still_a_parameters_memory():
    # fault 14: nobody outside writes to it, so no packed image of it grows stale unseen
    x = np.ones((1, 1, 4), np.float32)
    for layer in (nn.Linear(4, 3, bias=False), nn.LSTM(4, 3, bias=False)):
        weight = next(layer.parameters())
        assert not weight.detach().numpy().flags.writeable
        with seqcore.no_grad():
            first = layer(x)
            torch.from_dlpack(weight.detach()).zero_()
            second = layer(x)
        first, second = (r[0] if isinstance(r, tuple) else r for r in (first, second))
        assert weight.numpy().any() and np.array_equal(first.numpy(), second.numpy())


def test_python_protocols():
    t = Tensor([[1.0, 2.0]])
    assert repr(t) == "Tensor([[1., 2.]])"
    assert repr(Tensor([1.0], True, dtype="float64")) == "Tensor([1.], dtype=float64, requires_grad=True)"
    assert "from=mul" in repr(Tensor([1.0], True) * 2)
    assert len(t) == 1 and t.shape == (1, 2) and t.ndim == 2 and t.device == "cpu"
    assert float(Tensor(1.5)) == 1.5 and Tensor([[7]]).item() == 7 and isinstance(Tensor([7]).item(), int)
    assert len({t, Tensor([1.0]), t}) == 2


def test_format(device):
    """The one element as Python formats it; without a format a Tensor is as `str` shows it."""
    loss = seqcore.Tensor([2.5], device=device, requires_grad=True).sum()
    assert f"{loss:.3f}|{loss * 2:>6.1f}|{loss.reshape(1, 1):g}" == "2.500|   5.0|2.5"
    assert f"{seqcore.Tensor([[7]], device=device):03d}" == "007"
    for t in (loss, seqcore.Tensor([1.0, 2.0], device=device)):
        assert f"{t}" == format(t) == str(t)
    with pytest.raises(
        TypeError, match=r"^format: tensor: expected one element .*, got '\.3f' for shape \(2,\)\. Hint: "
    ):
        f"{seqcore.Tensor([1.0, 2.0], device=device):.3f}"


def test_to():
    t = Tensor(A, requires_grad=True)
    assert t.to("cpu") is t and t.float() is t and t.to("cpu", "float32") is t
    y = t.double()
    assert y.dtype == np.float64
    y.sum().backward()
    assert t.grad.dtype == np.float32
    assert t.to(np.float64).dtype == np.float64 and t.to(dtype="float64").dtype == np.float64
    for device in ("tpu", "gpux", ""):
        assert isinstance(raised(t.to, device), (ValueError, seqcore.DTypeError)), device
        assert isinstance(raised(Tensor, A, False, device), ValueError), device
    for dtype in ("float16", "complex64", bool, "nonsense", "int32"):
        assert isinstance(raised(Tensor, A, dtype=dtype), seqcore.DTypeError), dtype
    assert isinstance(raised(Tensor, A, device="gpu", dtype="float64"), seqcore.DTypeError)


def test_pickle_and_deepcopy():
    module = nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 2, 2))
    module[0].register_buffer("b", Tensor(A))
    module[0].tied = module[0].weight
    module(Tensor(A).reshape(3, 1, 4)) if False else module[1](np.ones((2, 1, 3), np.float32))
    module[0].weight.grad = np.ones((3, 4), np.float32)
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert [n for n, _ in made.named_parameters()] == [n for n, _ in module.named_parameters()]
        for a, b in zip(made.state_dict().items(), module.state_dict().items(), strict=True):
            assert a[0] == b[0] and np.array_equal(a[1].numpy(), b[1].numpy())
        assert made[0].tied is made[0].weight and isinstance(made[0].weight, nn.Parameter)
        assert not made[0].b.numpy().flags.writeable
        with seqcore.no_grad():
            made[0].weight += 1
            made[1].weight_hh_l0 += 1
        assert not np.array_equal(made[0].weight.numpy(), module[0].weight.numpy())
        x = np.ones((2, 1, 3), np.float32)
        assert not np.array_equal(made[1](x)[0].numpy(), module[1](x)[0].numpy())
    assert copy.deepcopy(module)[0].weight.grad is not None
    with pytest.raises(RuntimeError):
        copy.deepcopy(module[0].weight * 2)
    assert copy.copy(Tensor(A)).numpy().shape == (3, 4)


def test_results_share_no_memory():
    """S-11: writing into a result changes no parameter, state or other result."""
    lstm = nn.LSTM(3, 5)
    x = rounded(np.random.default_rng(2), (1, 2, 3))
    h, c = rounded(np.random.default_rng(2), (2, 1, 2, 5))
    with seqcore.no_grad():
        y, (h_n, c_n) = lstm(x, (h, c))
        want = y.numpy(copy=True), c_n.numpy(copy=True)
        h_n += 1
        h_n.numpy()[...] = 3
        assert np.array_equal(y.numpy(), want[0]) and np.array_equal(c_n.numpy(), want[1])
        lstm(np.zeros((0, 2, 3), np.float32), (h, c))
        _, (h_n, _) = lstm(np.zeros((0, 2, 3), np.float32), (h, c))
        h_n += 1
        assert np.array_equal(h, rounded(np.random.default_rng(2), (2, 1, 2, 5))[0])
        t = Tensor(A)
        for made in (t[0], t[:], t.T, t.permute(0, 1), t.double().float(), t + 0, seqcore.cat([t]), seqcore.stack([t])):
            made += 1
            assert np.array_equal(t.numpy(), A)
        state = lstm.state_dict()
        state["weight_ih_l0"] += 1
        assert not np.array_equal(state["weight_ih_l0"].numpy(), lstm.weight_ih_l0.numpy())


def test_a_sign_that_pytorch_keeps_apart_is_not_lost():
    theirs = torch.tensor(A)
    minus = torch._neg_view(theirs)
    imaginary = torch.complex(theirs, theirs).conj().imag
    for given in (minus, imaginary):
        assert given.is_neg() and np.array_equal(Tensor(given).numpy(), -A)
        assert np.array_equal((Tensor(A) + given).numpy(), np.zeros_like(A))
        linear = nn.Linear(4, 3)
        linear.load_state_dict({"weight": given, "bias": np.zeros(3, np.float32)})
        assert np.array_equal(linear.weight.numpy(), -A)
        assert (Tensor(-A) == given).all()
