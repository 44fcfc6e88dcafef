"""Data: text of any encoding and size into ids, vocabularies, and streams for language modelling."""

from .streams import Streams as Streams
from .streams import split as split
from .text import check_encoding as check_encoding
from .text import pieces as pieces
from .text import read_ids as read_ids
from .text import shown as shown
from .vocabulary import TextError as TextError
from .vocabulary import Vocabulary as Vocabulary

__all__ = ["Streams", "TextError", "Vocabulary", "check_encoding", "pieces", "read_ids", "shown", "split"]
