"""Processes: forks after and during calls, multiprocessing, the end of the interpreter, sub-interpreters."""

import sys

import pytest

from programs import program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork")

COMMON = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")  # newer Pythons warn at every fork of a process with threads
import numpy as np, seqcore
from seqcore import nn
from integers import bits, numbers
seqcore.set_num_threads(4)
lstm = nn.LSTM(24, 64)
lstm.load_state_dict({n: numbers(9, *p.shape, scale=0.25) for n, p in lstm.named_parameters()})
x = numbers(1, 30, 16, 24)

def work():
    given = seqcore.Tensor(x, requires_grad=True)
    y, _ = lstm(given)
    y.backward(np.ones(y.shape, np.float32))
    return bits(y, given.grad)

def mutate():
    lstm.load_state_dict({n: p.numpy(copy=True) for n, p in lstm.named_parameters()})
    lstm.zero_grad()

def child(job):
    \"\"\"The exit status of a forked child that does the job; it has 30 s.\"\"\"
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(int(job() or 0))
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr, flush=True)
            os._exit(99)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"
"""


def test_fork_after_a_parallel_call():
    """fault 18: the child has a team of its own, and its child too; the same bits, and parameters can be changed."""
    source = """
    want = work()

    def grandchild():
        return work() != want

    def job():
        same = work() == want
        mutate()
        return not (same and work() == want and child(grandchild) == 0)

    print([child(job) for _ in range(5)], work() == want)
    """
    assert program(COMMON + _plain(source)) == "[0, 0, 0, 0, 0] True"


def test_fork_while_another_thread_computes():
    """fault 18: at the fork another thread is inside a call, or changing parameters: its locks die with it."""
    source = """
    want = work()
    on = True

    def compute():
        while on:
            with seqcore.no_grad():
                lstm(x)

    def change():
        while on:
            mutate()

    def job():
        mutate()
        mutate()
        return not (work() == want)

    threads = [threading.Thread(target=t) for t in (compute, compute, change)]
    for thread in threads:
        thread.start()
    found = [child(job) for _ in range(25)]
    on = False
    for thread in threads:
        thread.join()
    print(set(found), work() == want)
    """
    assert program(COMMON + _plain(source)) == "{0} True"


def test_ctrl_c_in_the_child_of_a_thread():
    """fault 18: the thread that forked is the child's main thread, so that its long calls can be interrupted."""
    source = """
    import ctypes
    big = nn.Linear(2048, 2048)
    rows = np.ones((20000, 2048), np.float32)

    def job():
        def later():
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Thread(target=later, daemon=True).start()
        seqcore.set_num_threads(1)
        try:
            with seqcore.no_grad():
                for _ in range(50):
                    big(rows)
        except KeyboardInterrupt:
            return 0
        return 1

    result = []
    thread = threading.Thread(target=lambda: result.append(child(job)))
    work()
    thread.start()
    thread.join()
    print(result, child(job))
    """
    assert program(COMMON + _plain(source)) == "[0] 0"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method, tmp_path):
    """fault 18: pools of every kind after a parallel call in the parent."""
    (tmp_path / "job.py").write_text(
        "import seqcore\nfrom integers import bits, numbers\nfrom seqcore import ops\n"
        "def job(seed):\n"
        "    y, saved = ops.linear(numbers(seed, 300, 200), numbers(seed, 100, 200))\n"
        "    return bits(y, ops.linear_backward(saved, y))\n"
    )
    source = f"""
    import multiprocessing, sys, warnings
    warnings.simplefilter("ignore")
    sys.path.insert(0, {str(tmp_path)!r})
    import seqcore
    from job import job

    if __name__ == "__main__":
        seqcore.set_num_threads(3)
        want = [job(i) for i in range(6)]
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            print(pool.map_async(job, range(6)).get(60) == want)
    """
    assert program(source) == "True"


@pytest.mark.parametrize("n", range(3))
def test_exit_with_a_call_running(n):
    """fault 19: the interpreter ends while daemon threads are inside calls."""
    source = """
    import sys, threading, time
    import numpy as np, seqcore
    from seqcore import nn
    seqcore.set_num_threads(2)
    lstm, rows = nn.LSTM(64, 128), np.ones((40, 16, 64), np.float32)
    started = threading.Event()

    def forever():
        while True:
            with seqcore.no_grad():
                lstm(rows)
            started.set()
            y, _ = lstm(seqcore.Tensor(rows, requires_grad=True))
            y.sum().backward()

    for _ in range(3):
        threading.Thread(target=forever, daemon=True).start()
    started.wait()
    time.sleep(0.003 * int(sys.argv[1]))
    print("end")
    """
    for moment in range(n, 21, 3):
        done = program(source, moment, check=None)
        assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", ""), moment


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the module's name is private to 3.11 and 3.12")
def test_import_into_a_sub_interpreter():
    """fault 20: it works or is an ImportError, and the main interpreter is as before."""
    source = """
    import _xxsubinterpreters as subs
    import numpy as np, seqcore
    from seqcore import ops
    want = ops.tanh(np.ones((400, 400), np.float32))[0]
    sub = subs.create()
    try:
        subs.run_string(sub, "import seqcore.ops as o; o.tanh([1.0]); print('works')")
    except subs.RunFailedError as error:
        print("ImportError" if "ImportError" in str(error) else error)
    subs.destroy(sub)
    assert np.array_equal(ops.tanh(np.ones((400, 400), np.float32))[0], want)
    """
    assert program(source).splitlines()[-1] in ("works", "ImportError")


def _plain(source):
    import textwrap

    return textwrap.dedent(source)
