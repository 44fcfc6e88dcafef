"""Programs that run in a Python of their own: for what ends a process, or what only a fresh one can show."""

import contextlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

# A program that hangs says where; what the tests share can be imported. The watch stops around a fork: a child that
# ends would wait for the watching thread, which only its parent has.
HEAD = """\
import faulthandler, os, sys
sys.path.insert(0, {tests!r})
def _watch(): faulthandler.dump_traceback_later({limit}, exit=True)
_watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=faulthandler.cancel_dump_traceback_later, after_in_parent=_watch)
"""
TESTS = str(Path(__file__).parent)


def program(source, *arguments, limit=90, check=0, before=(), interpreter=(), **environment):
    """What the program printed, stripped; its exit status must be `check`, unless that is None.

    `before` stands before the interpreter's name in the command, and `interpreter` is for it.
    """
    given = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    given = {name: value for name, value in given.items() if environment.get(name, "") is not None}
    command = [
        *map(str, before),
        sys.executable,
        *interpreter,
        "-c",
        HEAD.format(limit=limit, tests=TESTS) + textwrap.dedent(source),
    ]
    done = subprocess.run(
        [*command, *map(str, arguments)], env=given, capture_output=True, text=True, timeout=limit + 60
    )
    assert check is None or done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done.stdout.strip() if check is not None else done


def silent(source, limit=60, **environment):
    """As `program`, with the usual names imported; it must end well and write nothing to standard error."""
    head = "import numpy as np\nimport seqcore\nfrom seqcore import Tensor, nn\n"
    done = program(head + textwrap.dedent(source), check=None, limit=limit, **environment)
    assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stdout, done.stderr)
    return done.stdout


@contextlib.contextmanager
def spinning(count):
    """So many processes that never rest."""
    command = [sys.executable, "-I", "-c", "print('on', flush=True)\nwhile True: pass"]
    busy = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in busy:
            process.stdout.readline()
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
            process.stdout.close()
