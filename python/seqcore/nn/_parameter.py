"""Parameter: a Tensor that a module owns and an optimizer changes."""

from __future__ import annotations

from typing import Any

from ..tensor import FIXED, Tensor

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A Tensor that a Module finds among its attributes; its memory changes only through in-place operations.

    Args:
        data: an array or Tensor of floats, copied; requires_grad: False freezes it.

    Example:
        >>> import seqcore
        >>> seqcore.nn.Parameter([1.0, 2.0]).requires_grad
        True
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(data, False, device, dtype)
        self._flags = FIXED
        if requires_grad:
            self.requires_grad_()
