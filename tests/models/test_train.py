"""Training: against PyTorch, bit for bit across resumption (S-71), interrupted at any moment (fault 16)."""

import itertools
import json
import math
import signal
import sys
import threading
import time
from decimal import Decimal

import numpy as np
import pytest

import seqcore
from seqcore import Tensor, nn
from seqcore.checkpoint import load_file
from seqcore.data import TextError, Vocabulary
from seqcore.models import LanguageModel
from seqcore.train import Interrupted, Interrupts, Trainer, Watcher

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


def twin(trainer, steps):
    """The losses of the same model in PyTorch, from the same weights, over the same windows."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # on a busy machine its threads wait for each other for minutes

    class Model(torch.nn.Module):
        def __init__(self, v):
            super().__init__()
            self.embedding = torch.nn.Embedding(v, SIZES["embedding"])
            self.lstm = torch.nn.LSTM(SIZES["embedding"], SIZES["hidden"], SIZES["layers"])
            self.linear = torch.nn.Linear(SIZES["hidden"], v)

    model = Model(len(trainer.model.vocabulary))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights(trainer).items()})
    optimizer = torch.optim.Adam(model.parameters(), lr=OPTIONS["lr"])
    losses, state = [], None
    for step in range(steps):
        window = step % len(trainer.streams)
        state = None if window == 0 else tuple(part.detach() for part in state)
        ids, following = (torch.tensor(part) for part in trainer.streams[window])
        y, state = model.lstm(model.embedding(ids), state)
        loss = torch.nn.functional.cross_entropy(model.linear(y).flatten(0, 1), following.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_twenty_losses_are_those_of_pytorch():
    # S-165: the same weights, batches, reduction and clipping; across the end of an epoch
    trainer, told = fresh(dropout=0.0, bptt=80), Losses()
    assert len(trainer.streams) < 20
    expected = twin(trainer, 20)
    trainer.run(steps=20, watcher=told)
    assert np.allclose([row[2] for row in told.found], expected, rtol=0, atol=1e-4)


def test_it_learns_what_can_be_learnt():
    trainer = fresh(dropout=0.0, lr=1e-2)
    counts = np.bincount(trainer.model.vocabulary.encode(TEXT)) / len(TEXT)
    unigram = -(counts * np.log(counts)).sum()
    trainer.run(epochs=12)
    assert trainer.validation_loss < 0.6 * unigram


@pytest.fixture(scope="module")
def uninterrupted():
    trainer, told = fresh(), Losses()
    trainer.run(epochs=2, watcher=told)
    return told.found, weights(trainer), trainer


def test_records_are_each_step_once(uninterrupted):
    found, _, trainer = uninterrupted
    per_epoch = len(trainer.streams)
    assert [row[:2] for row in found] == [(i + 1, i // per_epoch + 1) for i in range(2 * per_epoch)]
    assert [row[0] for row in found if row[4] is not None] == [per_epoch, 2 * per_epoch]
    assert trainer.validation_loss == found[-1][4] == trainer.validate()
    assert trainer.epoch == 2 and trainer.finished(epochs=2) and trainer.finished(steps=per_epoch)
    assert trainer.mean_loss() == pytest.approx(np.mean([row[2] for row in found[per_epoch:]]), rel=0.05)


@pytest.mark.parametrize("cuts", [[1], [7, 8, 30], [-1], [0, 50]])
def test_resumed_training_is_uninterrupted_training_bit_for_bit(uninterrupted, tmp_path, cuts):
    # fault 24: weights, Adam's means, dropout's counter, the place in the text, the carried state (S-71)
    found, final, whole = uninterrupted
    path, told, trainer = tmp_path / "run.safetensors", Losses(), fresh()
    for cut in cuts:
        trainer.run(steps=len(whole.streams) if cut == -1 else cut, path=path, watcher=told)
        seqcore.manual_seed(99)
        trainer = resumed(path)
    trainer.run(epochs=2, path=path, watcher=told)
    assert told.found == found
    assert same(weights(trainer), final)


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
    """Counts the instructions of train.py that run, and before the one numbered `at` presses Ctrl-C."""

    def __init__(self, at=-1):
        self.at, self.count = at, 0

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

    def ran(self, _frame, event, _argument):
        if event == "opcode":
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


def test_a_signal_in_a_step_made_by_hand():
    """Outside `run` it comes at once, and the weights, their count and the place in the text are of one moment."""

    def stepped(at):
        trainer, pressed = fresh(text=TEXT[:400], bptt=24), Instructions(at)
        try:
            with pressed:
                for _ in range(3):
                    trainer.step()
        except KeyboardInterrupt:
            pass
        while trainer.steps < 4:
            trainer.step()
        return pressed.count, trainer

    count, whole = stepped(-1)
    records, final = whole.read(), weights(whole)
    for at in range(1, count, 3):
        _, trainer = stepped(at)
        assert trainer.read() == records and same(weights(trainer), final), at
        assert (trainer.epoch, trainer.window) == (whole.epoch, whole.window)


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


def test_time_is_a_limit():
    trainer = fresh()
    began = time.monotonic()
    trainer.run(seconds=Decimal("0.2"))  # any number
    assert 0 < trainer.steps and time.monotonic() - began < 5


def test_checkpoints_by_steps_and_by_time(tmp_path):
    class Saves(Watcher):
        def __init__(self):
            self.steps = []

        def saved(self, steps):
            self.steps.append(steps)

    for options in ({"save_steps": 4, "save_seconds": None}, {"save_seconds": 1e-9}):
        saves = Saves()
        fresh().run(steps=10, path=tmp_path / "run.safetensors", watcher=saves, **options)
        assert saves.steps == ([4, 8, 10] if "save_steps" in options else [*range(1, 10), 10])


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(tmp_path):
    class Tolerant(Watcher):
        def __init__(self):
            self.errors = []

        def not_saved(self, error):
            self.errors.append(error)

    told, path = Tolerant(), tmp_path / "run.safetensors"
    trainer = fresh()
    trainer.save(path)
    whole, trainer.save = path.read_bytes(), lambda path: (_ for _ in ()).throw(OSError(28, "No space left"))
    with pytest.raises(OSError, match="No space"):
        trainer.run(steps=5, path=path, save_steps=2, watcher=told)
    assert len(told.errors) == 2 and trainer.steps == 5 and path.read_bytes() == whole
    with pytest.raises(OSError, match="No space"):
        trainer.run(steps=8, path=path, save_steps=1)
    assert trainer.steps == 6


def test_a_loss_that_is_not_finite_ends_the_run_and_spares_the_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = fresh()
    trainer.run(steps=2, path=path)
    whole = path.read_bytes()
    spoilt = {name: value.numpy(copy=True) for name, value in trainer.model.state_dict().items()}
    spoilt["linear.bias"][0] = np.nan
    trainer.model.load_state_dict(spoilt)
    with pytest.raises(FloatingPointError, match="loss: expected a finite number, got nan at step 3"):
        trainer.run(steps=9, path=path, save_steps=1)
    assert path.read_bytes() == whole


def test_clipping_can_be_left_out():
    for clip in (0.0, 1e-3, 1.0):
        trainer, told = fresh(clip=clip), Losses()
        trainer.run(steps=1, watcher=told)
        assert math.isfinite(told.found[0][3]) and told.found[0][3] > 1e-2


class Own(nn.Module):
    """A model with layers and a state of its own."""

    def __init__(self, vocabulary, **config):
        super().__init__()
        self.vocabulary, self.options = vocabulary, config
        self.table, self.drop = nn.Embedding(len(vocabulary), 6), nn.Dropout(0.2)
        self.below, self.above = nn.LSTM(6, 7), nn.LSTM(7, len(vocabulary))

    def forward(self, ids, state=None):
        below, above = (None, None) if state is None else state
        y, (h, c) = self.below(self.table(ids), None if below is None else (below[:1], below[1:]))
        y, upper = self.above(self.drop(y), None if above is None else (above[:1], above[1:]))
        return y, (seqcore.cat([h, c]), seqcore.cat(upper))

    def loss(self, logits, following):
        return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), following.reshape(-1))

    def config(self):
        return {"model": "Own", **self.options}


@pytest.mark.parametrize("cut", [3, 21])
def test_a_model_of_ones_own_goes_on_too(tmp_path, cut):
    seqcore.manual_seed(11)
    vocabulary, path = Vocabulary(TEXT), tmp_path / "own"
    ids = vocabulary.encode(TEXT)
    trainer = Trainer(Own(vocabulary), ids, **OPTIONS)
    trainer.run(steps=cut, path=path)
    trainer.run(steps=30)
    checkpoint, model = load_file(path), Own(vocabulary)
    model.load_state_dict(checkpoint.model)
    again = Trainer.resume(model, ids, checkpoint, path)
    again.run(steps=30)
    assert again.steps == 30 and same(weights(trainer), weights(again))


def test_a_model_that_is_no_language_model_is_told():
    vocabulary = Vocabulary(TEXT)
    ids = vocabulary.encode(TEXT)
    with pytest.raises(TypeError, match=r"Trainer: model\.config: expected what JSON can hold"):
        Trainer(Own(vocabulary, size=np.int64(3)), ids, **OPTIONS)
    with pytest.raises(TypeError, match=r"Trainer: model\.vocabulary: expected a Vocabulary"):
        Trainer(Own("abc"), ids, **OPTIONS)
    model = Own(vocabulary)
    model.config = lambda: None
    with pytest.raises(TypeError, match=r"Trainer: model\.config: expected a dict, got None"):
        Trainer(model, ids, **OPTIONS)
    model = Own(vocabulary)
    model.forward = lambda ids, state: (Own.forward(model, ids)[0], Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="expected a pair of Tensors as the next state"):
        Trainer(model, ids, **OPTIONS).step()


def test_the_text_must_be_the_same(tmp_path):
    path = tmp_path / "run.safetensors"
    fresh().run(steps=2, path=path)
    with pytest.raises(seqcore.CheckpointError, match="expected the text that the run began with"):
        resumed(path, TEXT[:-1])
    with pytest.raises(seqcore.CheckpointError, match="text"):
        resumed(path, TEXT[:100] + TEXT[101:200] + TEXT[100] + TEXT[200:])


def test_a_model_without_training_cannot_go_on(tmp_path):
    path = tmp_path / "model.safetensors"
    fresh().model.save(path)
    with pytest.raises(seqcore.CheckpointError, match="expected training to go on with, got none"):
        resumed(path)


ABSENT = object()


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("options", "batch", -1),
        ("options", "batch", 6),
        ("options", "batch", "5"),
        ("options", "lr", float("nan")),
        ("options", "clip", None),
        ("options", "clip", -1.0),
        ("options", "bptt", 0),
        ("options", "validation", 7),
        ("options", "batch", 10**30),
        ("options", "lr", ABSENT),
        (None, "validation_loss", ABSENT),
        (None, "awaiting_validation", ABSENT),
        ("position", "window", 10**6),
        ("position", "window", -1),
        ("position", "window", 0),
        ("position", "steps", 1.5),
        ("text", "sha256", 3),
        ("options", "lr", 1e308),
        ("options", "clip", 1e308),
        ("position", "steps", 7),
        ("position", "epoch", 1),
        (None, "epoch_sums", [-1, 4.0, 120]),
        (None, "epoch_sums", [2, 4.0, 120]),
        (None, "epoch_sums", [1, -4.0, 120]),
        (None, "epoch_sums", [1, float("nan"), 120]),
        (None, "epoch_sums", [1, 4.0, -120]),
        (None, "epoch_sums", [1, 4.0, 121]),
        (None, "epoch_sums", [1, 10**400, 120]),
        (None, "validation_loss", 10**400),
        ("options", "lr", 10**400),
        ("position", "steps", 10**400),
        (None, "validation_loss", -1.0),
        (None, "validated", -1),
        (None, "validated", 3),
        (
            None,
            "awaiting_validation",
            {"step": 3, "epoch": 1, "characters": 60, "loss": 3.0, "gradient_norm": 1.0, "validation_loss": None},
        ),
        (None, "epoch_sums", [1]),
        (None, "epoch_sums", None),
        (None, "validation_loss", "x"),
        (None, "validated", "x"),
        (None, "validated", ABSENT),
        (None, "awaiting_validation", {"step": 1}),
        (None, "options", {"batch": 5, "nonsense": 1}),
        (None, "position", None),
        (None, "run", 3),
    ],
)
def test_a_state_of_training_that_contradicts_itself(tmp_path, part, name, value):
    path = tmp_path / "run.safetensors"
    fresh().run(steps=2, path=path)
    checkpoint = load_file(path)
    config = checkpoint.config
    place = config["training"][part] if part else config["training"]
    if value is ABSENT:
        del place[name]
    else:
        place[name] = value
    checkpoint.metadata["config"] = json.dumps(config)
    model = fresh().model
    with pytest.raises(seqcore.CheckpointError):
        Trainer.resume(model, model.vocabulary.encode(TEXT), checkpoint, path)


@pytest.mark.parametrize("option", ["lr", "eps", "weight_decay"])
def test_an_optimizer_whose_options_no_run_has(tmp_path, option):
    path = tmp_path / "run.safetensors"
    trainer = fresh()
    trainer.run(steps=2, path=path)
    for value in (1e308, -1.0):
        checkpoint = load_file(path)
        groups = json.loads(checkpoint.metadata["optimizer"])
        groups[0][option] = value
        checkpoint.metadata["optimizer"] = json.dumps(groups)
        with pytest.raises(seqcore.CheckpointError, match="the state of a run, got"):
            Trainer.resume(trainer.model, trainer.model.vocabulary.encode(TEXT), checkpoint, path)


@pytest.mark.parametrize("cut", range(1, 26))
def test_every_place_of_a_run_may_be_gone_on_from(tmp_path, cut):
    path = tmp_path / "run.safetensors"
    trainer = fresh(text=TEXT[:700])
    assert trainer.held_out is not None and 2 * len(trainer.streams) < 26
    trainer.run(steps=cut, path=path)
    again = Trainer.resume(trainer.model, trainer.model.vocabulary.encode(TEXT[:700]), load_file(path), path)
    assert (again.steps, again.epoch_sums) == (cut, trainer.epoch_sums)


def test_a_held_out_loss_that_is_not_finite_is_told(tmp_path):
    trainer = fresh()
    state = {name: value.numpy(copy=True) for name, value in trainer.model.state_dict().items()}
    trainer.model.load_state_dict({**state, "linear.bias": np.full_like(state["linear.bias"], np.nan)})
    with pytest.raises(FloatingPointError, match="held-out loss: expected a finite number, got nan at step 0"):
        trainer.validate()
    assert trainer.model.training


def test_texts_at_the_edge_of_too_short():
    assert fresh(text="ab" * 6, batch=5, bptt=64).held_out is not None
    with pytest.raises(TextError, match="too short"):
        fresh(text="ab", batch=1)
    trainer = fresh(text="abc", batch=1)
    trainer.run(epochs=3)
    assert trainer.held_out is None and trainer.validation_loss is None and trainer.steps == 3


@pytest.mark.gpu
def test_losses_on_the_gpu_are_those_of_the_cpu():
    told = {}
    for device in ("cpu", "gpu"):
        told[device] = Losses()
        fresh(device=device).run(steps=20, watcher=told[device])
    losses = {device: [row[2] for row in losses.found] for device, losses in told.items()}
    assert np.allclose(losses["cpu"], losses["gpu"], rtol=0, atol=1e-4)


@pytest.mark.gpu
def test_only_losses_are_read_back_from_a_gpu():
    trainer = fresh(device="gpu", validation=0)
    trainer.run(steps=20)
    seqcore.debug.gpu_counters()
    trainer.run(steps=40)
    # two numbers of four bytes a step, read together; 64 leaves room for padding
    assert seqcore.debug.gpu_counters()["bytes_back"] <= 20 * 8 + 64
