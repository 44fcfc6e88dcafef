"""nn.LSTM on the GPU against what the CPU computes; tests/nn/test_lstm.py holds both against PyTorch."""

import numpy as np
import pytest

import seqcore
from torch_compare import WEIGHTS, error, rounded

pytestmark = pytest.mark.gpu


def on_both(build, x, seed=5):
    """Outputs and gradients of one module on the CPU and on the GPU, from the same weights and random state."""
    seqcore.manual_seed(seed)
    cpu = build()
    gpu = build()
    gpu.load_state_dict(cpu.state_dict())
    found = []
    for module, device in ((cpu, "cpu"), (gpu.to("gpu"), "gpu")):
        seqcore.manual_seed(seed)
        t = seqcore.Tensor(x, True, device)
        out = module(t)
        y = out[0] if isinstance(out, tuple) else out
        (y * y).sum().backward()
        found.append([y.numpy(), t.grad.numpy(), *(p.grad.numpy() for p in module.parameters())])
    return zip(*found, strict=True)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_between_layers_is_the_cpu_s(p):
    """S-27, S-42: the mask is a function of seed and position, so another mask would show at once."""
    x = rounded(np.random.default_rng(2), (7, 4, 3))
    for cpu, gpu in on_both(lambda: seqcore.nn.LSTM(3, 16, 3, dropout=p), x):
        assert error(gpu, cpu) <= WEIGHTS
