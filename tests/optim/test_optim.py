"""Optimizers and clipping against PyTorch in float64."""

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, nn, optim
from torch_compare import EXACT, FORWARD, assert_close, raised, rounded

RNG = np.random.default_rng(9)
SHAPES = [(3, 4), (5,), (2, 3, 2)]
INF, NAN = float("inf"), float("nan")

CASES = {
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),  # S-144: not in the first step
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "maximize": ("SGD", {"lr": 0.1, "maximize": True, "weight_decay": 0.2}),
    "adam": ("Adam", {"lr": 0.1, "eps": 1e-3}),  # S-145: a large eps shows where it stands
    "adam decay": ("Adam", {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.3, "betas": (0.5, 0.7)}),
    "amsgrad": ("Adam", {"lr": 0.1, "eps": 1e-3, "amsgrad": True}),
    "adam maximize": ("Adam", {"lr": 0.1, "maximize": True, "eps": 1e-2}),
    "adamw": ("AdamW", {"lr": 0.1, "eps": 1e-3}),  # S-146
    "adamw decay": ("AdamW", {"lr": 0.1, "weight_decay": 0.5, "amsgrad": True}),
}


def pair(dtype="float32"):
    values = [rounded(RNG, s) for s in SHAPES]
    ours = [nn.Parameter(v.astype(dtype)) for v in values]
    return ours, [torch.nn.Parameter(torch.tensor(v).double()) for v in values]


def give_grads(ours, theirs, scale=1.0, skip=()):
    for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        g = rounded(RNG, q.shape, scale=scale)
        p.grad = None if i in skip else g.astype(p.dtype)
        q.grad = None if i in skip else torch.tensor(g).double()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, dtype):
    """S-149: a parameter without a gradient is skipped, and so is its step count."""
    kind, options = CASES[name]
    ours, theirs = pair(dtype)
    mine, other = getattr(optim, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    limit = EXACT if dtype == "float64" else FORWARD
    for step in range(6):
        give_grads(ours, theirs, scale=10.0 ** (-step), skip=(1,) if step in (0, 3) else ())
        mine.step()
        other.step()
        for p, q in zip(ours, theirs, strict=True):
            assert_close(f"step {step}", p, q, limit, dtype)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 0.51])
def test_moments_that_forget_soon(beta, device):
    """What is left of a large gradient of before must not drown a small one: m + (g - m) would round g away."""
    start = rounded(RNG, (4, 5))
    ours = nn.Parameter(start, device=device)
    theirs = torch.nn.Parameter(torch.tensor(start).double())
    options = {"lr": 0.01, "betas": (beta, 0.0), "eps": 1e-12}
    mine, other = optim.Adam([ours], **options), torch.optim.Adam([theirs], **options)
    for step in range(2 if beta else 6):
        g = rounded(RNG, start.shape, scale=10.0 if step % 2 == 0 else 1e-3)
        ours.grad, theirs.grad = Tensor(g, device=device), torch.tensor(g).double()
        mine.step()
        other.step()
        assert_close(f"step {step}", ours, theirs, FORWARD, "float32")


@pytest.mark.parametrize("name", CASES)
def test_state_dicts_are_pytorchs(name):
    """Ours loads theirs and goes on the same; ours in, ours out is bit for bit."""
    kind, options = CASES[name]
    ours, theirs = pair()
    mine, other = getattr(optim, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    for _ in range(2):
        give_grads(ours, theirs, skip=(2,))
        mine.step()
        other.step()
    state, want = mine.state_dict(), other.state_dict()
    assert state["state"].keys() == want["state"].keys()
    for number, entry in want["state"].items():
        entry = {k: v for k, v in entry.items() if v is not None}
        assert set(state["state"][number]) == set(entry)
        if "step" in entry:
            assert state["state"][number]["step"].item() == 2.0 and state["state"][number]["step"].shape == ()
    fresh = [nn.Parameter(p.numpy(copy=True)) for p in ours]
    again = getattr(optim, kind)(fresh, lr=9.0)
    again.load_state_dict(state)
    theirs_too = [nn.Parameter(p.numpy(copy=True)) for p in ours]
    third = getattr(optim, kind)(theirs_too, lr=9.0)
    third.load_state_dict(want)
    assert again.param_groups[0]["lr"] == 0.1 and third.param_groups[0]["lr"] == 0.1
    give_grads(ours, theirs)
    for p, q, r in zip(ours, fresh, theirs_too, strict=True):
        q.grad = r.grad = p.grad.numpy(copy=True)
    for optimizer in (mine, again, third):
        optimizer.step()
    for p, q, r in zip(ours, fresh, theirs_too, strict=True):
        assert p.numpy().tobytes() == q.numpy().tobytes()
        np.testing.assert_allclose(r.numpy(), p.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("source", ["Adam", "AdamW"])
@pytest.mark.parametrize("target", ["Adam", "AdamW"])
def test_the_decay_of_a_loaded_state_is_pytorchs(source, target):
    """AdamW decays apart from the gradient whatever state it goes on from; Adam as the state says."""
    ours, theirs = pair()
    give_grads(ours, theirs)
    optimizers = []
    for module, params in ((optim, ours), (torch.optim, theirs)):
        saved = getattr(module, source)(params, lr=0.1, weight_decay=0.5)
        saved.step()
        optimizers.append(getattr(module, target)(params, lr=0.1))
        optimizers[-1].load_state_dict(saved.state_dict())
    flags = [optimizer.param_groups[0]["decoupled_weight_decay"] for optimizer in optimizers]
    assert flags[0] is flags[1] is ("AdamW" in (source, target))
    give_grads(ours, theirs)
    for optimizer in optimizers:
        optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["momentum", "amsgrad"])
def test_a_moved_module_wants_its_state_moved(name):
    """The error of a step after `.double()` says how, and so it goes on as if it had been double from the start."""
    kind, options = CASES[name]
    here, there = nn.Linear(2, 3), nn.Linear(2, 3).double()
    there.load_state_dict(here.state_dict())
    optimizer, whole = (getattr(optim, kind)(layer.parameters(), **options) for layer in (here, there))
    for layer, one in ((here, optimizer), (there, whole)):
        layer(np.ones((1, 2), layer.weight.dtype)).sum().backward()
        one.step()
    error = raised(here.double() and optimizer.step)
    assert isinstance(error, seqcore.DTypeError)
    assert "optimizer.load_state_dict(optimizer.state_dict())" in str(error)
    optimizer.load_state_dict(optimizer.state_dict())
    for one in (optimizer, whole):
        one.step()
    np.testing.assert_allclose(here.weight.numpy(), there.weight.numpy(), rtol=1e-6)


def test_groups_and_options():
    """S-150: duplicates are refused; S-21: wrong values ValueError, wrong types TypeError."""
    ours, _ = pair()
    optimizer = optim.SGD([{"params": ours[:1]}, {"params": ours[1:], "lr": 0.5}], lr=0.1)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5]
    for bad in ([ours[0], ours[0]], [{"params": ours[:1]}, {"params": ours[:2]}], []):
        assert isinstance(raised(optim.SGD, bad), ValueError)
    assert isinstance(raised(optim.SGD, ours[0]), TypeError)
    assert isinstance(raised(optim.SGD, [np.ones(3)]), TypeError)
    for options in ({"lr": -1}, {"momentum": -0.1}, {"nesterov": True}, {"weight_decay": -1}, {"lr": float("nan")}):
        assert isinstance(raised(optim.SGD, ours, **options), ValueError), options
    for options in ({"betas": (1.0, 0.9)}, {"betas": (0.9,)}, {"eps": -1}):
        assert isinstance(raised(optim.Adam, ours, **options), ValueError), options
    for options in ({"lr": "0.1"}, {"lr": True}):
        assert isinstance(raised(optim.SGD, ours, **options), TypeError)
    assert isinstance(raised(optim.Adam, ours, capturable=True), NotImplementedError)
    state = optim.Adam(ours).state_dict()
    for bad in ({}, {"state": {}, "param_groups": []}, {**state, "state": {0: {"exp_avg": np.ones(2)}}}):
        assert isinstance(raised(optim.Adam(ours).load_state_dict, bad), ValueError)


MOMENTS = {"exp_avg": np.ones(2), "exp_avg_sq": np.ones(2)}
ADAMS = {"step": 1, **MOMENTS}


def refusals():
    """What is no state of an optimizer of one (2,) parameter: the algorithm, what takes the place, class, message."""
    for step in (INF, NAN, -1, 0.5, 1e300, 2.0**53, np.array(INF)):
        yield optim.Adam, {"state": {0: {**ADAMS, "step": step}}}, ValueError, "step: expected an integer from 0 to be"
    for step in (None, [[1], [1, 2]], "1", 1j, [], {}, object(), True, np.ones(2)):
        yield optim.Adam, {"state": {0: {**ADAMS, "step": step}}}, (TypeError, ValueError), "step: expected an integer "
    for state in ({"momentum_buffer": np.ones(2)}, {"momentum_buffer": None}, {"foo": np.ones(2)}, {"step": 1}, MOMENTS,
                  {**ADAMS, "foo": 1}, {**ADAMS, 3: 1}, {"step": 1, "square_avg": np.ones(2)}):  # fmt: skip
        yield optim.Adam, {"state": {0: state}}, ValueError, "state: expected Adam's step, exp_avg, exp_avg_sq"
    for state in (ADAMS, {"foo": np.ones(2)}, {"momentum_buffer": np.ones(2), "step": 1}):
        yield optim.SGD, {"state": {0: state}}, ValueError, "state: expected SGD's momentum_buffer"
    for values in ("x", np.ones(3), [[1.0], [1.0, 2.0]], [1.0, 1e300]):
        yield optim.SGD, {"state": {0: {"momentum_buffer": values}}}, ValueError, "momentum_buffer: expected "
    for values in ([1.0, "a"], 1j * np.ones(2), np.ones(2, bool)):
        yield optim.SGD, {"state": {0: {"momentum_buffer": values}}}, seqcore.DTypeError, "momentum_buffer: expected "
    for name in ("exp_avg_sq", "max_exp_avg_sq"):
        for values in ([1.0, -1.0], [NAN, -INF]):
            yield optim.Adam, {"state": {0: {**ADAMS, name: values}}}, ValueError, f"{name}: expected means of squares"
    for values in (None, object(), {}):
        yield optim.Adam, {"state": {0: {**ADAMS, "exp_avg": values}}}, (TypeError, ValueError), "exp_avg: expected "
    for state in ({0: 5}, {0: None}, {0: [1]}, [], None):
        yield optim.Adam, {"state": state}, TypeError, "state: expected a mapping"
    yield optim.Adam, {"state": {1: {}}}, ValueError, "state: expected numbers among"
    for groups in (None, 5, {}, "x", [5], [None]):
        yield optim.Adam, {"param_groups": groups}, TypeError, "param_groups: expected a list of"
    for group in ({}, {"lr": 1.0}, {"params": []}, {"params": [0, 1]}):
        yield optim.Adam, {"param_groups": [group]}, ValueError, "param_groups: expected "
    yield optim.Adam, {"param_groups": []}, ValueError, "param_groups: expected "
    for params in (5, None, [[0]], ["0"], [False]):
        yield optim.Adam, {"param_groups": [{"params": params}]}, TypeError, "params: expected a list of integers"
    for option, wrong, kind in (("lr", -1, ValueError), ("lr", "x", TypeError), ("betas", 5, ValueError),
                                ("amsgrad", "no", TypeError), ("maximize", np.ones(2), TypeError),
                                ("lr", 10**400, ValueError)):  # fmt: skip
        yield optim.Adam, {"param_groups": [{"params": [0], option: wrong}]}, kind, f"Adam: {option}: expected "


@pytest.mark.parametrize(("algorithm", "wrong", "kind", "says"), list(refusals()))
def test_a_state_of_another_kind_is_refused_and_nothing_changes(algorithm, wrong, kind, says):
    p = nn.Parameter([1.0, 2.0])
    p.grad = np.ones(2, np.float32)
    optimizer = algorithm([p], **({"momentum": 0.9} if algorithm is optim.SGD else {}))
    optimizer.step()
    before = optimizer.state_dict()
    found = raised(optimizer.load_state_dict, {**before, **wrong})
    assert isinstance(found, kind), (type(found), found)
    assert says in str(found) and ", got " in str(found) and str(found).endswith("."), found
    assert str(found).startswith(("load_state_dict: ", "Adam: ")) and "\n" not in str(found)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"] and after["state"].keys() == before["state"].keys()
    for name, value in before["state"][0].items():
        assert np.array_equal(after["state"][0][name].numpy(), value.numpy())
    optimizer.step()


def test_numbers_that_stand_for_two_parameters_are_refused():
    params = [nn.Parameter([1.0]), nn.Parameter([1.0])]
    groups = [{"params": [0]}, {"params": [0]}]
    found = raised(optim.SGD([{"params": p} for p in params]).load_state_dict, {"state": {}, "param_groups": groups})
    assert isinstance(found, ValueError) and "params: expected each number once" in str(found)


def test_states_that_are_not_made_yet_may_be_loaded():
    """As in PyTorch: before the first step there is none, and SGD without momentum remembers None."""
    p = nn.Parameter([1.0, 2.0])
    p.grad = np.ones(2, np.float32)
    for algorithm, state in (
        (optim.Adam, {}),
        (optim.Adam, {0: {}}),
        (optim.Adam, {0: {**ADAMS, "step": 2.0**52}}),
        (optim.Adam, {0: {**ADAMS, "max_exp_avg_sq": None}}),
        (optim.Adam, {0: {**ADAMS, "max_exp_avg_sq": np.ones(2)}}),
        (optim.SGD, {}),
        (optim.SGD, {0: {}}),
        (optim.SGD, {0: {"momentum_buffer": None}}),
    ):
        optimizer = algorithm([p], lr=0.1)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        optimizer.state_dict()
        for group in optimizer.param_groups:
            group["momentum" if algorithm is optim.SGD else "amsgrad"] = True if algorithm is optim.Adam else 0.9
        optimizer.step()
        assert np.isfinite(p.numpy()).all()
        algorithm([p]).load_state_dict(optimizer.state_dict())


def test_closure_and_zero_grad():
    p = nn.Parameter([2.0])
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with seqcore.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert abs(p.item() - 1.6) < 1e-6
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.item() == 0.0


def test_clipping():
    """S-151: one norm over all; the coefficient is min(1, max / (norm + 1e-6)); below it no bit changes."""
    for max_norm in (0.5, 3.0, 1e6, 0.0):
        ours, theirs = pair("float64")
        give_grads(ours, theirs, skip=(1,))
        before = [p.grad.numpy(copy=True) if p.grad is not None else None for p in ours]
        got = nn.utils.clip_grad_norm_(ours, max_norm)
        want = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        assert got.shape == () and abs(got.item() - want.item()) <= 1e-12 * want.item()
        for p, q, b in zip(ours, theirs, before, strict=True):
            if q.grad is None:
                assert p.grad is None
            elif max_norm == 1e6:
                assert p.grad.numpy().tobytes() == b.tobytes()
            elif max_norm:
                assert_close("clipped", p.grad, q.grad, EXACT)
            else:
                assert not p.grad.numpy().any()


def test_clipping_edges():
    """S-150, S-151, S-152."""
    p = nn.Parameter([0.0, 0.0])
    p.grad = Tensor([3.0, 4.0])
    assert nn.utils.clip_grad_norm_([p, p], 1.0).item() == 5.0
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-5)
    p.grad = Tensor([3e20, 4e20])
    nn.utils.clip_grad_norm_(p, 1.0)
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-5)
    p.grad = Tensor([np.inf, 1.0])
    with pytest.raises(RuntimeError):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.numpy().tolist() == [np.inf, 1.0]
    nn.utils.clip_grad_norm_((q for q in [p]), 1.0)
    assert np.isnan(p.grad.numpy()[0]) and p.grad.numpy()[1] == 0.0
    assert nn.utils.clip_grad_norm_([nn.Parameter([1.0])], 1.0).item() == 0.0
    assert nn.utils.clip_grad_norm_([], 1.0).item() == 0.0
    assert isinstance(raised(nn.utils.clip_grad_norm_, p, -1.0), ValueError)
    assert isinstance(raised(nn.utils.clip_grad_norm_, p, 1.0, 1.0), NotImplementedError)


@pytest.mark.parametrize(
    ("algorithm", "option", "wrong", "wanted"),
    [
        *(
            (optim.Adam, name, x, "a finite number from 0")
            for name in ("lr", "eps", "weight_decay")
            for x in (-1, NAN, INF)
        ),
        *(
            (optim.SGD, name, x, "a finite number from 0")
            for name in ("lr", "momentum", "weight_decay")
            for x in (-1, NAN, INF)
        ),
        *((optim.SGD, "dampening", x, "a finite number") for x in (NAN, INF, -INF)),
        *((optim.AdamW, "betas", (x, 0.9), "a finite number from 0 to below 1") for x in (-0.1, 1, NAN)),
        (optim.Adam, "betas", 0.9, "two numbers in [0, 1)"),
        (optim.Adam, "betas", (0.9,), "two numbers in [0, 1)"),
    ],
)
def test_options_out_of_range(algorithm, option, wrong, wanted):
    """When it is made, when a group is added, and when somebody has changed a group."""
    p, q = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = algorithm([{"params": p}, {"params": q}])
    p.sum().backward()
    optimizer.param_groups[1][option] = wrong
    for call in (
        lambda: algorithm([p], **{option: wrong}),
        lambda: optimizer.add_param_group({"params": nn.Parameter([1.0]), option: wrong}),
        optimizer.step,
    ):
        found = raised(call)
        assert type(found) is ValueError
        assert str(found).startswith(f"{algorithm.__name__}: {option}: expected {wanted}, got "), found
    assert p.item() == 1.0 and not optimizer.state


def test_what_is_no_number_and_no_parameter():
    p = nn.Parameter([1.0])
    for wrong in ("0.1", None, True, np.ones(2), [0.1]):
        found = raised(optim.SGD, [p], lr=wrong)
        assert isinstance(found, TypeError) and "SGD: lr: expected a number, got " in str(found), found
        found = raised(nn.utils.clip_grad_norm_, p, wrong) if isinstance(wrong, (str, bool, list)) else None
        assert found is None or (isinstance(found, TypeError) and "max_norm: expected a number" in str(found))
    for wrong in (3, None):
        assert "Adam: params: expected an iterable of Tensors" in str(raised(optim.Adam, wrong))
    optim.SGD([p], lr=np.float32(0.1))
    optim.Adam([p], lr=Tensor(0.1))


def test_a_failed_step_changes_nothing():
    ours, theirs = pair()
    give_grads(ours, theirs)
    ours[2]._grad = Tensor(np.ones((4, 4), np.float32))
    before = [p.numpy(copy=True) for p in ours]
    assert raised(optim.SGD(ours, lr=0.1).step) is not None
    optimizer = optim.Adam(ours, lr=0.1)
    assert raised(optimizer.step) is not None and not optimizer.state
    assert all(np.array_equal(p.numpy(), b) for p, b in zip(ours, before, strict=True))


@pytest.mark.parametrize("algorithm", [optim.Adam, optim.SGD])
@pytest.mark.parametrize("gradient", [NAN, INF, -INF, 1e30])
def test_what_a_run_that_diverged_remembers_can_be_loaded(algorithm, gradient):
    """As in PyTorch: what was saved is what goes on."""
    options = {"momentum": 0.9} if algorithm is optim.SGD else {"amsgrad": True}
    pair = [nn.Parameter([1.0, 2.0]) for _ in range(2)]
    first, second = (algorithm([p], **options) for p in pair)
    pair[0].grad = np.array([gradient, 1.0], np.float32)
    first.step()
    second.load_state_dict(first.state_dict())
    pair[1].detach().copy_(pair[0].detach())
    for p, optimizer in zip(pair, (first, second), strict=True):
        p.grad = np.ones(2, np.float32)
        optimizer.step()
    assert np.array_equal(pair[0].numpy(), pair[1].numpy(), equal_nan=True)
    for name, value in first.state_dict()["state"][0].items():
        assert np.array_equal(value.numpy(), second.state_dict()["state"][0][name].numpy(), equal_nan=True), name
