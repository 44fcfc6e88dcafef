"""Training of language models: truncated back-propagation through time, interruptible and resumable at every step.

What a run is, between two steps, is one file: weights, optimizer, random state, the place in the text, the carried
state and the sums of the epoch. A run that is killed and resumed computes the same bits as one that is not.
"""

import collections
import functools
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import nn, optim
from ._arguments import integer, number, shown
from ._arguments import path as check_path
from ._interrupts import Interrupted, Interrupts
from .checkpoint import a_checkpoint, save
from .data import Streams, TextError, Vocabulary, split
from .data.vocabulary import ids_dtype
from .errors import CheckpointError, message
from .runtime import get_random_state, set_random_state
from .tensor import Tensor, at_once, no_grad, stack, versions

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .models import LanguageModel

__all__ = ["Interrupted", "Record", "Trainer", "Watcher"]

# on a GPU a loss is waited for only so often: a read-back empties the queue of work
_STEPS_A_READ = 20
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Record:
    """One step of training, as `Trainer.read` gives it.

    Args:
        step, epoch: counted from 1; characters: how many it learned from; loss: their mean, in nats per character.
        gradient_norm: before clipping; validation_loss: in nats per character, after an epoch's last step, else None.

    Example:
        >>> from seqcore.train import Record
        >>> Record(step=1, epoch=1, characters=200, loss=4.2, gradient_norm=0.7).validation_loss is None
        True
    """

    step: int
    epoch: int
    characters: int
    loss: float
    gradient_norm: float
    validation_loss: float | None = None


class Trainer:
    """Trains a language model on one text.

    The text is split, its first part cut into `batch` streams, and each step learns from `bptt` characters of all of
    them, beginning with the state in which the step before ended (detached: gradients stop at the step's border).

    Args:
        model: on the device to train on; as `models.LanguageModel`: `model(ids, state)` gives logits and the next
            state, a pair of Tensors (None begins), `model.loss(logits, following)` the mean loss; `model.config()`, a
            dict that JSON can hold, goes into checkpoints; `model.vocabulary` is a `Vocabulary`.
        ids: the whole text, (n,) integers of the model's vocabulary.
        batch, bptt: as in `Streams`; lr: Adam's step size.
        clip: the gradient's norm is held at or below it; 0 leaves it alone.
        validation: the part of the text, at its end, that is held out.

    Raises:
        TextError: a text too short for `batch` streams.
        TypeError, ValueError: a model that is none, an option that is no number or out of its range.
        TypeError, DTypeError, ShapeError: ids that are no array (n,) of integers.

    Example:
        >>> from seqcore.models import LanguageModel
        >>> from seqcore.train import Trainer
        >>> text = "to be or not to be " * 20
        >>> model = LanguageModel(text, embedding=4, hidden=8, layers=1)
        >>> trainer = Trainer(model, model.vocabulary.encode(text), batch=4, bptt=8)
        >>> trainer.run(steps=3)
        >>> trainer.steps, trainer.epoch
        (3, 0)
    """

    def __init__(
        self,
        model: "LanguageModel",
        ids: np.ndarray,
        *,
        batch: int = 50,
        bptt: int = 64,
        lr: float = 2e-3,
        clip: float = 1.0,
        validation: float = 0.1,
    ):
        op = "Trainer"
        _check_model(op, model)
        # as Python's own numbers, which go into checkpoints
        batch, bptt = integer(op, "batch", batch, 1), integer(op, "bptt", bptt, 1)
        lr, clip = number(op, "lr", lr, high=_LARGEST), number(op, "clip", clip, high=_LARGEST)
        self.model = model
        learned, held_out = split(ids, validation)
        self.options = {"batch": batch, "bptt": bptt, "lr": lr, "clip": clip, "validation": float(validation)}
        self.streams = Streams(learned, batch, bptt)
        # every stream of the held-out part should be long enough to warm up its state
        rows = max(1, min(batch, len(held_out) // (2 * bptt)))
        self.held_out = Streams(held_out, rows, bptt) if len(held_out) >= 2 else None
        self.text: dict[str, Any] = {"characters": len(ids), "sha256": _fingerprint(ids, model.vocabulary)}
        self.optimizer = optim.Adam(model.parameters(), lr=lr)
        self.interrupts = Interrupts()
        self.identity = self._identity()
        self.steps = 0
        self.epoch = 0
        self.window = 0
        self.epoch_sums = (1, 0.0, 0)
        self.validation_loss: float | None = None
        # the step after which that was computed
        self._validated: int | None = None
        self._state: tuple[Tensor, Tensor] | None = None
        # the epoch has ended and is not validated yet: its last record waits for that
        self._due = False
        self._unread: list[tuple[Record, Tensor, Tensor]] = []
        self._settled: list[Record] = []
        self._on_gpu = next(iter(model.parameters())).device != "cpu"
        model.train()

    def _identity(self) -> str:
        """What tells one run from another: all that its steps follow from, but for the device and the threads."""
        facts = [self.model.config(), self.options, self.text, get_random_state()]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for value in self.model.state_dict().values():
            digest.update(np.ascontiguousarray(value.numpy()).reshape(-1).data)
        return digest.hexdigest()[:16]

    def step(self) -> None:
        """One update of the weights. A step that fails has not happened; one that Ctrl-C ends has, or has not.

        (Of an optimizer of one's own with several groups, some may have stepped.) After the last step of an epoch comes
        `finish_epoch`, as in `run`.
        """
        random, before = get_random_state(), self.steps
        written: list[int] | None = None
        try:
            with self.interrupts.open():
                ids, following = self.streams[self.window]
                logits, state = self.model(ids, self._state)
                loss = self.model.loss(logits, following)
                self.optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options["clip"] or math.inf)
            record = Record(before + 1, self.epoch + 1, ids.size, math.nan, math.nan)
            after: dict[str, Any] = {"steps": before + 1, "window": self.window + 1}
            after["_state"] = tuple([part.detach() for part in _pair(state)])
            if after["window"] == len(self.streams):
                after |= {"epoch": self.epoch + 1, "window": 0, "_state": None, "_due": self.held_out is not None}
            made = (record, loss.detach(), norm)
            count = [functools.partial(vars(self).update, after), functools.partial(self._unread.append, made)]
            # an update changes the weights' versions in the call that makes it
            written = versions(self.model.parameters())
            self.optimizer.step()
            at_once(count)
        except BaseException:
            if self.steps == before:
                if written is None or versions(self.model.parameters()) == written:
                    set_random_state(random)
                else:
                    # Ctrl-C came between the update and its count
                    at_once(count)
            raise

    def validate(self) -> float:
        """The mean loss over the held-out part, read from its beginning: nats per character.

        Raises:
            FloatingPointError: it is not finite: the weights are spoilt. ValueError: nothing is held out.
        """
        losses: list[tuple[Tensor, int]] = []
        state: tuple[Tensor, Tensor] | None = None
        if self.held_out is None:
            raise ValueError(message("Trainer", "validation", "a held-out part of two characters or more", "none"))
        back = self._modes()
        try:
            self.model.eval()
            with no_grad(), self.interrupts.open():
                for window in range(len(self.held_out)):
                    ids, following = self.held_out[window]
                    logits, state = self.model(ids, state)
                    losses.append((self.model.loss(logits, following), ids.size))
                values = self._values([loss for loss, _ in losses])
        finally:
            # one call of C: Ctrl-C comes before it, and is on its way out, or after it
            collections.deque(back, maxlen=0)
        loss = sum(v * n for v, (_, n) in zip(values, losses, strict=True)) / sum(n for _, n in losses)
        if not math.isfinite(loss):
            raise _spoilt("held-out loss", f"{loss} at step {self.steps}")
        return loss

    def finish_epoch(self) -> None:
        """Validates the epoch that has just ended, once.

        Raises:
            FloatingPointError: as `validate` and `read`.
        """
        if self._due:
            loss = self.validate()
            self._settle()
            settled = [*self._settled[:-1], replace(self._settled[-1], validation_loss=loss)]
            vars(self).update(_settled=settled, validation_loss=loss, _validated=self.steps, _due=False)

    @property
    def unvalidated(self) -> bool:
        """Whether the held-out loss of the weights as they are is missing: `run` ends with it, also inside an epoch."""
        return self._due or (self.window > 0 and self.held_out is not None and self._validated != self.steps)

    def read(self) -> list[Record]:
        """The steps made since the last call; the last of an epoch comes once it is validated.

        This is what waits for a GPU.

        Raises:
            FloatingPointError: a loss or gradient was not finite; the weights are spoilt from there on, and nothing of
                the trainer is read or saved any more.
        """
        self._settle()
        ready = len(self._settled) - self._due
        records, left = self._settled[:ready], self._settled[ready:]
        # no call from here on, where Ctrl-C would fall between them and their caller
        self._settled = left
        return records

    @property
    def reported(self) -> int:
        """How many steps `read` has given out."""
        return self.steps - len(self._unread) - len(self._settled)

    def mean_loss(self) -> float:
        """Over the steps of this epoch that were read."""
        _, total, characters = self.epoch_sums
        return total / characters if characters else math.nan

    def run(
        self,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        path: str | os.PathLike | None = None,
        save_seconds: float | None = 60.0,
        save_steps: int | None = None,
        watcher: "Watcher | None" = None,
    ) -> None:
        """Trains until one of the limits is met; `epochs` and `steps` count from the beginning of the first run.

        Args:
            path: where checkpoints go: every `save_seconds` or `save_steps`, when interrupted, and at the end.
            watcher: is told what happens.

        Raises:
            Interrupted: a signal came; the checkpoint is written. FloatingPointError: as `read`.
            OSError: the last checkpoint could not be written (an earlier one that could not is the watcher's to tell).
        """
        epochs, steps, save_steps = (
            None if count is None else integer("run", name, count, 0)
            for name, count in (("epochs", epochs), ("steps", steps), ("save_steps", save_steps))
        )
        seconds, save_seconds = (
            None if time_span is None else number("run", name, time_span)
            for name, time_span in (("seconds", seconds), ("save_seconds", save_seconds))
        )
        if path is not None:
            check_path("run", "path", path)
        watcher = Watcher() if watcher is None else watcher
        if not isinstance(watcher, Watcher):
            raise TypeError(message("run", "watcher", "a Watcher or None", shown(watcher)))
        limits = (epochs, steps, None if seconds is None else time.monotonic() + seconds)
        with self.interrupts:
            try:
                self._loop(limits, path, save_seconds, save_steps, watcher)
                if self.unvalidated:
                    self.validation_loss, self._validated = self.validate(), self.steps
                self._report(watcher)
                if path is not None:
                    self._checkpoint(path, watcher)
            except Interrupted as interrupted:
                watcher.interrupted(interrupted.signum)
                self._report(watcher)
                if path is not None:
                    self._checkpoint(path, watcher)
                raise

    def finished(self, epochs: int | None = None, steps: int | None = None) -> bool:
        """Whether as many epochs or steps have been made."""
        for name, limit in (("epochs", epochs), ("steps", steps)):
            if limit is not None:
                integer("finished", name, limit, 0)
        return (epochs is not None and self.epoch >= epochs) or (steps is not None and self.steps >= steps)

    def _loop(
        self,
        limits: tuple[int | None, int | None, float | None],
        path: str | os.PathLike | None,
        save_seconds: float | None,
        save_steps: int | None,
        watcher: "Watcher",
    ) -> None:
        epochs, steps, deadline = limits
        every = _STEPS_A_READ if self._on_gpu else 1
        saved_at, saved_step = time.monotonic(), self.steps
        while True:
            self.finish_epoch()
            if len(self._unread) + len(self._settled) >= every:
                self._report(watcher)
            now = time.monotonic()
            if self.finished(epochs, steps) or (deadline is not None and now >= deadline):
                return
            made = self.steps - saved_step
            due = made and (
                (save_seconds is not None and now - saved_at >= save_seconds)
                or (save_steps is not None and made >= save_steps)
            )
            if path is not None and due:
                self._report(watcher)
                try:
                    self._checkpoint(path, watcher)
                except OSError as error:
                    # the disk may have room again next time; the checkpoint before is whole
                    watcher.not_saved(error)
                saved_at, saved_step = time.monotonic(), self.steps
            self.step()

    def _report(self, watcher: "Watcher") -> None:
        if records := self.read():
            watcher.records(records)

    def _checkpoint(self, path: str | os.PathLike, watcher: "Watcher") -> None:
        self.save(path)
        watcher.saved(self.steps)

    def _settle(self) -> None:
        """Reads what is in flight. All that changes changes at once: one that fails or is cut short read nothing."""
        values = iter(self._values([value for _, *pair in self._unread for value in pair]))
        settled, sums = list(self._settled), self.epoch_sums
        for record, *_ in self._unread:
            record = replace(record, loss=next(values), gradient_norm=next(values))
            if not (math.isfinite(record.loss) and math.isfinite(record.gradient_norm)):
                got = f"{record.loss} at step {record.step}, with a gradient of norm {record.gradient_norm}"
                raise _spoilt("loss", got)
            _, total, characters = sums if sums[0] == record.epoch else (record.epoch, 0.0, 0)
            sums = (record.epoch, total + record.loss * record.characters, characters + record.characters)
            settled.append(record)
        vars(self).update(_unread=[], _settled=settled, epoch_sums=sums)

    def _values(self, scalars: list[Tensor]) -> list[float]:
        if self._on_gpu and scalars:
            return [float(v) for v in stack(scalars).numpy()]
        return [float(v) for v in scalars]

    def save(self, path: str | os.PathLike) -> None:
        """Writes all that the run is into one file, whole or not at all; `LanguageModel.load` reads it too.

        Raises:
            FloatingPointError: a loss, a gradient or the weights are not finite; the file stays as it was.
            OSError: it cannot be written.
        """
        self._settle()
        if not all(np.isfinite(parameter.numpy()).all() for parameter in self.model.parameters()):
            raise _spoilt("weights", f"some that are not at step {self.steps}", "finite numbers")
        awaiting = asdict(self._settled[-1]) if self._due else None
        training = {
            "run": self.identity,
            "options": self.options,
            "text": self.text,
            "position": {"steps": self.steps, "epoch": self.epoch, "window": self.window},
            "epoch_sums": list(self.epoch_sums),
            "validation_loss": self.validation_loss,
            "validated": self._validated,
            "awaiting_validation": awaiting,
        }
        state: dict[str, Tensor] = {} if self._state is None else dict(zip(("h", "c"), self._state, strict=True))
        save(path, self.model, self.optimizer, config={**self.model.config(), "training": training}, state=state)

    @classmethod
    def resume(cls, model: "LanguageModel", ids: np.ndarray, checkpoint: "Checkpoint", path: str | os.PathLike) -> Self:
        """Goes on from a checkpoint of `load_file`, with a model of its weights and the same text; `path` is for
        messages.

        The random state of the process becomes that of the run.

        Raises:
            CheckpointError: the file holds no training, or of another text, or contradicts itself.
            TypeError, TextError: as `Trainer`, of the model and the ids.
        """
        training = training_in(checkpoint, path)
        # a mistake in these is none of the file
        _check_model("resume", model)
        split(ids)
        try:
            trainer = cls(model, ids, **training["options"])
            trainer.optimizer.load_state_dict(checkpoint.optimizer)
        except (TypeError, ValueError) as error:
            if isinstance(error, TextError) and len(ids) != training["text"]["characters"]:
                raise
            raise _no_training(path, f"one that is refused ({error})") from None
        if trainer.text != training["text"]:
            wanted = f"the text that the run began with, of {training['text']['characters']} characters"
            hint = "name the same files in the same order, with the same --encoding"
            raise CheckpointError(message("resume", os.fsdecode(path), wanted, f"another, of {len(ids)}", hint))
        trainer._check_position(training, path)
        position = training["position"]
        carried = checkpoint.state
        if set(carried) != ({"h", "c"} if position["window"] else set()):
            raise _no_training(path, "a carried state where none can be, or none where one must")
        options = [v for group in trainer.optimizer.param_groups for v in group.values() if isinstance(v, int | float)]
        if any(value >= _LARGEST for value in options):
            raise _no_training(path, "an optimizer's option beyond float32")
        if carried:
            h, c = trainer._first_state()
            for name, part in (("h", h), ("c", c)):
                if (carried[name].shape, carried[name].dtype) != (part.shape, part.dtype):
                    raise _no_training(path, f"a carried state {name} that is not {part.shape} of {part.dtype}")
            trainer._state = (Tensor(carried["h"], device=h.device), Tensor(carried["c"], device=c.device))
        trainer.identity = training["run"]
        trainer.steps, trainer.epoch, trainer.window = (position[name] for name in ("steps", "epoch", "window"))
        trainer.epoch_sums = tuple(training["epoch_sums"])
        trainer.validation_loss, trainer._validated = training["validation_loss"], training["validated"]
        if training["awaiting_validation"] is not None:
            trainer._settled.append(Record(**training["awaiting_validation"]))
            trainer._due = True
        set_random_state(checkpoint.random_state)
        return trainer

    def _first_state(self) -> tuple[Tensor, Tensor]:
        """What the model carries on from the first character of each stream."""
        ids, _ = self.streams[0]
        back = self._modes()
        try:
            self.model.eval()
            with no_grad():
                return _pair(self.model(ids[:1], None)[1])
        finally:
            collections.deque(back, maxlen=0)

    def _modes(self) -> Iterator[None]:
        """Run through, it puts each module back into the mode (`train` or `eval`) in which it is now."""
        modules = list(self.model.modules())
        return map(object.__setattr__, modules, itertools.repeat("training"), [module.training for module in modules])

    def _check_position(self, training: dict, path: str | os.PathLike) -> None:
        """CheckpointError where the place of a run and its sums contradict each other."""
        steps, epoch, window = (training["position"][name] for name in ("steps", "epoch", "window"))
        windows, streams = len(self.streams), self.streams
        if window >= windows or steps != epoch * windows + window:
            raise _no_training(path, f"step {steps}, epoch {epoch}, window {window} of {windows}")
        # read after every step, of the epoch under way or of the one that has just ended
        begun = epoch + 1 if window or not epoch else epoch
        met = streams.batch * (window * streams.bptt if window or not epoch else streams.length - 1)
        of, total, characters = training["epoch_sums"]
        if (of, characters) != (begun, met) or not 0 <= total < math.inf:
            raise _no_training(path, f"sums {training['epoch_sums']} of epoch {begun} with {met} characters")
        awaiting, loss = training["awaiting_validation"], training["validation_loss"]
        if awaiting is not None and awaiting["step"] != steps:
            raise _no_training(path, f"an epoch that waits for its validation at step {steps}")
        if (loss is not None and not 0 <= loss < math.inf) or not 0 <= (training["validated"] or 0) <= steps:
            raise _no_training(path, f"a validation loss {loss} at step {training['validated']} of {steps}")


class Watcher:
    """What a `Trainer` tells while it runs, for a class of your own to listen to.

    Example:
        >>> from seqcore.train import Watcher
        >>> class Saves(Watcher):
        ...     def saved(self, steps): print("saved after step", steps)
        >>> Saves().saved(3)
        saved after step 3
    """

    def records(self, records: list[Record]) -> None:
        """Steps were made; in their order, each exactly once."""

    def saved(self, steps: int) -> None:
        """A checkpoint was written after that many steps."""

    def not_saved(self, error: OSError) -> None:
        """A checkpoint could not be written; training goes on. The default is to raise the error."""
        raise error

    def interrupted(self, signum: int) -> None:
        """A signal came; saving begins."""


def _check_model(op: str, model: Any) -> None:
    if not isinstance(model, nn.Module) or not all(hasattr(model, n) for n in ("vocabulary", "loss", "config")):
        raise TypeError(message(op, "model", "a model as models.LanguageModel", shown(model)))
    vocabulary, config = (getattr(model, name) for name in ("vocabulary", "config"))
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(message(op, "model.vocabulary", "a Vocabulary", shown(vocabulary)))
    config = config()
    if not isinstance(config, dict):
        raise TypeError(message(op, "model.config", "a dict", shown(config)))
    try:
        json.dumps(config, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(message(op, "model.config", "what JSON can hold", str(error))) from None


def _pair(state: Any) -> tuple[Tensor, Tensor]:
    """The state that a model gave, if it is one that is carried on."""
    if not (isinstance(state, tuple | list) and len(state) == 2 and all(isinstance(part, Tensor) for part in state)):
        raise TypeError(message("Trainer", "model", "a pair of Tensors as the next state", shown(state)))
    return state[0], state[1]


def training_in(checkpoint: "Checkpoint", path: str | os.PathLike) -> dict:
    """The part of a checkpoint's configuration that a `Trainer` wrote, checked.

    Raises:
        CheckpointError: there is none, or it is not what a `Trainer` writes.
    """
    op = "training_in"
    check_path(op, "path", path)
    config = a_checkpoint(op, checkpoint).config
    training = config.get("training") if isinstance(config, dict) else None
    if training is None or checkpoint.optimizer is None:
        hint = "--init starts anew from its weights"
        raise CheckpointError(message("resume", os.fsdecode(path), "training to go on with", "none", hint))
    whole, real = (int,), (int, float)
    form: dict[str, dict[str, tuple[type, ...]]] = {
        "options": {"batch": whole, "bptt": whole, "lr": real, "clip": real, "validation": real},
        "text": {"characters": whole, "sha256": (str,)},
        "position": {"steps": whole, "epoch": whole, "window": whole},
    }
    record = {"step": whole, "epoch": whole, "characters": whole, "loss": real, "gradient_norm": real}
    if not isinstance(training, dict):
        raise _no_training(path, "no table")
    awaiting, sums = training.get("awaiting_validation"), training.get("epoch_sums")
    sorts = [type(v) for v in sums] if isinstance(sums, list) else []
    if awaiting is not None:
        form["awaiting_validation"] = {**record, "validation_loss": (type(None),)}
    for name, fields in form.items():
        values = training.get(name)
        if not isinstance(values, dict) or values.keys() != fields.keys():
            raise _no_training(path, f"no {name}")
        for field, types in fields.items():
            value = values[field]
            if type(value) not in types or not _counts(value):
                raise _no_training(path, f"{name} {field} {ascii(value)[:40]}")
    validation = {"awaiting_validation", "validated", "validation_loss"}
    if type(training.get("run")) is not str or not validation <= training.keys():
        raise _no_training(path, "no run, or no validation")
    for name in form.keys() - {"text"}:
        if any(value is not None and value < 0 for value in training[name].values()):
            raise _no_training(path, f"{name} below 0")
    if sorts not in ([int, float, int], [int, int, int]) or not all(map(_counts, sums or [])):
        raise _no_training(path, "no sums of the epoch")
    loss = training["validation_loss"]
    if type(loss) not in (float, int, type(None)) or not _counts(loss):
        raise _no_training(path, "no validation loss")
    if type(training["validated"]) not in (int, type(None)) or not _counts(training["validated"]):
        raise _no_training(path, "no validated step")
    return training


def _counts(value: Any) -> bool:
    """Whether what JSON gave is no number that no run has: NaN, infinity, an integer of hundreds of digits."""
    return not isinstance(value, (int, float)) or (math.isfinite(value) if type(value) is float else abs(value) < 2**63)


def _no_training(path: str | os.PathLike, got: str) -> CheckpointError:
    return CheckpointError(message("resume", os.fsdecode(path), "the state of a run", got))


def _spoilt(name: str, got: str, expected: str = "a finite number") -> FloatingPointError:
    hint = "use a smaller learning rate; the last checkpoint is from before"
    return FloatingPointError(message("Trainer", name, expected, got, hint))


def _fingerprint(ids: np.ndarray, vocabulary: Vocabulary) -> str:
    """Of the text, whatever type of integers its ids are: hashed as `encode` gives them."""
    digest = hashlib.sha256(vocabulary.characters.encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(ids, ids_dtype(len(vocabulary))).data)
    return digest.hexdigest()
