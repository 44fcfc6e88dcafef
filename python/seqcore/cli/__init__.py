"""The command `seqcore`: results on standard output, everything else on standard error.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP). A failure is
one line; with SEQCORE_TRACEBACK=1 it is Python's traceback. What reads the output may stop at any time.
"""

import os
import signal
import sys
import threading
from collections.abc import Sequence

from .. import __version__, _start
from .parser import Parser, UsageError, printable

__all__ = ["main"]

_EXAMPLE = """\
seqcore lm train shakespeare.txt --out model.safetensors
seqcore lm generate model.safetensors --prompt "To be" --temperature 0.8
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    Args:
        arguments: strings; None is those of the process.

    Raises:
        SystemExit: after --help or --version.

    Example:
        >>> from seqcore.cli import main
        >>> main(["lm", "train", "no such file", "--out", "model.safetensors"])
        1
    """
    _reopen_closed_streams()
    try:
        # here, as Ctrl-C may come while they are imported
        from . import info, lm

        _start.over()
        parser = Parser("seqcore", _EXAMPLE, "Recurrent sequence models on the CPU and on any GPU.")
        parser.add_argument("--version", action="version", version=f"seqcore {__version__}")
        commands = parser.add_commands()
        lm.register(commands)
        info.register(commands)
        options = parser.parse_args(arguments)
        status = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as interrupt:
        if threading.current_thread() is threading.main_thread():
            # an impatient second one would be Python's to tell, as it ends
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return 128 + getattr(interrupt, "signum", 2)
    except UsageError as error:
        return _failed(error, 2)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and error.filename is None:
            # nobody reads standard output on, which is nothing wrong (of a pipe that has a name, it is): the
            # interpreter's own flush at exit must not say so
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if os.environ.get("SEQCORE_TRACEBACK") == "1":
            raise
        return _failed(error, 1)


def _reopen_closed_streams() -> None:
    """A stream that was closed before we began is one that nobody reads; no file we open may take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def _failed(error: Exception, status: int) -> int:
    from ..errors import SeqcoreError, closed

    # of a file of text, its name says enough
    text = str(error).removeprefix("read: ")
    if isinstance(error, OSError) and error.strerror:
        name = error.filename
        text = (
            f"{os.fsdecode(name) if isinstance(name, bytes | str) else name}: {error.strerror}"
            if name
            else error.strerror
        )
    elif isinstance(error, MemoryError):
        text = f"not enough memory: {text}" if text else "not enough memory"
    elif not (isinstance(error, SeqcoreError | UsageError | OSError) or " Hint: " in text or "SEQCORE_ISA" in text):
        what = f"{type(error).__name__}: {text}".rstrip(". ")
        text = f"{what}. Hint: SEQCORE_TRACEBACK=1 shows where; please report it."
    line = closed(printable(" ".join(text.split())))
    try:
        print(f"seqcore: {line}", file=sys.stderr, flush=True)
    except OSError:
        pass
    return status
