"""Short runs of a `Trainer`, as tests of training share them."""

import numpy as np

import seqcore
from seqcore.checkpoint import load_file
from seqcore.models import LanguageModel
from seqcore.train import Trainer, Watcher

TEXT = "".join(f"{i} times {i % 7} is {i * (i % 7)};\n" for i in range(300))
SIZES = {"embedding": 6, "hidden": 10, "layers": 2}
OPTIONS = {"batch": 5, "bptt": 12, "lr": 5e-3}


class Losses(Watcher):
    def __init__(self):
        self.found = []

    def records(self, records):
        self.found += [(r.step, r.epoch, r.loss, r.gradient_norm, r.validation_loss) for r in records]


def fresh(dropout=0.2, text=TEXT, device="cpu", **options):
    seqcore.manual_seed(11)
    model = LanguageModel(text, dropout=dropout, **SIZES).to(device)
    return Trainer(model, model.vocabulary.encode(text), **{**OPTIONS, **options})


def resumed(path, text=TEXT):
    checkpoint = load_file(path)
    model = LanguageModel.from_checkpoint(checkpoint, path)
    return Trainer.resume(model, model.vocabulary.encode(text), checkpoint, path)


def weights(trainer):
    return {name: value.numpy() for name, value in trainer.model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
