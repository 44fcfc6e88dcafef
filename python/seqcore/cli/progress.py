"""What training shows: a bar on a terminal, plain lines elsewhere, and a log of losses. All on standard error."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..data import display_name
from ..train import Record, Trainer, Watcher
from .parser import printable

if TYPE_CHECKING:
    from rich.progress import Progress

# between plain lines: often enough to see life, seldom enough for a log of hours
_SECONDS_A_LINE = 10.0


class Display(Watcher):
    """Tells a person how training goes, and writes the log where there is one."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.log: LossLog | None = None
        self.log_failed: OSError | None = None
        self._log_warned = self._save_warned = False
        self._bar: Progress | None = None
        self._trainer: Trainer | None = None
        self._limits: tuple[int | None, int | None, float | None] = (None, None, None)
        self._began = self._told = self._line_at = time.monotonic()
        self._first_step = self._characters = 0
        self._speed = math.nan
        self._best: float | None = None

    def say(self, text: str) -> None:
        """A line, unless --quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """A line, always. That nobody can read it (a closed terminal) is no reason to stop."""
        text = printable(text)
        try:
            if self._bar is not None:
                self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                print(text, file=sys.stderr, flush=True)
        except OSError:
            pass

    @contextmanager
    def training(
        self, trainer: Trainer, epochs: int | None, steps: int | None, minutes: float | None
    ) -> Iterator[None]:
        """Around a run: the clock starts, and the bar is there."""
        self._trainer, self._limits = trainer, (epochs, steps, minutes)
        self._first_step = trainer.steps
        self._began = self._told = self._line_at = time.monotonic()
        if not self.quiet:
            self._bar = _bar()
        try:
            if self._bar is not None:
                self._bar.start()
            yield
        finally:
            bar, self._bar = self._bar, None
            if bar is not None:
                try:
                    bar.stop()
                except OSError:
                    pass
            if self.log is not None:
                try:
                    self.log.close()
                except OSError as error:
                    self._not_logged(error)

    def records(self, records: list[Record]) -> None:
        now = time.monotonic()
        characters = sum(record.characters for record in records)
        speed = characters / max(now - self._told, 1e-9)
        # smoothed over some ten steps; the first step is warm-up and only a first guess
        self._speed = speed if math.isnan(self._speed) or self._characters == 0 else self._speed * 0.9 + speed * 0.1
        self._told = now
        self._characters += characters
        if self.log is not None:
            try:
                self.log.write(records, speed)
            except OSError as error:
                self._not_logged(error)
            else:
                self.log_failed = None
        for record in records:
            if record.validation_loss is not None:
                self._epoch_ended(record.epoch, record.validation_loss)
        self._show(records[-1], now)

    def saved(self, steps: int) -> None:
        del steps
        self._save_warned = False

    def not_saved(self, error: OSError) -> None:
        # once, until one is written again: the next may be in a second
        if not self._save_warned:
            self.warn(
                f"warning: the checkpoint could not be written ({error.strerror or error}); the one before is whole, "
                "and saving is tried again."
            )
        self._save_warned = True

    def _not_logged(self, error: OSError) -> None:
        # once, not at every step: what is missing is tried again, and the end tells whether it was in vain
        if not self._log_warned:
            self.warn(
                f"warning: {display_name(error.filename)}: the log could not be written ({error.strerror or error}); "
                "training goes on, and the log is tried again."
            )
        self._log_warned, self.log_failed = True, error

    def interrupted(self, signum: int) -> None:
        del signum
        self.warn("interrupted: saving")

    def overall_speed(self) -> float:
        """Characters per second from the first step to the last."""
        return self._characters / max(self._told - self._began, 1e-9)

    def _epoch_ended(self, epoch: int, held_out: float) -> None:
        better = self._best is None or held_out < self._best
        self._best = held_out if better else self._best
        loss = self._trainer.mean_loss() if self._trainer else math.nan
        self.say(
            f"epoch {epoch}: loss {figure(loss)}, validation {figure(held_out)} nats "
            f"= {figure(held_out / math.log(2))} bits a character{'' if better else ' (not better)'}"
        )

    def _show(self, record: Record, now: float) -> None:
        if self.quiet:
            return
        done, left = self._remaining(now)
        facts: dict[str, Any] = {
            "epoch": f"epoch {record.epoch}" + (f"/{self._limits[0]}" if self._limits[0] else ""),
            "loss": f"loss {figure(record.loss, 3)}",
            "bits": f"{figure(record.loss / math.log(2), 3)} bits/char",
            "speed": f"{self._speed:,.0f} char/s",
            "left": f"{_clock(left)} left" if math.isfinite(left) else "",
        }
        if self._bar is not None:
            try:
                self._bar.update(self._bar.task_ids[0], completed=done, **facts)
            except OSError:
                pass
        elif now - self._line_at >= _SECONDS_A_LINE or record.step == self._first_step + 1:
            self._line_at = now
            self.say(f"step {record.step:,}  " + "  ".join(value for value in facts.values() if value))

    def _remaining(self, now: float) -> tuple[float, float]:
        """The part that is done, and the seconds that the rest will take."""
        epochs, steps, minutes = self._limits
        if self._trainer is None:
            return 0.0, math.inf
        ends = [end for end in (epochs and epochs * len(self._trainer.streams), steps) if end]
        elapsed = now - self._began
        made = self._trainer.steps - self._first_step
        if ends and made:
            end = min(ends)
            done, left = self._trainer.steps / end, elapsed / made * (end - self._trainer.steps)
        else:
            done, left = 0.0, math.inf
        if minutes and 60 * minutes - elapsed < left:
            return min(1.0, elapsed / (60 * minutes)), max(0.0, 60 * minutes - elapsed)
        return done, left


def _bar() -> "Progress | None":
    """rich's bar, where standard error is a terminal that can show one and rich is there; else None."""
    try:
        if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return None
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    except (ImportError, ValueError):
        return None
    console = Console(stderr=True)
    wide, narrow = console.width >= 76, console.width < 60
    names = ("loss",) if narrow else ("loss", "bits", "speed", "left") if wide else ("loss", "bits", "speed")
    columns: list[ProgressColumn] = [TextColumn("{task.fields[epoch]}")]
    columns += [BarColumn(bar_width=None)] if wide else []
    columns += [TextColumn("{task.percentage:>3.0f}%")]
    columns += [TextColumn(f"{{task.fields[{name}]}}") for name in names]
    bar = Progress(*columns, console=console, transient=True, expand=wide)
    bar.add_task("", total=1.0, epoch="", loss="starting", bits="", speed="", left="")
    return bar


def figure(loss: float, places: int = 4) -> str:
    """A loss as a person reads it, also one that has run away."""
    return f"{loss:.{places}f}" if loss < 1000 else f"{loss:.3g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


class LossLog:
    """A file of one JSON object a step, which after a resume is what it would have been without the interruption.

    Args:
        path: where it is; made by `open` if it does not exist.
        run: the identity of the run, which every line holds.
        kept: how many steps the checkpoint that training goes on from has reported: what is beyond is cut off, to be
            written again; None begins anew.
        overwrite: cut also what is not the run's, and all that follows it.

    Raises:
        ValueError: it goes on, and a line of the file is no record of the run; nothing is changed.
    """

    def __init__(self, path: str, run: str, kept: int | None, overwrite: bool = False):
        self._path, self._run, self._kept = path, run, kept
        self._unwritten = bytearray()
        self._goes_on = kept is not None and os.path.isfile(path)
        self._end = self._reached = 0
        if self._goes_on:
            foreign = self._read()
            if foreign and not overwrite:
                raise ValueError(f"{display_name(path)}: line {foreign} is no record of this run")

    def open(self, say: Callable[[str], None]) -> None:
        """Begins to write; `say` is told where the file does not reach as far as the checkpoint."""
        # without Python's buffer, which does not tell how much of a line a full disk still took
        self._file = open(self._path, "ab" if self._goes_on else "wb", buffering=0)
        if self._goes_on:
            self._file.truncate(self._end)
        if self._kept and self._reached != self._kept:
            name, missing = display_name(self._path), f"{self._reached + 1:,} to {self._kept:,}"
            say(f"{name}: steps {missing} are missing: not logged here.")

    def _read(self) -> int:
        """Finds where the last record that is kept ends; returns the number of the first line of others, or 0."""
        assert self._kept is not None
        begins = _record(self._run, {}).removesuffix(b"}")
        position = last = 0
        with open(self._path, "rb") as file:
            # no record is longer
            for number, line in enumerate(iter(lambda: file.readline(1000), b""), 1):
                if not line.endswith(b"\n"):
                    # torn by the end of the process that wrote it
                    return 0 if begins.startswith(line[: len(begins)]) and len(line) < 1000 else number
                step = _step(line, self._run)
                if step is None or step <= last:
                    return number
                position, last = position + len(line), step
                if step <= self._kept:
                    self._end, self._reached = position, step
        return 0

    def write(self, records: list[Record], speed: float) -> None:
        """Adds steps; they are in the file when this returns, so that a checkpoint never knows more than the log.

        Raises:
            OSError: not all could be written; the rest comes first in the next call.
        """
        for record in records:
            entry: dict[str, object] = {
                "step": record.step,
                "epoch": record.epoch,
                "characters": record.characters,
                "loss": record.loss,
                "bits": record.loss / math.log(2),
                "gradient_norm": record.gradient_norm,
                "characters_per_second": round(speed, 1),
            }
            if record.validation_loss is not None:
                entry["validation_loss"] = record.validation_loss
            self._unwritten += _record(self._run, entry) + b"\n"
        self._write()

    def _write(self) -> None:
        try:
            while self._unwritten:
                del self._unwritten[: os.write(self._file.fileno(), self._unwritten)]
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from None

    def close(self) -> None:
        """Ends the log.

        Raises:
            OSError: not all of it could be written.
        """
        try:
            self._write()
        finally:
            self._file.close()


def _record(run: str, entry: dict[str, object]) -> bytes:
    return json.dumps({"run": run, **entry}).encode()


def _step(line: bytes, run: str) -> int | None:
    """The step of a line of this run's log; None of any other line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = entry.get("step") if isinstance(entry, dict) and entry.get("run") == run else None
    return step if type(step) is int else None
