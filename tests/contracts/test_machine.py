"""Threads and instruction sets as the machine and the environment say; the same bits in every case."""

import json
import os
import sys

import numpy as np
import pytest

import seqcore
from programs import program
from seqcore import _core

WORK = """
import warnings
import numpy as np, seqcore
from seqcore import nn
from integers import bits, numbers

def work():
    lstm = nn.LSTM(24, 64)
    lstm.load_state_dict({n: numbers(9, *p.shape, scale=0.25) for n, p in lstm.named_parameters()})
    x = seqcore.Tensor(numbers(1, 20, 32, 24), requires_grad=True)
    y, _ = lstm(x)
    (y * y).sum().backward()
    return bits(y, x.grad, lstm.weight_ih_l0.grad)

"""


@pytest.fixture(scope="module")
def want():
    return program(WORK + "print(work())")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
def test_one_core_is_one_thread(want):
    """fault 21: affinity is honoured, also when it is set after the import."""
    source = """
    before = len(os.listdir("/proc/self/task"))
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    print(seqcore.num_threads(), work(), len(os.listdir("/proc/self/task")) - before)
    """
    found = program("import os\n" + WORK + _plain(source), OMP_NUM_THREADS=None, OPENBLAS_NUM_THREADS=1).split()
    assert found == ["1", want, "0"]


# /proc/self/cgroup of a group below another one, the file with the bound, and what it says
GROUPS = {
    "v1": ("4:cpu,cpuacct:/outer/inner\n", "cpu,cpuacct/outer/inner/cpu.cfs_quota_us", "{micros}\n"),
    "v2": ("0::/outer/inner\n", "outer/inner/cpu.max", "{micros} 100000\n"),
    "v2, of the outer group": ("0::/outer/inner\n", "outer/cpu.max", "{micros} 100000\n"),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups of Linux")
@pytest.mark.parametrize("kind", GROUPS)
def test_cgroup_quota(kind, want, tmp_path):
    """fault 21: in a group that may use one core there is one thread.

    To make such a group takes root; to see its files in place of the machine's, a namespace of one's own does.
    """
    membership, path, text = GROUPS[kind]
    groups = tmp_path / "groups"
    file = groups / path
    (groups / "outer" / "inner").mkdir(parents=True)
    (groups / "outer" / "inner" / "cgroup.controllers").write_text("cpu\n")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name("cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "membership").write_text(membership)
    mount = (
        'mount --bind "$0/groups" /sys/fs/cgroup && mount --bind "$0/membership" "/proc/$$/cgroup" && '
        'echo mounted && exec "$@"'
    )
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, tmp_path]
    source = WORK + "print(seqcore.num_threads(), work())"
    cores = len(os.sched_getaffinity(0))
    for micros, threads in ((50_000, 1), (100_000, 1), (1_000_000_000, cores)):
        file.write_text(text.format(micros=micros))
        done = program(source, before=inside, check=None, OMP_NUM_THREADS=None)
        if not done.stdout.startswith("mounted"):
            pytest.skip(f"no namespace to mount in: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["mounted", str(threads), want], micros


THREADS = {
    "1": ("1", 1),
    "3": ("3", 3),
    "levels": ("2,1", 2),
    "0": ("0", None),
    "-1": ("-1", None),
    "x": ("x", None),
    "too many": ("1000000", 1024),
    "a sign": ("+2", 2),
    "two signs": ("++2", None),
    "spaces": ("\u2003 2\t", 2),
    "no space of Rust's": ("\x1f2", None),
    "other digits": ("\u0662", None),
    "zeros": ("0" * 5000 + "1", 1),
    "5000 digits": ("9" * 5000, None),
    "a usize": (str(2**64 - 1), 1024),
    "no usize": (str(2**64), None),
    "no UTF-8": ("2,\udcff", None),
}


@pytest.mark.parametrize(("text", "threads"), THREADS.values(), ids=THREADS)
def test_omp_num_threads(text, threads, want):
    """fault 21: a number of threads; what is none is ignored with one warning; too many are cut."""
    source = "print(*{work(), work()}, seqcore.num_threads())"
    done = program(WORK + source, OMP_NUM_THREADS=text, check=None)
    assert done.returncode == 0, done.stderr
    hash, n = done.stdout.split()
    usual = program("import seqcore; print(seqcore.num_threads())", OMP_NUM_THREADS=None)
    assert (hash, n) == (want, str(threads or usual))
    assert done.stderr.count("RuntimeWarning: seqcore: OMP_NUM_THREADS") == int(threads is None), done.stderr


def test_set_num_threads():
    """fault 21: what is out of range is refused, not cut; a bool or a float is no number of threads."""
    before = seqcore.num_threads()
    for n in (0, -1, -(2**70), 1025, 10**6, 2**70):
        with pytest.raises(ValueError, match=f"expected at least 1 and at most 1024, got {n}"):
            seqcore.set_num_threads(n)
    assert seqcore.num_threads() == before
    for n in (True, 1.5, "2", None):
        with pytest.raises(TypeError):
            seqcore.set_num_threads(n)
    for n in (1, 257, 1024):
        seqcore.set_num_threads(n)
        assert seqcore.num_threads() == n
    seqcore.set_num_threads(before)
    assert seqcore.num_threads() == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
@pytest.mark.parametrize("limit", ["memory", "threads"])
def test_no_thread_can_be_made(limit, want):
    """fault 10: the call goes on with those that there are; the same bits."""
    source = """
    import os, resource
    seqcore.set_num_threads(1)
    first = work()
    if sys.argv[1] == "memory":
        size = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20),) * 2)
    else:
        if os.getuid() == 0:
            os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    before = len(os.listdir("/proc/self/task"))
    seqcore.set_num_threads(16)
    found = {work() for _ in range(5)}
    after = len(os.listdir("/proc/self/task"))
    print(first, *found, after - before < 15)
    """
    environment = {"OPENBLAS_NUM_THREADS": 1, "RUST_MIN_STACK": 40_000_000 if limit == "memory" else None}
    assert program(WORK + _plain(source), limit, **environment).split() == [want, want, "True"]


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_forced_instruction_sets(isa, want):
    """fault 23, lesson 8: the path that was asked for is the one that runs, and `info` names it."""
    source = """
    from seqcore import _core
    try:
        print(work(), _core.cpu_info()["isa"])
    except RuntimeError as error:
        print("refused", error)
    """
    found = program(WORK + _plain(source), SEQCORE_ISA=isa)
    if isa not in _core.cpu_info()["features"]:
        assert found.startswith("refused") and "SEQCORE_ISA" in found and isa in found
    else:
        assert found.split()[1] == isa
        if isa != "portable" and _core.cpu_info()["isa"] != "portable":
            assert found.split()[0] == want


@pytest.mark.parametrize("isa", ["nonsense", "AVX2", "sse9", "avx2 ", "\u00e9"])
def test_an_unknown_instruction_set(isa):
    """fault 23: import works, the first call and every later one is a RuntimeError that says what there is."""
    source = """
    for _ in range(2):
        for call in (work, lambda: seqcore.Tensor([1.0]) + 1.0 and seqcore.exp([1.0])):
            try:
                call()
                print("ran")
            except RuntimeError as error:
                assert type(error) is RuntimeError and "SEQCORE_ISA" in str(error) and "portable" in str(error)
    print("refused")
    """
    assert program(WORK + _plain(source), SEQCORE_ISA=isa) == "refused"


def test_info_works_with_an_unknown_instruction_set():
    """fault 23: it prints all it knows and what is wrong, which its status says too."""
    source = "import sys; from seqcore.cli import main; sys.exit(main(['info', *sys.argv[1:]]))"
    found = program(source, SEQCORE_ISA="nonsense", check=1)
    assert "SEQCORE_ISA" in found and "nonsense" in found
    assert "nonsense" in json.loads(program(source, "--json", SEQCORE_ISA="nonsense", check=1))["isa"]


def test_no_gpu():
    """fault 34: without a driver a GPU is a DeviceError, "auto" is the CPU, and all else works."""
    source = """
    import sys
    import numpy as np, seqcore
    assert [d["device"] for d in seqcore.devices()] == ["cpu"], seqcore.devices()
    for make in (lambda: seqcore.Tensor([1.0], device="gpu"), lambda: seqcore.nn.Linear(2, 2).to("gpu:0"),
                 lambda: seqcore.Tensor([1.0]).to("gpu")):
        try:
            make()
            print("made")
        except seqcore.DeviceError as error:
            assert type(error) is seqcore.DeviceError, error
    assert seqcore.Tensor([1.0], device="auto").device == "cpu"
    print(float((seqcore.Tensor([1.0]) + 1.0).sum()))
    """
    nowhere = {"VK_DRIVER_FILES": "/nonexistent.json", "VK_ICD_FILENAMES": "/nonexistent.json"}
    assert program(source, **nowhere) == "2.0"


def test_auto_takes_no_software_adapter():
    """It would be slower than the CPU that it runs on."""
    hardware = [d["device"] for d in seqcore.devices()[1:] if d["hardware"]]
    assert seqcore.Tensor([1.0], device="auto").device == (hardware[0] if hardware else "cpu")


def test_auto_takes_the_first_hardware_adapter(monkeypatch):
    cpu = {"device": "cpu", "type": "cpu"}
    kinds = {
        "software": [False],
        "second": [False, True],
        "two": [True, True],
        "last": [False, False, True],
        "none": [],
    }
    found = {}
    for name, hardware in kinds.items():
        adapters = [{"device": f"gpu:{i}", "type": "gpu", "hardware": real} for i, real in enumerate(hardware)]
        monkeypatch.setattr(_core, "devices", lambda adapters=adapters: [cpu, *adapters])
        found[name] = seqcore.runtime.place("auto")
    assert found == {"software": "cpu", "second": "gpu:1", "two": "gpu:0", "last": "gpu:2", "none": "cpu"}


@pytest.mark.parametrize("flush", ["before", "after", "both"])
def test_the_callers_flush_mode(flush, want):
    """fault 12: another library flushes subnormals, before or after the team exists: the same bits, its mode kept."""
    source = """
    import torch
    torch.set_num_threads(1)
    tiny = np.float32(1e-40)
    mode = sys.argv[1]

    def flushes():
        return float(np.multiply(np.full(3, tiny), np.float32(1)).max()) == 0.0

    def given():
        y, saved = seqcore.ops.linear(np.full((300, 300), tiny), np.ones((300, 300), np.float32))
        return bits(y, seqcore.ops.sigmoid(np.full(70000, tiny))[0], seqcore.ops.tanh(np.full(70000, -tiny))[0])

    if mode in ("before", "both"):
        torch.set_flush_denormal(True)
    found = {(work(), given())}
    assert flushes() == (mode != "after")
    torch.set_flush_denormal(mode != "both")
    found.add((work(), given()))
    assert flushes() == (mode != "both")
    try:
        seqcore.ops.linear(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))
    except seqcore.ShapeError:
        assert flushes() == (mode != "both")
    torch.set_flush_denormal(False)
    (done,) = found
    print(done[0], not flushes())
    """
    assert program(WORK + _plain(source), flush).split() == [want, "True"]


def test_numpy_of_the_oldest_kind_is_not_needed_for_bits():
    """What a hash is made of does not depend on NumPy: the generator's first numbers are fixed."""
    from integers import numbers

    assert numbers(1, 4).tolist() == numbers(1, 2, 2).ravel().tolist()
    assert np.abs(numbers(3, 1000)).max() <= 1.0 and len(np.unique(numbers(3, 1000))) > 500


def _plain(source):
    import textwrap

    return "import sys\n" + textwrap.dedent(source)
