"""Runs the command `seqcore` as a user would, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

SMALL = ["--embedding", "6", "--hidden", "12", "--layers", "2", "--batch", "5", "--bptt", "16", "--threads", "1"]
SMALL += ["--device", "cpu"]


def command(*arguments):
    return [sys.executable, "-m", "seqcore", *map(str, arguments)]


def run(*arguments, check=0, **options):
    """The finished process; its exit status must be `check`, and whatever went wrong must be one line."""
    if options.pop("text", True):
        options["encoding"] = "utf-8"
    done = subprocess.run(command(*arguments), capture_output=True, timeout=100, **options)
    assert done.returncode == check, (done.returncode, done.stdout, done.stderr)
    errors = done.stderr if isinstance(done.stderr, str) else done.stderr.decode("utf-8", "replace")
    assert "Traceback" not in errors
    if check in (1, 2):
        last = errors.splitlines()[-1]
        assert last.startswith("seqcore: ") and last.endswith((".", "?", "!")) and len(last) < 600, errors
        if check == 2:
            assert errors.count("\n") == 1
    return done


def start(*arguments, **options):
    """A process with signals as in a terminal (a background process of a shell may ignore Ctrl-C)."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def until(condition, process, seconds=60):
    """Waits for `condition`, as long as the process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def losses(path):
    """Lines of a log without what depends on the clock."""
    with open(path) as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        assert row.pop("characters_per_second") > 0
    return rows


def lines_in(path):
    return path.read_bytes().count(b"\n") if os.path.exists(path) else 0
