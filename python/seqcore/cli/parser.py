"""argparse with seqcore's manners: help opens with an example, a usage error is one line, no flag is abbreviated."""

import argparse
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class UsageError(Exception):
    """The command was called wrongly."""


class Parser(argparse.ArgumentParser):
    """A command, with the example that its help opens with."""

    def __init__(self, prog: str, example: str = "", description: str = "", **others: Any):
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=_Help, **others)
        self._example = example

    def add_commands(self) -> "argparse._SubParsersAction[Parser]":
        """The place for commands below this one."""
        return self.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def format_help(self) -> str:
        example = "".join(f"  {line}\n" for line in self._example.splitlines())
        return f"For example:\n{example}\n{super().format_help()}" if example else super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # what this command does not know is its own to tell: argparse leaves it to the outermost, with the wrong help
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own swallows errors, and a full disk would pass for help that was shown
        file = file or sys.stdout
        file.write(message)
        file.flush()

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].lower()}{message[1:]} (see {self.prog} --help)")


class _Help(argparse.HelpFormatter):
    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28)


def printable(text: str) -> str:
    """The text with escapes for what a terminal would obey: names of files may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def whole(least: int, most: int = (1 << 31) - 1) -> Callable[[str], int]:
    """A type of argument: an integer from `least` to `most`."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected an integer from {least} to {most}, got {text[:80]!r}")
        return value

    return read


def number(least: float, below: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A type of argument: a number from `least` (or above it) to just below `below`."""
    bounds = f"{'above' if above else 'of at least'} {least:g}" + (f" and below {below:g}" if below < math.inf else "")

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value > least if above else value >= least) or not value < below:
            raise argparse.ArgumentTypeError(f"expected a finite number {bounds}, got {text[:80]!r}")
        return value

    return read


def filename(text: str) -> str:
    """A type of argument: a file's name. An empty one is a variable that a script forgot to set."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file, got ''")
    return text


def device(text: str) -> str:
    """A type of argument: where to compute."""
    if re.fullmatch(r"auto|cpu|gpu(:\d+)?", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"expected auto, cpu, gpu or gpu:N, got {text!r}")
    return text


def period(text: str) -> str:
    """A type of argument: how often, as `steps_or_seconds` reads it."""
    try:
        steps_or_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def steps_or_seconds(text: str) -> tuple[int | None, float | None]:
    """How often: a number of steps, or seconds for a time such as 60s, 5m, 1h; the other is None.

    Raises:
        ValueError: the text is neither.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smh])|(\d{1,9})", text, re.ASCII)
    if found is None or float(found[1] or found[3]) == 0:
        raise ValueError(f"expected a time such as 60s, 5m or 1h, or a number of steps, got {text!r}")
    if found[3]:
        return int(found[3]), None
    return None, float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def seed(text: str) -> int:
    """A type of argument: an integer from 0 to 2^64 - 1."""
    if re.fullmatch(r"\d{1,20}", text, re.ASCII) is None or int(text) >= 1 << 64:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 2^64 - 1, got {text!r}")
    return int(text)
