"""Ctrl-C in a long call: it ends soon, nothing is half changed, and the next call is as in a fresh process."""

import statistics
import sys

import pytest

from programs import program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")

# 100 ms is the promise; a machine that runs other work besides gives its time slices on top
PROMISE = 0.1
BUSY = 4

CALLS = {
    "lstm": "lstm(xs)",
    "lstm float64": "deep(deep_xs)",
    "lstm backward": "backward(lstm, xs)",
    "lstm float64 backward": "backward(deep, deep_xs)",
    "linear": "linear(rows)",
    "linear backward": "backward(linear, rows)",
    "linear float64": "wide(wide_rows)",
    "linear float64 backward": "backward(wide, wide_rows)",
    "matmul": "square @ square",
    "cross-entropy": "cross_entropy(logits, ids)",
    "elementwise": "seqcore.exp(long)",
    "embedding backward": "backward(table, ids)",
    "sum": "(long * 1.5).sum()",
    "optimizer": "adam.step()",
    "copy": "seqcore.Tensor(long)",
    "cast": "long.to('float64')",
    "setitem": "long[1:] = 2.0",
    "join": "seqcore.cat([long, long, long, long])",
    "slice of long rows": "long_rows[:, 1:]",
    "columns": "table_of_columns[:, columns]",
    "pick": "long[positions]",
    "pick by narrow ids": "functional.embedding(narrow, one)",
    "pick backward": "picked_back()",
    "mask": "longer[np.tile(mask, 3)]",
    "mask set": "written(mask, some)",
    "mask across": "table_of_columns[across]",
    "comparison across": "square == square.numpy().T",
    "ids set": "written(positions, few)",
    "mixed pick": "table_of_columns[..., halves, None]",
    "mixed set": "written_behind(halves)",
    "normal": "nn.init.normal_(longer)",
    "load float64": "module.load_state_dict(state)",
    "transpose of long rows": "longer.reshape(30_000_000, 4).transpose(0, 1)",
    "cross-entropy of one class": "cross_entropy(column, zeros)",
    "float64 cross-entropy of one class": "cross_entropy(column, zeros)",
    "float64 sum of lone terms": "column.sum(1)",
    "float64 sum over axes": "column.reshape(4, 2, -1).sum((0, 2))",
    "dot": "column.reshape(1, -1) @ column",
    "products of a batch": "squares @ squares",
    "one output": "backward(one_output, column.reshape(1, -1))",
    "list of floats": "seqcore.Tensor(listed)",
    "list of bools": "seqcore.where(listed, 1.0, 0.0)",
    "list beside a tensor": "long[:20_000_000] + listed",
    "product with a large matrix": "row @ large",
    "lstm of many units float64": "of_many(np.ones((1, 1, 3000)))",
    "listing": "seqcore.cat(map(abs, itertools.repeat(1.5, 30_000_000)))",
}

SOURCE = """
import _thread, itertools, os, signal, sys, threading, time
import numpy as np, seqcore
from seqcore import nn, optim
from seqcore.nn import functional
from seqcore.nn.functional import cross_entropy
from integers import bits, ids as integer_ids, numbers

signal.signal(signal.SIGALRM, signal.default_int_handler)
seqcore.set_num_threads(int(sys.argv[2]))
name, call = sys.argv[1], sys.argv[3]
lstm, xs = nn.LSTM(256, 512), np.ones((100, 64, 256), np.float32)
deep, deep_xs = nn.LSTM(64, 64).double(), np.ones((60, 32, 64))
linear, rows = nn.Linear(1024, 2048), np.ones((20000, 1024), np.float32)
wide, wide_rows = nn.Linear(256, 512).double(), np.ones((1000, 256))
square = seqcore.Tensor(np.ones((3000, 3000), np.float32))
logits, ids = np.ones((2000, 20000), np.float32), integer_ids(1, 20000, 2000)
squares = seqcore.Tensor(np.ones((2, 3000, 3000), np.float32))
long = seqcore.Tensor(np.ones(40_000_000, np.float32))
long_rows = seqcore.Tensor(np.ones((4, 40_000_000 if name == "slice of long rows" else 1), np.float32))
table_of_columns, columns = long.reshape(8000, 5000), integer_ids(2, 5000, 5000)
table = nn.Embedding(20000, 1000)
adam = optim.Adam([nn.Parameter(np.ones(30_000_000, np.float32))])
if name == "optimizer":
    for group in adam.param_groups:
        for parameter in group["params"]:
            parameter.grad = np.ones(parameter.shape, np.float32)

if name.startswith(("pick", "mask", "ids")):
    positions = np.arange(40_000_000) * 7919 % 40_000_000
    mask = positions % 2 == 0
    narrow, one = (positions % 100).astype(np.int32), np.ones((100, 1), np.float32)
    weight, few = (seqcore.Tensor(long, requires_grad=True) for _ in range(2))
    some = seqcore.Tensor(np.ones(20_000_000, np.float32), requires_grad=True)
if name == "load float64":
    module, state = nn.Linear(100_000_000, 1, bias=False), {"weight": np.ones((1, 100_000_000))}
if "of one" in name or "terms" in name or "axes" in name or "dot" in name or name == "one output":
    column = seqcore.Tensor(np.ones((20_000_000, 1)), dtype="float64" if "float64" in name else "float32")
    zeros = np.zeros(20_000_000, np.int64)
if name == "one output":
    one_output = nn.Linear(20_000_000, 1)
if name in ("mask", "normal", "transpose of long rows"):
    longer = seqcore.Tensor(np.ones(120_000_000, np.float32))

if name == "product with a large matrix":
    large, row = (seqcore.Tensor(np.ones((n, 16_384), np.float32)) for n in (16_384, 1))
if name == "lstm of many units float64":
    of_many = nn.LSTM(3000, 3000, dtype="float64")

if name.startswith("list "):
    listed = [True, False] * 10_000_000 if "bools" in name else [0.5, 1.5] * 10_000_000

if name == "mask across":
    across = np.asfortranarray(np.arange(40_000_000).reshape(8000, 5000) % 2 == 0)

if name.startswith("mixed"):
    halves = np.arange(40_000_000).reshape(8000, 5000) % 2 == 0

def written_behind(index):
    b = seqcore.Tensor(table_of_columns, requires_grad=True) * 1.0
    b[..., index, None] = 1.0
    b.sum().backward()

def picked_back():
    weight[positions].sum().backward()

def written(index, value):
    b = weight * 1.0
    b[index] = value
    b.sum().backward()

def backward(module, given):
    if given.dtype.kind == "f":
        given = seqcore.Tensor(given, requires_grad=True)
    y = module(given)
    y = y[0] if isinstance(y, tuple) else y
    y.backward(np.ones(y.shape, y.dtype))

def check():
    small = nn.LSTM(5, 7)
    small.load_state_dict({n: numbers(9, *p.shape, scale=0.25) for n, p in small.named_parameters()})
    x = seqcore.Tensor(numbers(1, 6, 3, 5), requires_grad=True)
    y, _ = small(x)
    (y * y).sum().backward()
    return bits(y, x.grad, small.state_dict())

want = check()
code = compile(call, "call", "exec")
times = []
for i in range(int(sys.argv[4])):
    wait = 0.01 + 0.017 * i
    sent = time.perf_counter() + wait
    try:
        # not from a thread: it would have to wait for a call that keeps the interpreter's lock
        signal.setitimer(signal.ITIMER_REAL, wait)
        while True:
            exec(code)
    except KeyboardInterrupt:
        times.append(time.perf_counter() - sent)
    assert check() == want
print(*times)
"""


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends_a_long_call(name, threads):
    """fault 16."""
    if threads == 3 and "float64" in name:
        return
    times = [float(t) for t in program(SOURCE, name, threads, CALLS[name], 7).split()]
    assert len(times) == 7 and statistics.median(times) < PROMISE and min(times) < PROMISE, times
    assert max(times) < BUSY * PROMISE * 3, times


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_at_twenty_moments(name):
    """fault 16."""
    times = sorted(float(t) for t in program(SOURCE, name, 2, CALLS[name], 20).split())
    assert times[15] < PROMISE and times[-1] < BUSY * PROMISE, times


def test_ctrl_c_leaves_what_is_filled_or_loaded_as_it_was():
    """fault 16."""
    source = """
    import os, signal, threading, time
    import numpy as np, seqcore
    from seqcore import nn
    signal.signal(signal.SIGINT, signal.default_int_handler)
    module = nn.Linear(1_000_000, 4, bias=False)
    wide = {"weight": np.arange(4_000_000.0).reshape(4, -1)}
    for change in (lambda: nn.init.normal_(module.weight), lambda: module.load_state_dict(wide)):
        for i in range(5):
            def send():
                time.sleep(0.01 + 0.013 * i)
                os.kill(os.getpid(), signal.SIGINT)
            thread = threading.Thread(target=send)
            try:
                thread.start()
                while True:
                    nn.init.zeros_(module.weight)
                    change()
            except KeyboardInterrupt:
                pass
            thread.join()
            print(np.count_nonzero(module.weight.numpy()) > 3_900_000, np.any(module.weight.numpy()))
    """
    assert {frozenset(line.split()) for line in program(source).splitlines()} <= {
        frozenset(["True"]),
        frozenset(["False"]),
    }


def test_ctrl_c_while_waiting_for_another_call():
    """fault 16: a call that changes parameters waits for the calls that read them, and can be interrupted."""
    source = """
    import os, signal, threading, time
    import numpy as np, seqcore
    from seqcore import nn
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seqcore.set_num_threads(1)
    linear, rows = nn.Linear(2048, 2048), np.ones((30000, 2048), np.float32)
    state = {n: p.numpy(copy=True) for n, p in linear.named_parameters()}
    began, sent = threading.Event(), [0.0]

    def long():
        with seqcore.no_grad():
            began.set()
            linear(rows)

    def send():
        time.sleep(0.15)
        sent[0] = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    reader = threading.Thread(target=long)
    reader.start()
    began.wait()
    time.sleep(0.05)
    threading.Thread(target=send).start()
    try:
        while True:
            linear.load_state_dict({n: a + 1 for n, a in state.items()})
            linear.load_state_dict(state)
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0], reader.is_alive())
    reader.join()
    linear.load_state_dict(state)
    """
    took, _ = program(source).split()
    assert float(took) < BUSY * PROMISE


def test_a_handler_may_read_and_not_change():
    """fault 16: a handler that calls in again gets its result; a change is refused; the call goes on."""
    source = """
    import signal, time
    import numpy as np, seqcore
    from seqcore import nn, ops
    from integers import bits, numbers
    lstm = nn.LSTM(64, 256)
    x = numbers(1, 200, 32, 64)
    small = numbers(2, 5, 6)
    with seqcore.no_grad():
        want, want_small = bits(lstm(x)), bits(ops.tanh(small)[0])
    found = []

    def handler(*_):
        found.append(bits(ops.tanh(small)[0]) == want_small)
        try:
            lstm.load_state_dict(lstm.state_dict())
            found.append("changed")
        except RuntimeError as error:
            found.append("signal handler" in str(error) or str(error))
        signal.setitimer(signal.ITIMER_REAL, 0.01)  # not before: a handler would interrupt itself

    signal.signal(signal.SIGALRM, handler)
    before = bits(lstm.state_dict())
    with seqcore.no_grad():
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        same = all(bits(lstm(x)) == want for _ in range(10))
        signal.setitimer(signal.ITIMER_REAL, 0)
    lstm.load_state_dict(lstm.state_dict())
    # between calls a handler may change them
    print(same, len(found) > 3, all(f is True or f == "changed" for f in found), True in found,
          bits(lstm.state_dict()) == before, *{f for f in found if f not in (True, "changed")})
    """
    assert program(source) == "True True True True True"


def test_ctrl_c_leaves_parameters_whole():
    """fault 16: an optimizer step is done or not done: all parameters have taken the same number of steps."""
    source = """
    import os, signal, threading, time
    import numpy as np, seqcore
    from seqcore import nn, optim
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parameters = [nn.Parameter(np.zeros(4_000_000, np.float32)) for _ in range(4)]
    sgd = optim.SGD(parameters, lr=1.0)
    for p in parameters:
        p.grad = -np.ones(p.shape, np.float32)
    for i in range(10):
        def send():
            time.sleep(0.02 + 0.007 * i)
            os.kill(os.getpid(), signal.SIGINT)
        thread = threading.Thread(target=send)
        try:
            thread.start()
            while True:
                sgd.step()
        except KeyboardInterrupt:
            pass
        thread.join()
        values = {v for p in parameters for v in np.unique(p.numpy()).tolist()}
        assert len(values) == 1, values
    print("whole")
    """
    assert program(source) == "whole"


TORN = """
import signal, sys
import numpy as np, seqcore
from seqcore import nn

signal.signal(signal.SIGINT, signal.default_int_handler)

class Pressed:
    '''Presses Ctrl-C before instruction `at` of seqcore's own Python code.'''
    def __init__(self, at):
        self.at, self.count = at, 0
    def __enter__(self):
        sys.settrace(self.called)
    def __exit__(self, *_):
        sys.settrace(None)
    def called(self, frame, event, argument):
        if "seqcore" in frame.f_code.co_filename:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return self.ran
    def ran(self, frame, event, argument):
        if event == "opcode":
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(signal.SIGINT)
        return self.ran

def every(prepare, call, check, step):
    at = 1
    while True:
        made, pressed = prepare(), Pressed(at)
        try:
            with pressed:
                call(*made)
        except KeyboardInterrupt:
            pass
        check(*made)
        if pressed.count < at:
            return
        at += step

def written():
    w, v = (seqcore.Tensor(np.ones(4, np.float32), requires_grad=True) for _ in range(2))
    return w, v, w * 1.0

def whole(w, v, x):
    # either what was before, values and history, or what is after
    new = x.numpy().tolist() != [1.0] * 4
    x.sum().backward()
    assert (x.numpy()[1] == 5.0) == new and w.grad.numpy()[1] == (0.0 if new else 1.0)

def layers():
    model = nn.ModuleList([nn.Linear(2, 3) for _ in range(3)])
    model.zero_grad()
    (model[0](np.ones((1, 2), np.float32)).sum() + model[1](np.ones((1, 2), np.float32)).sum()).backward()
    return (model,)

def of_one_type(model):
    assert len({t.dtype for p in model.parameters() for t in (p, p.grad) if t is not None}) == 1

def leaves():
    made = [seqcore.Tensor([1.0], requires_grad=True) for _ in range(5)]
    return made, sum(made[1:], made[0])

def all_or_none(made, _):
    assert len({leaf.grad is None for leaf in made}) == 1

def with_gradients():
    made, total = leaves()
    total.backward()
    return made, seqcore.optim.SGD(made)

def layers_with_gradients():
    (model,) = layers()
    return list(model[:2].parameters()), model

step = int(sys.argv[1])
for value in (5.0, seqcore.Tensor([5.0], requires_grad=True)):
    for index in (1, [1, 1], slice(1, 2), np.array([False, True, False, False])):
        every(written, lambda w, v, x: x.__setitem__(index, value), whole, step)
every(written, lambda w, v, x: x.copy_(v * 5.0), whole, step)
every(written, lambda w, v, x: x.__imul__(5.0), lambda *_: None, step)
every(layers, lambda model: model.double(), of_one_type, step)
every(leaves, lambda made, total: total.backward(), all_or_none, step)
every(with_gradients, lambda made, sgd: sgd.zero_grad(), all_or_none, step)
every(layers_with_gradients, lambda made, model: model.zero_grad(), all_or_none, step)
print("done")
"""


def test_no_state_is_torn_between_two_instructions():
    """fault 16: what is written and its history, all gradients or none, all of a module or none."""
    assert program(TORN, 3) == "done"


MODE = """
import signal, time
import seqcore
from seqcore import Tensor

def pressed(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, pressed)
one, end, count = Tensor([1.0], requires_grad=True), time.monotonic() + 2, 0
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 2e-5 + 1e-6 * (count % 100))
        while True:
            with seqcore.no_grad():
                pass
    except KeyboardInterrupt:
        count += 1
    assert (one * 2.0).requires_grad, count
assert count > 1000
print("done")
"""


def test_a_signal_leaves_the_mode_as_it_was():
    assert program(MODE) == "done"
