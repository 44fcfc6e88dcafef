"""Commands as a person can paste them into a shell."""

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable


def started_as() -> list[str]:
    """The words that this process was started with, up to the command's own arguments."""
    script, given = sys.argv[0], len(sys.argv) - 1
    if script.endswith(os.path.join("seqcore", "__main__.py")):
        # the interpreter as it was named, its own flags, and -m seqcore
        return sys.orig_argv[: len(sys.orig_argv) - given]
    name, _ = os.path.splitext(os.path.basename(script))
    if name != "seqcore":
        # some other program called the function
        return ["seqcore"]
    found = shutil.which(name)
    try:
        same = found is not None and os.path.samefile(found, script)
    except OSError:
        same = False
    return [name if same else script]


def given(options: argparse.Namespace, parser: argparse.ArgumentParser, without: Collection[str]) -> list[str]:
    """The options that are not at their defaults, as words; their values must print as they are read."""
    words = []
    for name, value in vars(options).items():
        if name in without or value == parser.get_default(name):
            continue
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else option(flag, str(value))
    return words


def option(flag: str, value: str) -> list[str]:
    """A flag and its value: two words, but where the second would pass for a flag."""
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


def quoted(words: Iterable[str]) -> str:
    """The words as a shell reads them, nothing in them that a terminal would obey."""
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    """In the one kind of quotes that knows escapes: a character's bytes are those of the file's name."""
    shown = (c if c.isprintable() and c not in "'\\" else "".join(f"\\x{b:02x}" for b in os.fsencode(c)) for c in word)
    return f"$'{''.join(shown)}'"
