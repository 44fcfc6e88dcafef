"""Embedding: a table of rows that are looked up by number."""

from __future__ import annotations

from typing import Any, Self

from .. import tensor as functions
from .._arguments import flag, integer, not_built
from ..errors import ShapeError, message
from ..tensor import Tensor, as_tensor, no_grad, padding_row
from . import init
from ._module import Module
from ._parameter import Parameter, zeros

__all__ = ["Embedding"]


class Embedding(Module):
    """The rows of a table that ids name.

    Args:
        num_embeddings, embedding_dim: rows and columns of the table.
        padding_idx: a row that starts at zero and gets no gradient.
        max_norm, norm_type, scale_grad_by_freq, sparse: as in PyTorch; only the defaults are built.
        device, dtype: of the parameter; None is the CPU and float32.

    Inputs: ids (...), integers. Output: (..., embedding_dim).
    Attributes: weight (num_embeddings, embedding_dim), at first normal with mean 0 and variance 1.

    Raises:
        IndexError: an id out of range; DTypeError: ids that are no integers; ValueError, TypeError: a size below 0 or
            no integer, or a padding_idx that is no row; MemoryError: sizes that do not fit into memory;
            NotImplementedError: an option that is not built.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Embedding(10, 3)([1, 2, 4]).shape
        (3, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: Any = None,
        max_norm: Any = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = integer("Embedding", "num_embeddings", num_embeddings, 0)
        self.embedding_dim = integer("Embedding", "embedding_dim", embedding_dim, 0)
        not_built("Embedding", "max_norm", max_norm, None)
        not_built("Embedding", "norm_type", norm_type, 2.0)
        not_built("Embedding", "scale_grad_by_freq", flag("Embedding", "scale_grad_by_freq", scale_grad_by_freq), False)
        not_built("Embedding", "sparse", flag("Embedding", "sparse", sparse), False)
        if padding_idx is not None:
            padding_idx = padding_row("Embedding", padding_idx, self.num_embeddings)
        self.padding_idx = padding_idx
        shape = (self.num_embeddings, self.embedding_dim)
        frozen = flag("Embedding", "_freeze", _freeze)
        if _weight is None:
            self.weight = zeros("Embedding", shape, device, dtype, not frozen)
            self.reset_parameters()
        else:
            self.weight = Parameter(as_tensor("Embedding", "_weight", _weight), not frozen, device, dtype)
            if self.weight.shape != shape:
                raise ShapeError(message("Embedding", "_weight", shape, self.weight.shape))

    def reset_parameters(self) -> None:
        """Draws the table anew, the padding row zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: Any = None,
        max_norm: Any = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        **options: Any,
    ) -> Self:
        """A layer with the rows of an array (rows, columns), by default frozen; the padding row is kept."""
        freeze = flag("from_pretrained", "freeze", freeze)
        embeddings = as_tensor("from_pretrained", "embeddings", embeddings)
        if embeddings.ndim != 2:
            raise ShapeError(message("from_pretrained", "embeddings", "(rows, columns)", embeddings.shape))
        rows, columns = embeddings.shape
        options = {"device": embeddings.device, "dtype": embeddings.dtype, **options}
        unbuilt = max_norm, norm_type, scale_grad_by_freq, sparse
        return cls(rows, columns, padding_idx, *unbuilt, embeddings, freeze, **options)

    def forward(self, input: Any) -> Tensor:
        """The rows that the ids name."""
        return functions.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
