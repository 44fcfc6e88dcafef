"""Signals that ask a program to end, as exceptions where they tear nothing."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(KeyboardInterrupt):
    """A signal asked the program to end; `signum` says which."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP as `Interrupted`, where they tear nothing: inside `open` blocks at once, else at the
    next one or, when there is none, at the end.

    Only the first signal counts, so that an impatient second one does not tear what the first one started.
    Outside the main thread, where Python delivers no signals, it does nothing.

    `last` says that the process is to end after a signal: those that follow are ignored to its end.
    """

    def __init__(self) -> None:
        self.last = False
        self.signum: int | None = None
        self._raised = False
        self._is_open = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.signum, self._raised, self._is_open = None, False, False
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                signum = getattr(signal, name, None)
                # ignored on purpose (nohup), or not Python's to change
                if signum is not None and signal.getsignal(signum) not in (signal.SIG_IGN, None):
                    self._before[signum] = signal.signal(signum, self._arrived)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # the one that is pressed last of all: what it raises must leave none behind
        for signum, handler in reversed(self._before.items()):
            signal.signal(signum, signal.SIG_IGN if self.last and self.signum is not None else handler)
        self._before.clear()
        if kind is None:
            self._raise()
        self._raised = True

    def open(self) -> _Open:
        """A block that a signal may cut short anywhere."""
        return _Open(self)

    def _arrived(self, signum: int, _frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            if self._is_open:
                self._raise()

    def _raise(self) -> None:
        if self.signum is not None and not self._raised:
            self._raised = True
            raise Interrupted(self.signum)


class _Open:
    def __init__(self, interrupts: Interrupts):
        self._interrupts = interrupts

    def __enter__(self) -> None:
        self._interrupts._is_open = True
        self._interrupts._raise()

    def __exit__(self, *_: object) -> None:
        self._interrupts._is_open = False
