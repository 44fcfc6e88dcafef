"""The one helper that compares with PyTorch: values, every gradient, dtype and shape, and exception classes.

Both sides get the same numbers, rounded to the dtype under test; PyTorch computes in float64. The error of a tensor is
its largest difference over the reference's largest magnitude (S-158), so a gradient of size 1e-9 must be as right as
one of size 1 (S-161), and a reference of zeros is a mistake of the test.
"""

import itertools

import numpy as np
import torch

import seqcore

# small tensors: threads would only wait for each other
torch.set_num_threads(1)

# S-159: forward and input gradients; gradients of weights; anything in f64
FORWARD = 2e-6
WEIGHTS = 5e-6
EXACT = 1e-12


def rounded(rng, shape, dtype="float32", scale=1.0):
    """Numbers that are the same in float32 and float64."""
    return (scale * rng.standard_normal(shape)).astype(np.float32).astype(dtype)


def error(got, want):
    """The largest difference relative to the reference's largest magnitude."""
    want = np.asarray(want, np.float64)
    got = np.asarray(got, np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    scale = np.abs(want).max(initial=0.0)
    if want.size == 0:
        return 0.0
    assert scale > 0, "the reference is all zeros: nothing would be compared"
    return float(np.abs(got - want).max() / scale)


def assert_close(name, got, want, limit, dtype=None):
    """`got` (Tensor or ndarray) against `want` (torch, float64)."""
    if dtype is not None:
        assert np.dtype(got.dtype) == np.dtype(dtype), f"{name}: dtype {got.dtype}, expected {dtype}"
    found = error(np.asarray(got), want.detach().numpy() if hasattr(want, "detach") else want)
    assert found <= limit, f"{name}: error {found:.2e} above {limit:.0e}"


def flat(value):
    """The tensors in nested tuples."""
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in flat(part)]
    return [value]


def twins(ours, theirs, *args, dtype="float32", seed=0, device="cpu", **options):
    """A module of ours and its twin in float64, with the same random weights and biases."""
    theirs = theirs(*args, **options).double()
    ours = ours(*args, **options).to(device, dtype)
    rng = np.random.default_rng(seed)
    state = {name: rounded(rng, tuple(p.shape), scale=0.4) for name, p in theirs.state_dict().items()}
    theirs.load_state_dict({name: torch.tensor(array).double() for name, array in state.items()})
    ours.load_state_dict(state)
    return ours, theirs


def compare(
    ours, theirs, inputs, dtype="float32", modules=(), limit=None, weights=None, outputs=None, seed=1, device="cpu"
):
    """Runs both on the same inputs and compares outputs and, for random gradients of them, every gradient.

    Args:
        ours, theirs: functions of `inputs` (name to array, in order; floats get gradients) giving a tensor or nested tuples.
        modules: pairs of (ours, theirs) whose parameters' gradients are compared too.
        outputs: which outputs, by number, get a gradient; None is all.
    """
    limit = limit or (EXACT if dtype == "float64" else FORWARD)
    weights = weights or (EXACT if dtype == "float64" else WEIGHTS)
    mine, other = {}, {}
    for name, array in inputs.items():
        array = np.asarray(array)
        if array.dtype.kind == "f":
            mine[name] = seqcore.Tensor(array.astype(dtype), requires_grad=True, device=device)
            other[name] = torch.tensor(array.astype(np.float64), requires_grad=True)
        else:
            mine[name], other[name] = array, torch.tensor(array)
    for a, b in modules:
        a.zero_grad()
        b.zero_grad()
    got, want = flat(ours(*mine.values())), flat(theirs(*other.values()))
    assert len(got) == len(want)
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert_close(f"output {i}", a, b, limit, dtype)
        assert a.device.startswith(device), f"output {i} came back as {a.device}"
    rng = np.random.default_rng(seed)
    chosen = range(len(got)) if outputs is None else outputs
    grads = {i: rounded(rng, want[i].shape, dtype) for i in chosen}
    # one scalar on both sides, so that shared parts of the graph are walked once
    total = sum(((got[i] * grads[i]).sum() for i in chosen), seqcore.Tensor(0.0, device=device, dtype=dtype))
    total.backward()
    sum((want[i] * torch.tensor(grads[i].astype(np.float64))).sum() for i in chosen).backward()
    for name, tensor in mine.items():
        if isinstance(tensor, seqcore.Tensor):
            compare_grad(f"gradient of {name}", tensor, other[name], limit, dtype)
    for a, b in modules:
        twin = dict(b.named_parameters())
        for name, parameter in a.named_parameters():
            compare_grad(f"gradient of {name}", parameter, twin[name], weights, dtype)


def compare_grad(name, ours, theirs, limit, dtype):
    if theirs.grad is None or not theirs.grad.numel():
        assert ours.grad is None or theirs.grad is not None, f"{name}: PyTorch has none"
        return
    assert ours.grad is not None, f"{name}: missing"
    if not theirs.grad.abs().max() > 0:
        assert not ours.grad.numpy().any(), f"{name}: expected zeros"
        return
    assert_close(name, ours.grad, theirs.grad, limit, dtype)


def subsets(n):
    """Every non-empty choice of n outputs."""
    return [c for k in range(1, n + 1) for c in itertools.combinations(range(n), k)]


def raised(function, *args, **kwargs):
    """What the call raises, or None."""
    try:
        function(*args, **kwargs)
    except Exception as exception:
        return exception
    return None


def same_exception(ours, theirs):
    """Both calls raise, and ours raises (a subclass of) the class that PyTorch raises."""
    mine, other = raised(ours), raised(theirs)
    assert other is not None, "PyTorch raises nothing"
    assert isinstance(mine, type(other)), f"{mine!r}, PyTorch: {other!r}"


def finite_differences(loss, array, step=1e-5):
    """d(loss)/d(array), central, in float64 (S-160)."""
    grad = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        values = []
        for sign in (1, -1):
            moved = array.copy()
            moved[index] += sign * step
            values.append(loss(moved))
        grad[index] = (values[0] - values[1]) / (2 * step)
    return grad
