"""`seqcore lm train`: runs that are killed, interrupted, resumed, refused, and what they say (faults 16, 17, 24, 25)."""

import json
import math
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import sysconfig
import time

import numpy as np
import pytest

from command import SMALL, command, lines_in, losses, run, start, until
from seqcore.data import read_ids
from seqcore.models import LanguageModel

TEXT = "".join(f"{i} times {i % 7} is {i * (i % 7)};\n" for i in range(400))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs that nothing disturbed: its text, its log and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "text.txt").write_text(TEXT)
    run("lm", "train", folder / "text.txt", *SMALL, "--epochs", 2, "--out", folder / "m", "--log", folder / "log")
    return losses(folder / "log"), LanguageModel.load(folder / "m").state_dict()


def agrees(folder, whole):
    rows, weights = whole
    assert losses(folder / "log") == rows
    found = LanguageModel.load(folder / "m").state_dict()
    assert all(np.array_equal(found[name].numpy(), weights[name].numpy()) for name in weights)


def test_it_learns_pythons_own_sources(tmp_path):
    sources = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("t*.py"))
    ids, _ = read_ids(sources, skipped=lambda _: None)
    p = np.bincount(ids) / len(ids)
    entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
    sizes = ["--hidden", 64, "--embedding", 16, "--layers", 1, "--batch", 20, "--bptt", 32, "--lr", "0.01"]
    done = run("lm", "train", *sources, *sizes, "--steps", 600, "--out", tmp_path / "m", "--json", "--device", "cpu")
    found = json.loads(done.stdout)
    assert found["steps"] == 600 and found["loss"] < 0.8 * entropy and found["validation_loss"] < 0.8 * entropy
    assert found["characters_per_second"] > 0 and found["out"] == str(tmp_path / "m")
    done = run("lm", "generate", tmp_path / "m", "--prompt", "def ", "--length", 100, "--seed", 1)
    assert done.stdout.startswith("def ") and len(done.stdout) == 104


def test_the_log_has_one_line_a_step(whole):
    rows = whole[0]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["epoch"] for row in rows} == {1, 2}
    assert all(row["bits"] == row["loss"] / math.log(2) for row in rows)
    assert [row["step"] for row in rows if "validation_loss" in row] == [len(rows) // 2, len(rows)]


def test_the_speed_that_json_tells_is_that_of_all_steps(tmp_path, text):
    flags = [*SMALL, "--epochs", 1, "--out", tmp_path / "m", "--log", tmp_path / "log", "--json", "--quiet"]
    found = json.loads(run("lm", "train", text, *flags).stdout)
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    seconds = sum(row["characters"] / row["characters_per_second"] for row in rows)
    expected = sum(row["characters"] for row in rows) / seconds
    assert found["characters_per_second"] == pytest.approx(expected, rel=1e-2)


def test_without_a_terminal_it_says_plain_lines_on_standard_error(tmp_path, text):
    done = run("lm", "train", text, *SMALL, "--epochs", 1, "--out", tmp_path / "m")
    assert done.stdout == ""
    assert "\x1b" not in done.stderr and "\r" not in done.stderr
    for part in ("device  cpu (as asked)", "epoch 1: loss", "bits a character", "saved", "step 1 ", "char/s"):
        assert part in done.stderr
    assert all(len(line.replace(str(tmp_path), "")) <= 120 for line in done.stderr.splitlines())
    quiet = run("lm", "train", text, *SMALL, "--epochs", 1, "--out", tmp_path / "q", "--quiet")
    assert quiet.stdout == quiet.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="pty is POSIX")
@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_on_a_terminal_there_is_a_bar_that_fits(tmp_path, text, columns):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    arguments = ["lm", "train", text, *SMALL, "--epochs", 6, "--out", tmp_path / "m"]
    process = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:
        pass
    os.close(ours)
    assert process.wait() == 0 and process.stdout.read() == b""
    process.stdout.close()
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()
    bars = [line for line in re.split(r"[\r\n]+", plain) if "%" in line and "epoch" in line]
    assert bars and all(len(line) <= columns for line in bars)
    assert all(re.search(r"loss \d", line) for line in bars if "starting" not in line)
    assert "\x1b[3" not in seen.decode()  # NO_COLOR
    assert "epoch 6: loss" in plain


def test_killed_at_random_moments_it_resumes_bit_for_bit(tmp_path, text, whole):
    # fault 24
    generator, out, log = random.Random(3), tmp_path / "m", tmp_path / "log"
    begin = ["lm", "train", text, "--epochs", 2, "--log", log, "--save-every", 3]
    resumed = ["--resume", out, "--threads", 1, "--device", "cpu"]
    for _ in range(8):
        process = start(*begin, *(resumed if out.exists() else [*SMALL, "--out", out]))
        had = lines_in(log)
        until(lambda process=process, had=had: lines_in(log) > had or process.poll() is not None, process)
        time.sleep(generator.uniform(0, 0.02))
        process.kill()
        process.communicate()
        LanguageModel.load(out)
    run(*begin, *resumed)
    agrees(tmp_path, whole)
    assert {path.name for path in tmp_path.iterdir()} == {"m", "log", "text.txt"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_it_saves_says_how_to_go_on_and_does(tmp_path, text, whole, number, status):
    # faults 16, 17
    out, log = tmp_path / "m", tmp_path / "log"
    process = start("lm", "train", text, *SMALL, "--epochs", 2, "--log", log, "--out", out, text=True)
    until(lambda: lines_in(log) > 5, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == status and "Traceback" not in said
    go_on = re.search(r"go on with: (.*)", said)[1]
    assert f"saved {out} at step" in said and lines_in(log) < len(whole[0])
    assert int(re.search(r"at step (\d+)", said)[1]) in (lines_in(log), lines_in(log) + 1)
    subprocess.run(go_on, shell=True, capture_output=True, check=True)
    agrees(tmp_path, whole)


# Ctrl-C comes when the held-out part is read for the N-th time
INTERRUPTED = """
import os, signal, sys
from seqcore import cli
from seqcore.train import Trainer
left, validate = [int(sys.argv.pop(1))], Trainer.validate
def interrupted(self):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGINT)
    return validate(self)
Trainer.validate = interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main())
"""


@pytest.mark.parametrize(("limit", "reading"), [(["--steps", 100], 2), (["--steps", 10], 1), (["--epochs", 2], 2)])
def test_interrupted_in_the_last_validation_it_goes_on_with_that(tmp_path, text, limit, reading):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    begin = ["lm", "train", text, *SMALL, *limit, "--out", "m", "--log", "log"]
    run(*begin, cwd=tmp_path / "whole")
    program = [sys.executable, "-c", INTERRUPTED, str(reading), *map(str, begin)]
    done = subprocess.run(program, cwd=tmp_path / "cut", capture_output=True, text=True, timeout=100)
    assert done.returncode == 130 and "go on with" in done.stderr, done
    out, log = tmp_path / "cut" / "m", tmp_path / "cut" / "log"
    assert out.read_bytes() != (tmp_path / "whole" / "m").read_bytes()

    resume = ["lm", "train", text, "--resume", out, *limit, "--log", log, "--threads", 1, "--device", "cpu", "--json"]
    done = run(*resume)
    assert "nothing to do" not in done.stderr and json.loads(done.stdout)["validation_loss"] > 0
    assert out.read_bytes() == (tmp_path / "whole" / "m").read_bytes()
    assert losses(log) == losses(tmp_path / "whole" / "log")
    # now there is nothing to do, and nothing is written
    before = out.stat().st_mtime_ns
    assert "nothing to do" in run(*resume).stderr and out.stat().st_mtime_ns == before


def test_saving_begins_soon_after_ctrl_c_even_in_a_long_step(tmp_path):
    # fault 16: steps of some hundred milliseconds; the bound of 100 ms is widened for busy machines
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 20)
    sizes = ["--hidden", 512, "--layers", 2, "--batch", 64, "--bptt", 100, "--threads", 1, "--device", "cpu"]
    log, waited = tmp_path / "log", []
    for attempt in range(3):
        process = start("lm", "train", path, *sizes, "--log", log, "--out", tmp_path / "m", "--overwrite", bufsize=0)
        until(lambda: lines_in(log) > 0, process)
        time.sleep(0.05 + 0.1 * attempt)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        seen = b""
        while b"interrupted: saving" not in seen:
            part = process.stderr.read(4096)
            assert part, seen
            seen += part
        waited.append(time.monotonic() - began)
        process.communicate()
        assert process.returncode == 130
        log.unlink()
    assert min(waited) < 0.1 and max(waited) < 1.0, waited


def test_a_second_ctrl_c_does_not_tear_the_save(tmp_path, text):
    process = start("lm", "train", text, *SMALL, "--epochs", 50, "--log", tmp_path / "log", "--out", tmp_path / "m")
    until(lambda: lines_in(tmp_path / "log") > 5, process)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    process.communicate()
    assert process.returncode == 130
    LanguageModel.load(tmp_path / "m")


def test_ctrl_c_before_training_is_quiet(tmp_path):
    process = start("lm", "train", "-", *SMALL, "--out", tmp_path / "m", stdin=-1)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode in (130, -signal.SIGINT)
    # before the command itself is loaded, Python's own traceback is all there can be
    assert b"Traceback" not in said or b"seqcore/cli/lm.py" not in said


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, text):
    # fault 25, by the limit on a file's size, which needs no privilege
    import resource

    run("lm", "train", text, *SMALL, "--steps", 3, "--out", tmp_path / "m")
    before, size = (tmp_path / "m").read_bytes(), (tmp_path / "m").stat().st_size
    done = subprocess.run(
        command("lm", "train", text, "--resume", tmp_path / "m", "--steps", 9, "--save-every", 2, "--device", "cpu"),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2)),
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    # once, however many saves failed
    assert done.stderr.count("warning: the checkpoint could not be written (File too large); the one before is") == 1
    assert done.stderr.splitlines()[-1] == f"seqcore: {tmp_path / 'm'}: File too large."
    assert (tmp_path / "m").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "text.txt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is Linux's")
def test_a_full_disk_under_the_log_does_not_end_training(tmp_path, text, whole):
    flags = [*SMALL, "--epochs", 2, "--out", tmp_path / "m", "--log", "/dev/full", "--overwrite"]
    for more in ([], ["--quiet", "--json"]):
        done = run("lm", "train", text, *flags, *more, check=1)
        assert done.stderr.count("warning: ") == 1
        assert "warning: /dev/full: the log could not be written (No space left on device); training goes on, and" in (
            done.stderr
        )
        assert done.stderr.splitlines()[-1] == "seqcore: /dev/full: No space left on device."
        assert not more or json.loads(done.stdout)["steps"] == len(whole[0])
        found = LanguageModel.load(tmp_path / "m").state_dict()
        assert all(np.array_equal(found[name].numpy(), whole[1][name].numpy()) for name in found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe with a name is POSIX's")
def test_a_log_that_nobody_reads_on_has_failed(tmp_path, text):
    # `--log >(head -1)`: what is said of standard output, that its reader may stop at any time, is not so of the log
    os.mkfifo(tmp_path / "log")
    flags = [*SMALL, "--epochs", 1, "--out", tmp_path / "m", "--log", tmp_path / "log", "--overwrite"]
    process = start("lm", "train", text, *flags)
    with open(tmp_path / "log", "rb") as log:
        assert json.loads(log.readline())["step"] == 1
    said = process.communicate()[1].decode()
    assert said.count("warning: ") == 1 and said.splitlines()[-1] == f"seqcore: {tmp_path / 'log'}: Broken pipe."
    assert process.returncode == 1 and LanguageModel.load(tmp_path / "m")


def test_a_full_disk_is_told_again_only_when_it_worked_meanwhile(monkeypatch):
    from seqcore.cli.progress import Display

    said = []
    display = Display(quiet=True)
    monkeypatch.setattr(display, "warn", said.append)
    for _ in range(2):
        for _ in range(3):
            display.not_saved(OSError(28, "No space left on device"))
        display.saved(1)
        display.saved(2)
    assert len(said) == 2 and said[0] == said[1] and "No space left on device" in said[0]


def test_a_log_goes_on_whole_when_the_disk_has_room_again(tmp_path, monkeypatch):
    from seqcore.cli.progress import Display, LossLog
    from seqcore.train import Record

    said = []
    display = Display(quiet=True)
    monkeypatch.setattr(display, "warn", said.append)
    path, write, room = tmp_path / "log", os.write, [0]

    def full(descriptor, data):
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = write(descriptor, data[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", full)
    display.log = LossLog(str(path), "a", None)
    display.log.open(display.say)
    for step, room[0] in enumerate((10**6, 0, 30, 7, 10**6, 5), 1):
        display.records([Record(step, 1, 80, 2.0, 1.0)])
    assert len(said) == 1 and str(path) in said[0] and lines_in(path) == 5
    with pytest.raises(OSError, match="No space left") as raised:
        display.log.close()
    assert raised.value.filename == str(path)
    # what is torn is mended by going on
    room[0] = 10**6
    display.log = LossLog(str(path), "a", 6)
    display.log.open(said.append)
    display.records([Record(7, 1, 80, 2.0, 1.0)])
    display.log.close()
    assert [row["step"] for row in losses(path)] == [1, 2, 3, 4, 5, 7] and "steps 6 to 6 are missing" in said[1]


def test_where_nothing_can_be_written_it_says_so_before_training(tmp_path, text):
    assert "no such folder" in run("lm", "train", text, *SMALL, "--out", tmp_path / "no" / "m", check=1).stderr
    assert "folder" in run("lm", "train", text, *SMALL, "--out", tmp_path, check=2).stderr
    flags = [*SMALL, "--out", tmp_path / "m", "--log"]
    assert "no such folder" in run("lm", "train", tmp_path / "unread", *flags, tmp_path / "no" / "log", check=1).stderr
    assert "--log: " in run("lm", "train", tmp_path / "unread", *flags, tmp_path, "--overwrite", check=2).stderr
    if os.geteuid() != 0:
        (tmp_path / "fixed").mkdir(mode=0o500)
        said = run("lm", "train", text, *SMALL, "--out", tmp_path / "fixed" / "m", check=1).stderr
        assert "Permission denied" in said and "step 1 " not in said
    elif os.path.isdir("/proc/self"):
        said = run("lm", "train", text, *SMALL, "--out", "/proc/m", check=1).stderr
        assert "/proc/m: " in said and "step 1 " not in said


def test_nothing_is_overwritten_unasked(tmp_path, text):
    run("lm", "train", text, *SMALL, "--steps", 1, "--out", tmp_path / "m", "--log", tmp_path / "log")
    before = (tmp_path / "m").read_bytes()
    said = run("lm", "train", text, *SMALL, "--steps", 2, "--out", tmp_path / "m", check=2).stderr
    assert "--resume" in said and "--overwrite" in said and (tmp_path / "m").read_bytes() == before
    said = run("lm", "train", text, *SMALL, "--out", tmp_path / "n", "--log", tmp_path / "log", check=2).stderr
    assert "--log" in said and "--overwrite" in said
    run("lm", "train", text, *SMALL, "--steps", 2, "--out", tmp_path / "m", "--log", tmp_path / "log", "--overwrite")
    assert (tmp_path / "m").read_bytes() != before and lines_in(tmp_path / "log") == 2


def test_a_run_without_a_step_has_no_loss(tmp_path, text):
    said = run("lm", "train", text, *SMALL, "--minutes", "1e-300", "--out", tmp_path / "m").stderr
    assert "loss    unknown: the time was over before the first step\n" in said and "nan" not in said


def test_what_is_read_is_never_written_to(tmp_path, text):
    (tmp_path / "link").symlink_to(text)
    os.link(text, tmp_path / "hard")
    (tmp_path / "sub").mkdir()
    flags = [*SMALL, "--steps", 1, "--overwrite"]
    for name in (text, tmp_path / "link", tmp_path / "hard", tmp_path / "sub" / ".." / "text.txt", "text.txt"):
        for flag, others in (("--out", []), ("--log", ["--out", tmp_path / "m"])):
            said = run("lm", "train", text, *flags, flag, name, *others, check=2, cwd=tmp_path).stderr
            assert f"{flag}: {name} is read from" in said
    with open(text) as file:
        said = run("lm", "train", "-", *flags, "--out", text, stdin=file, check=2).stderr
    assert "is read from" in said and text.read_text() == TEXT and not (tmp_path / "m").exists()
    # it names the mistake, not --overwrite
    assert "is read from" in run("lm", "train", text, *SMALL, "--out", text, check=2).stderr

    run("lm", "train", text, *SMALL, "--steps", 1, "--out", tmp_path / "m")
    before = (tmp_path / "m").read_bytes()
    for flag in ("--resume", "--init"):
        sizes = SMALL if flag == "--init" else []
        logged = ["--log", tmp_path / "m", "--out", tmp_path / "n", "--overwrite"]
        assert "--log: " in run("lm", "train", text, *sizes, flag, tmp_path / "m", *logged, check=2).stderr
    said = run("lm", "train", text, "--resume", tmp_path / "m", "--log", text, check=2).stderr
    assert "is read from" in said and text.read_text() == TEXT and (tmp_path / "m").read_bytes() == before


def test_two_outputs_are_two_files(tmp_path, text):
    (tmp_path / "link").symlink_to(tmp_path / "y")
    (tmp_path / "sub").mkdir()
    for name in ("y", "link", "sub/../y"):
        for exists in (False, True):
            if exists:
                (tmp_path / "y").touch()
            given = ["--out", tmp_path / "y", "--log", name, "--overwrite"]
            said = run("lm", "train", text, *SMALL, *given, check=2, cwd=tmp_path).stderr
            assert f"--log: {name} is --out's file too" in said
            if exists:
                (tmp_path / "y").unlink()
            assert not (tmp_path / "y").exists()


def test_initial_weights_and_a_resumed_run_may_be_replaced_by_what_is_learnt(tmp_path, text):
    flags = [*SMALL, "--out", tmp_path / "m"]
    run("lm", "train", text, *flags, "--steps", 1)
    run("lm", "train", text, *flags, "--steps", 2, "--init", tmp_path / "m", "--overwrite")
    run("lm", "train", text, "--resume", tmp_path / "m", "--out", tmp_path / "m", "--steps", 3)
    run("lm", "train", text, *flags, "--log", os.devnull, "--overwrite", "--steps", 1)
    with open(os.devnull) as nothing:
        said = run("lm", "train", "-", *flags, "--log", os.devnull, "--overwrite", stdin=nothing, check=1).stderr
    assert "empty" in said


def test_what_cannot_change_on_resuming_is_refused(tmp_path, text):
    run("lm", "train", text, *SMALL, "--steps", 2, "--out", tmp_path / "m")
    resume = ["lm", "train", text, "--resume", tmp_path / "m"]
    for flag, value in (("--hidden", 13), ("--batch", 6), ("--lr", 0.1), ("--dropout", 0.5), ("--validation", 0.2)):
        assert flag in run(*resume, flag, value, check=2).stderr
    for flag in (["--seed", 1], ["--init", tmp_path / "m"]):
        assert flag[0] in run(*resume, *flag, check=2).stderr
    run(*resume, *SMALL, "--steps", 3)
    done = run(*resume, "--steps", 3, "--json")
    assert "nothing to do" in done.stderr and json.loads(done.stdout)["steps"] == 3
    text.write_text(TEXT + "1")
    assert "the run began with" in run(*resume, check=1).stderr
    text.write_text(TEXT + "\N{SNOWMAN}")
    assert "other characters" in run(*resume, check=1).stderr
    run("lm", "train", text, "--resume", tmp_path / "absent", check=1)
    run("lm", "train", text, "--resume", text, check=1)


def test_a_log_that_does_not_reach_as_far_is_told_and_a_torn_one_mended(tmp_path, text, whole):
    out, log = tmp_path / "m", tmp_path / "log"
    run("lm", "train", text, *SMALL, "--steps", 10, "--out", out, "--log", log)
    kept = log.read_bytes()
    log.write_bytes(kept + kept.splitlines(True)[3].replace(b'"step": 4', b'"step": 11') + kept[:60])
    resume = ["lm", "train", text, "--resume", out, "--epochs", 2, "--log", log, "--threads", 1, "--device", "cpu"]
    second = tmp_path / "second"
    second.mkdir()
    (second / "m").write_bytes(out.read_bytes())
    (second / "log").write_bytes(b"".join(kept.splitlines(True)[:6]) + kept[:5])
    run(*resume)
    agrees(tmp_path, whole)
    done = run("lm", "train", text, "--resume", second / "m", "--steps", 12, "--log", second / "log", "--device", "cpu")
    assert "steps 7 to 10 are missing" in done.stderr
    # a new log, also one that is no file; and one of a run that was killed before its first checkpoint
    for name in (tmp_path / "new", os.devnull):
        done = run("lm", "train", text, "--resume", second / "m", "--steps", 13, "--log", name, "--device", "cpu",
                   "--out", tmp_path / "other", "--overwrite")  # fmt: skip
        assert "steps 1 to 12 are missing" in done.stderr
    assert [row["step"] for row in losses(tmp_path / "new")] == [13]


def test_a_log_goes_on_only_where_every_line_is_of_the_run(tmp_path, text):
    out, log, other = tmp_path / "m", tmp_path / "log", tmp_path / "other"
    run("lm", "train", text, *SMALL, "--steps", 4, "--out", out, "--log", log)
    run("lm", "train", text, *SMALL, "--steps", 4, "--out", tmp_path / "n", "--log", other, "--seed", 1)
    lines, resume = log.read_bytes().splitlines(True), ["lm", "train", text, "--resume", out, "--device", "cpu"]
    first, foreign = lines[0], other.read_bytes().splitlines(True)
    cases = [
        (1, b"Dear reader"),
        (1, b"Dear reader\n" + b"".join(lines)),
        (1, b'{"step": 1, "price": 3}\n'),
        (1, b"".join(foreign)),
        (1, foreign[0][:40]),
        (1, b'{"run": 1}\n'),
        (1, b"[" * 999 + b"\n"),
        (1, b'{"run": "' * 200),
        (3, first + lines[1] + foreign[2] + lines[2]),
        (3, first + lines[1] + first),
        (2, first + first.replace(b'"step": 1', b'"step": true')),
        (2, first + b"\0" * 50),
        # beyond the checkpoint, too
        (6, b"".join(lines) + lines[3].replace(b'"step": 4', b'"step": 5') + b"the price of milk\n"),
    ]
    for number, content in cases:
        log.write_bytes(content)
        done = run(*resume, "--log", log, "--steps", 6, check=2)
        assert f"--log: {log}: line {number} is no record of this run: name another file" in done.stderr, content
        assert log.read_bytes() == content
    # as asked, what is the run's is kept
    for content, steps in ((cases[0][1], [5, 6]), (cases[8][1], [1, 2, 5, 6]), (cases[12][1], [1, 2, 3, 4, 5, 6])):
        log.write_bytes(content)
        run(*resume, "--log", log, "--steps", 6, "--out", tmp_path / "o", "--overwrite")
        assert [row["step"] for row in losses(log)] == steps
    # killed before the first checkpoint with a step, or before a whole line
    from seqcore.cli.progress import LossLog

    identity = json.loads(first)["run"]
    for content in (b"".join(lines), first[:40], first[:3], b""):
        log.write_bytes(content)
        found = LossLog(str(log), identity, 0)
        found.open(print)
        found.close()
        assert log.read_bytes() == b""


def test_the_same_seed_the_same_run_another_seed_another(tmp_path, text):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(
            "lm",
            "train",
            text,
            *SMALL,
            "--steps",
            3,
            "--seed",
            seed,
            "--out",
            tmp_path / name,
            "--log",
            tmp_path / f"{name}.log",
        )
    a, b, c = (losses(tmp_path / f"{name}.log") for name in "abc")
    assert a == b and all(row["loss"] != other["loss"] for row, other in zip(a, c, strict=True))
    assert a[0]["run"] != c[0]["run"]


def test_initial_weights_from_pytorch(tmp_path, text):
    # Show 5 in small: the first twenty losses of the same model within 1e-4
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    ids, vocabulary = read_ids([text])
    v = len(vocabulary)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(v, 6)
            self.lstm = torch.nn.LSTM(6, 12, 2)
            self.linear = torch.nn.Linear(12, v)

    torch.manual_seed(0)
    model = Model()
    bare = {name: value.numpy() for name, value in model.state_dict().items()}
    init = tmp_path / "init.safetensors"
    write_safetensors(init, bare)
    log = tmp_path / "log"
    flags = [*SMALL, "--dropout", 0, "--lr", 0.01, "--init", init, "--steps", 20, "--log", log, "--out", tmp_path / "m"]
    run("lm", "train", text, *flags)

    length = int(0.9 * len(ids)) // 5
    rows = torch.tensor(ids[: 5 * length].astype(np.int64)).reshape(5, length)
    optimizer, state = torch.optim.Adam(model.parameters(), lr=0.01), None
    for step, row in enumerate(losses(log)):
        part = rows[:, 16 * step : 16 * step + 17].T
        y, state = model.lstm(model.embedding(part[:-1]), state)
        loss = torch.nn.functional.cross_entropy(model.linear(y).flatten(0, 1), part[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = tuple(part.detach() for part in state)
        assert abs(loss.item() - row["loss"]) < 1e-4, step
    assert row["step"] == 20

    # a model that seqcore saved is as good; another's is refused by name
    run("lm", "train", text, *SMALL, "--init", tmp_path / "m", "--steps", 1, "--out", tmp_path / "again")
    said = run("lm", "train", text, *SMALL, "--layers", 1, "--init", init, "--out", tmp_path / "x", check=1).stderr
    assert "lstm.weight_ih_l1" in said
    run("lm", "train", text, *SMALL, "--init", text, "--out", tmp_path / "x", check=1)
    write_safetensors(init, bare | {"linear.bias": bare["linear.bias"] > 0})
    said = run("lm", "train", text, *SMALL, "--init", init, "--out", tmp_path / "x", check=1).stderr
    assert said.endswith(f"--init {init}, linear.bias: expected numbers, got bool.\n")
    run("lm", "train", text, *SMALL, "--init", tmp_path / "absent", "--out", tmp_path / "x", check=1)


def write_safetensors(path, arrays):
    header, offset = {}, 0
    for name, value in arrays.items():
        dtype = "F32" if value.dtype == np.float32 else "BOOL"
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(value.tobytes() for value in arrays.values()))


def test_a_learning_rate_that_is_far_too_large_ends_in_one_line(tmp_path, text):
    done = run("lm", "train", text, *SMALL, "--lr", "1e38", "--out", tmp_path / "m", check=1)
    assert "Trainer: loss: expected a finite number" in done.stderr and (
        "at step 2" in done.stderr or "at step 3" in done.stderr
    )
    assert "smaller learning rate" in done.stderr
