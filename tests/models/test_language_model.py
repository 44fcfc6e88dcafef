"""The language model itself: what it computes, what it writes, what it saves and refuses."""

import itertools
import json

import numpy as np
import pytest

import seqcore
from seqcore import nn
from seqcore.checkpoint import load_file
from seqcore.data import TextError, Vocabulary
from seqcore.models import LanguageModel

TEXT = "to be or not to be, that is the question:\n"


@pytest.fixture
def model():
    seqcore.manual_seed(3)
    return LanguageModel(TEXT, embedding=5, hidden=7, layers=2, dropout=0.3)


def test_names_and_shapes_are_those_of_pytorch_layers(model):
    v = len(set(TEXT))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == {
        "embedding.weight": (v, 5),
        "lstm.weight_ih_l0": (28, 5),
        "lstm.weight_hh_l0": (28, 7),
        "lstm.bias_ih_l0": (28,),
        "lstm.bias_hh_l0": (28,),
        "lstm.weight_ih_l1": (28, 7),
        "lstm.weight_hh_l1": (28, 7),
        "lstm.bias_ih_l1": (28,),
        "lstm.bias_hh_l1": (28,),
        "linear.weight": (v, 7),
        "linear.bias": (v,),
    }


def test_a_text_may_be_read_in_parts(model):
    model.eval()
    ids = model.vocabulary.encode(TEXT).astype(np.int64).reshape(-1, 1)
    with seqcore.no_grad():
        whole, last = model(ids)
        first, state = model(ids[:11])
        second, state = model(ids[11:], state)
    assert np.array_equal(np.concatenate([first.numpy(), second.numpy()]), whole.numpy())
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(state, last, strict=True))


def test_loss_of_a_model_that_knows_nothing_is_the_logarithm_of_the_vocabulary(model):
    model.load_state_dict({name: np.zeros(value.shape, np.float32) for name, value in model.state_dict().items()})
    ids = model.vocabulary.encode(TEXT).astype(np.int64).reshape(-1, 1)
    logits, _ = model(ids[:-1])
    assert model.loss(logits, ids[1:]).item() == pytest.approx(np.log(len(model.vocabulary)), rel=1e-6)


def test_the_same_seed_writes_the_same_text(model):
    texts = ["".join(model.generate("to ", 80, 0.9, seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 80 and set(texts[0]) <= set(TEXT)
    assert "".join(model.generate("to ", 80, 0.9)) != "".join(model.generate("to ", 80, 0.9))


def test_temperature_zero_takes_the_likeliest_and_a_small_one_nearly_so(model):
    likeliest = "".join(model.generate("to ", 30, 0, 1))
    assert likeliest == "".join(model.generate("to ", 30, 0, 2))
    for least in (1e-300, 5e-324):
        assert likeliest == "".join(model.generate("to ", 30, least, 2))


def test_draws_follow_the_distribution(model):
    # 4,000 first characters: every frequency within five standard errors of its probability
    model.eval()
    with seqcore.no_grad():
        logits = model(model.vocabulary.encode("to ").astype(np.int64).reshape(-1, 1))[0].numpy()[-1, 0].astype(float)
    p = np.exp(logits / 0.5 - (logits / 0.5).max())
    p /= p.sum()
    drawn = [next(model.generate("to ", 1, 0.5, seed)) for seed in range(4000)]
    found = np.bincount(model.vocabulary.encode("".join(drawn)), minlength=len(p)) / 4000
    assert (abs(found - p) < 5 * np.sqrt(p * (1 - p) / 4000) + 1e-3).all()


def test_generation_is_lazy_stops_and_leaves_the_model_as_it_was(model):
    model.train()
    text = model.generate("to ", 10**9, seed=1)
    first = "".join(itertools.islice(text, 5))
    assert model.training and first == "".join(model.generate("to ", 5, seed=1))
    stopped = "".join(model.generate("to ", 10_000, seed=1, stop="q\n"))
    assert stopped[-1] in "q\n" and not set(stopped[:-1]) & set("q\n")
    assert list(model.generate("to ", 0)) == []


def test_an_empty_prompt_begins_after_a_line_end(model):
    assert "".join(model.generate("", 20, seed=4)) == "".join(model.generate("\n", 20, seed=4))
    lineless = LanguageModel("ab", embedding=2, hidden=2, layers=1)
    assert set("".join(lineless.generate("", 20))) <= set("ab")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"prompt": "to x"}, TextError, r"generate: prompt: .*'x' \(U\+0078\) at position 3"),
        ({"prompt": "\0"}, TextError, r"U\+0000"),
        ({"temperature": -1.0}, ValueError, "temperature"),
        ({"temperature": float("nan")}, ValueError, "temperature"),
        ({"temperature": float("inf")}, ValueError, "temperature"),
        ({"length": -1}, ValueError, "length"),
    ],
)
def test_wrong_requests_are_refused_when_made(model, options, error, says):
    with pytest.raises(error, match=says):
        model.generate(**options)


def test_spoilt_weights_are_told(model):
    spoilt = {name: value.numpy(copy=True) for name, value in model.state_dict().items()}
    spoilt["linear.bias"][0] = np.nan
    model.load_state_dict(spoilt)
    with pytest.raises(ValueError, match="outputs that are finite"):
        next(model.generate("to "))


def test_a_vocabulary_of_one_character():
    model = LanguageModel("a", embedding=2, hidden=3, layers=1)
    logits, _ = model(np.zeros((4, 2), np.int64))
    assert model.loss(logits, np.zeros((4, 2), np.int64)).item() == 0.0
    assert "".join(model.generate("a", 3)) == "aaa"


def test_saved_and_loaded_it_is_the_same_model(model, tmp_path):
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = LanguageModel.load(path)
    assert loaded.config() == model.config() and loaded.vocabulary == model.vocabulary and not loaded.training
    for name, value in model.state_dict().items():
        assert np.array_equal(loaded.state_dict()[name].numpy(), value.numpy())
    assert "".join(loaded.generate("to ", 50, seed=1)) == "".join(model.generate("to ", 50, seed=1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "SequenceTagger"}, "model: expected a language model of seqcore, got 'SequenceTagger'"),
        ({"model": None}, "model: expected"),
        ({"vocabulary": "ab"}, "embedding.weight"),
        ({"vocabulary": ""}, "vocabulary"),
        ({"vocabulary": "ba"}, "vocabulary"),
        ({"vocabulary": ["a", "b"]}, "vocabulary"),
        ({"hidden": 8}, "shape"),
        ({"hidden": 10**15}, "shape"),
        ({"hidden": "7"}, "hidden"),
        ({"hidden": True}, "hidden"),
        ({"layers": 3}, "lstm.*_l2"),
        ({"layers": 1}, "lstm.*_l1"),
        ({"layers": 10**12}, "lstm"),
        ({"embedding": -5}, "embedding"),
        ({"dropout": 1.5}, "dropout"),
        ({"dropout": "a"}, "dropout"),
    ],
)
def test_a_configuration_that_the_tensors_do_not_bear_out(model, tmp_path, change, says):
    # fault 29: nothing is allocated on the word of a file
    path = tmp_path / "model.safetensors"
    model.save(path)
    checkpoint = load_file(path)
    checkpoint.metadata["config"] = json.dumps({**checkpoint.config, **change})
    with pytest.raises(seqcore.CheckpointError, match=says) as caught:
        LanguageModel.from_checkpoint(checkpoint, path)
    assert str(path) in str(caught.value)


def test_foreign_and_damaged_files(model, tmp_path):
    # faults 27 and 29
    path = tmp_path / "model.safetensors"
    model.save(path)
    data = path.read_bytes()
    for cut in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(seqcore.CheckpointError):
            LanguageModel.load(path)
    for other in (b"PK\x03\x04", b"\x80\x02}q", TEXT.encode() * 100):
        path.write_bytes(other)
        with pytest.raises(seqcore.CheckpointError):
            LanguageModel.load(path)
    seqcore.save(path, seqcore.nn.Linear(2, 3))
    with pytest.raises(seqcore.CheckpointError, match="names none"):
        LanguageModel.load(path)
    with pytest.raises(FileNotFoundError):
        LanguageModel.load(tmp_path / "absent")
    with pytest.raises((seqcore.CheckpointError, OSError)):
        LanguageModel.load(tmp_path)


@pytest.mark.parametrize(
    ("value", "says"), [(np.bool_(True), "numbers, got bool"), (1e300, r"numbers that float32 holds, got 1e\+300")]
)
def test_weights_that_are_no_floats(model, tmp_path, value, says):
    """A whole file, by its checksum, of what no model can have."""

    class Spoilt:
        def state_dict(self):
            return model.state_dict() | {"linear.bias": self}

        def numpy(self):
            return np.full(model.linear.bias.shape, value)

    path = tmp_path / "spoilt"
    seqcore.save(path, Spoilt(), config=model.config())
    with pytest.raises(seqcore.CheckpointError, match=rf"^load: {path}, linear\.bias: expected {says}\.$"):
        LanguageModel.load(path)


def test_numbers_of_numpy_are_saved_as_python_has_them(tmp_path):
    path = tmp_path / "model.safetensors"
    LanguageModel("abc", np.int8(4), np.int64(8), np.uint16(2), np.float32(0.5)).save(path)
    sizes = {"embedding": 4, "hidden": 8, "layers": 2, "dropout": 0.5}
    assert LanguageModel.load(path).sizes == sizes
    assert [type(value) for value in LanguageModel.load(path).sizes.values()] == [int, int, int, float]


def test_a_vocabulary_object_is_taken_as_it_is():
    vocabulary = Vocabulary("xyz")
    assert LanguageModel(vocabulary, 2, 3, 1).vocabulary is vocabulary


def test_generating_leaves_the_model_in_training(model, monkeypatch):
    """Others may be training with it meanwhile, and Ctrl-C may come at any moment."""
    seen, forward = [], nn.LSTM.forward

    def watched(self, *arguments):
        seen.append((self.training, [module.training for module in model.modules()]))
        return forward(self, *arguments)

    monkeypatch.setattr(nn.LSTM, "forward", watched)
    model.train()
    assert len("".join(model.generate("a", 3))) == 3
    assert [own for own, _ in seen] == [False] * 3 and all(all(modes) for _, modes in seen)
    model.eval()
