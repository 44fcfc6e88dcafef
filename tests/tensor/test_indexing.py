"""t[index] and t[index] = value against NumPy and PyTorch."""

import time

import numpy as np
import pytest
import torch

import seqcore
from programs import program
from torch_compare import compare, raised, rounded

RNG = np.random.default_rng(8)
A = rounded(RNG, (3, 4, 5))

BASIC = {
    "int": np.s_[1],
    "ints": np.s_[1, -2, 3],
    "slice": np.s_[1:, ::2, -1],
    "none": np.s_[:, None, ..., 2],
    "ellipsis": np.s_[..., 1:3],
    "empty": np.s_[2:2],
    "numpy int": (np.int64(1), slice(None)),
}
ADVANCED = {
    "repeated": [0, 0, 2],  # S-24: a repeated row's gradient adds up
    "mask": A > 0,
    "rows of a mask": np.array([True, False, True]),
    "pairs": ([0, 1, 1], [3, 2, 2]),
    "array and slice": (slice(None), [1, 1]),
    "array beside int": ([2, 0], 1),
    "2-d": np.array([[0, 1], [2, 2]]),
    "behind slices": (slice(None), slice(0, None, 2), [4, 0, 3]),
    "behind an ellipsis": (..., [4, 4, 0]),
    "behind a slice": (slice(None), np.array([[0], [3]]), [1, 2, 4]),
    "mask behind a slice": (slice(1, None), A[0] > 0),
    "none behind a slice": (slice(None), None, [3, 1]),
    "apart behind a slice": (slice(None), [3, 1], None, [0, 2]),
    "array and int apart": ([2, 0], slice(None), 1),
}


def torch_index(index):
    index = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(i) if isinstance(i, (list, np.ndarray)) else i for i in index)


@pytest.mark.parametrize("name", [*BASIC, *ADVANCED])
def test_getitem(name, device):
    index = {**BASIC, **ADVANCED}[name]
    if name == "empty":
        assert seqcore.Tensor(A, device=device)[index].numpy().shape == (0, 4, 5)
        return
    compare(lambda a: a[index], lambda a: a[torch_index(index)], {"a": A}, device=device)


def test_negative_steps_work_as_in_numpy(device):
    t = seqcore.Tensor(A, requires_grad=True, device=device)
    y = t[::-1, 3:0:-2]
    assert np.array_equal(y.numpy(), A[::-1, 3:0:-2])
    y.backward(rounded(RNG, y.shape))
    assert (t.grad.numpy()[:, [1, 3]] != 0).all() and not t.grad.numpy()[:, [0, 2]].any()


def test_index_by_tensor_and_iteration(device):
    t = seqcore.Tensor(A, device=device)
    assert np.array_equal(t[seqcore.Tensor([2, 0])].numpy(), A[[2, 0]])
    assert [row.shape for row in t] == [(4, 5)] * 3
    for index in (3, -4, [0, 7], "a"):
        assert isinstance(raised(lambda index=index: t[index]), IndexError), index
    assert isinstance(raised(lambda: len(seqcore.Tensor(1.0))), TypeError)
    assert isinstance(raised(lambda: seqcore.Tensor(1.0)[[[1.0], [2.0, 3.0]]]), IndexError)


@pytest.mark.parametrize("name", [*BASIC, *ADVANCED])
def test_setitem(name, device):
    index = {**BASIC, **ADVANCED}[name]
    if name in ("repeated", "pairs", "array and slice", "2-d", "behind an ellipsis"):
        want = A.copy()
        want[index] = 7.0
        t = seqcore.Tensor(A, device=device)
        t[index] = 7.0
        assert np.array_equal(t.numpy(), want)
        return
    part = A[index]

    def write(a, v):
        b = a * 2
        b[index if isinstance(a, seqcore.Tensor) else torch_index(index)] = v
        return b * a

    if part.size:
        v = rounded(RNG, part.shape or (1,))[..., :1] if part.ndim else np.float32(3)
        compare(write, write, {"a": A, "v": v}, device=device)


def test_setitem_broadcasts_and_may_read_what_it_writes():
    t, want = seqcore.Tensor(A), A.copy()
    v = rounded(RNG, (1, 1, 3, 1, 5))
    for index, value in [
        (np.s_[:, ::-2], rounded(RNG, (3, 1, 5))),
        (np.s_[::-1, 1:], v[0, 0, :, :]),
        (np.s_[..., -1], 3),
        (np.s_[1, 2, 3], np.float64(0.25)),
        (np.s_[None, 2:, :, None, 0], 7.0),
        (A > 1, -1.0),
        ([2, 2], v[0, 0, 0]),
    ]:
        version = t._array.version
        t[index] = value
        want[index] = value
        assert np.array_equal(t.numpy(), want)
        assert t._array.version == version + 1
    t[::-1] = t
    assert np.array_equal(t.numpy(), want[::-1])
    t[:, 1:] = t.numpy()[:, :-1]
    assert np.array_equal(t.numpy()[:, 1:], want[::-1, :-1])
    before, version = t.numpy(copy=True), t._array.version
    for index, value in [(0, np.zeros(4)), (np.s_[:, :2], np.zeros((3, 3, 5))), ([0], np.zeros(4))]:
        assert isinstance(raised(lambda i=index, v=value: t.__setitem__(i, v)), seqcore.ShapeError)
    assert isinstance(raised(lambda: t.__setitem__(3, 1.0)), IndexError)
    t[2:2] = 5.0
    assert np.array_equal(t.numpy(), before) and t._array.version == version


LEADING = {"...": np.s_[...], ":": np.s_[:], "0:": np.s_[0:], "int": 1, "ids": [0, 2], "mask": A > 0, "()": ()}


@pytest.mark.parametrize("name", LEADING)
def test_setitem_drops_leading_axes_of_size_1(name, device):
    """As NumPy and PyTorch do: also for the gradient, and neither the value nor what is written to is marked shared."""
    index, twin = LEADING[name], torch.tensor(A, dtype=torch.float64)
    value = rounded(RNG, (1, 1, *A[index].shape))
    twin[torch_index(index)] = torch.tensor(value).double()
    for made in (value, value.tolist(), seqcore.Tensor(value)):
        t = seqcore.Tensor(A, device=device)
        t[index] = made
        assert np.array_equal(t.numpy(), twin.numpy())

    def write(a, v):
        b = a * 2
        v = v * 2
        b[index if isinstance(a, seqcore.Tensor) else torch_index(index)] = v
        b += 1
        v += 1
        return b * a, v

    compare(write, write, {"a": A, "v": value}, device=device)


@pytest.mark.parametrize("name", ["slice", "ids", "mask", "broadcast"])
@pytest.mark.parametrize("needs", [(False, True), (True, False), (True, True)])
def test_an_empty_pick_is_recorded(name, needs):
    """Whether the gradient can be asked for depends on no value of the mask."""
    index = {"slice": np.s_[2:2], "ids": np.zeros(0, np.int64), "mask": np.zeros(3, bool), "broadcast": np.s_[:0]}[name]
    value = np.ones((1, 5) if name == "broadcast" else (0, 4, 5), np.float32)
    results = []
    for make in (seqcore.Tensor, torch.tensor):
        a, v = (make(array, requires_grad=need) for array, need in zip((A, value), needs, strict=True))
        t = a * 1
        t[index if make is seqcore.Tensor else torch_index(index)] = v
        t.sum().backward()
        results.append(
            [t.detach().numpy().tolist(), *(x.grad if x.grad is None else x.grad.numpy().tolist() for x in (a, v))]
        )
    assert results[0] == results[1]


def test_what_does_not_fit_is_refused_before_it_is_copied():
    t, huge = seqcore.Tensor(A), np.broadcast_to(np.float32(1), (1 << 40, 4, 5))
    for op, name, call in (
        ("setitem", "value", lambda: t.__setitem__(..., huge)),
        ("setitem", "value", lambda: t.__setitem__(slice(None), huge)),
        ("setitem", "value", lambda: t.__setitem__(0, huge)),
        ("setitem", "value", lambda: t.__setitem__([0, 1], huge)),
        ("copy_", "source", lambda: t.copy_(huge)),
        ("copy_", "source", lambda: t.copy_(A[None])),
        ("+=", "other", lambda: t[:1].__iadd__(huge)),
        ("backward", "gradient", lambda: seqcore.Tensor(A, requires_grad=True).backward(huge)),
    ):
        refusal = raised(call)
        assert isinstance(refusal, seqcore.ShapeError), (op, refusal)
        assert str(refusal).startswith(f"{op}: {name}: expected "), refusal
    assert np.array_equal(t.numpy(), A)


REFUSED = {
    "past the end": (5, "an index of axis 0, from -3 to 2, got 5."),
    "before the start": (np.s_[1, ..., -6], "an index of axis 2, from -5 to 4, got -6."),
    "behind a mask": (np.s_[A[..., 0] > 0, 7], "an index of axis 2, from -5 to 4, got 7."),
    "an array": (np.s_[:, [0, 4]], "an index of axis 1, from -4 to 3, got 4."),
    "a float": (1.5, "arrays of ints or bools, got 1.5."),
    "a text": ("a", "arrays of ints or bools, got 'a'."),
    "an object": (np.s_[0, {}], "arrays of ints or bools, got an object of type dict."),
    "floats": (np.ones(3), "arrays of ints or bools, got an array of float64."),
    "ragged": ([[0], [1, 2]], "arrays of ints or bools, got a ragged list."),
    "too many": (np.s_[0, None, 0, 0, 0], "at most 3 axes for shape (3, 4, 5), got 4."),
    "too many by a mask": (np.s_[0, A > 0], "at most 3 axes for shape (3, 4, 5), got 4."),
    "a mask": (np.ones(2, bool), "a mask of shape (3,), got (2,)."),
    "a mask behind": (np.s_[:, np.ones((4, 4), bool)], "a mask of shape (4, 5), got (4, 4)."),
    "two ellipses": (np.s_[..., 0, ...], "at most one Ellipsis, got several."),
    "arrays": (([0, 1], [0, 1, 2]), "arrays that broadcast with each other, got shapes [(2,), (3,)]."),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_index_that_is_refused(name):
    index, text = REFUSED[name]
    with pytest.raises((IndexError, ValueError)):
        A[index]
    t = seqcore.Tensor(A, requires_grad=True)
    for op, call in (
        ("getitem", lambda: t[index]),
        ("setitem", lambda: t.detach().__setitem__(index, 1.0)),
        ("setitem", lambda: (t * 1).__setitem__(index, 1.0)),
    ):
        refusal = raised(call)
        assert type(refusal) is IndexError, refusal
        assert str(refusal).startswith(f"{op}: index: expected ") and str(refusal).endswith(text), refusal


def test_other_refusals_of_an_index_are_numpys():
    t, scalar = seqcore.Tensor(A), seqcore.Tensor(3.0)
    for index, kind, got in ((slice("a", 2), TypeError, "slice('a', 2, None)"), (slice(0, 2, 0), ValueError, "2, 0)")):
        refusal = raised(lambda index=index: t[index])
        assert type(refusal) is kind and got in str(refusal) and str(refusal).startswith("getitem: index: "), refusal
    for index in (slice(None), 0, [0]):
        for call in (lambda index=index: scalar[index], lambda index=index: scalar.__setitem__(index, 1.0)):
            assert "at most 0 axes for shape (), got 1" in str(raised(call))
    for index, value in ((..., 5.0), ((), 6.0), (None, 7.0), (True, 8.0)):
        scalar[index] = value
        assert scalar.item() == value
    assert "none, got 0." in str(raised(lambda: seqcore.Tensor(np.zeros((0, 2), np.float32))[0]))


def test_setitem_works_in_place():
    """A row of a big tensor costs the row: nothing as large as the tensor is made."""
    t = seqcore.Tensor(np.zeros((4000, 4000), np.float32))
    array = t._array
    began = time.perf_counter()
    for i in range(50):
        t[i] = 1.0
        t[i, 3:5] = [2.0, 3.0]
    took = time.perf_counter() - began
    assert t._array is array and took < 1, took
    assert t.numpy()[49, :6].tolist() == [1.0, 1.0, 1.0, 2.0, 3.0, 1.0] and not t.numpy()[50:].any()


def test_a_mask_that_another_thread_writes_to():
    """The mask is read once: NumPy alone, which reads it twice, ends the process here."""
    source = """
    import threading
    import numpy as np, seqcore
    mask, x = np.zeros(10**6, bool), seqcore.Tensor(np.zeros((3, 10**6), np.float32))
    rng = np.random.default_rng(0)
    def flip():
        while True:
            mask[:] = rng.random(10**6) < 0.5
            mask[rng.integers(0, 10**6) :] ^= True
    threading.Thread(target=flip, daemon=True).start()
    for i in range(150):
        x[:, mask] = 1.0
        x[0][mask]
        x[:, mask]
    print("done")
    """
    assert program(source) == "done"


def a_part(rng, size):
    """A part of an index for an axis of `size`."""
    kind = rng.integers(0, 9)
    if kind < 3 or not size:
        return slice(None)
    if kind == 3:
        ends = [None if rng.random() < 0.4 else int(rng.integers(-size - 1, size + 2)) for _ in range(2)]
        return slice(*ends, int(rng.choice([1, 1, 2, -1, -2])))
    if kind == 4:
        return int(rng.integers(-size, size))
    if kind == 5:
        return rng.random(size) < 0.5
    if kind == 6:
        return [None, None, Ellipsis, True, False][rng.integers(0, 5)]
    return rng.integers(-size, size, [(3,), (2, 3), (1,), (), (0,)][rng.integers(0, 5)])


def an_index(rng, shape):
    """Any index, some of which NumPy refuses."""
    index, axis = [], 0
    if len(shape) > 1 and rng.random() < 0.15:
        axis = int(rng.integers(0, len(shape) - 1))
        index = [slice(None)] * axis + [rng.random(shape[axis : axis + 2]) < 0.5]
        axis += 2
    while axis < len(shape) and rng.random() < 0.85:
        index.append(a_part(rng, shape[axis]))
        axis += not (index[-1] is None or index[-1] is Ellipsis or isinstance(index[-1], bool))
    return tuple(index)


@pytest.mark.parametrize("seed", range(4))
def test_any_index(seed, device):
    """What is read, written, refused, and both gradients: NumPy's, of values that meet the last one's."""
    rng = np.random.default_rng(seed)
    for _ in range(1000 if device == "cpu" else 100):
        shape = tuple(int(n) for n in rng.integers(rng.random() > 0.1, 5, rng.integers(1, 5)))
        a, index = rounded(rng, shape), an_index(rng, shape)
        leaf = seqcore.Tensor(a, requires_grad=True, device=device)
        try:
            want = np.asarray(a[index])
        except IndexError:
            assert isinstance(raised(lambda t=leaf, i=index: t[i]), IndexError), (shape, index)
            other = leaf.detach()
            assert isinstance(raised(lambda t=other, i=index: t.__setitem__(i, 1.0)), IndexError), (shape, index)
            continue
        got = leaf[index]
        assert got.shape == want.shape and np.array_equal(got.numpy(), want), (shape, index)
        dy, right = rng.integers(-4, 5, want.shape).astype(np.float32), np.zeros(shape, np.float32)
        got.backward(dy)
        np.add.at(right, index, dy)
        assert np.array_equal(leaf.grad.numpy(), right), (shape, index)

        sizes = tuple(1 if rng.random() < 0.3 else n for n in want.shape)
        value = seqcore.Tensor(rounded(rng, sizes), requires_grad=True, device=device)
        leaf.grad = None
        written, right, last = leaf * 1.0, a.copy(), np.full(shape, -1)
        written[index] = value
        right[index] = value.numpy()
        assert np.array_equal(written.numpy(), right), (shape, index, sizes)
        dy = rng.integers(-4, 5, shape).astype(np.float32)
        written.backward(dy)
        last[index] = np.arange(want.size).reshape(want.shape)
        dv = np.zeros(want.size, np.float32)
        dv[last[last >= 0]] = dy[last >= 0]
        axes = tuple(axis for axis, n in enumerate(sizes) if n == 1)
        assert np.array_equal(value.grad.numpy(), dv.reshape(want.shape).sum(axes, keepdims=True)), (
            shape,
            index,
            sizes,
        )
        assert np.array_equal(leaf.grad.numpy(), np.where(last < 0, dy, 0)), (shape, index)


def test_steps_beyond_the_tensor():
    t = seqcore.Tensor(A)
    for index in (np.s_[:: 2**62], np.s_[:: 2**70], np.s_[:, :: 2**63], np.s_[:: -(2**63)], np.s_[1 :: 2**62, [0, 1]]):
        assert np.array_equal(t[index].numpy(), A[index])
        t[index] = A[index]
    assert np.array_equal(t.numpy(), A)


def test_integers_are_written_by_ids_and_masks(device):
    t, want = seqcore.Tensor(np.arange(12).reshape(3, 4), device=device), np.arange(12).reshape(3, 4)
    for index in ([2, 0, 2], (slice(None), [1, 3]), want % 5 == 0, (..., np.array([True, False, False, True]))):
        t[index] = want[index] = -7
        assert t.dtype == np.int64 and np.array_equal(t.numpy(), want)


def test_masked_entries_of_an_index_are_refused():
    t = seqcore.Tensor(A)
    for entries in ([0, 1, 2], [True, False, True]):
        index = np.ma.array(entries, mask=[0, 1, 0])
        for call in (lambda i=index: t[i], lambda i=index: t[:, None, i], lambda i=index: t.__setitem__(i, 1.0)):
            refusal = raised(call)
            assert isinstance(refusal, seqcore.DTypeError) and "index: expected arrays without masked" in str(refusal)
        assert np.array_equal(t[np.ma.array(entries)].numpy(), A[np.array(entries)])


def test_a_foreign_index_that_is_refused():
    for index in (
        torch.ones(3, requires_grad=True),
        torch.ones(3, dtype=torch.bfloat16),
        [torch.ones(3), [1]],
        object(),
    ):
        refusal = raised(lambda i=index: seqcore.Tensor(A)[i])
        assert isinstance(refusal, IndexError) and str(refusal).startswith("getitem: index: expected ints, slices")


def test_an_index_takes_no_memory_of_the_tensors_size():
    source = """
    import resource
    import numpy as np, seqcore
    t = seqcore.Tensor(np.zeros((1 << 13, 1 << 13), np.float32))
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (24 << 20),) * 2)
    t[[1, 5], [2, 3]] = [1.0, 2.0]
    t[7, 1], t[-1, ::2] = 3.0, 4.0
    t[9:, [4, 6]] = 5.0
    t[[3, 2, 3], 1:] += 1.0
    print(*t[[1, 5, 7, -1], [2, 3, 1, -2]].numpy(), t[7].sum().item(), t[None, 5:6, 3].numpy())
    print(*t[8::-1, [5, 4]][:2, 0].numpy(), t[1:, [4, 6]].mean().item(), t[3:1:-1, None, [0, 1]].numpy().ravel())
    """
    assert program(source).split("\n") == ["1.0 2.0 3.0 4.0 3.0 [[2.]]", "0.0 0.0 4.995360851287842 [0. 1. 0. 1.]"]
