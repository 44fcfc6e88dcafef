"""Text of any encoding and any size: files in, characters or ids out, piece by piece.

How bytes become characters:

* A byte order mark decides: UTF-8, UTF-16 or UTF-32; the mark is dropped.
* Without one it is the `encoding` asked for, else UTF-8. Nothing is guessed and nothing is replaced: the first byte
  that does not fit is an error that names the file and the offset.
* Unless an encoding was asked for, a NUL character is taken as the sign of a binary file, and is an error.
* CRLF and lone CR become LF, as Python's own text files do. Nothing else is changed: no normalisation, no stripping.
"""

import codecs
import io
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO, cast

import numpy as np

from .._arguments import function, several, shown
from .._arguments import path as check_path
from .._arguments import text as string
from ..errors import message
from .vocabulary import CODE_POINTS, TextError, Vocabulary, codes_of, ids_dtype, spelled

# large enough that the cost per piece is nothing, small enough that a piece is nothing beside the ids
PIECE = 1 << 20

# UTF-32 first: its little-endian mark begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# bytes below the space that text does contain: backspace to carriage return, escape
_TEXT_CONTROLS = frozenset(b"\b\t\n\v\f\r\x1b")


def display_name(path: str | os.PathLike) -> str:
    """A file's name as a message may show it: on one line, whatever it holds.

    Args:
        path: a path, as a string, bytes or PathLike; "-" is standard input.

    Raises:
        TypeError: no path; ValueError: one that no file can have.

    Example:
        >>> from seqcore.data import display_name
        >>> display_name("a.txt"), display_name("a\\nb")
        ('a.txt', "'a\\\\nb'")
    """
    name = check_path("display_name", "path", path)
    name = os.fsdecode(name) if isinstance(name, bytes) else name
    return "standard input" if name == "-" else name if name.isprintable() else ascii(name)


def check_encoding(encoding: str) -> str:
    """The canonical name of a text encoding.

    Args:
        encoding: any of its names.

    Raises:
        LookupError: Python knows no such encoding, or it is one of bytes to bytes; TypeError: no string.

    Example:
        >>> from seqcore.data import check_encoding
        >>> check_encoding("UTF8")
        'utf-8'
    """
    string("read_ids", "encoding", encoding)
    try:
        info = codecs.lookup(encoding)
    except (LookupError, ValueError) as error:
        raise LookupError(message("read_ids", "encoding", "one that Python knows", repr(encoding))) from error
    if not info._is_text_encoding:
        raise LookupError(message("read_ids", "encoding", "one of text", repr(encoding)))
    return info.name


def pieces(path: str | os.PathLike, encoding: str | None = None) -> Iterator[str]:
    """The text of one file, 2^20 bytes at a time, with "\\n" as its only line end.

    Args:
        path: a regular file, or "-" for standard input.
        encoding: of a file without a byte order mark; None is UTF-8.

    Raises:
        TextError: not a regular file, or bytes that are no text in this encoding.
        OSError: as `open` does.
        LookupError: an unknown encoding.

    Example:
        >>> import pathlib, tempfile
        >>> from seqcore.data import pieces
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.txt")
        ...     _ = path.write_bytes(b"to be\\r\\n")
        ...     list(pieces(path))
        ['to be\\n']
    """
    check_path("pieces", "path", path)
    # checked here, when called: a generator's body runs only when the first piece is asked for
    return _pieces(path, None if encoding is None else check_encoding(encoding))


def _pieces(path: str | os.PathLike, explicit: str | None) -> Iterator[str]:
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    with _opened(path) as file:
        for text in _decoded(file, path, explicit):
            text = newlines.decode(text)
            if text:
                yield text
        rest = newlines.decode("", final=True)
        if rest:
            yield rest


def read_ids(
    paths: Iterable[str | os.PathLike],
    encoding: str | None = None,
    vocabulary: Vocabulary | None = None,
    skipped: Callable[[str], None] | None = None,
) -> tuple[np.ndarray, Vocabulary]:
    """The text of several files, one after the other, as one array of ids.

    Memory is that of the ids (1, 2 or 4 bytes a character, by the size of the vocabulary) and a few megabytes.

    Args:
        paths: regular files, or "-" for standard input.
        encoding: of files without a byte order mark; None is UTF-8.
        vocabulary: the characters allowed; None takes all that occur.
        skipped: called with one sentence for each empty file among others; files are skipped only then.

    Returns:
        The ids (n,), and their vocabulary.

    Raises:
        TextError: an empty or unreadable text, or a character outside the vocabulary given.
        OSError: as `open` does.

    Example:
        >>> import pathlib, tempfile
        >>> from seqcore.data import read_ids
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "a.txt")
        ...     _ = path.write_bytes(b"to be\\r\\n")
        ...     read_ids([path])
        (array([5, 4, 1, 2, 3, 0], dtype=uint8), Vocabulary('\\n beot'))
    """
    if isinstance(paths, os.PathLike):
        raise TypeError(message("read_ids", "paths", "an iterable of paths", "one path", "read_ids([path])"))
    paths = several("read_ids", "paths", paths, "paths", lambda path: check_path("read_ids", "paths", path))
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        raise TypeError(message("read_ids", "vocabulary", "a Vocabulary or None", shown(vocabulary)))
    if skipped is not None:
        function("read_ids", "skipped", skipped)
    gathered = _Gathered(vocabulary)
    for path in paths:
        before = gathered.total
        for text in pieces(path, encoding):
            gathered.add(text, path, before)
        if gathered.total == before:
            if len(paths) == 1 or skipped is None:
                raise _refused(path, "text", "an empty file")
            skipped(f"{display_name(path)}: the file is empty; skipped.")
    if not gathered.total:
        wanted, got = ("text", "files that are all empty") if paths else ("at least one", "none")
        raise TextError(message("read_ids", "paths", wanted, got))
    return gathered.finish()


class _Gathered:
    """Ids numbered in the order in which characters were first met, and renumbered at the end: one pass, so that a pipe
    will do."""

    def __init__(self, vocabulary: Vocabulary | None):
        self.fixed = vocabulary
        self.place = np.full(CODE_POINTS, -1, np.int32)
        self.codes: list[int] = []
        self.ids = np.empty(PIECE, np.uint8)
        self.total = 0
        if vocabulary is not None:
            self._meet(codes_of(vocabulary.characters))

    def _meet(self, new: np.ndarray) -> None:
        self.place[new] = np.arange(len(self.codes), len(self.codes) + len(new), dtype=np.int32)
        self.codes.extend(new.tolist())
        if (dtype := ids_dtype(len(self.codes))) != self.ids.dtype:
            self.ids = self.ids.astype(dtype)

    def add(self, text: str, path: str | os.PathLike, before: int) -> None:
        codes = codes_of(text)
        ids = self.place[codes]
        unknown = np.flatnonzero(ids < 0)
        if unknown.size:
            if self.fixed is not None:
                at = int(unknown[0])
                got = f"{spelled(text[at])} at character {self.total - before + at}"
                raise _refused(path, f"characters of the vocabulary of {len(self.fixed)}", got)
            self._meet(np.unique(codes[unknown]))
            ids = self.place[codes]
        end = self.total + len(ids)
        if end > len(self.ids):
            # grown by realloc, which moves pages instead of copying them; pages not yet written cost nothing
            self.ids.resize(max(end, len(self.ids) * 5 // 4), refcheck=False)
        self.ids[self.total : end] = ids
        self.total = end

    def finish(self) -> tuple[np.ndarray, Vocabulary]:
        vocabulary = self.fixed or Vocabulary(map(chr, self.codes))
        rank = vocabulary._places()[np.array(self.codes, np.uint32)].astype(self.ids.dtype)
        self.ids.resize(self.total, refcheck=False)
        for start in range(0, self.total, PIECE):
            part = self.ids[start : start + PIECE]
            part[:] = rank[part]
        return self.ids, vocabulary


def _opened(path: str | os.PathLike) -> AbstractContextManager[BinaryIO]:
    if os.fspath(path) == "-":
        return nullcontext(sys.stdin.buffer)
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise _refused(path, "a regular file", "a folder", "name the files in it")
    if not stat.S_ISREG(mode):
        raise _refused(path, "a regular file", "a pipe, socket or device", '"-" reads standard input')
    return cast(BinaryIO, open(path, "rb", buffering=0))


def _decoded(file: BinaryIO, path: str | os.PathLike, explicit: str | None) -> Iterator[str]:
    data = _first_bytes(file, path)
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", explicit or "utf-8"))
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    offset, data = len(mark), data[len(mark) :]
    while True:
        final = not data
        waiting = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final)
        except UnicodeDecodeError as error:
            raise _no_text(path, encoding, error, offset - waiting, final) from None
        except UnicodeError as error:
            raise _refused(path, encoding.upper(), f"bytes that are not ({error})") from None
        if explicit is None and "\0" in text:
            at = offset - waiting + len(text[: text.index("\0")].encode(encoding))
            hint = "if it is text, name its encoding (--encoding), for example utf-16-le"
            raise _refused(path, "text", f"a file that looks binary, with NUL at offset {at}", hint)
        yield text
        if final:
            return
        offset += len(data)
        data = _read(file, path)


def _first_bytes(file: BinaryIO, path: str | os.PathLike) -> bytes:
    """At least the four bytes of a mark, if there are four: a pipe may give fewer at a time."""
    data = _read(file, path)
    while 0 < len(data) < 4 and (more := _read(file, path)):
        data += more
    return data


def _read(file: BinaryIO, path: str | os.PathLike) -> bytes:
    try:
        return file.read(PIECE) or b""
    except OSError as error:
        name = os.fspath(path)
        error.filename = "standard input" if name == "-" else name
        raise


def _no_text(path: str | os.PathLike, encoding: str, error: UnicodeDecodeError, base: int, final: bool) -> TextError:
    raw = error.object
    wanted, got = encoding.upper(), f"byte 0x{raw[error.start]:02X} at offset {base + error.start}"
    if final:
        return _refused(path, wanted, f"{got}, where the file ends inside a character")
    sample = raw[max(0, error.start - 4096) : error.start + 4096]
    controls = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in sample)
    if b"\0" in sample or controls * 50 > len(sample):
        return _refused(path, wanted, f"{got} in a file that looks binary")
    return _refused(path, wanted, got, "name the file's encoding (--encoding), for example latin-1 or cp1252")


def _refused(path: str | os.PathLike, expected: str, got: str, hint: str | None = None) -> TextError:
    return TextError(message("read", display_name(path), expected, got, hint))
