"""`seqcore lm generate`: text on standard output as it is written, and nothing else."""

import json
import os
import signal
import subprocess
import time

import pytest

import seqcore
from command import command, run, start
from seqcore.models import LanguageModel

CHARACTERS = "abcde \n\u00e9\U0001f600"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    seqcore.manual_seed(1)
    LanguageModel(CHARACTERS, embedding=4, hidden=8, layers=1).save(path)
    return path


def test_the_same_seed_writes_the_same_text_as_the_library(model):
    flags = ["lm", "generate", model, "--prompt", "ab \u00e9", "--length", 300, "--temperature", 1.2]
    first, again, other = (run(*flags, "--seed", seed, text=False).stdout for seed in (5, 5, 6))
    assert first == again != other
    expected = "".join(LanguageModel.load(model).generate("ab \u00e9", 300, 1.2, 5))
    assert first.decode() == "ab \u00e9" + expected
    assert run(*flags, text=False).stdout != run(*flags, text=False).stdout


def test_json(model):
    found = json.loads(run("lm", "generate", model, "--prompt", "ab", "--length", 9, "--seed", 5, "--json").stdout)
    assert found["prompt"] == "ab" and len(found["text"]) == 9 and found["seed"] == 5
    chosen = json.loads(run("lm", "generate", model, "--length", 50, "--json").stdout)
    again = json.loads(run("lm", "generate", model, "--length", 50, "--json", "--seed", chosen["seed"]).stdout)
    assert chosen == again


@pytest.mark.parametrize("device", ["auto", "cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def test_it_says_which_device_it_takes_and_why(model, device):
    done = run("lm", "generate", model, "--length", 9, "--seed", 5, "--device", device, "--json")
    first = next((d for d in seqcore.devices()[1:] if d["hardware"] or device == "gpu"), {})
    place = f"{first.get('device')} ({first.get('name')}"
    says = {
        "auto": f"{place}, the first hardware adapter)" if first else "cpu (no hardware GPU that can be used)",
        "cpu": "",
        "gpu": f"{place}, as asked)",
    }[device]
    assert done.stderr == (f"device  {says}\n" if says else "")
    assert len(json.loads(done.stdout)["text"]) == 9


def test_a_spoilt_model_is_no_mistake_of_the_commands(tmp_path):
    spoilt = LanguageModel(CHARACTERS, embedding=4, hidden=8, layers=1)
    state = {name: value.numpy(copy=True) for name, value in spoilt.state_dict().items()}
    state["linear.bias"][3] = float("nan")
    spoilt.load_state_dict(state)
    spoilt.save(tmp_path / "spoilt")
    assert run("lm", "generate", tmp_path / "spoilt", check=1).stderr == (
        "seqcore: generate: model: expected outputs that are finite, got some that are not. "
        "Hint: look for NaN and infinity in its weights.\n"
    )


def test_text_comes_as_it_is_written(model):
    process = start("lm", "generate", model, "--length", 10**8, "--prompt", "abcd", bufsize=0)
    assert process.stdout.read(4) == b"abcd" and process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and said == b""


def test_an_impatient_ctrl_c_is_as_quiet(model):
    for _ in range(4):
        process = start("lm", "generate", model, "--length", 10**8, bufsize=0)
        assert process.stdout.read(1)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.0005)
        _, said = process.communicate()
        assert process.returncode == 130 and said == b""


def test_nobody_reads_on(model):
    # fault 17: `| head -1`
    process = start("lm", "generate", model, "--length", 10**8)
    process.stdout.read(10)
    process.stdout.close()
    began = time.monotonic()
    assert process.stderr.read() == b"" and process.wait() == 0
    assert time.monotonic() - began < 2
    process.stderr.close()


def test_standard_output_is_full(model):
    if not os.path.exists("/dev/full"):
        pytest.fail("this platform has no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("lm", "generate", model, "--length", 10), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr


def test_a_terminal_without_the_character_gets_its_escape(model):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run("lm", "generate", model, "--prompt", "\u00e9", "--length", 0, env=environment, text=False)
    assert done.stdout == "\u00e9".encode()  # not a terminal: UTF-8 whatever the locale


@pytest.mark.parametrize(
    ("flags", "status", "says"),
    [
        (["--prompt", "abX"], 1, "'X' (U+0058) at position 2"),
        (["--prompt", "a\u202eb"], 1, "U+202E"),
        (["--temperature", "-1"], 2, "--temperature"),
        (["--temperature", "nan"], 2, "--temperature"),
        (["--temperature", "inf"], 2, "--temperature"),
        (["--length", "-1"], 2, "--length"),
        (["--seed", "x"], 2, "--seed"),
        (["--device", "tpu"], 2, "--device"),
        (["--lenght", "3"], 2, "--lenght"),
    ],
)
def test_wrong_requests(model, flags, status, says):
    assert says in run("lm", "generate", model, *flags, check=status).stderr


def test_wrong_files(model, tmp_path):
    assert "No such file" in run("lm", "generate", tmp_path / "absent", check=1).stderr
    run("lm", "generate", tmp_path, check=1)
    for name, data in (("empty", b""), ("text", b"text" * 99), ("cut", model.read_bytes()[:-1])):
        (tmp_path / name).write_bytes(data)
        said = run("lm", "generate", tmp_path / name, check=1).stderr
        assert str(tmp_path / name) in said and (name == "cut" or "expected a safetensors file" in said)
    seqcore.save(tmp_path / "other", seqcore.nn.Linear(2, 3))
    assert "language model" in run("lm", "generate", tmp_path / "other", check=1).stderr
    os.mkfifo(tmp_path / "pipe")
    run("lm", "generate", tmp_path / "pipe", check=1)
