"""Tensors and the tape: one module a family of operations, each with its gradient beside it."""

from ._tensor import FIXED as FIXED  # first: the families take Tensor from there
from ._tensor import Tensor as Tensor
from ._tensor import as_floats as as_floats
from ._tensor import as_ndarray as as_ndarray
from ._tensor import as_tensor as as_tensor  # isort: split

from ._activation import relu as relu
from ._activation import sigmoid as sigmoid
from ._activation import tanh as tanh
from ._dropout import dropout as dropout
from ._elementwise import exp as exp
from ._elementwise import log as log
from ._elementwise import sqrt as sqrt
from ._elementwise import where as where
from ._embedding import embedding as embedding
from ._embedding import padding_row as padding_row
from ._linear import linear as linear
from ._linear import matmul as matmul
from ._loss import cross_entropy as cross_entropy
from ._memory import full as full
from ._memory import overwrite as overwrite
from ._memory import own_memory as own_memory
from ._memory import snapshot as snapshot
from ._memory import values_for as values_for
from ._memory import versions as versions
from ._memory import zero_grads as zero_grads
from ._memory import zeros as zeros
from ._memory import zeros_like as zeros_like
from ._optim import adam_step as adam_step
from ._optim import clip_grad_norm as clip_grad_norm
from ._optim import sgd_step as sgd_step
from ._recurrent import LstmWeights as LstmWeights
from ._recurrent import lstm as lstm
from ._shape import cat as cat
from ._shape import stack as stack
from ._shape import viewed as viewed
from ._tape import at_once as at_once
from ._tape import enable_grad as enable_grad
from ._tape import is_recording as is_recording
from ._tape import no_grad as no_grad

# what is promised to users; the other names are for the layers above
__all__ = [
    "LstmWeights",
    "Tensor",
    "cat",
    "cross_entropy",
    "dropout",
    "embedding",
    "enable_grad",
    "exp",
    "linear",
    "log",
    "lstm",
    "matmul",
    "no_grad",
    "relu",
    "sigmoid",
    "sqrt",
    "stack",
    "tanh",
    "where",
]
