"""Checkpoints: what is saved comes back, what is damaged is refused, what was there stays (fault 24 to fault 29)."""

import errno
import fcntl
import json
import os
import pickle
import re
import resource
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import seqcore
from seqcore import Tensor, _safetensors, checkpoint, nn, optim
from seqcore.runtime import get_random_state, set_random_state
from torch_compare import raised, rounded


def trained(steps=3, amsgrad=True):
    seqcore.manual_seed(4)
    module = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.3), nn.Linear(5, 2))
    optimizer = optim.AdamW(module.parameters(), lr=0.01, amsgrad=amsgrad)
    for _ in range(steps):
        step(module, optimizer)
    return module, optimizer


def step(module, optimizer):
    x = rounded(np.random.default_rng(0), (4, 3))
    optimizer.zero_grad()
    (module(x) ** 2).sum().backward()
    optimizer.step()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_resumed_training_is_the_same(path):
    """Weights, optimizer and random state come back, so that the next steps are the same bit for bit."""
    module, optimizer = trained()
    seqcore.save(path, module, optimizer, {"sizes": [3, 5, 2], "name": "é\n"}, state={"h": Tensor([1.0, 2.0])})
    for _ in range(3):
        step(module, optimizer)
    loaded = seqcore.load_file(path)
    assert loaded.config == {"sizes": [3, 5, 2], "name": "é\n"} and loaded.format_version == 1
    assert loaded.state["h"].tolist() == [1.0, 2.0]
    other, other_optimizer = trained(1)
    other.load_state_dict(loaded.model)
    other_optimizer.load_state_dict(loaded.optimizer)
    set_random_state(loaded.random_state)
    for _ in range(3):
        step(other, other_optimizer)
    assert get_random_state()["calls"] > 0
    for a, b in zip(module.parameters(), other.parameters(), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_others_read_ours_and_we_theirs(path, tmp_path):
    """The header is the format's: parsed here by hand, as no other package is needed."""
    module, _ = trained()
    seqcore.save(path, module)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert header["__metadata__"]["format_version"] == "1" and length % 8 == 0
    entry = header["model.0.weight"]
    begin, end = entry["data_offsets"]
    values = np.frombuffer(data[8 + length :][begin:end], "<f4").reshape(entry["shape"])
    assert np.array_equal(values, module[0].weight.numpy())
    foreign = make(
        tmp_path / "foreign", {"weight": ("F32", [1, 2], b"\0\0\x80?\0\0\0@"), "bias": ("F64", [1], bytes(8))}
    )
    layer = nn.Linear(2, 1)
    layer.load_state_dict(seqcore.load_file(foreign))
    assert layer.weight.numpy().tolist() == [[1.0, 2.0]]
    assert isinstance(raised(lambda: seqcore.load_file(foreign).model), seqcore.CheckpointError)


def test_in_pieces_of_any_size_the_file_is_the_same(path, tmp_path, monkeypatch):
    """Between pieces Ctrl-C is handled."""
    module, optimizer = trained()
    bits = np.arange(1000, dtype=np.uint16) * 65
    header = json.dumps({"x": {"dtype": "BF16", "shape": [10, 100], "data_offsets": [0, 2000]}}).encode()
    half = tmp_path / "half"
    half.write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    files = []
    for size in (1 << 24, 100):
        monkeypatch.setattr(_safetensors, "PIECE", size)
        seqcore.save(path, module, optimizer)
        with open(path, "rb") as file:
            files.append(file.read())
        assert seqcore.load_file(path).model.keys() == module.state_dict().keys()
        wide = seqcore.load_file(half)["x"]
        assert wide.shape == (10, 100) and np.array_equal(
            wide.view(np.uint32).reshape(-1), bits.astype(np.uint32) << 16
        )
    assert files[0] == files[1]


@pytest.mark.parametrize("version", ["1", "2", "x", ""])
def test_others_may_have_our_names(path, version):
    """Metadata of another's file is that program's own."""
    metadata = {"format": "pt", "format_version": version, "checksum": "x", "config": "{", "random_state": "7"}
    loaded = seqcore.load_file(make(path, {"weight": ("F32", [1], bytes(4))}, metadata))
    assert loaded["weight"].tolist() == [0.0] and loaded.metadata == metadata and loaded.format_version is None
    for part in ("model", "config", "random_state", "optimizer", "state"):
        assert isinstance(raised(getattr, loaded, part), seqcore.CheckpointError)


def test_ours_without_one_of_its_marks(path):
    """fault 27: a file that lost a mark to damage is not taken for another's."""
    seqcore.save(path, nn.Linear(3, 2))
    good = path.read_bytes()
    for old, new in ((b'"format"', b'"formal"'), (b'"seqcore",', b'"seqfore",'), (b'"seqcore_v', b'"seqcore-v')):
        assert good.count(old) == 1
        path.write_bytes(good.replace(old, new))
        assert "expected checksum" in str(raised(seqcore.load_file, path))


def make(path, tensors, metadata=None, header=None, tail=b""):
    """A file, by hand."""
    entries, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    if metadata is not None:
        entries["__metadata__"] = metadata
    text = json.dumps(entries).encode() if header is None else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data + tail)
    return path


W = {"w": ("F32", [2, 3], bytes(24))}
ONE = b'{"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}'


@pytest.mark.parametrize(
    "header",
    [
        b"[1]",
        b"{",
        b" {}",
        b"\xff\xfe",
        b'{"a":NaN}',
        ONE + b"," + ONE[1:] + b"}",  # one name twice
        b"[" * 100_000,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ONE.replace(b"F32", b"F99") + b"}",
        ONE.replace(b"[2,3]", b"[2.0,3]") + b"}",
        ONE.replace(b"[2,3]", b"[-2,-3]") + b"}",
        ONE.replace(b"[2,3]", b"[true,6]") + b"}",
        ONE.replace(b"[2,3]", b"[2,4]") + b"}",
        ONE.replace(b"[2,3]", b"[4294967296,4294967296]") + b"}",
        ONE.replace(b"[2,3]", b"[4611686018427387904]") + b"}",
        ONE.replace(b"[2,3]", b"[" + b"9" * 5000 + b"]") + b"}",
        ONE.replace(b"[0,24]", b"[-24,0]") + b"}",
        ONE.replace(b"[0,24]", b"[24,0]") + b"}",
        ONE.replace(b"[0,24]", b"[0,48]") + b"}",
        ONE.replace(b"[0,24]", b"[0]") + b"}",
        ONE.replace(b',"data_offsets":[0,24]', b"") + b"}",
        ONE + b',"v":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}',  # overlap
        ONE + b',"v":{"dtype":"F32","shape":[0,4611686018427387904,8],"data_offsets":[24,24]}}',
        ONE + b',"__metadata__":{"a":1}}',
        ONE + b',"__metadata__":[]}',
    ],
    ids=range(25),
)
def test_wrong_headers(tmp_path, header):
    """fault 28."""
    path = make(tmp_path / "bad", W, header=header)
    error = raised(seqcore.load_file, path)
    assert type(error) is seqcore.CheckpointError and "\n" not in str(error) and len(str(error)) < 1000


def test_wrong_lengths(tmp_path):
    """fault 28: nothing of the size that a header names is allocated."""
    path = make(tmp_path / "bad", W)
    good = path.read_bytes()
    for length in (0, 1, 2**63, 2**64 - 1, 2**32, 100_000_001, len(good)):
        path.write_bytes(length.to_bytes(8, "little") + good[8:])
        assert type(raised(seqcore.load_file, path)) is seqcore.CheckpointError, length
    for data in (b"", good[:7], good[:8], good[:-5], good + b"\0"):
        path.write_bytes(data)
        assert type(raised(seqcore.load_file, path)) is seqcore.CheckpointError
    odd = {name: ("F32", [1], bytes(4)) for name in ("", "../a", "a\nb", "\0", "x" * 5000)}
    assert len(seqcore.load_file(make(path, odd))) == 5
    error = raised(nn.Linear(1, 1).load_state_dict, seqcore.load_file(path))
    assert isinstance(error, RuntimeError) and "\n" not in str(error) and "\0" not in str(error)
    many = {f"t{i}": ("F32", [0], b"") for i in range(2000)}
    assert len(seqcore.load_file(make(path, many))) == 2000


def test_every_cut_and_every_changed_byte(path):
    """fault 27."""
    module, optimizer = trained()
    seqcore.save(path, module, optimizer, {"a": 1})
    good = path.read_bytes()
    length = 8 + int.from_bytes(good[:8], "little")
    for cut in range(0, len(good), 64):
        path.write_bytes(good[:cut])
        assert type(raised(seqcore.load_file, path)) is seqcore.CheckpointError, cut
    blanks = length - len(good[:length].rstrip(b" "))
    for at in [*range(length - blanks), *range(length, len(good), 29)]:
        for bit in (1, 32):  # 32 turns capitals into small letters and the other way round
            path.write_bytes(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])
            error = raised(seqcore.load_file, path)
            assert type(error) is seqcore.CheckpointError, (at, bit, good[max(0, at - 20) : at + 20])


def remade(path, **changes):
    """A saved checkpoint with other strings in its metadata, and the checksum that goes with them."""
    file = _safetensors.read(path)
    metadata = {k: v for k, v in (file.metadata | changes).items() if k != "checksum" and v is not None}
    header, data = _safetensors.header_and_order(
        file.tensors, metadata, lambda entries, crc: {"checksum": checkpoint._checksum(entries, metadata, crc)}
    )
    path.with_name("remade").write_bytes(b"".join([header, *data]))
    return path.with_name("remade")


def test_wrong_metadata(path):
    """fault 28: nothing is believed because its checksum is right."""
    module, optimizer = trained()
    seqcore.save(path, module, optimizer, {"a": 1.5})
    assert seqcore.load_file(remade(path, note="more")).config == {"a": 1.5}
    deep = "[" * 100_000 + "]" * 100_000
    no_json = ["", "{", "NaN", "[Infinity]", "1e400", '{"a": 1, "a": 2}', deep, "9" * 5000, "\0", "'a'"]
    states = [f'{{"seed": {seed}, "calls": {calls}}}'
              for n in ("-1", "1.0", "true", "null", '"1"', "18446744073709551616", "[]")
              for seed, calls in ((n, 0), (0, n))]  # fmt: skip
    states += ["null", "[]", "3", "{}", '{"seed": 1}', '{"seed": 1, "calls": 1, "more": 1}', "[1, 2]"]
    groups = ["{}", "3", '[{"lr": 1}]', "[[]]", '[{"params": [true]}]', '[{"params": [-1]}]', '[{"params": [0.0]}]',
              '[{"params": {"0": 1}}]', "[null]", "null"]  # fmt: skip
    cases = {"config": no_json, "random_state": [*no_json, *states], "optimizer": [*no_json, *groups],
             "format_version": ["", "-1", "1.0", " 1", "\u0661", "true", "null", "9" * 5000, "0"]}  # fmt: skip
    for name, values in cases.items():
        for value in values:
            error = raised(seqcore.load_file, remade(path, **{name: value}))
            assert type(error) is seqcore.CheckpointError, (name, value)
            said = str(error)
            assert f"remade': {name}" in said or "format_version" in said, said
            assert "\n" not in said and len(said) < 600
    for name in ("config", "random_state"):
        assert type(raised(seqcore.load_file, remade(path, **{name: None}))) is seqcore.CheckpointError
    assert seqcore.load_file(remade(path, random_state='{"calls": 0, "seed": 18446744073709551615}')).random_state


def test_only_what_can_be_read_again_is_saved(path):
    module, optimizer = trained()
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for config in (float("nan"), {"a": [float("inf")]}, {1: "a", "1": "b"}, deep, {(1, 2): 3}, {1j}):
        error = raised(seqcore.save, path, module, config=config)
        assert isinstance(error, TypeError) and str(error).startswith("save: config: expected what JSON can hold, got")
        assert not path.exists()
    for state in ({1: [1.0], "1": [2.0]}, {None: [1.0]}, {("a", 1): [1.0]}):
        error = raised(seqcore.save, path, module, state=state)
        assert isinstance(error, TypeError) and "save: state: expected names that are strings, got" in str(error)
        assert not path.exists()
    optimizer.param_groups[0]["lr"] = float("nan")
    assert "save: optimizer: " in str(raised(seqcore.save, path, module, optimizer))


@pytest.mark.parametrize("how", ["made with", "assigned", "loaded"])
@pytest.mark.parametrize("algorithm", ["SGD", "Adam"])
def test_options_that_are_numpys_are_saved(path, algorithm, how):
    """As Python's numbers, which JSON can hold; the steps after are the same bit for bit."""
    options = {"lr": np.float32(0.1), "weight_decay": np.array(0.25), "maximize": np.False_}
    if algorithm == "SGD":
        options |= {"momentum": np.float64(0.5), "nesterov": np.True_, "dampening": np.int64(0)}
    else:
        options |= {"betas": (np.float32(0.5), np.float16(0.75)), "amsgrad": np.True_, "eps": Tensor(0.125)}
    modules = nn.Linear(3, 2), nn.Linear(3, 2)
    modules[1].load_state_dict(modules[0].state_dict())
    first, second = (
        getattr(optim, algorithm)(m.parameters(), **(options if how == "made with" else {})) for m in modules
    )
    if how == "assigned":
        first.param_groups[0] |= options
    elif how == "loaded":
        state = first.state_dict()
        first.load_state_dict({**state, "param_groups": [state["param_groups"][0] | options]})
    step(modules[0], first)
    seqcore.save(path, modules[0], first)
    loaded = seqcore.load_file(path)
    (group,) = loaded.optimizer["param_groups"]
    assert group == json.loads(json.dumps(first.state_dict()["param_groups"][0])) and group["maximize"] is False
    assert (group["lr"], group["weight_decay"]) == (float(np.float32(0.1)), 0.25)
    assert group["betas"] == [0.5, 0.75] if algorithm == "Adam" else group["nesterov"] is True
    modules[1].load_state_dict(loaded.model)
    second.load_state_dict(loaded.optimizer)
    for module, optimizer in zip(modules, (first, second), strict=True):
        step(module, optimizer)
    assert np.array_equal(modules[0].weight.numpy(), modules[1].weight.numpy())


def test_versions_and_other_files(tmp_path, path):
    """fault 29."""
    for version in ("2", "0", "-1", "x", "1.0", "99999999999", ""):
        make(path, W, {"format": "seqcore", "format_version": version})
        error = raised(seqcore.load_file, path)
        assert type(error) is seqcore.CheckpointError and "format_version" in str(error)
    make(path, W, {"seqcore_version": "9", "format_version": "2", "checksum": "0"})
    assert "1" in str(raised(seqcore.load_file, path)) and "got 2" in str(raised(seqcore.load_file, path))
    path.write_bytes(pickle.dumps({"a": np.ones(3)}))
    assert "torch.load" in str(raised(seqcore.load_file, path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "x")
    assert "save_file" in str(raised(seqcore.load_file, path)) and isinstance(
        raised(seqcore.load_file, path), seqcore.CheckpointError
    )
    assert isinstance(raised(seqcore.load_file, tmp_path), IsADirectoryError)
    assert isinstance(raised(seqcore.load_file, tmp_path / "absent"), FileNotFoundError)
    os.mkfifo(tmp_path / "pipe")
    assert type(raised(seqcore.load_file, tmp_path / "pipe")) is seqcore.CheckpointError
    seqcore.save(path, nn.Linear(3, 2))
    assert isinstance(raised(nn.LSTM(3, 5).load_state_dict, seqcore.load_file(path).model), RuntimeError)


def test_modes_and_leftovers(path):
    """The mode is that of the old file, else 0666 less the umask; a link stays a link; nothing is left over."""
    module = nn.Linear(3, 2)
    old = os.umask(0o027)
    try:
        seqcore.save(path, module)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    seqcore.save(path, module)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    link = path.with_name("link")
    link.symlink_to(path)
    seqcore.save(link, module, config={"new": True})
    assert link.is_symlink() and seqcore.load_file(path).config == {"new": True}
    assert sorted(p.name for p in path.parent.iterdir()) == ["link", path.name]


def test_what_cannot_be_written(path):
    """fault 25: OSError with errno, the old file whole, nothing left over."""
    module = nn.Linear(300, 200)
    seqcore.save(path, module)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        error = raised(seqcore.save, path, module)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(error, OSError) and error.errno and error.filename == str(path)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
    assert isinstance(raised(seqcore.save, path.parent, module), IsADirectoryError)
    assert isinstance(raised(seqcore.save, path.parent / "no" / "file", module), FileNotFoundError)
    assert isinstance(raised(seqcore.save, path, module, config={"a": object()}), TypeError)
    assert path.read_bytes() == before


def test_what_cannot_be_read(path, monkeypatch):
    """An error of the disk names the file."""
    seqcore.save(path, nn.Linear(3, 2))

    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("seqcore._safetensors._fill", failing)
    error = raised(seqcore.load_file, path)
    assert isinstance(error, OSError) and (error.errno, error.filename) == (5, str(path)) and str(path) in str(error)


def test_order_of_system_calls(path, monkeypatch):
    """fault 26: write, fsync of the file, rename, fsync of the folder; a failure at any of them (fault 24)."""
    module = nn.Linear(3, 2)
    seqcore.save(path, module, config=1)
    before = path.read_bytes()
    calls = []

    def spy(name, fail_at=None):
        original = getattr(os, name)

        def call(*args, **kwargs):
            calls.append(name)
            if fail_at == calls.count(name):
                raise OSError(5, "Input/output error")
            return original(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    with monkeypatch.context() as monkeypatch:
        for name in ("write", "fsync", "replace"):
            spy(name)
        seqcore.save(path, module, config=1)
    assert [c for i, c in enumerate(calls) if i == 0 or calls[i - 1] != c] == ["write", "fsync", "replace", "fsync"]
    for name in ("write", "fsync", "replace"):
        calls.clear()
        with pytest.MonkeyPatch.context() as monkeypatch:
            spy(name, 1)
            error = raised(seqcore.save, path, module, config=2)
        assert isinstance(error, OSError) and error.errno == 5
        assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_what_a_killed_save_left_the_next_one_removes(path):
    """fault 24: at 20 moments, and surely between the first byte and the last name."""
    program = """if True:
        import os, sys, time, seqcore
        module, fsync = seqcore.nn.Linear(200, 300), os.fsync
        def slow(descriptor):
            print("here", flush=True)
            time.sleep(0.01)
            fsync(descriptor)
        os.fsync = slow
        while True:
            seqcore.save(sys.argv[1], module)
    """
    path = path.with_name("m[*].é\N{SNOWMAN}" * 4)
    littered = 0
    for i in range(20):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            for _ in range(1 + i % 3):
                process.stdout.readline()
            process.kill()
        names = {p.name for p in path.parent.iterdir()} - {path.name}
        assert len(names) <= 1 and all(re.fullmatch(r"\.m.*\.[0-9a-f]{12}\.tmp", name) for name in names)
        littered += len(names)
    assert littered
    kept = [path.with_name(name) for name in (f".{path.name[:50]}.notes.tmp", ".n.0123456789ab.tmp")]
    planted = path.with_name(f".{path.name[:50]}.0123456789ab.tmp")
    for file in (*kept, planted):
        file.write_bytes(b"x")
    link = path.with_name(f".{path.name[:50]}.ba9876543210.tmp")
    link.symlink_to(kept[0])
    pipe = path.with_name(f".{path.name[:50]}.ffffffffffff.tmp")
    os.mkfifo(pipe)
    seqcore.save(path, nn.Linear(2, 2))
    assert {p.name for p in path.parent.iterdir()} == {path.name, link.name, pipe.name, *(p.name for p in kept)}
    seqcore.load_file(path)


def test_an_interrupted_save_leaves_nothing_open(path):
    """A descriptor that stayed open would hold the lock of a file that the next save is to remove."""
    program = """if True:
        import os, random, signal, sys, time, seqcore
        module, moments = seqcore.nn.LSTM(16, 16), random.Random(3)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        opened, interrupts, began = len(os.listdir("/dev/fd")), 0, time.monotonic()
        while time.monotonic() < began + 3:
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.random() * 0.003 + 1e-5)
                while True:
                    seqcore.save(sys.argv[1], module)
            except KeyboardInterrupt:
                interrupts += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        seqcore.save(sys.argv[1], module)
        print(interrupts > 100, len(os.listdir("/dev/fd")) - opened)
    """
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert run.stdout.split() == ["True", "0"], run
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_two_saves_at_once_leave_each_other_alone(path, monkeypatch):
    fsync, replace, flock, inner = os.fsync, os.replace, fcntl.flock, []

    def save_within(then):
        def call(*args):
            if not inner:
                inner.append(None)
                seqcore.save(path, nn.Linear(2, 2), config="inner")
                assert seqcore.load_file(path).config == "inner"
            return then(*args)

        return call

    for name, original in (("fsync", fsync), ("replace", replace)):
        inner.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, name, save_within(original))
            seqcore.save(path, nn.Linear(2, 2), config="outer")
        assert seqcore.load_file(path).config == "outer" and [p.name for p in path.parent.iterdir()] == [path.name]

    # at the moment between making the file and locking it; and where there are no locks
    def removes_first(descriptor, how):
        if how & fcntl.LOCK_EX and not inner:
            inner.append(None)
            checkpoint._remove_abandoned(str(path.parent), path.name)
        return flock(descriptor, how)

    def fails(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    def beaten(descriptor, how):
        if how & fcntl.LOCK_EX and not inner:
            inner.append(None)
            raise BlockingIOError
        return flock(descriptor, how)

    for lock, left in ((removes_first, 0), (beaten, 1), (fails, 2)):
        inner.clear()
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", lock)
            if left == 2:
                path.with_name(f".{path.name}.0123456789ab.tmp").touch()
            seqcore.save(path, nn.Linear(2, 2), config=left)
        assert seqcore.load_file(path).config == left
        assert len(list(path.parent.iterdir())) == 1 + left
    monkeypatch.setattr(checkpoint, "fcntl", None)  # Windows
    seqcore.save(path, nn.Linear(2, 2), config=3)
    assert seqcore.load_file(path).config == 3


def test_killed_while_saving(path):
    """fault 24: at any moment a whole file is there."""
    program = """if True:
        import sys, seqcore
        module = seqcore.nn.Linear(400, 300)
        for i in range(10**6):
            seqcore.save(sys.argv[1], module, config=i)
            print(i, flush=True)
    """
    for wait in (1, 2, 5):
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            for _ in range(wait):
                process.stdout.readline()
            process.kill()
        assert seqcore.load_file(path).config >= wait - 1
