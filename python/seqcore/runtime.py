"""What the process as a whole has: devices, threads, and the random state."""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _core
from ._arguments import integer, shown
from .errors import DeviceError, DTypeError, message

__all__ = [
    "VERSION",
    "devices",
    "draw",
    "dtype_name",
    "get_random_state",
    "is_device",
    "manual_seed",
    "num_threads",
    "place",
    "quiet_drivers",
    "set_num_threads",
    "set_random_state",
]

VERSION = _core.__version__

# PyTorch's own default: a program that never calls manual_seed still runs the same way twice
_DEFAULT_SEED = 67280421310721
_FLOATS = {"float32", "float64"}


class _Random:
    """The seed and how many random calls were made under it; every random number is a function of the two."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.seed = _DEFAULT_SEED
        self.calls = 0


_random = _Random()


def devices() -> list[dict[str, Any]]:
    """The devices of this machine: a list of dicts, the CPU first, then every GPU adapter.

    A process that was forked from one that had used the GPU has the CPU alone.

    Each has `device`, the name that `device=` takes, and `type`; adapters have `name`, `hardware` and more.

    Example:
        >>> import seqcore
        >>> seqcore.devices()[0]["device"]
        'cpu'
    """
    quiet_drivers()
    return _core.devices()


def quiet_drivers() -> None:
    """To be called before anything that may look for a GPU.

    Mesa's device-select layer, which Vulkan loads unasked, looks for a display, and where nobody is logged in
    complains of it on standard error. seqcore chooses its adapter itself, so the layer is switched off, unless
    somebody uses it.

    Example:
        >>> from seqcore import runtime
        >>> runtime.quiet_drivers()
    """
    if "MESA_VK_DEVICE_SELECT" not in os.environ:
        os.environ.setdefault("NODEVICE_SELECT", "1")


def place(device: Any) -> str:
    """The canonical name of a device: "cpu" or "gpu:N".

    Args:
        device: "cpu", "gpu" (the first), "gpu:N", None (the CPU) or "auto": the first adapter of `devices` that is
            hardware, else the CPU.

    Raises:
        DeviceError: for "gpu:" with what can be no adapter's number; ValueError: for any other string;
        TypeError: for anything but a string or None.

    Example:
        >>> from seqcore import runtime
        >>> runtime.place(None), runtime.place("gpu")
        ('cpu', 'gpu:0')
    """
    if device is None:
        return "cpu"
    if not isinstance(device, str):
        raise TypeError(message("device", "device", "a string or None", shown(device)))
    if device == "cpu":
        return "cpu"
    if device == "auto":
        return next((d["device"] for d in devices() if d.get("hardware")), "cpu")
    quiet_drivers()
    if device == "gpu":
        return "gpu:0"
    number = device.removeprefix("gpu:")
    if number == device:
        raise ValueError(message("device", "device", '"cpu", "gpu", "gpu:N" or "auto"', shown(device)))
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        there = ", ".join(d["device"] for d in devices())
        raise DeviceError(message("device", "device", f"a device that is there ({there})", shown(device)))
    return f"gpu:{int(number)}"


def is_device(value: Any) -> bool:
    """Whether an argument that may be a device or a dtype is to be taken as a device: what names no dtype.

    Args:
        value: anything.

    Example:
        >>> from seqcore import runtime
        >>> runtime.is_device("gpu:1"), runtime.is_device("float32")
        (True, False)
    """
    if not isinstance(value, str):
        return not isinstance(value, type | np.dtype)
    if value in ("cpu", "auto") or value.startswith("gpu"):
        return True
    try:
        np.dtype(value)
    except (TypeError, ValueError, SyntaxError):
        return True
    return False


def dtype_name(dtype: Any, device: Any = "cpu", op: str = "Tensor") -> str:
    """NumPy's name of `dtype`, if tensors of it can live on `device`.

    Args:
        dtype: a name, type or dtype; device: a canonical name; op: which operation a message names.

    Raises:
        DTypeError: for anything but float32, float64 and int64, and for float64 on a GPU.

    Example:
        >>> from seqcore import runtime
        >>> runtime.dtype_name(float)
        'float64'
    """
    try:
        # arrays have a dtype, which NumPy would take
        name = np.dtype(dtype).name if isinstance(dtype, str | type | np.dtype) else ""
    except (TypeError, ValueError, SyntaxError) as error:
        raise DTypeError(message(op, "dtype", "float32, float64 or int64", shown(dtype))) from error
    if name not in _FLOATS and name != "int64":
        raise DTypeError(message(op, "dtype", "float32, float64 or int64", name or shown(dtype)))
    if name == "float64" and device != "cpu":
        raise DTypeError(message(op, "dtype", f"float32 on {device}", name, "use float32, which GPUs compute in"))
    return name


def _look_at_environment() -> None:
    """One warning for an OMP_NUM_THREADS that is none; it is ignored."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    # what Rust reads as a usize: not Python's idea of spaces, digits and size; a lone surrogate is what is no UTF-8
    space = r"[^\S\x1c-\x1f]*"
    found = re.fullmatch(rf"{space}\+?0*([1-9][0-9]{{0,19}}){space}(,[^\ud800-\udfff]*)?", text)
    if text and not (found and int(found[1]) <= 2 * sys.maxsize + 1):
        what = message("seqcore", "OMP_NUM_THREADS", "a number of threads, at least 1", shown(text), "unset it")
        warnings.warn(f"{what} It is ignored.", RuntimeWarning, stacklevel=2)


def num_threads() -> int:
    """How many threads a call may use: at first OMP_NUM_THREADS, else as many as affinity and quota allow.

    Example:
        >>> import seqcore
        >>> seqcore.num_threads() >= 1
        True
    """
    return _core.num_threads()


def set_num_threads(n: Any) -> None:
    """Sets how many threads a call may use; results do not depend on it.

    Args:
        n: an integer from 1 to 1024.

    Raises:
        ValueError: any other integer; TypeError: n is no integer.

    Example:
        >>> import seqcore
        >>> seqcore.set_num_threads(1)
    """
    _core.set_num_threads(integer("set_num_threads", "n", n, 1, 1024))


def manual_seed(seed: Any) -> None:
    """Restarts the random state: initial weights and dropout masks are functions of the seed and the calls since.

    Args:
        seed: an integer from 0 to 2^64 - 1.

    Raises:
        ValueError: any other integer; TypeError: seed is no integer.

    Example:
        >>> import seqcore
        >>> seqcore.manual_seed(0)
    """
    seed = integer("manual_seed", "seed", seed, 0, 2**64 - 1)
    with _random.lock:
        _random.seed, _random.calls = seed, 0


def draw(calls: int = 1) -> tuple[int, int]:
    """The seed and the number of the first of `calls` random streams, which no other call will get.

    After 2^64 of them the numbers begin again.

    Args:
        calls: an integer from 0 to 2^32.

    Raises:
        ValueError: any other integer; TypeError: calls is no integer.

    Example:
        >>> from seqcore import runtime
        >>> runtime.manual_seed(5)
        >>> runtime.draw(3), runtime.draw()
        ((5, 0), (5, 3))
    """
    calls = integer("draw", "calls", calls, 0, 2**32)
    with _random.lock:
        first = _random.calls
        _random.calls = (first + calls) % 2**64
        return _random.seed, first


def get_random_state() -> dict[str, int]:
    """The random state as a dict of two integers, `seed` and `calls`, for a checkpoint.

    Example:
        >>> from seqcore import runtime
        >>> runtime.manual_seed(5)
        >>> runtime.get_random_state()
        {'seed': 5, 'calls': 0}
    """
    with _random.lock:
        return {"seed": _random.seed, "calls": _random.calls}


def set_random_state(state: Any) -> None:
    """Goes on from a state that `get_random_state` gave.

    Args:
        state: a mapping with the integers `seed` and `calls`, each from 0 to below 2^64.

    Raises:
        ValueError: the state lacks one of them; TypeError: it is no mapping.

    Example:
        >>> from seqcore import runtime
        >>> runtime.set_random_state({"seed": 5, "calls": 2})
        >>> runtime.draw()
        (5, 2)
    """
    if not isinstance(state, Mapping):
        raise TypeError(message("set_random_state", "state", "a mapping", shown(state)))
    seed: Any = state.get("seed")
    calls: Any = state.get("calls")
    if not all(type(n) is int and 0 <= n < 1 << 64 for n in (seed, calls)):
        raise ValueError(message("set_random_state", "state", "integers seed and calls below 2^64", repr(state)[:80]))
    with _random.lock:
        _random.seed, _random.calls = seed, calls


def check_device(op: str, argument: str, device: Any, expected: Any) -> None:
    """DeviceError by the template unless `device` is `expected`."""
    if device != expected:
        raise DeviceError(
            message(op, argument, f"a tensor on {expected}", f"one on {device}", f'move it with .to("{expected}")')
        )


def _after_fork() -> None:
    # a lock that another thread held at the fork would never be released in the child
    _random.lock = threading.RLock()
    _core.remember_main_thread()


_look_at_environment()
atexit.register(_core.interpreter_ends)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
