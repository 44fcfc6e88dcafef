"""Interleaved timing of two things in one process: the only kind of figure that means anything on a shared machine.

Each side is calibrated to at least 2 ms a sample, the sides alternate, and a row is the ratio of the minima and the
median of the paired ratios. Where the two differ by more than 10 % the machine was busy: run again.

A thread pool spins for a while after its last work, for the next piece may come at once: on cores that the other side
then needs. So with several threads a sample begins after a pause, and one run that is not timed wakes its own threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Row:
    """How many times faster ours is than theirs."""

    name: str
    minimum: float
    median: float
    ours: float
    theirs: float
    samples: list[tuple[float, float]]
    floor: float | None = None

    @property
    def steady(self) -> bool:
        """Whether minimum and median agree within 10 %."""
        return abs(self.minimum / self.median - 1) <= 0.1

    def line(self) -> str:
        want = "" if self.floor is None else f"{self.floor:5.2f}  {'yes' if self.median >= self.floor else 'NO '}"
        busy = "" if self.steady else "  (busy)"
        times = f"{self.ours * 1e6:10.1f} {self.theirs * 1e6:10.1f}"
        return f"{self.name:44s} {self.median:6.2f} {self.minimum:6.2f}  {times}  {want}{busy}"


HEADER = f"{'':44s} {'median':>6s} {'min':>6s}  {'ours us':>10s} {'theirs us':>10s}  floor  met"


def _repeats(run: Callable[[], object]) -> int:
    run()
    count = 1
    while True:
        began = time.perf_counter()
        for _ in range(count):
            run()
        took = time.perf_counter() - began
        if took >= 2e-3:
            return count
        count = max(count + 1, int(count * 2.4e-3 / max(took, 1e-7)))


def paired(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    floor: float | None = None,
    seconds: float = 3.0,
    rounds: int = 9,
    pause: float = 0.0,
) -> Row:
    """Times both sides in turn for at least `rounds` rounds and `seconds` seconds, `pause` seconds apart."""
    counts = [_repeats(ours), _repeats(theirs)]
    samples: list[tuple[float, float]] = []
    began = time.perf_counter()
    while len(samples) < rounds or time.perf_counter() - began < seconds:
        pair = []
        for run, count in zip((ours, theirs), counts, strict=True):
            if pause:
                time.sleep(pause)
                run()
            start = time.perf_counter()
            for _ in range(count):
                run()
            pair.append((time.perf_counter() - start) / count)
        samples.append((pair[0], pair[1]))
    a, b = min(s[0] for s in samples), min(s[1] for s in samples)
    median = statistics.median(t / o for o, t in samples)
    return Row(name, b / a, median, a, b, samples, floor)
