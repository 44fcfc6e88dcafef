"""Layers and models, with PyTorch's names, argument order, weight layouts, state shapes and initial values."""

from . import functional as functional
from . import init as init
from . import utils as utils
from ._containers import ModuleList as ModuleList
from ._containers import Sequential as Sequential
from ._embedding import Embedding as Embedding
from ._layers import CrossEntropyLoss as CrossEntropyLoss
from ._layers import Dropout as Dropout
from ._layers import ReLU as ReLU
from ._layers import Sigmoid as Sigmoid
from ._layers import Tanh as Tanh
from ._linear import Identity as Identity
from ._linear import Linear as Linear
from ._module import Module as Module
from ._parameter import Parameter as Parameter
from ._recurrent import LSTM as LSTM

__all__ = [
    "LSTM",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Identity",
    "Linear",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "functional",
    "init",
    "utils",
]
