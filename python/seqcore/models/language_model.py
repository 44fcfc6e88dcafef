"""A character language model: what comes next, given all that came before (Sutskever et al. 2011, with LSTM)."""

import os
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from .. import nn
from .._arguments import integer, real, text
from .._arguments import path as check_path
from ..checkpoint import Checkpoint, a_checkpoint, load_file, load_weights, save
from ..data import TextError, Vocabulary
from ..errors import CheckpointError, ShapeError, message
from ..tensor import Tensor, as_floats, as_ndarray, no_grad


class LanguageModel(nn.Module):
    """Embedding, LSTM layers, and a linear layer over the vocabulary, with dropout before and after each LSTM layer.

    Args:
        vocabulary: a `Vocabulary`, or the characters of one.
        embedding: size of a character's vector.
        hidden: size of each LSTM layer.
        layers: how many.
        dropout: the probability that an element is dropped, in training only.

    Raises:
        TextError: a vocabulary without characters; ValueError, TypeError: a size below 1 or no integer, or a dropout
            that is no number from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from seqcore.models import LanguageModel
        >>> model = LanguageModel("abc", embedding=4, hidden=8, layers=1)
        >>> logits, state = model(np.array([[0], [1]]))
        >>> logits.shape, "".join(model.generate("ab", length=5, seed=0)).isalpha()
        ((2, 1, 3), True)
    """

    def __init__(
        self,
        vocabulary: Vocabulary | Iterable[str],
        embedding: int = 64,
        hidden: int = 256,
        layers: int = 2,
        dropout: float = 0.2,
    ):
        super().__init__()
        layers = integer("LanguageModel", "layers", layers, 1)
        self.vocabulary = vocabulary if isinstance(vocabulary, Vocabulary) else Vocabulary(vocabulary)
        self.embedding = nn.Embedding(len(self.vocabulary), embedding)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding, hidden, layers, dropout=dropout if layers > 1 else 0.0)
        self.linear = nn.Linear(hidden, len(self.vocabulary))
        # as the layers have them: Python's own numbers, which JSON holds
        self.sizes = {
            "embedding": self.embedding.embedding_dim,
            "hidden": self.lstm.hidden_size,
            "layers": layers,
            "dropout": self.dropout.p,
        }

    def forward(
        self, ids: np.ndarray | Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits (T, B, V) for what follows each of the ids (T, B), and the state (h, c) after the last.

        `state` is that of an earlier call, so that a text may be read in parts; None begins a text.
        """
        y, state = self.lstm(self.dropout(self.embedding(ids)), state)
        return self.linear(self.dropout(y)), state

    def loss(self, logits: Tensor, following: np.ndarray | Tensor) -> Tensor:
        """The mean cross-entropy in nats of `logits` (T, B, V) against the ids that did follow (T, B)."""
        logits = as_floats("loss", "logits", logits)
        following = following if isinstance(following, Tensor) else as_ndarray("loss", "following", following)
        if not logits.shape:
            raise ShapeError(message("loss", "logits", "(T, B, V)", logits.shape))
        if logits.shape[:-1] != following.shape:
            raise ShapeError(message("loss", "following", f"{logits.shape[:-1]}, as logits", following.shape))
        return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), following.reshape(-1))

    def generate(
        self,
        prompt: str = "",
        length: int = 400,
        temperature: float = 1.0,
        seed: int | None = None,
        stop: str | None = None,
    ) -> Iterator[str]:
        """Writes on from `prompt`, one character at a time.

        Args:
            prompt: what stands before; where it is empty, a line end that is not part of the text.
            length: how many characters at most.
            temperature: logits are divided by it: below 1 likelier, above 1 bolder; 0 takes the likeliest always.
            seed: of the draws; None takes another one each time.
            stop: ends after the first of these characters that is drawn.

        Raises:
            TextError: the prompt holds a character that the model does not know.
            ValueError: a negative temperature, length or seed; as it writes, outputs that are not finite.
            TypeError: an argument of another type.
        """
        op = "generate"
        temperature, length = real(op, "temperature", temperature), integer(op, "length", length, 0)
        if not (temperature >= 0 and np.isfinite(temperature)):
            raise ValueError(message(op, "temperature", "0 or more", temperature))
        text(op, "prompt", prompt)
        stop = text(op, "stop", "" if stop is None else stop)
        seed = None if seed is None else integer(op, "seed", seed, 0)
        first = prompt or ("\n" if "\n" in self.vocabulary else self.vocabulary.characters[0])
        try:
            ids = self.vocabulary.encode(first)
        except TextError as error:
            raise TextError(str(error).replace("encode: text", "generate: prompt", 1)) from None
        draws = np.random.default_rng(secrets.randbits(64) if seed is None else seed)
        # checked above, when called: a generator's body runs only when the first character is asked for
        return self._written(ids, length, temperature, draws, stop)

    def _written(
        self, ids: np.ndarray, length: int, temperature: float, draws: np.random.Generator, stop: str
    ) -> Iterator[str]:
        model, state = _for_inference(self), None
        for _ in range(length):
            logits, state = model._after(ids, state)
            ids = np.array([_drawn(logits, temperature, draws)])
            character = self.vocabulary.characters[ids[0]]
            yield character
            if character in stop:
                return

    def _after(self, ids: np.ndarray, state: tuple[Tensor, Tensor] | None) -> tuple[np.ndarray, tuple[Tensor, Tensor]]:
        """Logits (V,) of what follows the last of `ids`, and the state there."""
        with no_grad():
            logits, state = self(ids.astype(np.int64).reshape(-1, 1), state)
            return logits[-1, 0].numpy().astype(np.float64), state

    def config(self) -> dict:
        """What, beside the weights, makes this model again."""
        return {"model": "LanguageModel", "vocabulary": self.vocabulary.characters, **self.sizes}

    def save(self, path: str | os.PathLike) -> None:
        """Writes weights, vocabulary and configuration into one safetensors file, whole or not at all."""
        save(path, self, config=self.config())

    @classmethod
    def load(cls, path: str | os.PathLike, device: str | None = None) -> "LanguageModel":
        """Reads a model that `save` or a `Trainer` wrote, ready to generate (`eval`).

        Raises:
            CheckpointError: the file is damaged, or of something else; OSError: it cannot be read.
        """
        return cls.from_checkpoint(load_file(path), path, device).eval()

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, path: str | os.PathLike, device: str | None = None
    ) -> "LanguageModel":
        """The model in a checkpoint that is read already; `path` is for messages."""
        op = "from_checkpoint"
        name = check_path(op, "path", path)
        model = cls(**_checked(a_checkpoint(op, checkpoint), name))
        if all(weights.dtype == "float64" for weights in checkpoint.model.values()):
            model.double()
        load_weights(model, checkpoint.model, os.fsdecode(name))
        return model if device is None else model.to(device)


def _for_inference(module: Any) -> Any:
    """The module's parameters in modules of their own, as `eval` would leave them: others may be training with it."""
    twin = object.__new__(type(module))
    for name, value in module.__dict__.items():
        twin.__dict__[name] = _for_inference(value) if isinstance(value, nn.Module) else value
    twin.__dict__["training"] = False
    return twin


def _drawn(logits: np.ndarray, temperature: float, draws: np.random.Generator) -> int:
    if not np.isfinite(logits).all():
        hint = "look for NaN and infinity in its weights"
        raise ValueError(message("generate", "model", "outputs that are finite", "some that are not", hint))
    if temperature == 0:
        return int(logits.argmax())
    # the maximum goes first: its weight is 1, and what a small temperature sends to -inf weighs nothing
    with np.errstate(over="ignore"):
        weights = np.exp((logits - logits.max()) / temperature).cumsum()
    return min(int(np.searchsorted(weights, draws.random() * weights[-1], side="right")), len(weights) - 1)


def _checked(checkpoint: Checkpoint, path: str | bytes) -> dict:
    """The constructor's arguments, believed only as far as the tensors in the file bear them out: nothing is allocated
    on the word of a configuration."""

    def bad(argument: str, expected: str, got: object) -> CheckpointError:
        return CheckpointError(message("load", f"{os.fsdecode(path)}, {argument}", expected, str(got)[:80]))

    config = checkpoint.config if checkpoint.format_version is not None else None
    config = config if isinstance(config, dict) else {}
    kind = config.get("model")
    if kind != "LanguageModel":
        raise bad("model", "a language model of seqcore", ascii(kind) if kind else "a file that names none")
    options: dict[str, Any] = {
        name: config.get(name) for name in ("vocabulary", "embedding", "hidden", "layers", "dropout")
    }
    characters = options["vocabulary"]
    if not isinstance(characters, str) or not characters or "".join(sorted(set(characters))) != characters:
        raise bad("vocabulary", "different characters sorted by code point", ascii(characters))
    for name in ("embedding", "hidden", "layers"):
        if type(options[name]) is not int or options[name] < 1:
            raise bad(name, "an integer of at least 1", ascii(options[name]))
    if type(options["dropout"]) not in (int, float) or not 0 <= options["dropout"] <= 1:
        raise bad("dropout", "a number from 0 to 1", ascii(options["dropout"]))
    v, e, h = len(characters), options["embedding"], options["hidden"]
    wanted = {"embedding.weight": (v, e), "linear.weight": (v, h), "linear.bias": (v,)}
    # as many layers as the file holds tensors for, however many it says
    for layer in range(min(options["layers"], len(checkpoint.model))):
        wanted |= {
            f"lstm.weight_ih_l{layer}": (4 * h, h if layer else e),
            f"lstm.weight_hh_l{layer}": (4 * h, h),
            f"lstm.bias_ih_l{layer}": (4 * h,),
            f"lstm.bias_hh_l{layer}": (4 * h,),
        }
    got = {name: tuple(np.shape(value)) for name, value in checkpoint.model.items()}
    for name in sorted(wanted.keys() | got.keys()):
        if wanted.get(name) != got.get(name):
            raise bad(name, f"shape {wanted[name]}" if name in wanted else "no such tensor", got.get(name, "none"))
    return options
