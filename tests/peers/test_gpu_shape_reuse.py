"""lesson 2: shape reuse. On MPS gradients were wrong after a call with another batch size, above 32,768 elements
(p#177116): large, small, large again in one context, bit for bit what a fresh context computes.
"""

import hashlib

import pytest

from programs import silent

pytestmark = pytest.mark.gpu

CODE = """
import hashlib
from seqcore.models import LanguageModel

def one(batch, steps):
    rng = np.random.default_rng(batch)
    seqcore.manual_seed(3)
    model = LanguageModel("abcdefghij", embedding=9, hidden=13, layers=2, dropout=0.3).to("gpu")
    ids = rng.integers(0, 10, (steps + 1, batch))
    state = tuple(rng.standard_normal((2, batch, 13)).astype(np.float32) for _ in range(2))
    logits, (h, c) = model(ids[:-1], state)
    loss = model.loss(logits, ids[1:]) + (h * c).sum()
    loss.backward()
    seqcore.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    rule = seqcore.optim.Adam(model.parameters())
    rule.step()
    digest = hashlib.sha256(logits.numpy().tobytes() + loss.numpy().tobytes())
    for p in model.parameters():
        digest.update(p.grad.numpy().tobytes() + p.numpy().tobytes())
    return digest.hexdigest()
"""
LARGE, SMALL, ODD = (129, 37), (2, 5), (33, 70)  # the large one has 129 * 37 * 13 = 62,049 elements of state


def test_large_small_large():
    """Each of the calls against a context of its own; memory let go by one is used by the next."""
    fresh = {shape: silent(CODE + f"\nprint(one{shape})").strip() for shape in (LARGE, SMALL, ODD)}
    assert all(len(value) == len(hashlib.sha256().hexdigest()) for value in fresh.values())
    order = [LARGE, SMALL, LARGE, ODD, LARGE, SMALL, ODD]
    found = silent(CODE + "\n" + "\n".join(f"print(one{shape})" for shape in order)).split()
    assert found == [fresh[shape] for shape in order]
