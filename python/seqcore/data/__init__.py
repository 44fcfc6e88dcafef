"""Data: text of any encoding and size into ids, vocabularies, and streams for language modelling."""

from .streams import Streams as Streams
from .streams import split as split
from .text import check_encoding as check_encoding
from .text import display_name as display_name
from .text import pieces as pieces
from .text import read_ids as read_ids
from .vocabulary import TextError as TextError
from .vocabulary import Vocabulary as Vocabulary

__all__ = ["Streams", "TextError", "Vocabulary", "check_encoding", "display_name", "pieces", "read_ids", "split"]
