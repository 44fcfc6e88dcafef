"""The character language model beside the same model in PyTorch: the same losses, and how fast each learns.

    python benches/parity/language_model.py --data shakespeare.txt --steps 100

First N steps of both without dropout, from the same weights over the same windows: the losses, and how far they are
apart. Then both with dropout, a step of one and a step of the other in turn, so that a busy machine is equally busy for
both: characters per second, and the ratio as the median over pairs and of the minima. Exit status 1 where the losses
differ by more than the tolerance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch

import seqcore
from seqcore.data import read_ids
from seqcore.models import LanguageModel
from seqcore.train import Record, Trainer, Watcher


class Twin(torch.nn.Module):
    """`LanguageModel` in PyTorch, and a step of truncated back-propagation as `Trainer` makes it."""

    def __init__(self, vocabulary: int, options: argparse.Namespace, dropout: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, options.embedding)
        self.dropout = torch.nn.Dropout(dropout)
        between = dropout if options.layers > 1 else 0.0
        self.lstm = torch.nn.LSTM(options.embedding, options.hidden, options.layers, dropout=between)
        self.linear = torch.nn.Linear(options.hidden, vocabulary)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=options.lr)
        self.clip = options.clip
        self.state: tuple[torch.Tensor, ...] | None = None

    def step(self, ids: np.ndarray, following: np.ndarray) -> torch.Tensor:
        y, state = self.lstm(self.dropout(self.embedding(torch.from_numpy(ids))), self.state)
        logits = self.linear(self.dropout(y))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(following).flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip)
        self.optimizer.step()
        self.state = tuple(part.detach() for part in state)
        return loss.detach()


class Losses(Watcher):
    def __init__(self) -> None:
        self.found: list[float] = []

    def records(self, records: list[Record]) -> None:
        self.found += [record.loss for record in records]


def pair(options: argparse.Namespace, ids: np.ndarray, vocabulary, dropout: float) -> tuple[Trainer, Twin]:
    """Both models with the weights of one, ours on the device asked for."""
    torch.manual_seed(options.seed)
    twin = Twin(len(vocabulary), options, dropout)
    seqcore.manual_seed(options.seed)
    model = LanguageModel(vocabulary, options.embedding, options.hidden, options.layers, dropout)
    model.load_state_dict({name: value.numpy() for name, value in twin.state_dict().items()})
    trainer = Trainer(
        model.to(options.device),
        ids,
        batch=options.batch,
        bptt=options.bptt,
        lr=options.lr,
        clip=options.clip,
        validation=0.0,
    )
    return trainer, twin


def compare(options: argparse.Namespace, ids: np.ndarray, vocabulary) -> tuple[list[float], list[float]]:
    """The losses of the first steps of both, without dropout."""
    trainer, twin = pair(options, ids, vocabulary, 0.0)
    theirs = []
    for step in range(options.steps):
        window = step % len(trainer.streams)
        if window == 0:
            twin.state = None
        theirs.append(twin.step(*trainer.streams[window]).item())
    losses = Losses()
    trainer.run(steps=options.steps, watcher=losses)
    return losses.found, theirs


def race(options: argparse.Namespace, ids: np.ndarray, vocabulary) -> list[tuple[float, float]]:
    """Seconds of a step of ours and of one of theirs, pair by pair, with dropout; the first pairs are warm-up."""
    trainer, twin = pair(options, ids, vocabulary, options.dropout)
    times: list[tuple[float, float]] = []
    end = time.perf_counter() + options.seconds
    while len(times) < 8 or (time.perf_counter() < end and len(times) < len(trainer.streams) - 1):
        window = trainer.streams[trainer.window]
        begin = time.perf_counter()
        trainer.step()
        trainer.read()
        between = time.perf_counter()
        twin.step(*window).item()
        times.append((between - begin, time.perf_counter() - between))
    return times[3:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="text (the sources of Python's standard library)")
    parser.add_argument("--steps", type=int, default=100, help="losses that are compared")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference of two losses")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing")
    parser.add_argument("--device", default="cpu", help="of ours; PyTorch stays on the CPU")
    parser.add_argument("--threads", type=int, default=0, help="of both; 0 is all")
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--bptt", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    threads = options.threads or seqcore.num_threads()
    seqcore.set_num_threads(threads)
    torch.set_num_threads(threads)
    files = [options.data] if options.data else sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    ids, vocabulary = read_ids(files, skipped=lambda _: None)

    ours, theirs = compare(options, ids, vocabulary)
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    times = race(options, ids, vocabulary) if options.seconds else []
    characters = options.batch * options.bptt
    found = {
        "model": f"{options.layers} x LSTM {options.hidden}, batch {options.batch}, {options.bptt} steps",
        "device": options.device,
        "threads": threads,
        "torch": torch.__version__,
        "steps": options.steps,
        "loss_first": ours[0],
        "loss_last": ours[-1],
        "largest_difference": apart,
        "agree": apart <= options.tolerance,
    }
    if times:
        mine, other = (min(side) for side in zip(*times, strict=True))
        found |= {
            "pairs": len(times),
            "characters_per_second": characters / statistics.median(a for a, _ in times),
            "characters_per_second_pytorch": characters / statistics.median(b for _, b in times),
            "ratio_median": statistics.median(b / a for a, b in times),
            "ratio_minima": other / mine,
        }
    if options.json:
        print(json.dumps(found))
    else:
        width = max(map(len, found))
        for name, value in found.items():
            print(f"{name:<{width}}  {f'{value:,.6g}' if isinstance(value, float) else value}")
    return 0 if found["agree"] else 1


if __name__ == "__main__":
    sys.exit(main())
