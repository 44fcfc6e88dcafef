"""What is done to the parameters of a module (the name of the folder is PyTorch's)."""

from ._clip import clip_grad_norm_ as clip_grad_norm_

__all__ = ["clip_grad_norm_"]
