"""Training: against PyTorch, bit for bit across resumption (S-71)."""

import hashlib
import json
import math
import time
from decimal import Decimal

import numpy as np
import pytest

import seqcore
from runs import OPTIONS, SIZES, TEXT, Losses, fresh, resumed, same, weights
from seqcore import Tensor, nn
from seqcore.checkpoint import load_file
from seqcore.data import TextError, Vocabulary
from seqcore.models import LanguageModel
from seqcore.train import Trainer, Watcher


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


def test_records_are_each_step_once(uninterrupted):
    found, _, trainer = uninterrupted
    per_epoch = len(trainer.streams)
    assert [row[:2] for row in found] == [(i + 1, i // per_epoch + 1) for i in range(2 * per_epoch)]
    assert [row[0] for row in found if row[4] is not None] == [per_epoch, 2 * per_epoch]
    assert trainer.validation_loss == found[-1][4] == trainer.validate()
    assert trainer.epoch == 2 and trainer.finished(epochs=2) and trainer.finished(steps=per_epoch)


@pytest.mark.parametrize("steps", [4, 13, 26])
def test_the_mean_loss_of_an_epoch_weighs_each_step_by_its_characters(steps):
    trainer, records = fresh(bptt=76), []
    per_epoch = len(trainer.streams)
    assert 4 < per_epoch < 26
    for _ in range(steps):
        trainer.step()
        trainer.finish_epoch()
        records += trainer.read()
    of_epoch = [record for record in records if record.epoch == records[-1].epoch]
    sizes = [record.characters for record in of_epoch]
    assert (len(set(sizes)) == 2) == (len(of_epoch) == per_epoch)
    expected = np.average([record.loss for record in of_epoch], weights=sizes)
    assert trainer.mean_loss() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("bptt", "rows"), [(12, 5), (60, 4), (200, 1)])
def test_the_validation_loss_is_the_mean_over_all_characters_held_out(bptt, rows):
    # by hand, from the logits of each stream read as a whole: as many streams as have two windows each, at most `batch`
    trainer = fresh(bptt=bptt, lr=2e-2)
    trainer.run(steps=30)
    ids = trainer.model.vocabulary.encode(TEXT).astype(np.int64)
    held_out = ids[int(0.9 * len(ids)) :]
    length = len(held_out) // rows
    assert 2 * bptt <= length and (length - 1) % bptt and (rows == 5 or len(held_out) < 2 * bptt * (rows + 1))
    streams = held_out[: rows * length].reshape(rows, length).T
    trainer.model.eval()
    with seqcore.no_grad():
        logits = trainer.model(streams[:-1])[0].numpy().astype(np.float64)
    likelihoods = np.exp(logits - logits.max(-1, keepdims=True))
    likelihoods /= likelihoods.sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(likelihoods, streams[1:, :, None], -1)).mean()
    assert trainer.validate() == pytest.approx(expected, rel=1e-6)


def test_validation_leaves_the_mode_as_it_was(tmp_path):
    trainer = fresh()
    trainer.model.dropout.eval()
    modes = [module.training for module in trainer.model.modules()]
    assert trainer.validate() == trainer.validate()
    assert [module.training for module in trainer.model.modules()] == modes
    trainer.model.eval()
    trainer.validate()
    assert not any(module.training for module in trainer.model.modules())


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
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="loss: expected a finite number, got nan at step 3"):
            trainer.save(path)
        with pytest.raises(FloatingPointError, match="loss: expected a finite number, got nan at step 3"):
            trainer.read()
    assert path.read_bytes() == whole and trainer.reported == 2


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


def test_the_text_is_the_same_whatever_type_of_integers_its_ids_are(tmp_path):
    path, trainer = tmp_path / "run", fresh()
    ids = trainer.model.vocabulary.encode(TEXT)
    assert ids.dtype == np.uint8
    expected = hashlib.sha256(trainer.model.vocabulary.characters.encode() + ids.tobytes()).hexdigest()
    assert trainer.text["sha256"] == expected
    trainer.run(steps=2, path=path)
    for dtype in ("int64", ">i4", "u2"):
        again = Trainer.resume(trainer.model, ids.astype(dtype), load_file(path), path)
        assert again.steps == 2 and again.text["sha256"] == expected


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
    for _ in range(2):
        with pytest.raises(
            FloatingPointError, match="weights: expected finite numbers, got some that are not at step 0"
        ):
            trainer.save(tmp_path / "run")
    assert not list(tmp_path.iterdir())


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


def test_a_model_of_float64_goes_on_as_one(tmp_path):
    """Nothing is rounded on the way through the file, inside an epoch and at its end."""
    path = tmp_path / "run.safetensors"
    for steps in (2, len(fresh().streams)):
        whole = fresh_double()
        whole.run(steps=steps, path=path)
        whole.run(steps=steps + 2)
        again = resumed(path)
        assert {value.dtype for value in weights(again).values()} == {np.dtype("float64")}
        again.run(steps=steps + 2)
        assert same(weights(again), weights(whole))


def fresh_double():
    seqcore.manual_seed(11)
    model = LanguageModel(TEXT, dropout=0.2, **SIZES).double()
    return Trainer(model, model.vocabulary.encode(TEXT), **OPTIONS)
