"""nn.LSTM on both devices against float64 PyTorch: outputs, states, every gradient, through every subset of outputs.

lesson 3: states are never zero, I != H, T != B. lesson 4: every subset of {y, h_n, c_n} gets a gradient.
"""

import itertools
import warnings

import numpy as np
import pytest
import torch

import seqcore
from torch_compare import (
    FORWARD,
    WEIGHTS,
    assert_close,
    compare,
    error,
    finite_differences,
    raised,
    rounded,
    same_exception,
    subsets,
    twins,
)

GRID = [
    dict(zip(("layers", "bias", "steps", "batch", "sizes"), values, strict=True))
    for values in itertools.product((1, 2, 3), (True, False), (1, 2, 37), (1, 3, 17), ((5, 7), (3, 2), (31, 33)))
    if values[2] != values[3]
]


def inputs(steps, batch, sizes, layers, states=True, seed=3):
    rng = np.random.default_rng(seed)
    given = {"x": rounded(rng, (steps, batch, sizes[0]))}
    if states:
        given["h0"] = rounded(rng, (layers, batch, sizes[1]), scale=0.5)
        given["c0"] = rounded(rng, (layers, batch, sizes[1]))
    return given


def both(*args, device="cpu", dtype="float32", **options):
    """A layer on `device` and PyTorch's, of the same weights."""
    return twins(seqcore.nn.LSTM, torch.nn.LSTM, *args, device=device, dtype=dtype, **options)


def run(module):
    """S-69: d(loss) may come through any of y, h_n, c_n."""

    def call(x, h0=None, c0=None):
        return module(x, None if h0 is None else (h0, c0))

    return call


def check(engine, case, states):
    """One cell of the grid: all values and gradients."""
    sizes, layers = case["sizes"], case["layers"]
    ours, theirs = both(*sizes, layers, bias=case["bias"], **engine)
    given = inputs(case["steps"], case["batch"], sizes, layers, states)
    # each layer adds its own rounding to that of the layer below
    limit = None if engine["dtype"] == "float64" else FORWARD * layers
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], limit=limit, **engine)


def name_of(case):
    return "-".join(map(str, case.values())).replace(" ", "")


@pytest.mark.parametrize("case", GRID, ids=name_of)
def test_grid(case, engine):
    check(engine, case, states=True)


@pytest.mark.parametrize("case", GRID, ids=name_of)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_grid_without_states(case, dtype):
    """S-70: h0 and c0 absent are zeros."""
    check({"device": "cpu", "dtype": dtype}, case, states=False)


@pytest.mark.parametrize("outputs", subsets(3), ids=str)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_subsets_of_outputs(outputs, layers, engine):
    ours, theirs = both(3, 5, layers, **engine)
    given = inputs(7, 2, (3, 5), layers)
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], outputs=outputs, **engine)


def test_hundred_steps(device):
    """The longest sequence for which the contract names 2e-6."""
    ours, theirs = both(20, 33, device=device)
    compare(run(ours), run(theirs), inputs(100, 5, (20, 33), 1), modules=[(ours, theirs)], device=device)


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_layouts(batch_first, states, device):
    """S-38: batch_first swaps input and output, not the states. S-70: no state is zero, and has no gradient."""
    ours, theirs = both(3, 5, 2, batch_first=batch_first, device=device)
    given = inputs(7, 4, (3, 5), 2, states)
    if batch_first:
        given["x"] = np.ascontiguousarray(given["x"].swapaxes(0, 1))
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], device=device)
    with seqcore.no_grad():
        y, _ = ours(given["x"])
    assert y.shape == (*given["x"].shape[:2], 5)


@pytest.mark.parametrize("batch_first", [True, False])
def test_unbatched(batch_first, device):
    """S-39: x (T, I), states (L, H)."""
    ours, theirs = both(3, 5, 2, batch_first=batch_first, device=device)
    given = {name: array[:, 0] for name, array in inputs(7, 2, (3, 5), 2).items()}
    compare(run(ours), run(theirs), given, modules=[(ours, theirs)], device=device)
    y, (h_n, c_n) = ours(given["x"])
    assert y.shape == (7, 5) and h_n.shape == c_n.shape == (2, 5)


def test_unbatched_input_and_last_states_may_be_written_to(device):
    """Nobody else sees the layout with a batch axis; y itself is what backward reads."""
    ours, theirs = both(3, 5, device=device)
    given = {name: array[:, 0] for name, array in inputs(7, 2, (3, 5), 1).items()}

    def written(lstm):
        def call(x, h0, c0):
            y, (h_n, c_n) = lstm(x, (h0, c0))
            for t in (h_n, c_n):
                t += 1
            return y, h_n, c_n

        return call

    compare(written(ours), written(theirs), given, modules=[(ours, theirs)], device=device)
    x, h0, c0 = (seqcore.Tensor(array, True, device) * 1 for array in given.values())
    ours(x, (h0, c0))
    for t in (x, h0, c0):
        t += 1


def test_arrays_lists_and_tensors_are_the_same():
    """S-40: lists pass for the pair; lists of numbers pass for arrays."""
    lstm = seqcore.nn.LSTM(3, 5, 2)
    given = inputs(7, 2, (3, 5), 2)
    want = lstm(*((given["x"]), (given["h0"], given["c0"])))[0].numpy()
    for x, hx in (
        (seqcore.Tensor(given["x"]), [given["h0"], given["c0"]]),
        (given["x"].tolist(), (given["h0"].tolist(), seqcore.Tensor(given["c0"]))),
    ):
        assert np.array_equal(lstm(x, hx)[0].numpy(), want)
        with seqcore.no_grad():
            assert np.array_equal(lstm(x, hx)[0].numpy(), want)


def test_wrong_states():
    """S-38, S-39, S-40: pairs of the right shape, and batch 1 does not broadcast."""
    lstm, (h, c) = seqcore.nn.LSTM(3, 5, 2), np.ones((2, 2, 2, 5), np.float32)
    x = np.ones((7, 2, 3), np.float32)
    for hx in (h, [h, None], (None, c), 1.0):
        for mode in (seqcore.no_grad, seqcore.enable_grad):
            with mode():
                error = raised(lstm, x, hx)
            assert isinstance(error, TypeError) and "hx" in str(error), hx
    assert isinstance(raised(lstm, x, (h,)), ValueError)
    for hx in ((h[:, :1], c[:, :1]), (h[:1], c[:1]), (h.swapaxes(0, 1)[:1], c), (h[:, 0], c[:, 0])):
        for mode in (seqcore.no_grad, seqcore.enable_grad):
            with mode():
                assert isinstance(raised(lstm, x, hx), seqcore.ShapeError)
    assert isinstance(raised(lstm, x[:, 0], (h, c)), seqcore.ShapeError)
    first = seqcore.nn.LSTM(3, 5, 2, batch_first=True)
    assert isinstance(raised(first, x, (h, c)), seqcore.ShapeError)


def test_wrong_inputs():
    """fault 2: each argument, wrong in rank, size and dtype; the message says what was expected and what came (S-20)."""
    lstm = seqcore.nn.LSTM(3, 5)
    x = np.ones((7, 2, 3), np.float32)
    for bad in (x[..., :2], x[None], x[0, 0], np.float32(1), np.ones((1,) * 33, np.float32)):
        for mode in (seqcore.no_grad, seqcore.enable_grad):
            with mode():
                error = raised(lstm, bad)
            assert isinstance(error, seqcore.ShapeError), (np.shape(bad), error)
    assert "lstm: input: expected (T, B, 3)" in str(raised(lstm, x[..., :2]))
    assert "got (7, 2, 2)" in str(raised(lstm, x[..., :2]))
    for bad in (x.astype(np.float64), x.astype(np.int64), x.astype(bool), x.astype(complex), x.astype(np.float16)):
        assert isinstance(raised(lstm, bad), seqcore.DTypeError), bad.dtype


def test_lengths_and_batches_of_nothing(device):
    """S-30, fault 6: no steps give the initial state, no rows give nothing; weight gradients are zero."""
    lstm = seqcore.nn.LSTM(3, 5).to(device)
    h, c = rounded(np.random.default_rng(0), (2, 1, 2, 5))
    y, (h_n, c_n) = lstm(np.zeros((0, 2, 3), np.float32), (h, c))
    assert y.shape == (0, 2, 5) and y.numpy().shape == (0, 2, 5)
    assert np.array_equal(h_n.numpy(), h) and np.array_equal(c_n.numpy(), c)
    y, (h_n, c_n) = lstm(np.zeros((7, 0, 3), np.float32))
    assert y.shape == (7, 0, 5) and h_n.shape == (1, 0, 5)
    (y.sum() + c_n.sum()).backward()
    assert all(not p.grad.numpy().any() for p in lstm.parameters())


def test_options():
    """S-29: sizes are integers from 1, dropout is a probability; what is not built is refused by name."""
    build = seqcore.nn.LSTM
    same_exception(lambda: build(3, 0), lambda: torch.nn.LSTM(3, 0))
    for args in ((0, 5), (3, 0), (3, -1), (3, 5, 0)):
        assert isinstance(raised(build, *args), ValueError)
    for args in ((3.0, 5), (3, 4.0), (True, 5), ("3", 5)):
        assert isinstance(raised(build, *args), TypeError)
    assert isinstance(raised(build, 3, 5, dropout=True), TypeError)
    assert isinstance(raised(build, 3, 5, dropout="a"), TypeError)
    for p in (-0.1, 1.5, float("nan")):
        assert isinstance(raised(build, 3, 5, 2, dropout=p), ValueError)
    for options in ({"bidirectional": True}, {"proj_size": 2}):
        error = raised(build, 3, 5, **options)
        assert isinstance(error, NotImplementedError) and next(iter(options)) in str(error)
    with pytest.warns(UserWarning, match="dropout"):
        build(3, 5, 1, dropout=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(3, 5, 2, dropout=0.5)


def test_dropout_between_layers():
    """S-42: on every output but the last layer's, in training only, and not on the states."""
    seqcore.manual_seed(3)
    lstm = seqcore.nn.LSTM(3, 64, 2, dropout=0.5)
    x = rounded(np.random.default_rng(2), (7, 4, 3))
    plain = seqcore.nn.LSTM(3, 64)
    plain.load_state_dict({n: p for n, p in lstm.state_dict().items() if n.endswith("l0")})
    (_, (h_n, _)), (_, (want, _)) = lstm(x), plain(x)
    assert np.array_equal(h_n.numpy()[0], want.numpy()[0])
    first, second = lstm(x)[0].numpy(), lstm(x)[0].numpy()
    assert not np.array_equal(first, second)
    seqcore.manual_seed(9)
    third = lstm(x)[0].numpy()
    seqcore.manual_seed(9)
    with seqcore.no_grad():  # S-27: the mask is a function of seed and position
        assert np.array_equal(lstm(x)[0].numpy(), third)
    lstm.eval()
    assert np.array_equal(lstm(x)[0].numpy(), lstm(x)[0].numpy())


def test_gradient_through_dropout():
    lstm = seqcore.nn.LSTM(3, 4, 2, dropout=0.4).double()
    rng = np.random.default_rng(4)
    x, h, c = rng.standard_normal((5, 2, 3)), rng.standard_normal((2, 2, 4)), rng.standard_normal((2, 2, 4))
    dy = rng.standard_normal((5, 2, 4))

    def loss(x):
        seqcore.manual_seed(11)
        with seqcore.no_grad():
            return (lstm(x, (h, c))[0] * dy).sum().item()

    t = seqcore.Tensor(x, requires_grad=True)
    seqcore.manual_seed(11)
    (lstm(t, (h, c))[0] * dy).sum().backward()
    want = finite_differences(loss, x)
    assert np.abs(t.grad.numpy() - want).max() < 1e-6 * np.abs(want).max()  # S-160


def test_eval_has_gradients_and_no_grad_saves_nothing():
    """S-77."""
    lstm = seqcore.nn.LSTM(3, 5).eval()
    x = np.ones((7, 2, 3), np.float32)
    y, _ = lstm(x)
    y.sum().backward()
    assert all(p.grad is not None for p in lstm.parameters())
    with seqcore.no_grad():
        y, (h_n, c_n) = lstm(x)
    assert not (y.requires_grad or h_n.requires_grad or c_n.requires_grad)
    lstm.requires_grad_(False)
    assert not lstm(x)[0].requires_grad


def test_carried_state_must_be_detached():
    """S-71: without detach the second chunk's backward meets the first chunk's graph, which is used up."""
    lstm = seqcore.nn.LSTM(3, 5)
    x = np.ones((7, 2, 3), np.float32)
    y, hx = lstm(x)
    y.sum().backward()
    y, _ = lstm(x, hx)
    with pytest.raises(RuntimeError, match="detach"):
        y.sum().backward()
    y, _ = lstm(x, tuple(s.detach() for s in hx))
    y.sum().backward()


def test_initial_values():
    """S-31: every parameter uniform in ±1/sqrt(H), the forget bias too. S-78: names and order are PyTorch's."""
    seqcore.manual_seed(0)
    ours, theirs = seqcore.nn.LSTM(20, 30, 2), torch.nn.LSTM(20, 30, 2)
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [
        (n, tuple(p.shape)) for n, p in theirs.named_parameters()
    ]
    bound = 30**-0.5
    for _, p in ours.named_parameters():
        values = p.numpy()
        assert np.abs(values).max() <= bound and np.abs(values).max() > 0.9 * bound
        # five standard errors of a mean of so many
        assert abs(values.mean()) < 5 * bound / (3 * values.size) ** 0.5
        assert abs(values.std() - bound / 3**0.5) < 0.1 * bound


def test_a_row_does_not_see_the_others():
    """lesson 5: rows of NaN, inf and 3e38 beside it change no bit of a row."""
    lstm = seqcore.nn.LSTM(3, 5)
    rng = np.random.default_rng(5)
    x = rounded(rng, (7, 4, 3))
    with seqcore.no_grad():
        want = lstm(x[:, 2:3])[0].numpy()[:, 0]
        for poison in (np.nan, np.inf, 3e38):
            bad = x.copy()
            bad[:, [0, 1, 3]] = poison
            assert lstm(bad)[0].numpy()[:, 2].tobytes() == want.tobytes()  # S-18, S-19


def test_step_by_step_is_the_whole(device):
    lstm = seqcore.nn.LSTM(3, 5, 2).to(device)
    x = rounded(np.random.default_rng(6), (7, 2, 3))
    with seqcore.no_grad():
        whole, last = lstm(x)
        hx, parts = None, []
        for t in range(7):
            y, hx = lstm(x[t : t + 1], hx)
            parts.append(y.numpy())
    assert np.concatenate(parts).tobytes() == whole.numpy().tobytes()
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(hx, last, strict=True))


def test_some_parts_frozen(device):
    """S-70, S-77: only what requires a gradient gets one, in eval mode too."""
    for frozen in (("x",), ("h0", "c0"), ("weights",), ("x", "h0", "c0")):
        ours, theirs = both(3, 5, device=device)
        ours.eval()
        given = {n: seqcore.Tensor(a, n not in frozen, device) for n, a in inputs(7, 2, (3, 5), 1).items()}
        other = {n: torch.tensor(t.numpy()).double().requires_grad_(n not in frozen) for n, t in given.items()}
        if "weights" in frozen:
            ours.requires_grad_(False)
            theirs.requires_grad_(False)
        run(ours)(*given.values())[0].sum().backward()
        run(theirs)(*other.values())[0].sum().backward()
        for name, tensor in given.items():
            assert (tensor.grad is None) == (name in frozen)
            if tensor.grad is not None:
                assert_close(name, tensor.grad, other[name].grad, FORWARD)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                assert_close(name, p.grad, q.grad, WEIGHTS)


def test_state_that_is_carried(device):
    """S-71: detached, and the second part's gradient is PyTorch's."""
    ours, theirs = both(3, 5, device=device)
    x = rounded(np.random.default_rng(7), (7, 2, 3))
    _, hx = ours(x)
    _, other = theirs(torch.tensor(x).double())
    y, _ = ours(x, tuple(s.detach() for s in hx))
    z, _ = theirs(torch.tensor(x).double(), tuple(s.detach() for s in other))
    y.sum().backward()
    z.sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert_close(name, p.grad, q.grad, WEIGHTS)


def test_weights_that_change_are_packed_anew(device):
    """S-71: after an optimizer step, load_state_dict or copy_ nothing of the old weights is used."""
    lstm, x = seqcore.nn.LSTM(3, 5).to(device), rounded(np.random.default_rng(8), (7, 2, 3))
    for change in ("step", "load", "copy"):
        lstm(x)[0].sum().backward()
        if change == "step":
            seqcore.optim.SGD(lstm.parameters(), lr=0.5).step()
        elif change == "load":
            lstm.load_state_dict({n: p.numpy() * 2 for n, p in lstm.state_dict().items()})
        else:
            with seqcore.no_grad():
                lstm.weight_hh_l0.copy_(lstm.weight_hh_l0 * 3)
        fresh = seqcore.nn.LSTM(3, 5)
        fresh.load_state_dict({n: p.numpy() for n, p in lstm.state_dict().items()})
        with seqcore.no_grad():
            assert error(lstm(x)[0].numpy(), fresh(x)[0].numpy()) <= FORWARD, change


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_is_an_array_of_two_axes():
    lstm, x = seqcore.nn.LSTM(3, 4), np.ones((5, 3), np.float32)
    state = np.ones((1, 4), np.float32)
    for batch_first in (False, True):
        lstm.batch_first = batch_first
        y, _ = lstm(np.matrix(x), (np.matrix(state), np.matrix(state)))
        assert np.array_equal(y.numpy(), lstm(x, (state, state))[0].numpy())
