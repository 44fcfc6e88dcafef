"""What the GPU refuses, and that process, data and modules survive it (fault 2, fault 34)."""

import copy
import pickle

import numpy as np
import pytest

import seqcore
from programs import program, silent
from seqcore import Tensor, nn
from torch_compare import raised, rounded

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(7)


def two():
    """The same values on both devices."""
    a = rounded(RNG, (2, 3))
    return Tensor(a), Tensor(a, device="gpu")


MIXED = {
    "add": (lambda c, g: g + c, "b"),
    "radd": (lambda c, g: c + g, "b"),
    "matmul": (lambda c, g: g @ c.T, "b"),
    "where": (lambda c, g: seqcore.where(np.ones((2, 3), bool), g, c), "b"),
    "cat": (lambda c, g: seqcore.cat([g, c]), "tensors[1]"),
    "stack": (lambda c, g: seqcore.stack([c, g]), "tensors[1]"),
    "linear": (lambda c, g: nn.Linear(3, 2)(g), "input"),
    "linear there": (lambda c, g: nn.Linear(3, 2).to("gpu")(c), "input"),
    "embedding": (lambda c, g: nn.Embedding(3, 2).to("gpu")(Tensor([0, 1])), "input"),
    "embedding here": (lambda c, g: nn.Embedding(3, 2)(Tensor([0, 1], device="gpu")), "input"),
    "cross-entropy": (lambda c, g: nn.functional.cross_entropy(g, Tensor([0, 1])), "target"),
    "cross-entropy here": (lambda c, g: nn.functional.cross_entropy(c, Tensor([0, 1], device="gpu")), "target"),
    "lstm": (lambda c, g: nn.LSTM(3, 2).to("gpu")(c), "input"),
    "lstm here": (lambda c, g: nn.LSTM(3, 2)(g), "input"),
    "lstm state": (lambda c, g: nn.LSTM(3, 3).to("gpu")(g, (c[:1], c[:1])), "h0"),
    "gradient": (lambda c, g: (g.requires_grad_() * 2).backward(c), "gradient"),
    "grad": (lambda c, g: setattr(g, "grad", c), "value"),
    "array op": (lambda c, g: seqcore.ops.sigmoid(g), "x"),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("mode", [seqcore.no_grad, seqcore.enable_grad])
def test_two_devices(name, mode):
    """Nothing is moved behind the user's back: the message names the argument and how to move it."""
    function, argument = MIXED[name]
    c, g = two()
    if name == "gradient" and mode is seqcore.no_grad:
        return
    with mode():
        error = raised(function, c, g)
    assert isinstance(error, seqcore.DeviceError), error
    assert f": {argument}: " in str(error) and "cpu" in str(error).lower() and "gpu:0" in str(error)


def test_arrays_go_to_the_module_s_device():
    a = rounded(RNG, (2, 3))
    assert nn.Linear(3, 2).to("gpu")(a).device == "gpu:0"
    assert (Tensor(a, device="gpu") + a).device == "gpu:0"
    assert (a - Tensor(a, device="gpu")).device == "gpu:0"
    assert nn.LSTM(3, 2).to("gpu")(a, (np.ones((1, 2), np.float32),) * 2)[0].device == "gpu:0"


def test_float64():
    a = rounded(RNG, (2, 3), "float64")
    c, g = two()
    for call in (
        lambda: Tensor(a, device="gpu"),
        lambda: Tensor(a).to("gpu"),
        lambda: g.double(),
        lambda: g.to(dtype="float64"),
        lambda: c.to("gpu", "float64"),
        lambda: g * a,
        lambda: nn.Linear(3, 2).to("gpu").double(),
        lambda: nn.Linear(3, 2).double().to("gpu"),
        lambda: nn.Linear(3, 2).to("gpu", "float64"),
        lambda: nn.Linear(3, 2).to("gpu")(a),
    ):
        assert isinstance(raised(call), seqcore.DTypeError)
    module = nn.Linear(3, 2).double()
    raised(module.to, "gpu")
    assert module.weight.dtype == np.float64 and module.weight.device == "cpu"
    assert Tensor(a, device="gpu", dtype="float32").dtype == np.float32


def test_adapters_that_are_not_there():
    c, g = two()
    for call in (lambda: Tensor(c.numpy(), device="gpu:7"), lambda: g.to("gpu:7"), lambda: nn.Linear(3, 2).to("gpu:7")):
        error = raised(call)
        assert isinstance(error, seqcore.DeviceError) and "gpu:7" in str(error)
    for number in (
        "",
        "x",
        "-1",
        "1.5",
        "+1",
        " 1",
        "0x1",
        "1_0",
        "\N{ARABIC-INDIC DIGIT THREE}",
        "9" * 20,
        "9" * 5000,
    ):
        error = raised(c.to, f"gpu:{number}")
        assert type(error) is seqcore.DeviceError and "there (cpu, gpu:0" in str(error) and len(str(error)) < 200, (
            number
        )
    assert "gpu:999999999" in str(raised(c.to, "gpu:999999999"))
    for name in ("gpux", "cuda", "GPU"):
        assert isinstance(raised(c.to, name), (ValueError, TypeError)), name


def test_no_driver():
    """The message says what to install; `auto` is the CPU; what needs no GPU works."""
    out = silent(
        """
        print(len(seqcore.devices()), Tensor([1.0], device="auto").device)
        for call in (lambda: Tensor([1.0], device="gpu"), lambda: nn.Linear(2, 2).to("gpu")):
            try:
                call()
            except seqcore.DeviceError as error:
                print("mesa-vulkan-drivers" in str(error))
        print(seqcore.debug.gpu_counters()["submits"], (Tensor([1.0]) + 1).item())
        """,
        VK_DRIVER_FILES="/nonexistent.json",
        VK_ICD_FILENAMES="/nonexistent.json",
    )
    assert out.split() == ["1", "cpu", "True", "True", "0", "2.0"]


def test_software_is_taken_only_when_asked_for():
    out = silent(
        """
        print(Tensor([1.0], device="auto").device)
        try:
            print(Tensor([1.0], device="gpu").device, seqcore.devices()[1]["hardware"])
        except seqcore.DeviceError as error:
            print("SEQCORE_GPU=software" in str(error) or "mesa-vulkan-drivers" in str(error))
        """,
        SEQCORE_GPU=None,
    ).split()
    assert out in (["cpu", "True"], ["gpu:0", "gpu:0", "True"])


def test_a_wrong_variable():
    out = silent(
        """
        print((Tensor([1.0]) + 1).item())
        for call in (lambda: Tensor([1.0], device="gpu"), seqcore.devices):
            try:
                call()
            except seqcore.DeviceError as error:
                print("SEQCORE_GPU" in str(error) and "nonsense" in str(error))
        """,
        SEQCORE_GPU="nonsense",
    )
    assert out.split() == ["2.0", "True", "True"]
    out = silent(
        """
        for call in (lambda: Tensor([1.0], device="gpu"),) * 2:
            try:
                call()
            except ValueError as error:
                print("SEQCORE_GPU_MEMORY" in str(error))
        """,
        SEQCORE_GPU_MEMORY="much",
    )
    assert out.split() == ["True", "True"]


def test_fork():
    """fault 18: the child is told, at every entry; its CPU works, it ends, and the parent goes on."""
    out = silent(
        """
        import gc, os, re, signal, sys, warnings
        from seqcore.cli import info, lm
        warnings.simplefilter("ignore")
        a = np.arange(6, dtype=np.float32).reshape(2, 3)
        t, lstm = Tensor(a, device="gpu"), nn.LSTM(3, 4).to("gpu")
        want = lstm(t)[0].numpy()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            told = 0
            calls = [lambda: t + t, t.numpy, lambda: Tensor(a, device="gpu"), lambda: lstm(t), lambda: repr(t),
                     lambda: t.to("cpu"), lambda: nn.Linear(2, 2).to("gpu"), seqcore.debug.gpu_counters]
            for call in calls:
                try:
                    call()
                except seqcore.DeviceError as error:
                    told += bool(re.fullmatch(r"\\w+: device: expected .+, got one opened before fork\\(\\).+", str(error)))
            print(told == len(calls), (Tensor(a) * 2).sum().item())
            print([d["device"] for d in seqcore.devices()], Tensor(a, device="auto").device)
            print([d["device"] for d in info.facts()["gpus"]], "fork" in info._why_no_gpu(), lm._device("auto"))
            del t, lstm, calls, call
            gc.collect()
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        print(status, np.array_equal(lstm(t)[0].numpy(), want))
        """
    )
    assert out.splitlines() == [
        "True 30.0", "['cpu'] cpu", "[] True ('cpu', 'no hardware GPU that can be used')", "0 True"
    ]  # fmt: skip


def test_fork_before_the_gpu_is_opened():
    out = silent(
        """
        import os, signal, sys, warnings
        warnings.simplefilter("ignore")
        pid = os.fork()
        signal.alarm(40)
        # one write each: the two processes share standard output
        os.write(1, b"%g\\n" % Tensor([1.0, 2.0], device="gpu").sum().item())
        if pid:
            os.write(1, b"%d\\n" % os.waitpid(pid, 0)[1])
        """
    )
    assert out.split() == ["3", "3", "0"]


def test_memory_ends():
    """fault 9, fault 34: MemoryError; what there was is whole, and what is let go can be used again."""
    out = silent(
        """
        a = np.arange(1 << 18, dtype=np.float32)  # 1 MiB
        small, kept = Tensor(a[:1000], device="gpu"), []
        try:
            while True:
                kept.append(Tensor(a, device="gpu"))
        except MemoryError as error:
            print("SEQCORE_GPU_MEMORY" in str(error), 2 <= len(kept) <= 8)
        for call in (lambda: kept[0] + kept[1], lambda: kept[0].reshape(512, 512) @ kept[0].reshape(512, 512),
                     lambda: Tensor(np.ones((1 << 20, 1), np.float32), device="gpu")
                             + np.ones((1, 1 << 20), np.float32)):
            try:
                call()
            except MemoryError:
                print("MemoryError")
        print(all(np.array_equal(t.numpy(), a) for t in kept))
        print((small * 2).sum().item() == 2 * a[:1000].sum(), (Tensor(a) * 2).numpy()[-1] == 2 * a[-1])
        kept.clear()
        print((Tensor(a, device="gpu") + 1).numpy()[-1] == a[-1] + 1)
        """,
        SEQCORE_GPU_MEMORY="8M",
    )
    assert out.split() == ["True", "True", *["MemoryError"] * 3, *["True"] * 4]


def test_memory_ends_within_a_module():
    """fault 34: a module that does not fit stays where it was; a step that does not fit changes no parameter."""
    out = silent(
        """
        net = nn.Sequential(nn.Linear(512, 300), nn.Linear(300, 8000))
        before = {n: p.numpy(copy=True) for n, p in net.state_dict().items()}
        try:
            net.to("gpu")
        except MemoryError:
            print({p.device for p in net.parameters()})
        print(all(np.array_equal(p.numpy(), before[n]) for n, p in net.state_dict().items()))

        lstm = nn.LSTM(64, 128).to("gpu")
        rule = seqcore.optim.Adam(lstm.parameters())
        before = {n: p.numpy() for n, p in lstm.state_dict().items()}
        def step(length):
            rule.zero_grad()
            lstm(np.ones((length, 4, 64), np.float32))[0].sum().backward()
            rule.step()
        try:
            step(4000)
        except MemoryError:
            print("MemoryError")
        print(all(np.array_equal(p.numpy(), before[n]) for n, p in lstm.state_dict().items()))
        step(5)
        print(any(np.array_equal(p.numpy(), before[n]) for n, p in lstm.state_dict().items()))
        """,
        SEQCORE_GPU_MEMORY="8M",
    )
    assert out.split() == ["{'cpu'}", "True", "MemoryError", "True", "False"]


def test_exit_with_work_in_flight():
    """fault 19: nobody waits for results that nobody asked for."""
    out = silent(
        """
        lstm = nn.LSTM(32, 64).to("gpu")
        y, _ = lstm(np.ones((300, 8, 32), np.float32))
        y.sum().backward()
        print("done")
        """
    )
    assert out == "done\n"


def test_there_and_back():
    """A module keeps its values, its names and what trains it."""
    net = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 3), nn.Dropout(0.1))
    net.register_buffer("scale", Tensor([1.5, 2.5]))
    before = {n: p.numpy(copy=True) for n, p in net.state_dict().items()}
    parameters = list(net.parameters())
    assert net.to("gpu") is net
    assert {t.device for t in net.state_dict().values()} == {"gpu:0"}
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    twin = copy.deepcopy(net)
    assert {t.device for t in twin.state_dict().values()} == {"gpu:0"}
    net(np.array([1, 2]))[0].sum().backward()
    assert net[1].weight.grad.device == "gpu:0"
    net.cpu()
    assert {t.device for t in net.state_dict().values()} == {"cpu"} and net[1].weight.grad.device == "cpu"
    for n, p in net.state_dict().items():
        assert np.array_equal(p.numpy(), before[n])
    net(np.array([1, 2]))[0].sum().backward()
    assert "Linear" in repr(twin)


def test_tied_weights_stay_tied():
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    net = nn.Sequential(a, b).to("gpu")
    assert net[0].weight is net[1].weight
    net(np.ones((2, 3), np.float32)).sum().backward()
    assert net.cpu()[0].weight is net[1].weight


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_checkpoints(tmp_path, rule):
    """Saved on the GPU, loaded on the CPU, and the other way; training goes on from there."""

    def make():
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
        options = {"momentum": 0.9} if rule == "SGD" else {}
        return net, getattr(seqcore.optim, rule)(net.parameters(), lr=0.1, **options)

    def step(net, optimizer):
        optimizer.zero_grad()
        (net(x) ** 2).sum().backward()
        optimizer.step()

    x = rounded(RNG, (3, 4))
    for source, target in (("gpu", "cpu"), ("cpu", "gpu"), ("gpu", "gpu")):
        net, _ = make()
        net.to(source)
        options = {"momentum": 0.9} if rule == "SGD" else {}
        optimizer = getattr(seqcore.optim, rule)(net.parameters(), lr=0.1, **options)
        step(net, optimizer)
        seqcore.save(tmp_path / "file", net, optimizer)
        other, _ = make()
        other.to(target)
        again = getattr(seqcore.optim, rule)(other.parameters(), lr=0.1, **options)
        read = seqcore.load_file(tmp_path / "file")
        other.load_state_dict(read.model)
        again.load_state_dict(read.optimizer)
        for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
            assert q.device.startswith(target) and np.array_equal(p.numpy(), q.numpy()), name
        step(net, optimizer)
        step(other, again)
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=1e-5, atol=1e-6)


def test_into_numpy_and_python():
    a = rounded(RNG, (2, 3))
    t = Tensor(a, device="gpu")
    got = t.numpy()
    assert np.array_equal(got, a) and got.flags.writeable
    got[:] = 0  # a copy
    assert np.array_equal(t.numpy(), a)
    assert np.array_equal(np.asarray(t), a) and np.asarray(t, dtype="float64").dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, copy=False)
    assert len(t) == 2 and t.shape == (2, 3) and t.ndim == 2 and t.dtype == np.float32
    assert repr(t) == repr(Tensor(a))[:-1] + ', device="gpu:0")'
    assert t[0, 1].item() == a[0, 1] and float(t[1, 2]) == a[1, 2] and bool(t[0, 0]) is True
    assert [row.numpy().tolist() for row in t] == a.tolist()
    assert np.array_equal(t > 0, a > 0) and np.array_equal(t == t, a == a)
    for call in (t.item, lambda: float(t)):
        assert isinstance(raised(call), seqcore.ShapeError)
    assert isinstance(raised(bool, t), ValueError) and isinstance(raised(len, t.sum()), TypeError)


def test_dlpack_pickle_and_copy():
    c, g = two()
    assert isinstance(raised(np.from_dlpack, g), BufferError)
    assert isinstance(raised(g.__dlpack_device__), BufferError)
    for thing in (g, nn.Linear(2, 2).to("gpu")):
        error = raised(pickle.dumps, thing)
        assert isinstance(error, seqcore.DeviceError) and '.to("cpu")' in str(error)
    again = copy.deepcopy(g)
    assert again.device == "gpu:0"
    again.zero_()
    assert np.array_equal(g.numpy(), c.numpy()) and not again.numpy().any()


def test_writing_in_place():
    """S-71: what backward needs and was written over is noticed on the GPU too; other devices' values are copied."""
    c, g = two()
    t = Tensor(c.numpy(), True, "gpu")
    y = (t * g).sum()
    g.copy_(c * 2)
    assert np.array_equal(g.numpy(), c.numpy() * 2)
    assert isinstance(raised(y.backward), RuntimeError)
    g[0] = c[1]
    g[1] = 7.0
    assert np.array_equal(g.numpy(), [c.numpy()[1], [7, 7, 7]])
    g += c.numpy()
    g *= 2
    assert np.array_equal(g.numpy()[1], (c.numpy()[1] + 7) * 2)


@pytest.mark.parametrize("room", [300, 420, 555])
def test_memory_that_ends_in_an_upload(room):
    """fault 11: a MemoryError, and what is on the GPU stays there."""
    source = """
    import resource, sys
    import numpy as np
    from seqcore import Tensor
    keep, array = Tensor(np.arange(5, dtype=np.float32), device="gpu"), np.ones(1 << 18, np.float32)
    (keep * 2.0).numpy(), Tensor(array, device="gpu").sum().item()
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (int(sys.argv[1]) << 20), resource.RLIM_INFINITY))
    made = []
    try:
        while True:
            made.append(Tensor(array, device="gpu"))
    except MemoryError:
        made.clear()
    print(*(keep * 2.0).numpy(), Tensor(array, device="gpu").sum().item())
    """
    assert program(source, room) == "0.0 2.0 4.0 6.0 8.0 262144.0"
