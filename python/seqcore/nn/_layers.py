"""Layers without parameters: dropout, activations, losses."""

from __future__ import annotations

from typing import Any

from .. import tensor as functions
from .._arguments import flag, not_built, probability
from ..tensor import Tensor
from . import functional
from ._module import Module

__all__ = ["CrossEntropyLoss", "Dropout", "ReLU", "Sigmoid", "Tanh"]


class Dropout(Module):
    """In training, each element 0 with probability p and the others times 1/(1-p); else nothing.

    Args:
        p: from 0 to 1; inplace: only False is built.

    Raises:
        ValueError: p out of range; TypeError: p is no number; NotImplementedError: inplace is True; DTypeError: an
            input of integers.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Dropout(0.5).eval()([1.0]).item()
        1.0
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = probability("Dropout", "p", p)
        not_built("Dropout", "inplace", flag("Dropout", "inplace", inplace), False)
        self.inplace = False

    def forward(self, input: Any) -> Tensor:
        """The input, in training under a new mask."""
        return functional.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Sigmoid(Module):
    """1 / (1 + exp(-x)), element by element.

    Inputs: x (...), an array or Tensor, float32 or float64. Output: y (...), of the dtype of x.

    Raises:
        DTypeError: x is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Sigmoid()([0.0]).item()
        0.5
    """

    def forward(self, input: Any) -> Tensor:
        """The sigmoid of the input."""
        return functions.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent, element by element.

    Inputs: x (...), an array or Tensor, float32 or float64. Output: y (...), of the dtype of x.

    Raises:
        DTypeError: x is of another dtype.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Tanh()([0.0]).item()
        0.0
    """

    def forward(self, input: Any) -> Tensor:
        """The hyperbolic tangent of the input."""
        return functions.tanh(input)


class ReLU(Module):
    """The larger of 0 and x; NaN stays NaN, and the slope at 0 is 0.

    Args:
        inplace: only False is built.

    Inputs: x (...), an array or Tensor, float32 or float64. Output: y (...), of the dtype of x.

    Raises:
        DTypeError: x is of another dtype; NotImplementedError: inplace is True.

    Example:
        >>> import seqcore
        >>> seqcore.nn.ReLU()([-1.0, 2.0])
        Tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        not_built("ReLU", "inplace", flag("ReLU", "inplace", inplace), False)
        self.inplace = False

    def forward(self, input: Any) -> Tensor:
        """The larger of 0 and the input."""
        return functions.relu(input)


class CrossEntropyLoss(Module):
    """-log softmax(input)[target], averaged over the targets that are kept.

    Args:
        ignore_index: a target that does not count; reduction: "mean", "sum" or "none".
        weight, size_average, reduce, label_smoothing: as in PyTorch; only the defaults are built.

    Inputs: logits (N, C), (C,) or (N, C, d1, ...); ids of the other axes' shape.

    Raises:
        ShapeError: the shapes do not fit; IndexError: an id out of range; DTypeError: ids that are no integers, or
            logits that are; ValueError: another reduction; NotImplementedError: an option that is not built.

    Example:
        >>> import seqcore
        >>> seqcore.nn.CrossEntropyLoss()([[0.0, 0.0]], [1]).item() > 0.69
        True
    """

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        functional.check_cross_entropy(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, input: Any, target: Any) -> Tensor:
        """The loss."""
        return functions.cross_entropy(input, target, self.ignore_index, self.reduction)

    def extra_repr(self) -> str:
        """The reduction."""
        return f"reduction={self.reduction!r}"
