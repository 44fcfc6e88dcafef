"""`seqcore lm`: texts and names of files that are wrong or odd, and what it says of them."""

import json
import math
import os

import pytest

import seqcore
from command import SMALL, run
from seqcore.models import LanguageModel


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(ORDINARY)
    return path


ORDINARY = "the cat sat on a mat and the dog ran under it\n" * 20


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", 1, "empty"),
        (b"\xef\xbb\xbf", 1, "empty"),
        (b"\n" * 1000, 0, None),
        (b" \t \n" * 50, 0, None),
        (b"a", 1, "too short"),
        (b"ab", 1, "too short"),
        (b"a" * 20000, 0, None),
        (ORDINARY[:-1].encode(), 0, None),
        (b"\xef\xbb\xbf" + ORDINARY.encode(), 0, None),
        (b"\xff\xfe" + ORDINARY.encode("utf-16-le"), 0, None),
        (ORDINARY.encode("utf-16-le"), 1, "binary"),
        (b"\xff\xfe\0\0" + ORDINARY.encode("utf-32-le"), 0, None),
        (ORDINARY.encode() + b"F\xfc\xdfe", 1, f"offset {len(ORDINARY) + 1}."),
        (bytes(range(256)) * 8, 1, "binary"),
        (ORDINARY.replace("\n", "\r\n").encode(), 0, None),
        (ORDINARY.replace("cat", "c\0t").encode(), 1, "NUL"),
        (" ".join(["word"] * 50000).encode(), 0, None),
        (("\u0627\u0644 e\u0301 \u65e5\u672c \U0001f468\u200d\U0001f469 \ufeff\u2028\x85\n" * 30).encode(), 0, None),
    ],
)
def test_hostile_texts(tmp_path, data, status, says):
    # fault 32
    path = tmp_path / "text"
    path.write_bytes(data)
    done = run("lm", "train", path, *SMALL, "--steps", 3, "--out", tmp_path / "m", "--json", check=status)
    if status:
        assert says in done.stderr and str(path) in done.stderr
        assert not (tmp_path / "m").exists()
    else:
        loss = json.loads(done.stdout)["loss"]
        assert math.isfinite(loss) and (loss > 0 or set(data) in ({97}, {10}))
        run("lm", "generate", tmp_path / "m", "--length", 10)


def test_no_name_of_a_file_reaches_a_terminal_as_it_is(tmp_path, text):
    name = "a\x1b[31m\nb\u202e\u00e9"
    for arguments, status in (
        (["train", name, *SMALL], 1),
        (["train", text, *SMALL, "--out", f"{name}/m"], 1),
        (["train", text, *SMALL, name.replace("a", "--")], 2),
        (["generate", name], 1),
        (["train", text, *SMALL, "--steps", 1, "--out", name], 0),
        (["train", text, *SMALL, "--out", name], 2),
        (["train", text, "--resume", name, "--steps", 2, "--device", "cpu"], 0),
        (["train", tmp_path / name, *SMALL, "--out", tmp_path / "n"], 1),
    ):
        said = run("lm", *arguments, check=status, cwd=tmp_path).stderr
        assert all(c.isprintable() for c in said.replace("\n", "")), said
        assert status == 0 or "\u00e9" in said or "\\xe9" in said


def test_other_inputs(tmp_path, text):
    flags = [*SMALL, "--steps", 1, "--out", tmp_path / "m"]
    assert "No such file" in run("lm", "train", tmp_path / "absent", *flags, check=1).stderr
    assert "folder" in run("lm", "train", tmp_path, *flags, check=1).stderr
    os.mkfifo(tmp_path / "pipe")
    assert "regular file" in run("lm", "train", tmp_path / "pipe", *flags, check=1).stderr
    (tmp_path / "empty").touch()
    assert "empty; skipped" in run("lm", "train", text, tmp_path / "empty", *flags).stderr
    path = tmp_path / "cp1252"
    path.write_bytes((ORDINARY + "wait \u2026 what\n").encode("cp1252"))
    assert "0x85" in run("lm", "train", path, *flags, "--overwrite", check=1).stderr
    run("lm", "train", path, *flags, "--overwrite", "--encoding", "cp1252")
    assert "\u2026" in LanguageModel.load(tmp_path / "m").vocabulary
    for encoding, what in (
        ("nonsense", "one that Python knows"),
        ("", "one that Python knows"),
        ("hex", "one of text"),
    ):
        said = run("lm", "train", path, *flags, "--overwrite", "--encoding", encoding, check=2).stderr
        assert said == f"seqcore: --encoding: expected {what}, got {encoding!r}.\n"
    run("lm", "train", "-", *flags, "--overwrite", input=ORDINARY)
    assert "standard input" in run("lm", "train", "-", *flags, "--overwrite", input="", check=1).stderr
    assert "once" in run("lm", "train", "-", "-", *flags, "--overwrite", input="", check=2).stderr
    assert seqcore.load_file(tmp_path / "m").config["model"] == "LanguageModel"
