"""LSTM against PyTorch on the CPU: forward, training and the single step, by paired ratio.

    python benches/lstm.py [--threads N] [--seconds S] [--record FILE]

A training row is zero_grad, forward, backward with a fixed dy (x requires a gradient) and a plain SGD step, on both
sides: weights change every time, so nothing packed can be reused. Warm weights: nothing runs between the samples.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=1, help="threads of both sides; 0 is all (default 1)")
parser.add_argument("--seconds", type=float, default=3.0, help="seconds a row (default 3)")
parser.add_argument("--record", help="append the raw samples to this file, a JSON line a row")
arguments = parser.parse_args()
threads = arguments.threads or len(os.sched_getaffinity(0))
PAUSE = 0.0 if threads == 1 else 0.03
os.environ["OMP_NUM_THREADS"] = str(threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402

import seqcore  # noqa: E402
from paired import HEADER, Row, paired  # noqa: E402
from seqcore import _core  # noqa: E402

torch.set_num_threads(threads)
seqcore.set_num_threads(threads)
rng = np.random.default_rng(1)


def pair(size: int) -> tuple[seqcore.nn.LSTM, torch.nn.LSTM]:
    theirs = torch.nn.LSTM(size, size)
    ours = seqcore.nn.LSTM(size, size)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


def arrays(*shape: int) -> tuple[np.ndarray, torch.Tensor]:
    x = rng.standard_normal(shape, dtype=np.float32)
    return x, torch.from_numpy(x.copy())


def forward(t: int, b: int, h: int, floor: float) -> Row:
    ours, theirs = pair(h)
    x, tx = arrays(t, b, h)

    def run_ours() -> None:
        with seqcore.no_grad():
            ours(x)

    def run_theirs() -> None:
        with torch.inference_mode():
            theirs(tx)

    return paired(f"forward  T={t} B={b} I=H={h}", run_ours, run_theirs, floor, arguments.seconds, pause=PAUSE)


def training(t: int, b: int, h: int, floor: float) -> Row:
    ours, theirs = pair(h)
    x, tx = arrays(t, b, h)
    dy, tdy = arrays(t, b, h)
    sx, tx = seqcore.Tensor(x, requires_grad=True), tx.requires_grad_(True)
    sdy = seqcore.Tensor(dy)
    our_sgd = seqcore.optim.SGD(ours.parameters(), lr=1e-6)
    their_sgd = torch.optim.SGD(theirs.parameters(), lr=1e-6)

    def run_ours() -> None:
        our_sgd.zero_grad()
        sx.grad = None
        y, _ = ours(sx)
        y.backward(sdy)
        our_sgd.step()

    def run_theirs() -> None:
        their_sgd.zero_grad()
        tx.grad = None
        y, _ = theirs(tx)
        y.backward(tdy)
        their_sgd.step()

    return paired(f"training T={t} B={b} I=H={h}", run_ours, run_theirs, floor, arguments.seconds, pause=PAUSE)


def step(h: int) -> list[Row]:
    ours, theirs = pair(h)
    x, tx = arrays(1, 1, h)
    state = seqcore.Tensor(np.full((1, 1, h), 0.1, np.float32)), seqcore.Tensor(np.full((1, 1, h), 0.2, np.float32))
    tstate = torch.full((1, 1, h), 0.1), torch.full((1, 1, h), 0.2)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    bare = _core.LstmStep(*(getattr(ours, name) for name in names), batch=1)
    row, out = x[0].copy(), np.empty((1, h), np.float32)

    def run_ours() -> None:
        with seqcore.no_grad():
            ours(x, state)

    def run_bare() -> None:
        bare.step(row, out)

    def run_theirs() -> None:
        with torch.inference_mode():
            theirs(tx, tstate)

    return [
        paired(f"step     nn.LSTM on an array, H={h}", run_ours, run_theirs, 10, arguments.seconds),
        paired(f"step     bare method, H={h}", run_bare, run_theirs, 20, arguments.seconds),
    ]


SHAPES = [(100, 1, 128, 1.8), (50, 16, 256, 1.05), (50, 64, 512, 0.95)]


def main() -> int:
    info = seqcore.debug.cpu_info()
    print(f"seqcore {seqcore.__version__} ({info['isa']}), PyTorch {torch.__version__}, {threads} thread(s)")
    print(HEADER)
    rows = []
    floors = threads == 1
    for t, b, h, floor in SHAPES:
        for measure in (forward, training):
            rows.append(measure(t, b, h, floor))
            if not floors:
                rows[-1].floor = None
            print(rows[-1].line(), flush=True)
    if threads == 1:
        for row in step(64):
            rows.append(row)
            print(row.line(), flush=True)
    if arguments.record:
        with open(arguments.record, "a") as f:
            for row in rows:
                kept = {"row": row.name, "threads": threads, "machine": platform.processor(), "samples": row.samples}
                f.write(json.dumps(kept) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
