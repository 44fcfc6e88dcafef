"""seqcore: recurrent and convolutional sequence models, NumPy in and out."""

from ._core import __version__ as __version__
