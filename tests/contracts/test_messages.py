"""What a user reads when something is wrong: the class, one sentence form, and hints that can be followed."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import seqcore
from command import run
from seqcore import _core, nn, ops
from seqcore.data import Streams, TextError, Vocabulary, read_ids
from seqcore.errors import message
from seqcore.models import LanguageModel


def test_one_form_with_and_without_hint():
    assert message("op", "x", "a", "b") == "op: x: expected a, got b."
    assert message("op", "x", "a", "b", "do c") == "op: x: expected a, got b. Hint: do c."
    assert message("op", "x", "a", "b?", "do c.") == "op: x: expected a, got b? Hint: do c."
    with pytest.raises(seqcore.ShapeError, match=r"^linear: weight: expected [^.]*, got [^.]*\.$"):
        ops.linear(np.zeros(3, np.float32), np.zeros(3, np.float32))


def gone():
    linear = nn.Linear(1, 1)
    y = linear(np.ones((1, 1), np.float32)).sum()
    y.backward()
    y.backward()


# kind of the core: the exact class and a call that raises it. A lost device, a mistake of ours and Ctrl-C need more than
# a call: src/gpu/fault_tests.rs, contracts/test_panics.py and contracts/test_signals.py raise those.
KINDS = {
    "Shape": (seqcore.ShapeError, lambda: ops.linear(np.ones(3, np.float32), np.ones((2, 4), np.float32))),
    "DType": (seqcore.DTypeError, lambda: ops.linear(np.ones(3, int), np.ones((2, 3), np.float32))),
    "Device": (seqcore.DeviceError, lambda: seqcore.Tensor([1.0], device="gpu:99")),
    "DeviceLost": (seqcore.DeviceLostError, None),
    "Checkpoint": (seqcore.CheckpointError, lambda: seqcore.load_file(__file__)),
    "Internal": (seqcore.InternalError, None),
    "Index": (IndexError, lambda: ops.embedding([3], np.ones((3, 2), np.float32))),
    "Value": (ValueError, lambda: seqcore.set_num_threads(0)),
    "Type": (TypeError, lambda: ops.dropout(np.ones(3, np.float32), True)),
    "Memory": (MemoryError, lambda: nn.Linear(2**31, 2**31)),
    "NotBuilt": (NotImplementedError, lambda: nn.LSTM(3, 5, bidirectional=True)),
    "State": (RuntimeError, gone),
    "Interrupted": (KeyboardInterrupt, None),
}
BASES = {
    seqcore.ShapeError: ValueError,
    seqcore.DTypeError: TypeError,
    seqcore.DeviceError: RuntimeError,
    seqcore.DeviceLostError: seqcore.DeviceError,
    seqcore.CheckpointError: ValueError,
    seqcore.InternalError: RuntimeError,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_class_of_every_kind_of_error(kind):
    """S-21: what is seqcore's own is a SeqcoreError and the standard class that fits, the rest is just that class."""
    wanted, call = KINDS[kind]
    if wanted in BASES:
        assert issubclass(wanted, seqcore.SeqcoreError) and issubclass(wanted, BASES[wanted])
    if call is not None:
        with pytest.raises(wanted) as caught:
            call()
        assert caught.type is wanted


# the operation, the argument, what was expected, what came and at most one hint, in one line (S-20)
FORM = r"(?!.*Hint:.*Hint:)[\w.]+: [^:]+: expected .+, got .+?[.?!]( Hint: .+[.?!])?"


@pytest.mark.parametrize("kind", [kind for kind, (_, call) in KINDS.items() if call])
def test_every_kind_speaks_in_one_form(kind):
    with pytest.raises(KINDS[kind][0]) as caught:
        KINDS[kind][1]()
    assert re.fullmatch(FORM, str(caught.value)), caught.value


def spoilt():
    model = LanguageModel("ab", embedding=2, hidden=2, layers=1)
    with seqcore.no_grad():
        model.linear.bias[0] = np.nan
    return list(model.generate("a", length=1))


def a_table():
    column = seqcore.Tensor(np.zeros((2**23, 1), np.float32))
    return column + column.reshape(1, -1)


# what is said by something that does not know which operation was called, or of no array at all
OTHERS = {
    "a tensor that fits nowhere": (MemoryError, a_table),
    "a product that fits nowhere": (MemoryError, lambda: ops.linear(*[np.zeros((2**40, 0), np.float32)] * 2)),
    "a layer that fits nowhere": (MemoryError, lambda: nn.Linear(2**25, 2**25)),
    "an index that fits nowhere": (MemoryError, lambda: seqcore.Tensor([1.0])[np.broadcast_to(0, 2**58)]),
    "no form of Python's": (MemoryError, lambda: seqcore.Tensor([1.0])[range(2**44)]),
    "len": (TypeError, lambda: len(seqcore.Tensor(1.0))),
    "a mode without parentheses": (TypeError, lambda: seqcore.no_grad(print)),
    "no forward": (NotImplementedError, lambda: nn.Module()(1)),
    "a state of others": (RuntimeError, lambda: nn.Linear(2, 1).load_state_dict({"weight": [[1.0]], "others": 0})),
    "outputs that are spoilt": (ValueError, spoilt),
    "no text": (TextError, lambda: read_ids([])),
    "an empty text": (TextError, lambda: read_ids([os.devnull])),
    "a folder": (TextError, lambda: read_ids([os.path.dirname(__file__)])),
    "no text of this encoding": (TextError, lambda: read_ids([_core.__file__])),
    "a text too short": (TextError, lambda: Streams(np.zeros(3, int), 2, 2)),
    "an unknown character": (TextError, lambda: Vocabulary("ab").encode("c")),
    "an unknown encoding": (LookupError, lambda: read_ids([__file__], encoding="none")),
}


@pytest.mark.parametrize("case", OTHERS)
def test_so_does_what_knows_no_operation(case):
    with pytest.raises(OTHERS[case][0]) as caught:
        OTHERS[case][1]()
    said = str(caught.value)
    assert re.fullmatch(FORM, said.strip("'")), said  # a LookupError shows itself in quotes


GPU_VARIABLES = ["SEQCORE_GPU", "SEQCORE_GPU_MEMORY", "SEQCORE_GPU_GEMM"]


@pytest.mark.parametrize("name", ["SEQCORE_ISA", *[pytest.param(it, marks=pytest.mark.gpu) for it in GPU_VARIABLES]])
def test_so_does_a_wrong_environment(name):
    script = f"""
import seqcore
from seqcore import nn
try:
    x = seqcore.Tensor([[1.0]], device={"cpu" if name == "SEQCORE_ISA" else "gpu"!r})
    (x @ x).item()
except Exception as error:
    print(error)
"""
    env = {**os.environ, name: "nonsense"}
    said = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True).stdout.strip()
    assert re.fullmatch(FORM, said) and f": {name}: expected" in said and "nonsense" in said, said


def test_no_text_is_written_beside_the_form():
    """What is raised outside the command line gets its text from `message`, what Rust raises from `Error::argument` or
    `found`: `plain`, for mistakes of ours and Ctrl-C, is private."""
    wild = []
    package = pathlib.Path(seqcore.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(getattr(node, "func", None), "id", "")
            texts = isinstance(node, ast.Call) and node.args[:1]
            if name.endswith("Error") and texts and isinstance(texts[0], ast.JoinedStr | ast.Constant):
                wild.append(f"{path.relative_to(package).as_posix()}: {ast.unparse(node)[:60]}")
    # of the command line; Python's own form for a module's attributes; two that are said again by who catches them
    wild = [it for it in wild if not it.startswith(("cli/", "__init__.py: AttributeError", "_safetensors.py: Value"))]
    assert not wild


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (np.zeros(2, np.int32), 'input.astype("float32") converts it'),
        (np.zeros(2, bool), 'input.astype("float32") converts it'),
        (np.zeros(2, np.float16), 'input.astype("float32") converts it'),
        ([1, 2], 'numpy.asarray(input, "float32") converts it'),
        (seqcore.Tensor([1, 2]), 'input.to(dtype="float32") converts it'),
        (np.zeros(2, complex), "take its real part: input.real"),
        (None, None),
        ("text", None),
        (np.zeros(2, object), None),
        (np.zeros(2, "M8[s]"), None),
        (np.zeros(2, [("a", "f4")]), None),
    ],
)
def test_hints_of_wrong_types_work(value, hint):
    with pytest.raises(seqcore.DTypeError) as raised:
        nn.functional.linear(value, np.zeros((1, 2), np.float32))
    text = str(raised.value)
    assert text.endswith(f" Hint: {hint}." if hint else ".") and ("Hint" in text) == (hint is not None), text


EXACT, FIRST = nn.LSTM(1, 1).double(), nn.LSTM(1, 1, batch_first=True).double()
CELL = {name.removesuffix("_l0"): p.numpy() for name, p in EXACT.named_parameters()}
# layers of float64, beside which a list is of float32: the name in the message, the axes, the call
OF_FLOAT64 = {
    "ops.lstm x": ("x", 3, lambda v: ops.lstm(v, None, None, CELL)),
    "ops.lstm h0": ("h0", 2, lambda v: ops.lstm(np.zeros((2, 1, 1)), v, None, CELL)),
    "ops.lstm c0": ("c0", 2, lambda v: ops.lstm(np.zeros((2, 1, 1)), None, v, CELL)),
    "ops.lstm dh_n": ("dh_n", 2, lambda v: ops.lstm_backward(ops.lstm(np.zeros((2, 1, 1)), None, None, CELL)[3], None, v)),
    "x": ("input", 3, EXACT),
    "x unbatched": ("input", 2, EXACT),
    "x batch first": ("input", 3, FIRST),
    "h0": ("h0", 3, lambda v: EXACT(np.zeros((2, 1, 1)), (v, np.zeros((1, 1, 1))))),
    "h0 unbatched": ("h0", 2, lambda v: EXACT(np.zeros((2, 1)), (v, np.zeros((1, 1))))),
    "c0 batch first": ("c0", 3, lambda v: FIRST(np.zeros((1, 2, 1)), (np.zeros((1, 1, 1)), v))),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_FLOAT64)
def test_the_hint_for_another_dtype_works(name):
    """In the words of what was given, also where it is brought into another shape first."""
    argument, rank, call = OF_FLOAT64[name]
    value = [[0.5]] if rank == 2 else [[[0.5]]]
    with pytest.raises(seqcore.DTypeError, match=f"{argument}: expected float64, as .*, got float32") as raised:
        call(value)
    how = str(raised.value).partition("for example ")[2].removesuffix(".")
    call(eval(how, {argument: value, "numpy": np}))


def test_targets_in_lists():
    """Of a list it is said what a list needs; floats of the logits' shape are probabilities in a list too."""
    logits = np.zeros((2, 2), np.float32)
    with pytest.raises(seqcore.DTypeError, match=r'expected integers, got float64.*numpy\.asarray\(target, "int64"\)'):
        nn.functional.cross_entropy(logits, [0.0, 1.0])
    with pytest.raises(NotImplementedError, match=r"got probabilities of shape \(2, 2\)"):
        nn.functional.cross_entropy(logits, [[0.0, 1.0], [1.0, 0.0]])


T, FLOATS = seqcore.Tensor([1.0, 2.0]), np.ones(2, np.float32)
# a function of integers where floats are wanted, and the name that the message gives them
TAKES_FLOATS = {
    "exp": ("x", seqcore.exp),
    "log": ("x", seqcore.log),
    "sqrt": ("x", seqcore.tensor.sqrt),
    "sigmoid": ("input", nn.functional.sigmoid),
    "matmul a": ("a", lambda v: seqcore.matmul(v, FLOATS)),
    "matmul b": ("b", lambda v: T @ v),
    "where a": ("a", lambda v: seqcore.where(T > 1, v, FLOATS)),
    "where b": ("b", lambda v: seqcore.where(T > 1, T, v)),
    "T +": ("other", lambda v: T + v),
    "- T": ("other", lambda v: v - T if hasattr(v, "dtype") else T.__rsub__(v)),
    "T +=": ("other", seqcore.Tensor([1.0, 2.0]).__iadd__),
    "T **": ("other", lambda v: T**v),
    "cross_entropy": ("input", lambda v: nn.functional.cross_entropy(v, 1)),
}


@pytest.mark.parametrize("kind", ["array", "list", "torch"])
@pytest.mark.parametrize("name", TAKES_FLOATS)
def test_the_hint_for_integers_works(name, kind):
    """In the words of what was given: an array has no `to` of ours, a list nothing at all."""
    argument, call = TAKES_FLOATS[name]
    value = np.array([1, 2])
    value = {
        "array": lambda: value,
        "list": value.tolist,
        "torch": lambda: pytest.importorskip("torch").from_numpy(value),
    }[kind]()
    with pytest.raises(seqcore.DTypeError, match=f"{argument}: expected float32 or float64, got int64") as raised:
        call(value)
    hint = str(raised.value).partition(" Hint: ")[2].removesuffix(" converts it.")
    assert call(eval(hint, {"numpy": np, argument: value})).dtype == np.float32


def _converted(hint, **names):
    """What the hint `convert one of them, for example EXPRESSION` makes."""
    expression = hint.partition("for example ")[2].removesuffix(".")
    return eval(expression, {"numpy": np, **names})


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("list", "float64"), *((k, f"float{n}") for k in ("tensor", "array", "torch") for n in (32, 64))],
)
def test_the_hint_of_a_dtype_clash_works(kind, dtype):
    """In the words of what the argument is: a Tensor has no `astype`."""
    values, other = np.ones((1, 2)), {"float32": np.float64, "float64": np.float32}[dtype]
    x = {
        "tensor": lambda: seqcore.Tensor(values.astype(other)),
        "array": lambda: values.astype(other),
        "list": values.tolist,
        "torch": lambda: pytest.importorskip("torch").from_numpy(values.astype(other)),
    }[kind]()
    weight = seqcore.Tensor(np.ones((1, 2), dtype))
    with pytest.raises(seqcore.DTypeError, match=f"input: expected {dtype}, as weight") as raised:
        nn.functional.linear(x, weight)
    made = _converted(str(raised.value), input=x)
    assert nn.functional.linear(made, weight).numpy().dtype == dtype


def test_an_array_beside_a_tensor_is_the_one_to_convert():
    """NumPy's own dtype in a layer of float32: the weight is not to blame."""
    x = np.ones((1, 2))
    with pytest.raises(seqcore.DTypeError, match="linear: input: expected float32, as weight, got float64") as raised:
        nn.Linear(2, 3)(x)
    assert nn.Linear(2, 3)(_converted(str(raised.value), input=x)).shape == (1, 3)


def test_a_tensor_says_all_types_that_it_takes():
    with pytest.raises(seqcore.DTypeError, match="expected float32, float64 or integers, got bool"):
        seqcore.Tensor(np.zeros(2, bool))


def test_what_a_foreign_array_says_comes_through():
    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise LookupError("no data")

    with pytest.raises(LookupError, match="no data"):
        seqcore.Tensor(Broken())
    torch = pytest.importorskip("torch")
    wanted = r"that needs no gradient, got a Tensor that requires grad. Hint: data.detach\(\) gives its values\.$"
    with pytest.raises(ValueError, match=wanted):
        seqcore.Tensor(torch.zeros(2, requires_grad=True))
    with pytest.raises(seqcore.DeviceError, match=r"got a Tensor on meta. Hint: move it with data.cpu\(\)\.$"):
        seqcore.Tensor(torch.zeros(2, device="meta"))
    with pytest.raises(
        ValueError, match=r"^relu: input: expected an array that gives its values, got a Tensor \(Can't"
    ):
        nn.functional.relu(torch.zeros(2, 2).to_sparse())
    with pytest.raises(seqcore.DTypeError, match=r"got torch.bfloat16. Hint: data.float\(\) converts it\.$"):
        seqcore.Tensor(torch.zeros(2, dtype=torch.bfloat16))


def test_values_without_a_meaning():
    for call in (
        lambda: nn.Embedding(5, 3, padding_idx=7),
        lambda: seqcore.manual_seed(-1),
        lambda: seqcore.manual_seed(1 << 64),
        lambda: seqcore.Tensor([1.0]).to("cuda"),
        lambda: nn.Linear(1, 1).to("cuda"),
    ):
        with pytest.raises(ValueError) as raised:
            call()
        assert type(raised.value) is ValueError
    with pytest.raises(ValueError, match='"cpu", "gpu", "gpu:N" or "auto"'):
        seqcore.Tensor([1.0]).to("cuda")
    seqcore.manual_seed((1 << 64) - 1)
    seqcore.manual_seed(0)


def test_a_deleted_parameter_is_named():
    lstm = nn.LSTM(3, 4)
    x = np.zeros((2, 1, 3), np.float32)
    lstm(x)
    del lstm.weight_ih_l0
    with pytest.raises(AttributeError, match="weight_ih_l0"):
        lstm(x)


def test_paths_and_modules_of_checkpoints(tmp_path):
    with pytest.raises(IsADirectoryError) as raised:
        seqcore.load_file(tmp_path)
    assert raised.value.filename == str(tmp_path)
    with pytest.raises(TypeError, match=r"^save: module: expected a Module, got a dict\.$"):
        seqcore.save(tmp_path / "x", {})


def test_load_state_dict_lists_what_is_wrong_plainly():
    with pytest.raises(RuntimeError, match=r"got weight: expected \(1, 2\), got \(1, 3\); nothing was loaded\.$"):
        nn.Linear(2, 1).load_state_dict({"weight": [[1, 2, 3]], "bias": [1.0]})


def test_the_operation_speaks_of_its_own_axes():
    x, ih, hh = (np.zeros(shape, np.float32) for shape in ((2, 3, 4), (20, 4), (20, 5)))
    weights = {"weight_ih": ih, "weight_hh": hh}
    wrong, right = np.zeros((2, 5), np.float32), np.zeros((3, 5), np.float32)
    with pytest.raises(seqcore.ShapeError, match=r"h0: expected \(3, 5\) = \(B, hidden_size\), got \(2, 5\)\."):
        ops.lstm(x, wrong, right, weights)
    *_, saved = ops.lstm(x, None, None, weights)
    with pytest.raises(seqcore.ShapeError, match=r"dh_n: expected \(3, 5\) = \(B, hidden_size\), got \(2, 5\)\."):
        ops.lstm_backward(saved, None, wrong)
    with pytest.raises(seqcore.ShapeError, match=r"hidden_size of at least 1, got \(0, 0\)\."):
        ops.lstm(x, None, None, {"weight_ih": np.zeros((0, 4), "f4"), "weight_hh": np.zeros((0, 0), "f4")})
    with pytest.raises(ValueError, match=r"got unknown bias, w_ih; no weight_ih\.$"):
        ops.lstm(x, None, None, {"w_ih": ih, "weight_hh": hh, "bias": hh})


def test_a_wrong_instruction_set_is_one_clean_line(tmp_path):
    text = tmp_path / "text"
    text.write_text("text " * 100)
    wrong = {**os.environ, "SEQCORE_ISA": "foo"}
    said = run("lm", "train", text, "--device", "cpu", "--out", tmp_path / "m", check=1, env=wrong).stderr
    assert not (tmp_path / "m").exists() and said.startswith("seqcore: SEQCORE_ISA: expected one of portable")
    assert said.endswith(", got foo. Hint: unset the variable.\n") and said.count("Hint") == 1
    shown = run("info", env=wrong, check=1).stdout
    assert "got foo. Hint: unset the variable.\n" in shown
    assert "expected" not in run("info", env={**os.environ, "SEQCORE_ISA": ""}).stdout


def test_drivers_are_quiet_where_nobody_is_logged_in():
    gone = ("XDG_RUNTIME_DIR", "NODEVICE_SELECT", "SEQCORE_GPU")
    env = {name: value for name, value in os.environ.items() if name not in gone}
    for script in ("seqcore.devices()", "seqcore.runtime.place('auto')"):
        done = subprocess.run(
            [sys.executable, "-c", f"import seqcore; {script}"], env=env, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_info_says_why_there_is_no_gpu():
    env = {name: value for name, value in os.environ.items() if name != "SEQCORE_GPU"}
    row = run("info", env=env).stdout.splitlines()[-1]
    if row.startswith("gpu "):
        assert "SEQCORE_GPU=software" in row or "install a driver" in row or "no GPU engine" in row


def test_a_loss_that_is_not_finite_ends_training(tmp_path):
    text, out = tmp_path / "text", tmp_path / "m"
    text.write_text("some text of several words " * 100)
    small = ["--hidden", 8, "--layers", 1, "--batch", 2, "--bptt", 8, "--device", "cpu", "--clip", 0]
    done = run("lm", "train", text, *small, "--lr", "1e38", "--quiet", "--out", out, check=1)
    assert done.stderr.startswith("seqcore: Trainer: loss: expected a finite number") and done.stderr.count("Hint") == 1
    assert seqcore.load_file(out).model
