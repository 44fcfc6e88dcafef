"""Which characters a model knows: ids for characters and back."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from .._arguments import integer, several, shown
from .._arguments import text as string
from ..errors import DTypeError, SeqcoreError, ShapeError, message
from ..tensor import as_ndarray

CODE_POINTS = 0x110000


class TextError(SeqcoreError, ValueError):
    """Text that cannot be read, or that a model has no ids for."""


def spelled(character: str) -> str:
    """A character as a message may show it: in quotes with its code point, escaped where it is not printable."""
    return f"{ascii(character) if not character.isprintable() else repr(character)} (U+{ord(character):04X})"


def codes_of(text: str) -> np.ndarray:
    """The code points of `text`, an array of uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def ids_dtype(size: int) -> np.dtype:
    """The narrowest unsigned type that holds ids below `size`."""
    return np.dtype(np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32)


class Vocabulary:
    """The characters that a model knows, sorted by code point; the id of a character is its place.

    There is no unknown character: `encode` refuses what is not in it.

    Args:
        characters: any characters, in any order, repeated or not.

    Raises:
        TextError: no characters; TypeError: no strings.

    Example:
        >>> from seqcore.data import Vocabulary
        >>> vocabulary = Vocabulary("banana")
        >>> vocabulary.characters, vocabulary.encode("nab").tolist(), vocabulary.decode([2, 0, 1])
        ('abn', [2, 0, 1], 'nab')
    """

    def __init__(self, characters: Iterable[str]):
        op, name = "Vocabulary", "characters"
        if not isinstance(characters, str):
            characters = several(op, name, characters, "strings", lambda one: string(op, name, one))
        self.characters = "".join(sorted(set("".join(characters))))
        if not self.characters:
            raise TextError(message("Vocabulary", "characters", "at least one", "none"))
        self._table: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.characters)

    def __contains__(self, character: object) -> bool:
        return isinstance(character, str) and character in self.characters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and other.characters == self.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})" if len(self) <= 100 else f"Vocabulary of {len(self):,} characters"

    def encode(self, text: str) -> np.ndarray:
        """The ids of the characters of `text`: an array of the narrowest unsigned type.

        Raises:
            TextError: a character that is not in the vocabulary; the message names the first and its place.
        """
        codes = codes_of(string("encode", "text", text))
        ids = self._places()[codes]
        unknown = np.flatnonzero(ids < 0)
        if unknown.size:
            at = int(unknown[0])
            got = f"{spelled(text[at])} at position {at}"
            raise TextError(message("encode", "text", f"characters of the vocabulary of {len(self)}", got))
        return ids.astype(ids_dtype(len(self)))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`.

        Raises:
            IndexError: an id outside 0 to len - 1.
        """
        op = "Vocabulary"
        if hasattr(ids, "__array__"):
            array = as_ndarray(op, "ids", ids)
            if array.size and array.dtype.kind not in "iu":
                raise DTypeError(message(op, "ids", "integers", array.dtype))
            if array.ndim != 1:
                raise ShapeError(message(op, "ids", "(n,)", array.shape))
            ids = array

        def character(i: Any) -> str:
            i = integer(op, "ids", i)
            if not 0 <= i < len(self):
                raise IndexError(message(op, "ids", f"0 to {len(self) - 1}", shown(i)))
            return self.characters[i]

        return "".join(several(op, "ids", ids, "integers", character))

    def _places(self) -> np.ndarray:
        # 4 MB: made when something is encoded, and only as long as the highest code point asks
        if self._table is None:
            table = np.full(CODE_POINTS, -1, np.int32)
            table[codes_of(self.characters)] = np.arange(len(self), dtype=np.int32)
            self._table = table
        return self._table

    def __getstate__(self) -> dict:
        return {"characters": self.characters, "_table": None}
