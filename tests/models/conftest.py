"""What tests of training share."""

import pytest

from runs import Losses, fresh, weights


@pytest.fixture(scope="session")
def uninterrupted():
    """A run of two epochs that nothing disturbed: what it told, its weights, and its trainer."""
    trainer, told = fresh(), Losses()
    trainer.run(epochs=2, watcher=told)
    return told.found, weights(trainer), trainer
