"""Data: text of any encoding and size into ids, vocabularies, and streams for language modelling."""

from .streams import Streams as Streams
from .streams import split as split
from .text import TextError as TextError
from .text import pieces as pieces
from .text import read_ids as read_ids
from .vocabulary import Vocabulary as Vocabulary

__all__ = ["Streams", "TextError", "Vocabulary", "pieces", "read_ids", "split"]
