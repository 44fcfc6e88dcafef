"""Modules: names, state_dict and load_state_dict, tied weights, printing, containers."""

import numpy as np
import pytest
import torch

import seqcore
from seqcore import Tensor, nn
from torch_compare import raised, rounded


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 6, 2, dropout=0.1)
        self.out = nn.Linear(6, 11)
        self.register_buffer("seen", Tensor(np.zeros(3, np.float32)))
        self.register_buffer("scratch", np.ones(2, np.float32), persistent=False)

    def forward(self, ids, hx=None):
        y, hx = self.lstm(self.embedding(ids), hx)
        return self.out(y), hx


def values(module):
    return {name: tensor.numpy(copy=True) for name, tensor in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_load_state_dict_is_all_or_nothing():
    """S-22, fault 30: missing, unexpected and wrongly sized names in one error, and nothing was written."""
    net = Net()
    before = values(net)
    state = {name: array + 1 for name, array in before.items()}
    del state["out.bias"], state["lstm.weight_hh_l1"]
    state["nonsense\n"] = np.ones(2)
    state["out.weight"] = np.ones((2, 2), np.float32)
    state["lstm.bias_ih_l0"] = np.array(["text"] * 24)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    for name in ("out.bias", "lstm.weight_hh_l1", "nonsense", "out.weight", "lstm.bias_ih_l0", "(11, 6)", "(2, 2)"):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value) and same(values(net), before)
    with pytest.raises(RuntimeError, match=r"out\.weight") as caught:
        net.load_state_dict(state, strict=False)
    assert "out.bias" not in str(caught.value) and same(values(net), before)
    del state["out.weight"], state["lstm.bias_ih_l0"]
    keys = net.load_state_dict(state, strict=False)
    assert keys.missing_keys == ["lstm.bias_ih_l0", "lstm.weight_hh_l1", "out.weight", "out.bias"]
    assert keys.unexpected_keys == ["nonsense\n"]
    assert np.array_equal(net.embedding.weight.numpy(), before["embedding.weight"] + 1)
    assert np.array_equal(net.out.bias.numpy(), before["out.bias"])
    assert isinstance(raised(net.load_state_dict, [1]), TypeError)
    layer = nn.Linear(2, 1, bias=False)
    assert "weight: expected numbers that float32 holds, got 1e+300" in str(
        raised(layer.load_state_dict, {"weight": [[1.0, 1e300]]})
    )
    layer.load_state_dict({"weight": [[np.inf, np.nan]]})


def test_load_state_dict_lets_a_handlers_exception_through():
    """It is no fault of a value, and whoever set the alarm waits for it."""

    class Late(Exception):
        pass

    class Slow:
        def __array__(self, dtype=None, copy=None):
            raise Late("2 s are over")

    layer = nn.Linear(2, 1)
    before = values(layer)
    with pytest.raises(Late):
        layer.load_state_dict({"weight": np.ones((1, 2)), "bias": Slow()})
    assert same(values(layer), before)


def test_pytorch_state_dicts_load_unchanged():
    """S-78; values are cast to the parameter's dtype (S-22)."""
    theirs = torch.nn.LSTM(3, 5, 2)
    ours = nn.LSTM(3, 5, 2)
    for state in (
        theirs.state_dict(),
        {n: p.numpy() for n, p in theirs.state_dict().items()},
        {n: p.double().numpy() for n, p in theirs.state_dict().items()},
        {n: p.half().numpy() for n, p in theirs.state_dict().items()},
        {n: p.numpy().astype(">f4") for n, p in theirs.state_dict().items()},
    ):
        nn.init.zeros_(ours.weight_ih_l0)
        ours.load_state_dict(state)
        assert ours.weight_ih_l0.dtype == np.float32
        np.testing.assert_allclose(ours.weight_ih_l0.numpy(), theirs.weight_ih_l0.detach().numpy(), atol=1e-3)
    theirs.load_state_dict({n: torch.tensor(np.asarray(p)) for n, p in ours.state_dict().items()})


def test_tied_weights():
    """S-23: one parameter, two names in the state_dict, gradients add up, one step."""
    net = Net()
    net.out.weight = net.embedding.weight
    names = [name for name, _ in net.named_parameters()]
    assert "embedding.weight" in names and "out.weight" not in names
    assert "out.weight" in net.state_dict() and "embedding.weight" in net.state_dict()
    ids = np.array([[1, 2], [3, 3], [0, 5]])
    y, _ = net(ids)
    (y * y).sum().backward()
    both = net.embedding.weight.grad.numpy().copy()
    assert both.all(axis=1).sum() == 11
    theirs = net.embedding.weight.numpy(copy=True)
    seqcore.optim.SGD(net.parameters(), lr=0.5).step()
    np.testing.assert_allclose(net.out.weight.numpy(), theirs - 0.5 * both, rtol=1e-5, atol=1e-6)
    net.load_state_dict(values(net))
    assert net.out.weight is net.embedding.weight


def test_attributes():
    net = Net()
    assert [n for n, _ in net.named_parameters()][:3] == ["embedding.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0"]
    assert [n for n, _ in net.named_buffers()] == ["seen", "scratch"]
    assert "seen" in net.state_dict() and "scratch" not in net.state_dict()
    assert [n for n, _ in net.named_modules()] == ["", "embedding", "lstm", "out"]
    for value in (np.ones((11, 6), np.float32), Tensor(np.ones((11, 6), np.float32)), 1.0):
        with pytest.raises(TypeError):
            net.out.weight = value
    with pytest.raises(TypeError):
        net.seen = 3
    net.out.bias = None
    assert "out.bias" not in dict(net.named_parameters())
    assert net(np.array([[1]]))[0].shape == (1, 1, 11)
    assert isinstance(raised(net.register_parameter, "a.b", None), KeyError)
    assert isinstance(raised(net.register_parameter, "a", 3), TypeError)


def test_modes_and_zero_grad():
    net = Net()
    assert net.training and not net.eval().training and not net.lstm.training and net.train().lstm.training
    net(np.array([[1], [2]]))[0].sum().backward()
    net.zero_grad(set_to_none=False)
    assert all(not p.grad.numpy().any() for p in net.parameters() if p.grad is not None)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert isinstance(raised(net.train, 1), ValueError)


def test_to():
    net = Net()
    net(np.array([[1], [2]]))[0].sum().backward()
    parameter = net.out.weight
    assert net.to(dtype="float64") is net and net.out.weight is parameter
    assert {str(t.dtype) for t in (*net.parameters(), *net.buffers())} == {"float64"}
    assert parameter.grad.dtype == np.float64 and not parameter.numpy().flags.writeable
    assert net.float().out.weight.dtype == np.float32
    assert isinstance(raised(net.to, dtype="int64"), seqcore.DTypeError)
    assert isinstance(raised(net.to, "gpu", "float64"), seqcore.DTypeError)
    assert net.out.weight.dtype == np.float32


def test_to_moves_parameters_and_buffers_alone():
    """As in PyTorch: a Tensor that is neither is the user's own, and stays as it is."""

    def outcome(lib, make):
        module = lib.nn.Linear(1, 1)
        own = make([1.0])
        module.scale, module.target = own, make([2.0], requires_grad=True)
        module.register_buffer("seen", make([3.0]))
        module.register_buffer("count", make([4]))
        module.register_buffer("made", (module.weight * 2).reshape(1))
        module.double()
        names = "weight", "bias", "scale", "target", "seen", "count", "made"
        return module.scale is own, [str(getattr(module, name).dtype).removeprefix("torch.") for name in names]

    assert outcome(seqcore, Tensor) == outcome(torch, torch.tensor)


@pytest.mark.parametrize("recording", [True, False], ids=["recorded", "no_grad"])
def test_to_of_a_buffer_that_an_operation_gave(recording):
    """It keeps its history, with the move as the last operation of it; what was made of it before has its own."""

    def outcome(lib, make, numpy):
        module = lib.nn.Module()
        module.w = lib.nn.Parameter(make([2.0]))
        squares = module.w * module.w
        module.register_buffer("b", squares)
        before = (module.b * 3).sum()
        if recording:
            module.double()
        else:
            with lib.no_grad():
                module.double()
        after = (module.b * module.w).sum()
        kept = module.b.requires_grad, module.b.is_leaf, str(module.b.dtype).removeprefix("torch.")
        (before.double() + after).backward()
        return kept, str(module.w.grad.dtype).removeprefix("torch."), numpy(module.w.grad).tolist()

    want = outcome(torch, torch.tensor, lambda t: t.numpy())
    assert outcome(seqcore, Tensor, np.asarray) == want
    assert want[2] == ([3 * 2 * 2 + 3 * 2**2] if recording else [3 * 2 * 2 + 2**2])


def test_to_refused_leaves_such_a_buffer_as_it_was():
    module = nn.Module()
    module.w = nn.Parameter([2.0])
    module.register_buffer("b", module.w * 2)
    module.register_buffer("exact", Tensor([1.0], dtype="float64"))
    array, edge = module.b._array, module.b._edge
    assert isinstance(raised(module.to, "gpu"), seqcore.DTypeError | seqcore.DeviceError)
    assert module.b._array is array and module.b._edge is edge


@pytest.mark.parametrize("before", [False, True], ids=["no grad before", "a grad before"])
def test_to_between_forward_and_backward(before):
    """What a graph from before gives is of the parameter's dtype of now, and adds up with the rest."""
    layer, theirs = seqcore.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    for module, ones in (
        (layer, lambda d: np.ones((1, 2), d)),
        (theirs, lambda d: torch.ones(1, 2).to(getattr(torch, d))),
    ):
        if before:
            module(ones("float32")).sum().backward()
        y = module(ones("float32")).sum()
        module.double()
        later = module(ones("float64")).sum()
        (y.double() * 2 + later).backward()
        module(ones("float64")).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.dtype == parameter.dtype == np.float64
        assert np.array_equal(parameter.grad.numpy(), getattr(theirs, name).grad.numpy()), name


@pytest.mark.gpu
def test_to_a_gpu_between_forward_and_backward():
    layer, x = seqcore.nn.Linear(2, 1), np.ones((1, 2), np.float32)
    y = layer(x).sum()
    layer.to("gpu")
    y.backward()
    layer(Tensor(x, device="gpu")).sum().backward()
    assert layer.weight.grad.device == "gpu:0" and layer.weight.grad.numpy().tolist() == [[2.0, 2.0]]


REGISTRATIONS = {
    "parameter": lambda m, name, v: setattr(m, name, v["parameter"]),
    "tensor": lambda m, name, v: setattr(m, name, v["tensor"]),
    "module": lambda m, name, v: setattr(m, name, v["module"]),
    "none": lambda m, name, v: setattr(m, name, None),
    "number": lambda m, name, v: setattr(m, name, 3),
    "register_buffer": lambda m, name, v: m.register_buffer(name, v["tensor"]),
    "register_parameter": lambda m, name, v: m.register_parameter(name, v["parameter"]),
    "add_module": lambda m, name, v: m.add_module(name, v["module"]),
    "del": lambda m, name, v: delattr(m, name),
    "del and register_buffer": lambda m, name, v: (delattr(m, name), m.register_buffer(name, v["tensor"])),
    "del and a number": lambda m, name, v: (delattr(m, name), setattr(m, name, 3)),
}


@pytest.mark.parametrize("how", REGISTRATIONS)
@pytest.mark.parametrize("name", ["p", "b", "c", "a", "t", "new"])
def test_a_name_is_of_one_thing(name, how):
    """What may take whose place is as in PyTorch; what is refused changes nothing."""

    def outcome(nn, make):
        module = nn.Module()
        values = {"parameter": nn.Parameter(make([2.0])), "tensor": make([3.0]), "module": nn.Linear(1, 1)}
        module.p, module.c, module.a, module.t = nn.Parameter(make([1.0])), nn.Linear(1, 1), 5, make([1.0])
        module.register_buffer("b", make([1.0]))
        try:
            REGISTRATIONS[how](module, name, values)
            said = None
        except (KeyError, TypeError, AttributeError) as error:
            said = type(error)
        there = (
            module.named_parameters(),
            module.named_buffers(),
            module.named_children(),
            module.state_dict().items(),
        )
        return said, [sorted(n for n, _ in kind) for kind in there]

    assert outcome(seqcore.nn, Tensor) == outcome(torch.nn, torch.tensor)


def test_a_parameter_is_no_buffer():
    net = seqcore.nn.Module()
    with pytest.raises(TypeError, match="a Tensor that is no Parameter"):
        net.register_buffer("b", seqcore.nn.Parameter([1.0]))
    assert not list(net.named_buffers()) and not hasattr(net, "b")


def test_print():
    net = Net()
    assert repr(net) == (
        "Net(\n  (embedding): Embedding(11, 6)\n  (lstm): LSTM(6, 6, num_layers=2, dropout=0.1)\n"
        "  (out): Linear(in_features=6, out_features=11, bias=True)\n)"
    )
    assert repr(nn.Sequential(net)).startswith("Sequential(\n  (0): Net(\n    (embedding)")


def test_containers():
    row = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    assert row(np.ones((5, 3), np.float32)).shape == (5, 2) and len(row) == 3
    assert [n for n, _ in row.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert isinstance(row[-1], nn.Linear) and len(row[:2]) == 2 and isinstance(raised(lambda: row[3]), IndexError)
    named = nn.Sequential({"first": nn.Linear(3, 4), "last": nn.ReLU()})
    assert named(np.ones((5, 3), np.float32)).shape == (5, 4)
    assert [n for n, _ in named.named_parameters()] == ["first.weight", "first.bias"]
    many = nn.ModuleList([nn.Linear(3, 3) for _ in range(12)])
    assert list(many) == list(many.children()) and len(list(many.parameters())) == 24
    many[1] = nn.Identity()
    assert len(list(many.parameters())) == 22
    assert isinstance(raised(many.append, 3), TypeError)


def test_frozen_parameters_get_no_gradient():
    net = Net()
    net.lstm.requires_grad_(False)
    net(np.array([[1], [2]]))[0].sum().backward()
    assert net.lstm.weight_ih_l0.grad is None and net.embedding.weight.grad is not None


def test_linear_against_torch_shapes():
    """S-138: 1-D in, 1-D out."""
    assert nn.Linear(3, 2)(rounded(np.random.default_rng(0), (3,))).shape == (2,)
    bound = 1 / 100**0.5
    layer = nn.Linear(100, 50)
    assert 0.95 * bound < np.abs(layer.weight.numpy()).max() <= bound
    assert 0.5 * bound < np.abs(layer.bias.numpy()).max() <= bound
    table = nn.Embedding(300, 20, padding_idx=-1)
    assert not table.weight.numpy()[-1].any() and abs(table.weight.numpy().std() - 1) < 0.05  # S-136
