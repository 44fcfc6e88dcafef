"""The first file to run anywhere: a net learns, in under a second."""

import numpy as np

import seqcore


def test_a_recurrent_net_learns():
    seqcore.manual_seed(1)
    lstm, out = seqcore.nn.LSTM(3, 5), seqcore.nn.Linear(5, 2)
    optimizer = seqcore.optim.Adam([*lstm.parameters(), *out.parameters()], lr=0.05)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 4, 3)).astype(np.float32)
    target = (x[:, :, 0] > 0).astype(np.int64).reshape(-1)
    losses = []
    for _ in range(30):
        y, _ = lstm(x)
        loss = seqcore.nn.functional.cross_entropy(out(y).reshape(28, 2), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
