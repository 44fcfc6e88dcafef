"""Layers as functions: Tensors or arrays in, Tensors out."""

from __future__ import annotations

from typing import Any

from .. import tensor as functions
from .._arguments import choice, flag, integer, not_built, probability, real
from ..errors import DTypeError, message
from ..tensor import Tensor, as_floats
from ..tensor import linear as linear
from ..tensor import sigmoid as sigmoid
from ..tensor import tanh as tanh

__all__ = ["cross_entropy", "dropout", "embedding", "linear", "relu", "sigmoid", "tanh"]


def embedding(
    input: Any,
    weight: Any,
    padding_idx: Any = None,
    max_norm: Any = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` (rows, features) that the integers `input` (...) name: (..., features).

    Args:
        padding_idx: a row that gets no gradient; the rest as in PyTorch, where only the defaults are built.

    Raises:
        IndexError: an id out of range; DTypeError: ids that are no integers, or a weight of them; ShapeError: weight is
            no matrix; DeviceError: the two are on several devices; ValueError, TypeError: padding_idx is no row;
            NotImplementedError: an option that is not built.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.embedding([1, 0], [[1.0], [2.0]]).shape
        (2, 1)
    """
    not_built("embedding", "max_norm", max_norm, None)
    not_built("embedding", "norm_type", norm_type, 2.0)
    not_built("embedding", "scale_grad_by_freq", flag("embedding", "scale_grad_by_freq", scale_grad_by_freq), False)
    not_built("embedding", "sparse", flag("embedding", "sparse", sparse), False)
    return functions.embedding(input, weight, padding_idx)


def relu(input: Any, inplace: bool = False) -> Tensor:
    """The larger of 0 and the input; NaN stays NaN, and the slope at 0 is 0.

    Args:
        input: an array or Tensor of any shape; inplace: only False is built.

    Raises:
        DTypeError: the input is of another dtype than float32 or float64; NotImplementedError: inplace is True.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.relu([-1.0, 2.0])
        Tensor([0., 2.])
    """
    not_built("relu", "inplace", flag("relu", "inplace", inplace), False)
    return functions.relu(input)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with probability p, the others times 1/(1-p); without `training` the input as it is.

    Args:
        input: an array or Tensor of any shape; p: from 0 to 1; inplace: only False is built.

    Raises:
        ValueError: p out of range; TypeError: p is no number; DTypeError: integers, with `training` or without;
            NotImplementedError: inplace is True.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.dropout([1.0, 2.0], 0.5, training=False)
        Tensor([1., 2.])
    """
    p = probability("dropout", "p", p)
    not_built("dropout", "inplace", flag("dropout", "inplace", inplace), False)
    if not flag("dropout", "training", training) or p == 0.0:
        x = as_floats("dropout", "input", input)
        if x.dtype.kind == "i":
            hint = 'input.to(dtype="float32") converts it'
            raise DTypeError(message("dropout", "input", "float32 or float64", x.dtype, hint))
        return x
    return functions.dropout(input, p)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target], averaged over the targets that are kept, summed, or one by one.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...); target: ids of the other axes' shape.
        ignore_index: a target that does not count; reduction: "mean", "sum" or "none".
        weight, size_average, reduce, label_smoothing: as in PyTorch; only the defaults are built.

    Raises:
        ShapeError: the shapes do not fit; IndexError: an id out of range; DTypeError: ids that are no integers, or
            logits that are; ValueError: another reduction; NotImplementedError: an option that is not built.

    Example:
        >>> import seqcore
        >>> seqcore.nn.functional.cross_entropy([[0.0, 0.0]], [1]).item()
        0.6931471824645996
    """
    check_cross_entropy(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
    return functions.cross_entropy(input, target, ignore_index, reduction)


def check_cross_entropy(
    weight: Any, size_average: Any, ignore_index: Any, reduce: Any, reduction: Any, label_smoothing: Any
) -> None:
    """Refuses by name the options that are not built, and wrong ones."""
    if weight is not None:
        raise NotImplementedError(message("cross_entropy", "weight", "None, the rest is not built yet", "an array"))
    not_built("cross_entropy", "size_average", size_average, None)
    not_built("cross_entropy", "reduce", reduce, None)
    label_smoothing = real("cross_entropy", "label_smoothing", label_smoothing)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(message("cross_entropy", "label_smoothing", "a number from 0 to 1", label_smoothing))
    not_built("cross_entropy", "label_smoothing", label_smoothing, 0.0)
    integer("cross_entropy", "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    choice("cross_entropy", "reduction", reduction, "mean", "sum", "none")
