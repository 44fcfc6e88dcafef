"""Reading text: every encoding, size and damage (fault row 32), in characters and in ids."""

import codecs
import contextlib
import os
import re
import threading

import numpy as np
import pytest

import seqcore
from seqcore.data import Streams, TextError, Vocabulary, pieces, read_ids, split

LINES = ["the cat sat", "on a mat", "", "and the dog", "ran under it"] * 20
TEXT = "\n".join(LINES) + "\n"
OTHER = "F\u00fc\u00dfe gr\u00f6\u00dfer\n\u65e5\u672c\u8a9e \U0001f600 e\u0301\u2028\x85\x0c\x1c end\n"


def read(path, encoding=None):
    ids, vocabulary = read_ids([path], encoding)
    return vocabulary.decode(ids)


def written(tmp_path, data):
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_marks_decide_and_are_dropped(tmp_path, mark, encoding):
    assert read(written(tmp_path, mark + (TEXT + OTHER).encode(encoding))) == TEXT + OTHER


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le", "cp932", "utf-16"])
def test_named_encodings(tmp_path, encoding):
    text = TEXT if encoding == "cp932" else TEXT + "F\u00fc\u00dfe\n"
    assert read(written(tmp_path, text.encode(encoding)), encoding) == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_are_one_character(tmp_path, end):
    assert read(written(tmp_path, TEXT.replace("\n", end).encode())) == TEXT


def test_a_line_end_across_pieces(tmp_path, monkeypatch):
    from seqcore.data import text

    monkeypatch.setattr(text, "PIECE", 3)
    data = "a\r\nbc\r\n\r\rd\u00e9\U0001f600\r"
    assert "".join(pieces(written(tmp_path, data.encode()))) == data.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (codecs.BOM_UTF8, "empty"),
        (b"F\xfc\xdfe", r"0xFC at offset 1\. .*latin-1"),
        (b"a" * 65534 + b"\xff" + TEXT.encode(), r"0xFF at offset 65534\b"),
        (b"a" * 3_000_000 + b"\xff", r"0xFF at offset 3000000\b"),
        (codecs.BOM_UTF8 + b"ab\xff", r"0xFF at offset 5\b"),
        (TEXT.encode() + "\U0001f600".encode()[:-1], rf"offset {len(TEXT)}\b.*inside a character"),
        (codecs.BOM_UTF16_LE + "ab".encode("utf-16-le") + b"c", r"offset 6\b.*inside a character"),
        (TEXT.encode() + b"\xed\xa0\xbd\xed\xb8\x80\n", rf"0xED at offset {len(TEXT)}\b"),
        (TEXT.encode() + b"\xc0\xaf\n", rf"0xC0 at offset {len(TEXT)}\b"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "0x89 at offset 0 .*binary"),
        (b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", "0x8B at offset 1 .*binary"),
        (TEXT.encode("utf-16-le"), "binary, with NUL at offset 1"),
        (codecs.BOM_UTF16_LE + "ab\0".encode("utf-16-le"), "binary, with NUL at offset 6"),
        (b"d\0g", "binary, with NUL at offset 1"),
    ],
)
def test_what_is_no_text_is_one_line_naming_file_and_offset(tmp_path, data, says):
    path = written(tmp_path, data)
    with pytest.raises(TextError, match=says) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nul_is_a_character_where_the_encoding_is_named(tmp_path):
    assert read(written(tmp_path, b"d\0g"), "utf-8") == "d\0g"


def test_what_cannot_be_read_is_named(monkeypatch):
    class Failing:
        def read(self, count):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("seqcore.data.text._opened", lambda path: contextlib.nullcontext(Failing()))
    for path, name in (("a.txt", "a.txt"), (b"a.txt", b"a.txt"), ("-", "standard input")):
        with pytest.raises(OSError, match=r"Input/output error: ") as caught:
            read_ids([path])
        assert caught.value.filename == name


def test_folders_and_pipes_are_refused(tmp_path):
    with pytest.raises(TextError, match="folder"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TextError, match="regular file"):
        read(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")


@pytest.mark.parametrize("encoding", ["nonsense", "hex", "rot13", "a\0b"])
def test_what_is_no_text_encoding(tmp_path, encoding):
    with pytest.raises(LookupError, match="encoding: expected"):
        read(written(tmp_path, b"text"), encoding)


def test_a_pipe_gives_a_mark_byte_by_byte(monkeypatch):
    out, into = os.pipe()
    data = codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le")

    def write():
        for byte in data:
            os.write(into, bytes([byte]))
        os.close(into)

    writer = threading.Thread(target=write)
    writer.start()
    with open(out, "rb", buffering=0) as raw:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": raw}))
        assert read("-") == TEXT
    writer.join()


def test_several_files_follow_each_other_and_empty_ones_are_told(tmp_path):
    for name, text in (("a", "ba"), ("b", ""), ("c", "c")):
        (tmp_path / name).write_text(text)
    told = []
    ids, vocabulary = read_ids([tmp_path / name for name in "abc"], skipped=told.append)
    assert vocabulary.decode(ids) == "bac"
    assert len(told) == 1 and "empty" in told[0]
    with pytest.raises(TextError, match="empty"):
        read_ids([tmp_path / "b", tmp_path / "b"], skipped=told.append)


@pytest.mark.parametrize(("size", "dtype"), [(2, "u1"), (256, "u1"), (257, "u2"), (65536, "u2"), (65537, "u4")])
def test_ids_are_as_narrow_as_the_vocabulary(tmp_path, size, dtype):
    characters = [chr(c) for c in range(0x20, 0x20000) if not 0xD800 <= c < 0xE000 and c not in (0x2028,)][: size - 1]
    text = "".join(reversed(characters)) + "\n" + characters[0] * 5
    ids, vocabulary = read_ids([written(tmp_path, text.encode())])
    assert len(vocabulary) == size
    assert ids.dtype == dtype
    assert vocabulary.characters == "".join(sorted(set(text)))
    assert "".join(np.array(list(vocabulary.characters))[ids]) == text


def test_memory_is_a_byte_a_character(tmp_path):
    # 48 MB of text; what was allocated on the way is asked of NumPy's and Python's own accounts
    import tracemalloc

    path = written(tmp_path, (TEXT * 500).encode() * 48)
    size = path.stat().st_size
    tracemalloc.start()
    ids, _ = read_ids([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == size
    # the array grows by a quarter at a time; a place table, and a few copies of one piece at four bytes a character
    assert peak < 1.25 * size + 50e6


def test_a_given_vocabulary_is_a_limit(tmp_path):
    ids, vocabulary = read_ids([written(tmp_path, b"abba")], vocabulary=Vocabulary("abc"))
    assert vocabulary.characters == "abc" and ids.tolist() == [0, 1, 1, 0]
    with pytest.raises(TextError, match=r"'x' \(U\+0078\) at character 2"):
        read_ids([written(tmp_path, b"abx")], vocabulary=Vocabulary("abc"))


def test_vocabulary():
    vocabulary = Vocabulary("banana\U0001f600")
    assert vocabulary.characters == "abn\U0001f600" and len(vocabulary) == 4
    assert vocabulary.decode(vocabulary.encode("nab\U0001f600")) == "nab\U0001f600"
    assert vocabulary == Vocabulary(reversed("nab\U0001f600")) and hash(vocabulary) == hash(Vocabulary("\U0001f600nab"))
    assert vocabulary.encode("").shape == (0,)
    with pytest.raises(TextError, match=re.escape("'x' (U+0078) at position 2")):
        vocabulary.encode("abx")
    with pytest.raises(TextError, match=re.escape(r"'\n' (U+000A)")):
        vocabulary.encode("\n")
    with pytest.raises(IndexError, match="got 4"):
        vocabulary.decode([4])
    with pytest.raises(TextError):
        Vocabulary("")


def test_split_is_at_nine_tenths():
    for n in (0, 1, 9, 10, 11, 1115394):
        train, held_out = split(np.zeros(n, np.uint8))
        assert (len(train), len(held_out)) == (int(0.9 * n), n - int(0.9 * n))
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="validation"):
            split(np.zeros(3, np.uint8), wrong)


@pytest.mark.parametrize(("n", "batch", "bptt"), [(100, 3, 7), (99, 3, 8), (10, 5, 1), (4, 2, 64), (65, 1, 64)])
def test_streams_meet_every_id_once(n, batch, bptt):
    ids = np.arange(n, dtype=np.uint8)
    streams = Streams(ids, batch, bptt)
    length = n // batch
    windows = [streams[k] for k in range(len(streams))]
    assert np.array_equal(np.concatenate([x for x, _ in windows]), ids[: batch * length].reshape(batch, length).T[:-1])
    assert all(np.array_equal(y, x + 1) and x.dtype == np.int64 and 1 <= len(x) <= bptt for x, y in windows)
    with pytest.raises(IndexError):
        streams[len(streams)]


def test_streams_too_short():
    with pytest.raises(TextError, match="batch of at most 4"):
        Streams(np.zeros(9, np.uint8), 5, 10)
    with pytest.raises(TextError, match="more text"):
        Streams(np.zeros(1, np.uint8), 1, 10)


def test_ids_with_gaps_are_none():
    gaps, whole = (np.ma.masked_array(np.arange(6), [False] * 5 + [masked]) for masked in (True, False))
    for op, call in (("split", split), ("Streams", lambda ids: Streams(ids, 2, 2))):
        with pytest.raises(seqcore.DTypeError, match=rf"^{op}: ids: expected .* without masked entries, got a masked"):
            call(gaps)
        call(whole)


def test_ids_of_any_kind_are_decoded():
    vocabulary = Vocabulary("abc")
    ids = [2, 0, 1]
    for given in (ids, tuple(ids), iter(ids), np.array(ids, np.uint8), seqcore.Tensor(ids), map(np.int64, ids)):
        assert vocabulary.decode(given) == "cab"
    assert vocabulary.decode([]) == vocabulary.decode(np.zeros(0)) == ""
    for wrong in ([1.0], np.ones(2), [True], np.array(2), [[1], [1, 2]], [[1]], ["a"]):
        with pytest.raises((TypeError, ValueError), match=r"^Vocabulary: ids: expected "):
            vocabulary.decode(wrong)
    with pytest.raises(IndexError, match="expected 0 to 2, got 3"):
        vocabulary.decode([0, 3])
    with pytest.raises(IndexError, match="expected 0 to 2, got an integer of 1329 bits"):
        vocabulary.decode([10**400])
