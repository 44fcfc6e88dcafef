"""Arguments of every kind given what they cannot be: the class, the form and the names of what is raised."""

import os
import re
import warnings

import numpy as np
import pytest

import seqcore
from seqcore import Tensor, data, nn, ops, optim
from seqcore.checkpoint import Checkpoint
from seqcore.models import LanguageModel
from seqcore.nn import functional as F
from seqcore.train import Trainer, training_in
from torch_compare import raised

FORM = re.compile(r"(?!.*Hint:.*Hint:)([\w.]+): ([\w.]+): expected .+, got .+?[.?!]( Hint: .+[.?!])?")
STANDARD = (TypeError, ValueError, IndexError, NotImplementedError, MemoryError, RuntimeError)


class Named:
    """Has the attributes of an array, and is none."""

    shape, ndim, dtype = (4, 3), 2, np.dtype("float32")


def array(*shape):
    return np.ones(shape, np.float32)


def tensor(*shape):
    return Tensor(array(*shape))


def parameter():
    made = nn.Parameter(array(2))
    made.grad = array(2)
    return made


def layer():
    return nn.Linear(3, 2)


def stepped(algorithm=optim.Adam):
    optimizer = algorithm([parameter()])
    optimizer.step()
    return optimizer


def objects():
    yield from (object(), [], {}, [[1], [1, 2]], (1, 2), {1, 2}, slice(None), np.float32, Named(), 1j, b"a", "no")
    yield from (array(2), array(4, 3), np.array([None, 1]), np.zeros(2, "M8[s]"), np.zeros(2, [("a", "f4")]))
    yield from (np.zeros(2, complex), tensor(2, 2, 2), Tensor([1, 2]), (i for i in [1, 2]))


def small_model(**options):
    return LanguageModel("ab", **{"embedding": 2, "hidden": 2, "layers": 1, **options})


def trainer(**options):
    return Trainer(small_model(), np.array([0, 1] * 20), **{"batch": 2, "bptt": 3, **options})


def unless(value, *right):
    """The value, or something wrong in place of what is right there."""
    return b"wrong" if any(value is one or type(value) is one for one in right) else value


IDS = np.array([0, 1])
LSTM, EMBEDDING = (3, 5), (5, 3)

# what each argument takes: a flag, an integer, a number, a string, an array of floats, several of something
FLAGS = [
    ("Tensor", "requires_grad", lambda v: Tensor([1.0], requires_grad=v)),
    ("Parameter", "requires_grad", lambda v: nn.Parameter([1.0], requires_grad=v)),
    ("requires_grad", "requires_grad", lambda v: tensor(2).requires_grad_(v)),
    ("requires_grad", "requires_grad", lambda v: setattr(tensor(2), "requires_grad", v)),
    ("requires_grad_", "requires_grad", lambda v: layer().requires_grad_(v)),
    ("sum", "keepdim", lambda v: tensor(2).sum(0, v)),
    ("mean", "keepdims", lambda v: tensor(2).mean(axis=0, keepdims=v)),
    ("numpy", "copy", lambda v: tensor(2).numpy(v)),
    ("Linear", "bias", lambda v: nn.Linear(3, 2, v)),
    ("LSTM", "bias", lambda v: nn.LSTM(*LSTM, bias=v)),
    ("LSTM", "batch_first", lambda v: nn.LSTM(*LSTM, batch_first=v)),
    ("from_pretrained", "freeze", lambda v: nn.Embedding.from_pretrained(array(4, 3), v)),
    ("Embedding", "_freeze", lambda v: nn.Embedding(*EMBEDDING, _freeze=v)),
    ("Embedding", "_freeze", lambda v: nn.Embedding(*EMBEDDING, _weight=array(*EMBEDDING), _freeze=v)),
    ("dropout", "training", lambda v: F.dropout(array(2), 0.5, v)),
    ("load_state_dict", "strict", lambda v: layer().load_state_dict(layer().state_dict(), v)),
    ("register_buffer", "persistent", lambda v: layer().register_buffer("b", None, v)),
    ("zero_grad", "set_to_none", lambda v: layer().zero_grad(v)),
    ("zero_grad", "set_to_none", lambda v: stepped().zero_grad(v)),
    ("named_parameters", "recurse", lambda v: layer().parameters(v)),
    ("named_buffers", "remove_duplicate", lambda v: layer().named_buffers(remove_duplicate=v)),
    ("SGD", "nesterov", lambda v: optim.SGD([parameter()], momentum=0.9, nesterov=v)),
    ("SGD", "maximize", lambda v: optim.SGD([parameter()], maximize=v)),
    ("Adam", "amsgrad", lambda v: optim.Adam([parameter()], amsgrad=v)),
    ("AdamW", "maximize", lambda v: optim.AdamW([parameter()], maximize=v)),
    ("Adam", "decoupled_weight_decay", lambda v: optim.Adam([parameter()], decoupled_weight_decay=v)),
    ("clip_grad_norm_", "error_if_nonfinite", lambda v: nn.utils.clip_grad_norm_([parameter()], 1.0, 2.0, v)),
]
NOT_BUILT = [
    ("relu", "inplace", lambda v: F.relu(array(2), v)),
    ("dropout", "inplace", lambda v: F.dropout(array(2), inplace=v)),
    ("ReLU", "inplace", nn.ReLU),
    ("Dropout", "inplace", lambda v: nn.Dropout(0.5, v)),
    ("LSTM", "bidirectional", lambda v: nn.LSTM(*LSTM, bidirectional=v)),
    ("Embedding", "sparse", lambda v: nn.Embedding(*EMBEDDING, sparse=v)),
    ("embedding", "scale_grad_by_freq", lambda v: F.embedding(IDS, array(4, 3), scale_grad_by_freq=v)),
    ("SGD", "differentiable", lambda v: optim.SGD([parameter()], differentiable=v)),
    ("Adam", "capturable", lambda v: optim.Adam([parameter()], capturable=v)),
]
INTEGERS = [
    ("Linear", "in_features", lambda v: nn.Linear(v, 2)),
    ("Embedding", "num_embeddings", lambda v: nn.Embedding(v, 3)),
    ("Embedding", "padding_idx", lambda v: nn.Embedding(5, 3, unless(v, None))),
    ("embedding", "padding_idx", lambda v: F.embedding(IDS, array(4, 3), unless(v, None))),
    ("embedding", "padding_idx", lambda v: F.embedding(IDS, nn.Parameter(array(4, 3)), unless(v, None))),
    ("LSTM", "num_layers", lambda v: nn.LSTM(*LSTM, v)),
    ("cross_entropy", "ignore_index", lambda v: nn.CrossEntropyLoss(ignore_index=v)),
    ("cross_entropy", "ignore_index", lambda v: F.cross_entropy(array(2, 3), IDS, ignore_index=v)),
    ("cross_entropy", "ignore_index", lambda v: ops.cross_entropy(array(2, 3), IDS, v)),
    ("sum", "dim", lambda v: tensor(2, 3).sum((unless(v, None),))),
    ("mean", "axis", lambda v: tensor(2, 3).mean(axis=(unless(v, None),))),
    ("cat", "dim", lambda v: seqcore.cat([array(2)], v)),
    ("transpose", "dim0", lambda v: tensor(2, 3).transpose(v, 0)),
    ("reshape", "shape", lambda v: tensor(2, 3).reshape(2, v)),
    ("permute", "dims", lambda v: tensor(2, 3).permute(1, v)),
    ("ModuleList", "index", lambda v: nn.ModuleList([layer()])[unless(v, slice)]),
    ("manual_seed", "seed", seqcore.manual_seed),
    ("draw", "calls", seqcore.runtime.draw),
    ("set_num_threads", "n", seqcore.set_num_threads),
    ("LanguageModel", "layers", lambda v: small_model(layers=v)),
    ("Trainer", "batch", lambda v: trainer(batch=v)),
    ("Trainer", "bptt", lambda v: trainer(bptt=v)),
    ("run", "epochs", lambda v: trainer().run(epochs=unless(v, None), steps=0)),
    ("run", "steps", lambda v: trainer().run(steps=unless(v, None), epochs=0)),
    ("run", "save_steps", lambda v: trainer().run(save_steps=unless(v, None), steps=0)),
    ("finished", "steps", lambda v: trainer().finished(steps=unless(v, None))),
    ("generate", "length", lambda v: small_model().generate("a", v)),
    ("generate", "seed", lambda v: small_model().generate("a", 1, seed=unless(v, None))),
    ("Streams", "bptt", lambda v: data.Streams(np.arange(11), 2, v)),
    ("Streams", "window", lambda v: data.Streams(np.arange(11), 2, 3)[v]),
]
NUMBERS = [
    ("Dropout", "p", nn.Dropout),
    ("dropout", "p", lambda v: F.dropout(array(2), v)),
    ("dropout", "p", lambda v: ops.dropout(array(2), v)),
    ("LSTM", "dropout", lambda v: nn.LSTM(*LSTM, 2, dropout=v)),
    ("cross_entropy", "label_smoothing", lambda v: nn.CrossEntropyLoss(label_smoothing=v)),
    ("uniform_", "a", lambda v: nn.init.uniform_(tensor(2), v)),
    ("uniform_", "b", lambda v: nn.init.uniform_(tensor(2), 0.0, v)),
    ("normal_", "mean", lambda v: nn.init.normal_(tensor(2), v)),
    ("constant_", "val", lambda v: nn.init.constant_(tensor(2), v)),
    ("clip_grad_norm_", "max_norm", lambda v: nn.utils.clip_grad_norm_([parameter()], v)),
    ("SGD", "lr", lambda v: optim.SGD([parameter()], lr=v)),
    ("Adam", "betas", lambda v: optim.Adam([parameter()], betas=(v, 0.9))),
    ("Trainer", "lr", lambda v: trainer(lr=v)),
    ("Trainer", "clip", lambda v: trainer(clip=v)),
    ("split", "validation", lambda v: trainer(validation=v)),
    ("run", "seconds", lambda v: trainer().run(seconds=unless(v, None), steps=0)),
    ("run", "save_seconds", lambda v: trainer().run(save_seconds=unless(v, None), steps=0)),
    ("generate", "temperature", lambda v: small_model().generate("a", 1, v)),
    ("split", "validation", lambda v: data.split(np.arange(10), v)),
]
STRINGS = [
    ("device", "device", lambda v: Tensor([1.0], device=unless(v, None))),
    ("device", "device", lambda v: nn.Linear(3, 2, device=unless(v, None))),
    ("device", "device", lambda v: tensor(2).to(unless(v, None, np.float32))),
    ("device", "device", lambda v: layer().to(device=unless(v, None, np.float32))),
    ("Tensor", "dtype", lambda v: Tensor([1.0], dtype=unless(v, None, np.float32))),
    ("cross_entropy", "reduction", lambda v: nn.CrossEntropyLoss(reduction=v)),
    ("cross_entropy", "reduction", lambda v: F.cross_entropy(array(2, 3), IDS, reduction=v)),
    ("cross_entropy", "reduction", lambda v: ops.cross_entropy(array(2, 3), IDS, reduction=v)),
]
SEVERAL = [
    ("cat", "tensors", seqcore.cat),
    ("stack", "tensors", seqcore.stack),
    ("reshape", "shape", lambda v: tensor(2, 3).reshape(v)),
    ("permute", "dims", lambda v: tensor(2, 3).permute(v)),
    ("SGD", "params", optim.SGD),
    ("SGD", "params", lambda v: stepped(optim.SGD).add_param_group({"params": v})),
    ("clip_grad_norm_", "parameters", lambda v: nn.utils.clip_grad_norm_(v, 1.0)),
    ("ModuleList", "modules", lambda v: nn.ModuleList().extend(v)),
    ("Vocabulary", "ids", data.Vocabulary("ab").decode),
    ("Vocabulary", "characters", lambda v: data.Vocabulary(unless(v, str))),
]
FUNCTIONS = [
    ("apply", "fn", lambda v: layer().apply(v)),
    ("SGD", "closure", lambda v: stepped(optim.SGD).step(unless(v, None))),
]


def refused(op, argument, call, value):
    """What the call of a wrong value raised, which must be in the form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = raised(call, value)
    assert isinstance(found, seqcore.SeqcoreError) or type(found) in STANDARD, (value, found)
    form = FORM.fullmatch(str(found))
    assert form and form[1] == op and form[2].startswith(argument), (value, found)
    return found


def rows(table):
    return pytest.mark.parametrize(("op", "argument", "call"), table, ids=[f"{op}-{name}" for op, name, _ in table])


@rows(FLAGS + NOT_BUILT)
def test_flags(op, argument, call):
    for value in (*objects(), 1.5, 2, -1, 10**400, float("nan"), np.array(True), *([None] if op != "mean" else [])):
        assert isinstance(refused(op, argument, call, value), TypeError), value
    for value in (False, np.False_, 0):
        assert raised(call, value) is None, value


@rows(NOT_BUILT)
def test_options_that_are_not_built(op, argument, call):
    for value in (True, np.True_, 1):
        assert type(refused(op, argument, call, value)) is NotImplementedError


@rows(INTEGERS)
def test_integers(op, argument, call):
    for value in (*objects(), None, 1.5, float("nan"), True, np.True_, array()):
        assert type(refused(op, argument, call, value)) is TypeError, value
    for value in (10**400, -(10**400)):
        found = raised(call, value)
        if value > 0 and argument in ("bptt", "length", "seed", "steps", "epochs", "save_steps"):
            continue  # one window, no limit; an iterator that nobody has to read to its end; as any seed
        assert isinstance(found, (ValueError, IndexError, MemoryError)) and len(str(found)) < 900, found
    seqcore.set_num_threads(2)


@rows(NUMBERS)
def test_numbers(op, argument, call):
    for value in (*objects(), None, True):
        assert type(refused(op, argument, call, value)) is TypeError, value
    assert type(refused(op, argument, call, 10**400)) is ValueError


@rows(STRINGS)
def test_strings(op, argument, call):
    for value in (*objects(), None, 1.5, 10**400, "gpu:" + "9" * 5000):
        assert isinstance(refused(op, argument, call, value), (TypeError, ValueError, seqcore.DeviceError)), value


@rows(SEVERAL)
def test_iterables(op, argument, call):
    # nor a mapping, whose keys alone would be taken
    memory = (b"a", bytearray(b"a"), memoryview(b"a"), memoryview(np.zeros((2, 2))))
    for value in (None, "a", *memory, 1.5, object(), np.array(1.5), np.float32, Named(), {1: 2}):
        assert isinstance(refused(op, argument, call, value), TypeError), value
    # more than any list holds
    assert type(refused(op, argument, call, range(1 << 70))) is MemoryError


@rows(SEVERAL)
def test_the_first_that_is_wrong_ends_an_iterable(op, argument, call):
    """However many follow: a view may have any number of rows without any memory."""
    read = []
    wrong = (read.append(i) or object() for i in range(1000))
    if op in ("cat", "stack"):
        # any object may be a tensor, but an array of them is none of several
        for value in (array(3, 2), tensor(3, 2), np.broadcast_to(np.float32(1), (1 << 20, 1))):
            assert isinstance(refused(op, argument, call, value), TypeError), value
    else:
        assert isinstance(refused(op, argument, call, wrong), TypeError) and len(read) == 1


@rows(FUNCTIONS)
def test_functions(op, argument, call):
    for value in (None, "a", 1, array(2), object()):
        assert type(refused(op, argument, call, value)) is TypeError, value


# functions of an array, and by which name
INPUTS = {
    "linear input": lambda v: F.linear(v, array(2, 3)),
    "relu input": F.relu,
    "sigmoid input": nn.Sigmoid(),
    "tanh input": nn.Tanh(),
    "dropout input": F.dropout,
    "embedding input": lambda v: nn.Embedding(4, 3)(v),
    "cross_entropy input": lambda v: F.cross_entropy(v, IDS),
    "cross_entropy target": lambda v: F.cross_entropy(array(2, 3), v),
    "lstm input": lambda v: nn.LSTM(*LSTM)(v),
    "lstm h0": lambda v: nn.LSTM(*LSTM)(array(7, 2, 3), (v, array(1, 2, 5))),
    "linear x": lambda v: ops.linear(v, array(2, 3)),
    "relu x": ops.relu,
    "dropout x": ops.dropout,
    "embedding ids": lambda v: ops.embedding(v, array(4, 3)),
    "lstm x": lambda v: ops.lstm(v, None, None, {"weight_ih": array(20, 3), "weight_hh": array(20, 5)}),
    "where condition": lambda v: seqcore.where(v, 1.0, 0.0),
    "where b": lambda v: seqcore.where(np.ones((5, 7), bool), tensor(5, 7), v),
    "matmul a": lambda v: seqcore.matmul(v, array(3, 2)),
    "grad value": lambda v: setattr(tensor(7), "grad", v),
    "from_pretrained embeddings": nn.Embedding.from_pretrained,
    "register_buffer tensor": lambda v: layer().register_buffer("b", v),
}


@pytest.mark.parametrize("name", INPUTS)
def test_arrays(name):
    """Each by the name that the function called has for it: nn's `input` is the `x` of ops."""
    op, argument = name.split()
    for value in (object(), "no", [[1], [1, 2]], np.float32, Named(), np.array([None, 1]), np.zeros(2, "M8[s]"), 1j,
                  [[object()]], np.zeros(2, [("a", "f4")]), (i for i in [1, 2]), 10**400, {}):  # fmt: skip
        if name in ("cross_entropy input", "matmul a") and hasattr(value, "shape"):
            continue  # the shape is looked at first, and does not fit the other
        found = refused(op, argument, INPUTS[name], value)
        # an integer, however large, is an id, but of no row
        kinds = IndexError if op == "embedding" and isinstance(value, int) else (seqcore.ShapeError, seqcore.DTypeError)
        assert isinstance(found, kinds), (value, found)


@pytest.mark.parametrize("kind", [np.float32, np.ndarray, Tensor])
def test_a_class_is_no_array(kind):
    """Though it has the attributes of one."""
    t = tensor(2)
    y = nn.Parameter([1.0]).sum()
    for op, argument, call in (
        ("copy_", "source", t.copy_),
        ("setitem", "value", lambda v: t.__setitem__(0, v)),
        ("add", "other", t.__iadd__),
        ("add", "other", lambda v: t + v),
        ("backward", "gradient", y.backward),
        ("grad", "value", lambda v: setattr(t, "grad", v)),
        ("Tensor", "data", Tensor),
        ("cat", "tensors[0]", lambda v: seqcore.cat([v])),
        ("exp", "x", seqcore.exp),
    ):
        with pytest.raises(
            seqcore.DTypeError, match=rf"^{op}: {re.escape(argument)}: .* got the class {kind.__name__}"
        ):
            call(kind)


@pytest.mark.parametrize(
    "call",
    [seqcore.load_file, LanguageModel.load, lambda v: seqcore.save(v, layer()), lambda v: data.read_ids([v]),
     data.pieces, data.display_name, lambda v: trainer().run(steps=0, path=0.5 if v is None else v),
     lambda v: LanguageModel.from_checkpoint(Checkpoint({}, {}, ""), v),
     lambda v: training_in(Checkpoint({}, {}, ""), v),
     lambda v: Trainer.resume(small_model(), IDS, Checkpoint({}, {}, ""), v)],
)  # fmt: skip
def test_paths(call):
    op = r"(\w+: paths?): expected a path"
    for value in ((), [], 1.5, 0, None, object(), np.float32):
        with pytest.raises(TypeError, match=rf"^{op}, got "):
            call(value)
    for value in ("a\0b", b"a\0b"):
        with pytest.raises(ValueError, match=rf"^{op} without NUL, got "):
            call(value)
    with pytest.raises(ValueError, match=rf"^{op} that the file system can encode, got '.ud800'\.$"):
        call("\ud800")


def test_options_of_an_optimizer_are_a_mapping():
    for value in (5, None, [1], [("lr", 1)], "lr"):
        assert type(refused("Optimizer", "defaults", lambda v: optim.Optimizer([parameter()], v), value)) is TypeError
    for value in (5, None, [1], "params", {}, {"lr": 1}):
        groups = [{"params": [parameter()]}, value]
        name = "param_group" if isinstance(value, dict) else "params"
        assert type(refused("SGD", name, optim.SGD, groups)) is TypeError


def test_indices_that_no_axis_has():
    t = tensor(2, 3)
    for index in (2**63, -(2**64), 2**70, 10**5000, np.uint64(2**63)):
        for place in (index, (0, index), ([0, 1], index)):
            for call in (lambda: t[place], lambda: t.__setitem__(place, 0)):  # noqa: B023
                found = raised(call)
                assert type(found) is IndexError and len(str(found)) < 200
                assert "index: expected an index of axis" in str(found)
    for index in ({"a": "x" * 900}, "x" * 900, slice("x" * 900), slice(10**5000, None, 0), ({"a": "x" * 900}, 0)):
        found = raised(lambda: t[index])  # noqa: B023
        assert FORM.fullmatch(str(found)) and len(str(found)) < 200, found


def test_integers_that_are_to_require_grad():
    for op, kind in (("Tensor", Tensor), ("Parameter", nn.Parameter)):
        for value in ([1, 2], 1, np.array([1, 2]), Tensor([1, 2])):
            with pytest.raises(
                seqcore.DTypeError, match=rf"^{op}: data: expected float32 or float64.* got int64\. Hint"
            ):
                kind(value, requires_grad=True)
            assert kind(value, requires_grad=True, dtype="float32").requires_grad
            assert kind(value, requires_grad=False).dtype == np.int64


@pytest.mark.gpu
def test_joins_across_devices():
    here, there = tensor(2), Tensor(array(2), device="gpu")
    for op in (seqcore.cat, seqcore.stack):
        for given in ([here, there], [array(2), here, there], [there, there, here]):
            with pytest.raises(
                seqcore.DeviceError, match=rf"^{op.__name__}: tensors\[{len(given) - 1}\]: expected a ten"
            ):
                op(given)


def test_what_is_too_large_for_a_float():
    """As an operand or values a DTypeError, as an option a ValueError: never OverflowError."""
    t = tensor(2)
    for call in (
        lambda v: t * v,
        lambda v: v - t,
        lambda v: t**v,
        lambda v: t < v,
        lambda v: t == v,
        lambda v: seqcore.where([True, False], v, t),
        Tensor,
        lambda v: Tensor([v]),
        lambda v: t.copy_(v),
        lambda v: t.__setitem__(0, v),
    ):
        assert isinstance(raised(call, 10**400), seqcore.DTypeError)
    assert "got an integer of 1329 bits." in str(raised(lambda: t * 10**400))


def test_comparisons_that_cannot_be():
    t = tensor(2)
    for other in ([[1], [1, 2]], array(3), np.zeros((3, 2, 5))):
        for call in (lambda v: t < v, lambda v: t == v):
            assert type(refused("compare", "other", call, other)) is seqcore.ShapeError
    for other in (object(), np.zeros(2, "M8[s]"), None, "a"):
        assert isinstance(raised(lambda v: t < v, other), TypeError)


def test_a_tensor_of_a_tensor_stays_where_it_is(device):
    t = Tensor([1.0, 2.0], device=device)
    for made in (Tensor(t), nn.Parameter(t), Tensor(t, dtype="float32"), nn.Parameter(t, device=None)):
        assert made.device == t.device and made.numpy().tolist() == [1.0, 2.0]
    assert Tensor(t, device="cpu").device == "cpu"
    assert nn.Embedding.from_pretrained(Tensor([[1.0]], device=device)).weight.device == t.device


def test_what_is_no_model_no_checkpoint_and_no_watcher():
    checkpoint, tell = Checkpoint({}, {}, ""), trainer()
    for op, argument, call in (
        ("from_checkpoint", "checkpoint", lambda v: LanguageModel.from_checkpoint(v, "path")),
        ("training_in", "checkpoint", lambda v: training_in(v, "path")),
        ("training_in", "checkpoint", lambda v: Trainer.resume(small_model(), IDS, v, "path")),
        ("Trainer", "model", lambda v: Trainer(v, IDS)),
        ("run", "watcher", lambda v: tell.run(steps=0, watcher=unless(v, None))),
    ):
        for value in (*objects(), None, 0, 0.5, "", layer(), {}):
            assert type(refused(op, argument, call, value)) is TypeError, value
    assert isinstance(raised(Trainer.resume, layer(), IDS, checkpoint, "path"), seqcore.CheckpointError)


def test_what_has_no_loss():
    model, logits = small_model(), array(3, 2, 2)
    following = np.array([[0, 1], [1, 0], [0, 0]])
    want = model.loss(Tensor(logits), following).item()
    for given in (logits, logits.tolist(), Tensor(logits)):
        for ids in (following, following.tolist(), Tensor(following)):
            assert model.loss(given, ids).item() == want
    for value in (object(), "a", None, 1j, [[1], [1, 2]], np.float32, {}):
        assert isinstance(refused("loss", "logits", lambda v: model.loss(v, following), value), TypeError | ValueError)
    for value in (array(), 1.0, Tensor(1.0)):
        assert type(refused("loss", "logits", lambda v: model.loss(v, following), value)) is seqcore.ShapeError
    for value in (None, 1, "a", [0], following[:2], following.T, [[1], [1, 2]]):
        assert isinstance(
            refused("loss", "following", lambda v: model.loss(logits, v), value), seqcore.ShapeError | TypeError
        )
    assert isinstance(raised(model.loss, logits, following + 0.5), seqcore.DTypeError)


def test_what_a_vocabulary_does_not_hold():
    vocabulary = data.Vocabulary("ab")
    assert "a" in vocabulary and not any(value in vocabulary for value in (None, 1, b"a", ["a"], "c", object()))


def test_a_path_of_bytes(tmp_path):
    path = os.fsencode(tmp_path / "model.safetensors")
    small_model().save(path)
    assert LanguageModel.load(path).vocabulary.characters == "ab"
    seqcore.save(path, layer())
    with pytest.raises(seqcore.CheckpointError, match=r"model\.safetensors, model: expected"):
        LanguageModel.load(path)
