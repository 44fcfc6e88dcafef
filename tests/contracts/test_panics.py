"""A mistake of ours never ends the process: panics become InternalError. On the wheel with feature `testing`."""

import numpy as np
import pytest

import seqcore
from integers import bits, numbers
from seqcore import _core, nn

pytestmark = pytest.mark.testing

PANICS = {
    "call": lambda t: t.panic_in_call(),
    "short call": lambda t: t.panic_in_short_call(),
    "first unit": lambda t: t.panic_in_worker(0),
    "a worker's unit": lambda t: t.panic_in_worker(63),
    "phase": lambda t: t.panic_in_phase(3),
    "last phase": lambda t: t.panic_in_phase(7),
}

# what does not run inside a call: the bodies of functions and methods, and reading their arguments
OUTSIDE = {
    "function": lambda t: t.panic_in_function(),
    "argument": lambda t: t.panic_in_argument(1),
    "new": lambda t: t.Panicking(True),
    "method": lambda t: t.Panicking(False).method(),
    "getter": lambda t: t.Panicking(False).getter,
    "len": lambda t: len(t.Panicking(False)),
    "iter": lambda t: iter(t.Panicking(False)),
    "inside another entry": lambda t: seqcore.Tensor(Reads(t.panic_in_function)),
    "inside the reading of a layer": lambda t: nn.LSTM(24, 64)(Reads(t.panic_in_function)),
}


class Reads:
    """An array whose reading calls something."""

    def __init__(self, call):
        self.call = call

    def __array__(self, dtype=None, copy=None):
        self.call()
        return np.zeros((1, 1, 24), np.float32)


def good(module):
    x = seqcore.Tensor(numbers(1, 20, 16, 24), requires_grad=True)
    y, _ = module(x)
    y.backward(np.ones(y.shape, np.float32))
    module.zero_grad()
    module.load_state_dict(module.state_dict())
    return bits(y, x.grad)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("name", PANICS)
def test_a_panic_is_an_exception(name, threads, capfd):
    """fault 1: caught by `except Exception`; the process and the module go on as before."""
    before = seqcore.num_threads()
    seqcore.set_num_threads(threads)
    module = nn.LSTM(24, 64)
    want = good(module)
    try:
        for _ in range(3):
            with pytest.raises(Exception, match="to order") as caught:
                PANICS[name](_core.testing)
            assert caught.type is seqcore.InternalError
            assert good(module) == want
    finally:
        seqcore.set_num_threads(before)
    capfd.readouterr()


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_panic_anywhere_else_is_the_same_exception(name, capfd):
    """fault 1: wherever it began; and the gate is free again."""
    for _ in range(3):
        with pytest.raises(Exception, match="to order") as caught:
            OUTSIDE[name](_core.testing)
        assert caught.type is seqcore.InternalError
    module = nn.LSTM(24, 64)
    assert good(module) == good(module)
    capfd.readouterr()


def test_a_failing_allocation_is_a_memory_error():
    """fault 9."""
    for _ in range(3):
        with pytest.raises(MemoryError, match="memory: expected room for"):
            _core.testing.failing_allocation()
