"""Operations without a tape: arrays in, ndarrays out, each with its backward. Every forward gives `saved` last."""

from ._activation import relu as relu
from ._activation import relu_backward as relu_backward
from ._activation import sigmoid as sigmoid
from ._activation import sigmoid_backward as sigmoid_backward
from ._activation import tanh as tanh
from ._activation import tanh_backward as tanh_backward
from ._dropout import dropout as dropout
from ._dropout import dropout_backward as dropout_backward
from ._embedding import embedding as embedding
from ._embedding import embedding_backward as embedding_backward
from ._linear import linear as linear
from ._linear import linear_backward as linear_backward
from ._loss import cross_entropy as cross_entropy
from ._loss import cross_entropy_backward as cross_entropy_backward
from ._recurrent import lstm as lstm
from ._recurrent import lstm_backward as lstm_backward

__all__ = [
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "linear",
    "linear_backward",
    "lstm",
    "lstm_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "tanh",
    "tanh_backward",
]
