"""Training that is interrupted at any moment, and calls that fail: nothing is torn (fault 16)."""

import itertools
import signal
import sys
import threading

import numpy as np
import pytest

import seqcore
from runs import TEXT, Losses, fresh, resumed, same, weights
from seqcore import optim
from seqcore.train import Interrupted, Interrupts, Trainer


class Moment(Exception):
    pass


def test_an_epoch_that_ends_unvalidated_is_validated_after_resuming(uninterrupted, tmp_path, monkeypatch):
    found, final, whole = uninterrupted
    path, told, trainer = tmp_path / "run.safetensors", Losses(), fresh()

    def interrupt():
        with trainer.interrupts.open():
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(trainer, "validate", interrupt)
    with pytest.raises(Interrupted):
        trainer.run(epochs=2, path=path, watcher=told)
    assert len(told.found) == len(whole.streams) - 1 and trainer.steps == len(whole.streams)
    again = resumed(path)
    assert again.reported == again.steps - 1
    again.run(epochs=2, watcher=told)
    assert told.found == found and same(weights(again), final)


def test_signals_at_any_moment_lose_nothing(uninterrupted, tmp_path):
    # fault 16: SIGINT at random moments, then from the checkpoint on
    found, final, _ = uninterrupted
    path, told, trainer = tmp_path / "run.safetensors", Losses(), fresh()
    random = np.random.default_rng(5)
    interruptions = 0
    for _ in range(12):
        timer = threading.Timer(random.uniform(0, 0.03), signal.raise_signal, [signal.SIGINT])
        # raise_signal in another thread would interrupt that one; the process's main thread runs the handler
        main = threading.main_thread().ident
        timer.function, timer.args = signal.pthread_kill, [main, signal.SIGINT]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGINT, lambda *_: None)
        timer.start()
        try:
            trainer.run(epochs=2, path=path, watcher=told)
        except Interrupted as interrupted:
            interruptions += interrupted.signum == signal.SIGINT
        timer.join()
        signal.signal(signal.SIGINT, before)
        trainer = resumed(path)
    trainer.run(epochs=2, watcher=told)
    assert interruptions and told.found == found and same(weights(trainer), final)


class Instructions:
    """Counts the instructions of train.py that run and are `counted`, and presses Ctrl-C before the one numbered `at`."""

    def __init__(self, at=-1, counted=lambda frame: True):
        self.at, self.count, self.counted = at, 0, counted

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self.called)
        return self

    def __exit__(self, *_):
        sys.settrace(self.before)

    def called(self, frame, _event, _argument):
        if not frame.f_code.co_filename.endswith("train.py") or "tests" in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.ran

    def ran(self, frame, event, _argument):
        if event == "opcode" and self.counted(frame):
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(signal.SIGINT)
        return self.ran


def signal_at(parts, part, tmp_path):
    """Every `parts`-th instruction of a short run from the `part`-th on: after each, what is resumed is the same."""
    options = {"text": TEXT[:400], "bptt": 24}
    whole, told = fresh(**options), Losses()
    with Instructions() as all_of_them:
        whole.run(epochs=2, path=tmp_path / "whole", watcher=told)
    found, final = told.found, weights(whole)
    for at in range(part + 1, all_of_them.count, parts):
        path, told, trainer = tmp_path / str(at), Losses(), fresh(**options)
        with pytest.raises(KeyboardInterrupt), Instructions(at):
            trainer.run(epochs=2, path=path, watcher=told)
        if not path.exists():  # it came before all, as anywhere in a program
            assert trainer.steps == 0 and not told.found
            continue
        again = resumed(path, TEXT[:400])
        path.unlink()
        again.run(epochs=2, watcher=told)
        assert told.found == found and same(weights(again), final), at
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_signal_at_any_instruction(tmp_path):
    signal_at(29, 7, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(29))
def test_a_signal_at_every_instruction(part, tmp_path):
    signal_at(29, part, tmp_path)


def freeze_the_first(trainer):
    trainer.step()
    next(trainer.model.parameters()).requires_grad_(False)


def step_without_counts(trainer):
    trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=0.1)


@pytest.mark.parametrize("change", [None, freeze_the_first, step_without_counts])
def test_a_signal_in_a_step_made_by_hand(change):
    """Outside `run` it comes at once, and the weights, their count and the place in the text are of one moment."""

    def stepped(at):
        trainer, pressed = fresh(text=TEXT[:400], bptt=24), Instructions(at)
        if change is not None:
            change(trainer)
        try:
            with pressed:
                for _ in range(3):
                    trainer.step()
        except KeyboardInterrupt:
            pass
        while trainer.steps < 5:
            trainer.step()
        return pressed.count, trainer

    count, whole = stepped(-1)
    records, final = whole.read(), weights(whole)
    for at in range(1, count, 3):
        _, trainer = stepped(at)
        assert trainer.read() == records and same(weights(trainer), final), at
        assert (trainer.epoch, trainer.window) == (whole.epoch, whole.window)


def test_a_step_that_fails_in_a_model_that_writes_to_itself(monkeypatch):
    """What forward writes, as one that keeps its weights small does, is no update: the step has not happened."""
    trainer = fresh()
    forward = type(trainer.model).forward

    def shrinks(model, ids, state=None):
        with seqcore.no_grad():
            model.embedding.weight *= 0.99
        if trainer.steps:
            raise Moment
        return forward(model, ids, state)

    monkeypatch.setattr(type(trainer.model), "forward", shrinks)
    trainer.step()
    random = seqcore.runtime.get_random_state()
    with pytest.raises(Moment):
        trainer.step()
    assert trainer.steps == trainer.window == 1 and seqcore.runtime.get_random_state() == random


RETURN_OF_READ = max(line for *_, line in Trainer.read.__code__.co_lines() if line)


def counted(frame):
    """All but where `read` hands over what it has taken, as Python handles no signal there, and `validate` (below)."""
    name = frame.f_code.co_name
    return name != "validate" and not (name == "read" and frame.f_lineno == RETURN_OF_READ)


@pytest.mark.parametrize("call", ["read", "save", "finish_epoch"])
def test_a_signal_in_another_call_made_by_hand(call, tmp_path):
    """It reads all that is in flight or nothing, gives out all or nothing, and nothing comes twice."""

    def called(at):
        trainer, pressed, got = fresh(text=TEXT[:400], bptt=24), Instructions(at, counted), []
        for _ in range(len(trainer.streams)):
            trainer.step()
        try:
            with pressed:
                got += getattr(trainer, call)(*[tmp_path / "run"] * (call == "save")) or []
        except KeyboardInterrupt:
            pass
        facts = (trainer.reported, trainer.steps, trainer.epoch_sums if not trainer._unread else None)
        trainer.save(tmp_path / "run")
        assert resumed(tmp_path / "run", TEXT[:400]).unvalidated == trainer.unvalidated
        trainer.finish_epoch()
        got += trainer.read()
        trainer.save(tmp_path / "run")
        again = resumed(tmp_path / "run", TEXT[:400])
        assert (again.epoch_sums, again.validation_loss) == (trainer.epoch_sums, trainer.validation_loss)
        assert facts[0] in (0, facts[1] - 1) and facts[2] in (None, trainer.epoch_sums)
        return pressed.count, (got, trainer.reported, trainer.epoch_sums, trainer.validation_loss, trainer.unvalidated)

    count, whole = called(-1)
    assert len(whole[0]) == whole[1] > 1 and count > 50
    for at in range(1, count + 1, 3):
        assert called(at)[1] == whole, at


class Calls:
    """Presses Ctrl-C where Python itself handles it: as a function begins, and after one written in C."""

    def __init__(self, at=-1):
        self.at, self.count = at, 0

    def __enter__(self):
        sys.setprofile(self.called)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def called(self, _frame, event, _argument):
        if event in ("call", "c_return"):
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(signal.SIGINT)


def test_a_signal_in_a_validation_made_by_hand():
    trainer = fresh(text=TEXT[:400], bptt=24)
    trainer.model.dropout.eval()
    modes = [module.training for module in trainer.model.modules()]

    loss = trainer.validate()
    with Calls() as all_of_them:
        trainer.validate()
    assert all_of_them.count > 200
    for at in range(1, all_of_them.count):
        with pytest.raises(KeyboardInterrupt), Calls(at):
            trainer.validate()
        assert [module.training for module in trainer.model.modules()] == modes, at
        assert trainer.model(np.zeros((1, 1), np.int64))[0].requires_grad
    assert trainer.validate() == loss


def test_what_could_not_be_read_is_read_later(uninterrupted, tmp_path, monkeypatch):
    found, final, _ = uninterrupted
    trainer, told, path = fresh(), Losses(), tmp_path / "run"
    values, calls = trainer._values, itertools.count()

    def failing(scalars):
        if next(calls) % 3 == 1:
            raise MemoryError
        return values(scalars)

    monkeypatch.setattr(trainer, "_values", failing)
    for _ in range(200):
        try:
            trainer.run(epochs=2, watcher=told)
            break
        except MemoryError:
            assert trainer.reported == len(told.found)
        with monkeypatch.context() as whole:
            whole.setattr(trainer, "_values", values)
            trainer.save(path)
        assert resumed(path).steps == trainer.steps
    assert told.found == found and same(weights(trainer), final)


def test_a_step_that_fails_has_not_happened(uninterrupted, monkeypatch):
    found, final, _ = uninterrupted
    trainer, told = fresh(), Losses()
    loss, calls = trainer.model.loss, itertools.count()

    def failing(*arguments):
        if next(calls) % 3 == 1:
            raise Moment
        return loss(*arguments)

    monkeypatch.setattr(trainer.model, "loss", failing)
    while not trainer.finished(epochs=2):
        try:
            trainer.run(epochs=2, watcher=told)
        except Moment:
            pass
        if trainer.finished(epochs=1):
            monkeypatch.setattr(trainer.model, "loss", loss)
    assert told.found == found and same(weights(trainer), final)


def test_signals_are_raised_where_they_may_and_count_once():
    interrupts, reached = Interrupts(), []

    def signalled(open_at_last):
        with interrupts:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            reached.append("what is not open")
            if open_at_last:
                with interrupts.open():
                    reached.append("never")

    for open_at_last in (True, False):
        with pytest.raises(Interrupted) as caught:
            signalled(open_at_last)
        assert caught.value.signum == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert reached == ["what is not open"] * 2
    with interrupts:
        with pytest.raises(Interrupted), interrupts.open():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    with interrupts.open():  # without handlers, and of an older run: nothing
        pass


def test_after_the_last_signal_no_other_counts():
    for signals, after in (([signal.SIGTERM], signal.SIG_IGN), ([], signal.default_int_handler)):
        interrupts, caught = Interrupts(), []
        interrupts.last = True
        try:
            with interrupts:
                for signum in signals:
                    signal.raise_signal(signum)
        except Interrupted as interrupted:
            caught.append(interrupted.signum)
        found = signal.getsignal(signal.SIGINT)
        for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            signal.signal(signum, handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        assert caught == signals and found is after


def test_signals_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_it_trains_without_signals(uninterrupted):
    trainer, told = fresh(), Losses()
    thread = threading.Thread(target=trainer.run, kwargs={"steps": 3, "watcher": told})
    thread.start()
    thread.join()
    assert told.found == uninterrupted[0][:3]
