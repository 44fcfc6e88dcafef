"""Which arrays are taken, and with which result (S-1 to S-10): every layout of every array argument."""

import re

import numpy as np
import pytest

import seqcore
from seqcore import data, nn, ops, optim
from torch_compare import raised, rounded

RNG = np.random.default_rng(5)


def layouts(array):
    """fault 3: the same numbers in other layouts."""
    unaligned = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
    record = np.zeros(array.shape, [("pad", "i1"), ("value", array.dtype)])
    record["value"] = array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    frozen = array.copy()
    frozen.flags.writeable = False
    return {
        "fortran": np.asfortranarray(array),  # S-1
        "strided": wide[..., ::2],
        "negative": array[..., ::-1].copy()[..., ::-1],
        "packed": record["value"],  # S-2
        "unaligned": unaligned,
        "swapped": array.astype(array.dtype.newbyteorder()),  # S-4
        "read-only": frozen,
        "masked": np.ma.masked_array(array, np.zeros(array.shape, bool)),  # S-5
        "list": array.tolist(),
        "tensor": seqcore.Tensor(array),
    }


WEIGHTS = {
    "weight_ih": rounded(RNG, (20, 3)),
    "weight_hh": rounded(RNG, (20, 5)),
    "bias_ih": rounded(RNG, (20,)),
    "bias_hh": rounded(RNG, (20,)),
}
INPUTS = {"x": rounded(RNG, (7, 2, 3)), "h0": rounded(RNG, (2, 5)), "c0": rounded(RNG, (2, 5)), **WEIGHTS}
GRADS = {"dy": rounded(RNG, (7, 2, 5)), "dh_n": rounded(RNG, (2, 5)), "dc_n": rounded(RNG, (2, 5))}


def run(**changed):
    given = {**INPUTS, **GRADS, **changed}
    weights = {name: given[name] for name in WEIGHTS}
    y, h_n, c_n, saved = ops.lstm(given["x"], given["h0"], given["c0"], weights)
    grads = ops.lstm_backward(saved, given["dy"], given["dh_n"], given["dc_n"])
    return {"y": y, "h_n": h_n, "c_n": c_n, **grads}


@pytest.mark.parametrize("argument", [*INPUTS, *GRADS])
def test_layouts(argument):
    want = run()
    for name, array in layouts({**INPUTS, **GRADS}[argument]).items():
        got = run(**{argument: array})
        for key, value in got.items():
            assert type(value) is np.ndarray and value.flags.c_contiguous and value.flags.writeable
            assert value.dtype == np.float32 and value.tobytes() == want[key].tobytes(), (name, key)


def test_broadcast_and_matrix():
    x = np.broadcast_to(np.float32(0.5), (7, 2, 3))
    assert run(x=x)["y"].tobytes() == run(x=np.full((7, 2, 3), 0.5, np.float32))["y"].tobytes()
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.asmatrix(INPUTS["h0"])
    assert run(h0=matrix)["y"].tobytes() == run()["y"].tobytes()
    assert (
        run(x=INPUTS["x"].reshape(7, 2, 3, order="C").transpose(0, 1, 2))["y"].tobytes() == run()["y"].tobytes()
    )  # S-7


@pytest.mark.parametrize("argument", [*INPUTS, *GRADS])
def test_what_is_refused(argument):
    """fault 4, fault 5: what is no plain float array; S-3: 33 axes do not panic; S-6: nothing is converted."""
    good = {**INPUTS, **GRADS}[argument]
    for kind in ("i4", "i8", "u1", "?", "c8", "f2", "O", "U4", "M8[s]"):
        bad = np.zeros(good.shape, kind)
        assert isinstance(raised(run, **{argument: bad}), seqcore.DTypeError), kind
    masked = np.ma.masked_array(good, np.ones(good.shape, bool))
    assert isinstance(raised(run, **{argument: masked}), seqcore.DTypeError)
    structured = np.zeros(good.shape, [("a", "f4")])
    assert isinstance(raised(run, **{argument: structured}), seqcore.DTypeError)
    other = good.astype(np.float64)
    assert isinstance(raised(run, **{argument: other}), seqcore.DTypeError)  # S-12
    for bad in (good[0], good[None], good[..., :-1], np.float32(1), np.ones((1,) * 33, np.float32)):
        error = raised(run, **{argument: bad})
        assert isinstance(error, seqcore.ShapeError), (np.shape(bad), error)
        if np.ndim(bad) < 33:
            # S-20; a weight_ih of another width may as well be an x of another
            assert f" {argument}: " in str(error) or (argument == "weight_ih" and " x: " in str(error))
            assert "expected" in str(error) and "got" in str(error)
    assert isinstance(raised(run, **{argument: [[1.0], [1.0, 2.0]]}), seqcore.ShapeError)


def test_zero_rank_is_kept():
    """S-8."""
    assert seqcore.Tensor(np.float32(2)).shape == () and seqcore.exp(np.float64(0)).shape == ()


def test_ids():
    """S-15: any integers but bool; nothing wraps; the first offender is named."""
    embedding = nn.Embedding(4, 2)
    want = embedding([3, 0]).numpy()
    for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4"):
        assert np.array_equal(embedding(np.array([3, 0], kind)).numpy(), want), kind
    beyond = [2**63], [0, 2**70], [-(2**63) - 1, 0], [10**5000], [2**63, -1], (2**70,)
    for bad in ([0, -1], [4], *beyond, np.array([2**63], np.uint64), np.array([0, 7, -9])):
        assert isinstance(raised(embedding, bad), IndexError), bad
        logits = np.ones((len(bad), 4), np.float32)
        assert isinstance(raised(nn.functional.cross_entropy, logits, bad), IndexError), bad
    assert "7" in str(raised(embedding, np.array([0, 7, -9])))
    for bad in ([1.9], [True], np.array([1 + 0j]), np.array(["1"]), np.array([None]), [2**70, 1.5],
                [2**70, None], [2**70, True], [1e300], ["1"], np.array([2**70])):  # fmt: skip
        assert isinstance(raised(embedding, bad), seqcore.DTypeError), bad
    for target in ([], np.zeros(0, int)):  # an empty list is one of ids too
        assert nn.functional.cross_entropy(np.ones((0, 4), np.float32), target, reduction="sum").item() == 0


def test_enormous_logical_shapes():
    """fault 7: no allocation of what cannot be."""
    huge = np.broadcast_to(np.float32(0), (2**30, 2**30))
    for call in (lambda: seqcore.Tensor(huge), lambda: nn.Linear(3, 2)(huge), lambda: seqcore.exp(huge)):
        assert isinstance(raised(call), (MemoryError, seqcore.ShapeError))
    assert isinstance(raised(nn.Linear, 2**31, 2**31), MemoryError)


FOREIGN = {
    "compare": (lambda v: seqcore.Tensor([1.0, 2.0]) > v, "compare: other"),
    "equal": (lambda v: seqcore.Tensor([1.0, 2.0]) == v, "compare: other"),
    "where": (lambda v: seqcore.where(v, 1.0, 2.0), "where: condition"),
    "add": (lambda v: seqcore.Tensor([1.0, 2.0]) + v, "add: other"),
    "target": (
        lambda v: nn.functional.cross_entropy(np.ones((1, 2, 2), np.float32), v.reshape(1, 2)),
        "cross_entropy: target",
    ),
    "decode": (lambda v: data.Vocabulary("ab").decode(v), "Vocabulary: ids"),
    "exp_avg": (lambda v: load_adam(exp_avg=v), "load_state_dict: exp_avg"),
    "step": (lambda v: load_adam(step=v), "load_state_dict: step"),
    "module": (lambda v: nn.Linear(2, 1).load_state_dict({"weight": v.reshape(1, 2)}, strict=False), "weight"),
}


def load_adam(**changed):
    optimizer = optim.Adam([nn.Parameter([1.0, 2.0])])
    state = {"step": 1, "exp_avg": [1.0, 2.0], "exp_avg_sq": [1.0, 2.0], **changed}
    optimizer.load_state_dict({"state": {0: state}, "param_groups": [{"params": [0]}]})


@pytest.mark.parametrize("name", FOREIGN)
def test_what_pytorch_does_not_give_up_is_refused_in_our_words(name):
    torch = pytest.importorskip("torch")
    call, argument = FOREIGN[name]
    for given, says in (
        (torch.ones(2, requires_grad=True), r"expected an array that needs no gradient, .*\.detach\(\)"),
        (
            torch.ones(2, dtype=torch.bfloat16),
            r"expected float32.*, got torch.bfloat16.*\. Hint: \S+\.float\(\) converts it",
        ),
        (torch.ones(2, device="meta"), r"expected an array on the CPU, got a Tensor on meta.*\. Hint: .*\.cpu\(\)"),
    ):
        error = raised(call, given)
        assert re.search(rf"{argument}: {says}", str(error)), error
        assert isinstance(error, seqcore.SeqcoreError | ValueError) or name == "module", error


@pytest.mark.parametrize("name", FOREIGN)
def test_no_mask_is_lost(name):
    """S-5: neither in what is computed with nor in what is compared or chosen by."""
    call, argument = FOREIGN[name]
    values = np.array([True, False]) if name == "where" else np.array([1, 0])
    error = raised(call, np.ma.masked_array(values, [False, True]))
    wanted = rf"{argument}: expected an array without masked entries, got a masked array.*\. Hint: .*\.filled\(0\)"
    assert re.search(wanted, str(error)), error
    assert isinstance(error, RuntimeError if name == "module" else seqcore.DTypeError)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("entry", [np.ma.masked, np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array(5, mask=True)])
def test_no_mask_is_lost_in_a_number_or_a_list(entry):
    """S-5: NumPy makes NaN of one, with a warning, and drops the other's mask."""
    t = seqcore.Tensor(np.ones((2, 2), np.float32))
    calls = [lambda: seqcore.Tensor([1.0, entry]), lambda: seqcore.Tensor([[1.0], [entry]])]
    calls += [lambda: nn.functional.relu([entry]), lambda: nn.functional.embedding([[entry]], t)]
    calls += [lambda: t[[entry]], lambda: t + entry, lambda: t * [entry], lambda: t.__iadd__(entry)]
    calls += [lambda: 2.0 / t[0] / entry, lambda: seqcore.where(t > 0, t, entry), lambda: t > [entry]]
    calls += [lambda: t.__setitem__(0, [1.0, entry]), lambda: seqcore.cat([t, [entry]])]
    for call in calls:
        error = raised(call)
        assert isinstance(error, seqcore.DTypeError), error
        assert re.search(r": expected an array without masked entries, got a masked", str(error)), error
    assert np.array_equal(t.numpy(), np.ones((2, 2)))
    whole = np.ma.array([1.0, 2.0], mask=[0, 0])
    assert seqcore.Tensor([whole, (3.0, 4.0)]).numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.filterwarnings("error")
def test_no_mask_is_lost_in_an_option():
    number, whole = np.ma.array(1.0, mask=True), np.ma.array(3, mask=True)
    p = nn.Parameter([1.0])
    for call in (
        lambda: nn.init.constant_(p, number),
        lambda: nn.Dropout(number),
        lambda: optim.SGD([p], lr=number),
        lambda: nn.Linear(whole, 2),
        lambda: p.reshape(whole),
        lambda: seqcore.set_num_threads(whole),
    ):
        assert isinstance(raised(call), TypeError)
    assert p.item() == 1.0


@pytest.mark.parametrize("span", [np.timedelta64(5), np.timedelta64(2, "D"), np.timedelta64("NaT")])
def test_a_time_is_no_number(span):
    """S-5: though NumPy's class of spans derives from that of its integers."""
    t = seqcore.Tensor([1.0, 2.0])
    for call in (lambda: t + span, lambda: seqcore.where(t > 1, t, span), lambda: t * [span], lambda: t[span]):
        assert isinstance(raised(call), seqcore.DTypeError | IndexError)


def test_masked_arrays_with_nothing_masked_are_arrays():
    t, values = seqcore.Tensor([1.0, 2.0]), np.ma.masked_array([0.5, 2.5], [False, False])
    for got in (t > values, t == values):
        assert type(got) is np.ndarray and got.tolist() == ([True, False] if got.any() else [False, False])
    assert seqcore.where(values > 1, 1.0, 2.0).numpy().tolist() == [2.0, 1.0]


def test_a_class_equals_no_tensor():
    assert (seqcore.Tensor([1.0]) == float) is False  # noqa: E721
    assert seqcore.Tensor([1.0]) != np.float32
