"""Optimizers, with PyTorch's names, defaults and state_dicts."""

from ._adam import Adam as Adam
from ._adam import AdamW as AdamW
from ._optimizer import Optimizer as Optimizer
from ._sgd import SGD as SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
