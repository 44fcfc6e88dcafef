"""Ctrl-C while the command starts: until its `main` runs there is nothing to save, and an exception would be told, or
lost, by whatever is being imported. Imported before everything else, and itself importing only what Python has loaded
before any program; a program that imports seqcore is left alone."""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of, without the enumerations in front
import os
import sys

__all__ = ["over"]


def _leave(*_: object) -> None:
    os._exit(130)


def over() -> None:
    """Ctrl-C is a KeyboardInterrupt from here on."""
    if _signal.getsignal(_signal.SIGINT) is _leave:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


_name = sys.argv[0] if sys.argv else ""
# what Python was started with, up to the name of the module
_words = "".join(sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1])
_is_command = os.path.basename(_name) == "seqcore" or (_name == "-m" and _words.endswith("-mseqcore"))
if _is_command and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    try:
        _signal.signal(_signal.SIGINT, _leave)
    except ValueError:
        pass  # not the main thread, where Python handles no signals
