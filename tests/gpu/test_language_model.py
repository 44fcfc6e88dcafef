"""The language model on the GPU: 20 steps of training, each loss within 1e-4 of the CPU's, and of PyTorch's."""

import numpy as np
import pytest
import torch

import seqcore
from seqcore.models import LanguageModel
from torch_compare import error

pytestmark = pytest.mark.gpu

TEXT = "".join(f"{i} times {i % 7} is {i * (i % 7)};\n" for i in range(200))
BATCH, BPTT, STEPS = 4, 32, 20


def losses(device, hidden, layers, dropout, optimizer="Adam"):
    seqcore.manual_seed(2)
    model = LanguageModel(TEXT, embedding=16, hidden=hidden, layers=layers, dropout=dropout).to(device)
    rule = getattr(seqcore.optim, optimizer)(model.parameters(), lr=2e-3 if optimizer == "Adam" else 0.5)
    ids = model.vocabulary.encode(TEXT).astype(np.int64)
    ids = ids[: len(ids) // BATCH * BATCH].reshape(BATCH, -1).T
    found, state = [], None
    for step in range(STEPS):
        first = step * BPTT
        logits, state = model(ids[first : first + BPTT], state)
        loss = model.loss(logits, ids[first + 1 : first + BPTT + 1])
        rule.zero_grad()
        loss.backward()
        seqcore.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rule.step()
        state = tuple(s.detach() for s in state)
        found.append(loss)
    return np.array([loss.item() for loss in found]), model


@pytest.mark.parametrize(("hidden", "layers", "dropout"), [(16, 1, 0.0), (32, 2, 0.2), (33, 2, 0.0)])
@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_twenty_losses_are_the_cpu_s(hidden, layers, dropout, optimizer):
    """S-165; with dropout too, because the masks are the same."""
    cpu, on_cpu = losses("cpu", hidden, layers, dropout, optimizer)
    gpu, on_gpu = losses("gpu", hidden, layers, dropout, optimizer)
    assert np.abs(cpu - gpu).max() <= 1e-4
    assert cpu[-1] < cpu[0] - 0.1  # it did learn
    for (name, a), b in zip(on_cpu.named_parameters(), on_gpu.parameters(), strict=True):
        assert error(b.numpy(), a.numpy()) < 1e-3, name


def test_twenty_losses_are_those_of_pytorch():
    """The same weights and batches, clipping and Adam, in float64."""
    found, _ = losses("gpu", 24, 2, 0.0)
    seqcore.manual_seed(2)
    start = LanguageModel(TEXT, embedding=16, hidden=24, layers=2, dropout=0.0)
    v = len(start.vocabulary)
    parts = {
        "embedding": torch.nn.Embedding(v, 16).double(),
        "lstm": torch.nn.LSTM(16, 24, 2).double(),
        "linear": torch.nn.Linear(24, v).double(),
    }
    model = torch.nn.ModuleDict(parts)
    model.load_state_dict({n: torch.tensor(p.numpy()).double() for n, p in start.state_dict().items()})
    rule = torch.optim.Adam(model.parameters(), lr=2e-3)
    ids = start.vocabulary.encode(TEXT).astype(np.int64)
    ids = torch.tensor(np.ascontiguousarray(ids[: len(ids) // BATCH * BATCH].reshape(BATCH, -1).T))
    state, wanted = None, []
    for step in range(STEPS):
        first = step * BPTT
        y, state = parts["lstm"](parts["embedding"](ids[first : first + BPTT]), state)
        logits = parts["linear"](y)
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, v), ids[first + 1 : first + BPTT + 1].reshape(-1))
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rule.step()
        state = tuple(s.detach() for s in state)
        wanted.append(loss.item())
    assert np.abs(found - np.array(wanted)).max() <= 1e-4


def test_generated_text_is_the_cpu_s():
    seqcore.manual_seed(2)
    model = LanguageModel(TEXT, embedding=8, hidden=16, layers=2)
    text = "".join(model.generate("3 times ", 40, 0, 1))
    assert "".join(model.to("gpu").generate("3 times ", 40, 0, 1)) == text
