"""seqcore: recurrent sequence models, NumPy in and out."""

from . import _start as _start  # isort: split

import importlib
from typing import Any

from . import debug as debug
from . import nn as nn
from . import ops as ops
from . import optim as optim
from ._core import __version__ as __version__
from .errors import CheckpointError as CheckpointError
from .errors import DeviceError as DeviceError
from .errors import DeviceLostError as DeviceLostError
from .errors import DTypeError as DTypeError
from .errors import InternalError as InternalError
from .errors import SeqcoreError as SeqcoreError
from .errors import ShapeError as ShapeError
from .runtime import devices as devices
from .runtime import manual_seed as manual_seed
from .runtime import num_threads as num_threads
from .runtime import set_num_threads as set_num_threads
from .tensor import Tensor as Tensor
from .tensor import cat as cat
from .tensor import enable_grad as enable_grad
from .tensor import exp as exp
from .tensor import log as log
from .tensor import matmul as matmul
from .tensor import no_grad as no_grad
from .tensor import stack as stack
from .tensor import where as where

__all__ = [
    "CheckpointError",
    "DTypeError",
    "DeviceError",
    "DeviceLostError",
    "InternalError",
    "SeqcoreError",
    "ShapeError",
    "Tensor",
    "__version__",
    "cat",
    "debug",
    "devices",
    "enable_grad",
    "exp",
    "load_file",
    "log",
    "manual_seed",
    "matmul",
    "nn",
    "no_grad",
    "num_threads",
    "ops",
    "optim",
    "save",
    "set_num_threads",
    "stack",
    "where",
]

# loaded on first use: they cost more than all of the above, or belong to programs alone
_LATER = {"load_file": "checkpoint", "save": "checkpoint"}
_MODULES = ("checkpoint", "cli", "data", "models", "train")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    if name in _MODULES:
        try:
            return importlib.import_module(f".{name}", __name__)
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, *_MODULES})
