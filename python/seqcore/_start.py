"""Ctrl-C while the command starts: until its `main` runs there is nothing to save, and an exception would be told, or
lost, by whatever is being imported. Imported before everything else; a program that imports seqcore is left alone."""

import os
import signal
import sys
import threading
from typing import Any

__all__ = ["over"]


def _leave(*_: Any) -> None:
    os._exit(130)


def over() -> None:
    """Ctrl-C is a KeyboardInterrupt from here on."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_name = sys.argv[0] if sys.argv else ""
# what Python was started with, up to the name of the module
_words = "".join(sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1])
if (
    (os.path.basename(_name) == "seqcore" or (_name == "-m" and _words.endswith("-mseqcore")))
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, _leave)
