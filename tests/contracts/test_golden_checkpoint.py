"""One stored checkpoint of every released format version loads for ever, with the numbers that it was written with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import seqcore

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def model() -> seqcore.nn.Module:
    return seqcore.nn.LSTM(3, 2)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("checkpoint-*.safetensors")), ids=lambda path: path.stem)
def test_a_released_checkpoint_loads(path: Path) -> None:
    # fault 29
    kept = seqcore.load_file(path)
    lstm = model()
    lstm.load_state_dict(kept.model)
    # element i of the n-th tensor is (n + 1) / 8 - i / 64: exact in float32, and written down here once
    for n, (name, value) in enumerate(lstm.state_dict().items()):
        want = ((n + 1) / 8 - np.arange(value.numpy().size) / 64).astype(np.float32)
        np.testing.assert_array_equal(value.numpy().ravel(), want, err_msg=name)
    optimizer = seqcore.optim.Adam(lstm.parameters(), lr=0.25)
    optimizer.load_state_dict(kept.optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.125
    assert kept.config == {"made": "by hand", "sizes": [3, 2]}
    assert kept.random_state["seed"] == 42


def test_there_is_one_for_this_format() -> None:
    versions = {seqcore.load_file(path).format_version for path in GOLDEN.glob("checkpoint-*.safetensors")}
    assert seqcore.checkpoint.FORMAT_VERSION in versions
