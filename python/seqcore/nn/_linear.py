"""Linear layers."""

from __future__ import annotations

import math
from typing import Any

from .. import tensor as functions
from .._arguments import flag, integer
from ..tensor import Tensor
from . import init
from ._module import Module
from ._parameter import zeros

__all__ = ["Identity", "Linear"]


class Linear(Module):
    """y = x W^T + b.

    Args:
        in_features, out_features: sizes of the last axis of x and y; bias: whether there is a b.
        device, dtype: of the parameters; None is the CPU and float32.

    Inputs: x (..., in_features), an array or Tensor. Output: y (..., out_features).
    Attributes: weight (out_features, in_features), bias (out_features,) or None, both at first uniform in
    ±1/sqrt(in_features).

    Raises:
        ShapeError, DTypeError, DeviceError: the input does not fit; ValueError, TypeError: a size below 0 or no
            integer; MemoryError: sizes that do not fit into memory.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Linear(3, 2)([[1.0, 2.0, 3.0]]).shape
        (1, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features = integer("Linear", "in_features", in_features, 0)
        self.out_features = integer("Linear", "out_features", out_features, 0)
        shape = (self.out_features, self.in_features)
        self.weight = zeros("Linear", shape, device, dtype)
        self.bias = zeros("Linear", shape[:1], device, dtype) if flag("Linear", "bias", bias) else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the parameters anew."""
        bound = 1.0 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Tensor:
        """y of the input x."""
        return functions.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Gives back what it gets.

    Args:
        any, all ignored.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Identity()([1, 2])
        [1, 2]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """The input."""
        return input
