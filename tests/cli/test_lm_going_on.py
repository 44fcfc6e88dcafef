"""The commands that `seqcore lm train` prints, run exactly as they are printed."""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest

from command import SMALL, lines_in, losses, run, start, until
from seqcore.cli import lm, shell
from seqcore.cli.parser import Parser
from seqcore.models import LanguageModel

TEXT = "".join(f"{i} fois {i % 7} égale {i * (i % 7)};\n" for i in range(400))
LIMIT = ["--steps", "400"]
# together every option that the parser has
RUNS = {
    "steps": [*SMALL, *LIMIT, "--dropout", "0.3", "--lr", "1e-2", "--clip", "0.5", "--validation", "0.2", "--seed", "7",
              "--save-every", "5", "--json", "--quiet"],
    "a time between saves": [*SMALL, *LIMIT, "--save-every", "1.5m", "--init", "init", "--overwrite"],
    "a run that went on": [*LIMIT, "--resume", "begun", "--threads", "1", "--device", "cpu"],
    "epochs": [*SMALL, "--epochs", "2"],
    "minutes": [*SMALL, "--minutes", "0.03"],
    "the default of ten epochs": SMALL,
}  # fmt: skip
ALWAYS = ["--encoding", "latin-1", "--log", "log", "--out", "the model's"]
FILES = ["it's a text.txt", "-x.txt", "a\n\\b'.txt"]


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(TEXT, encoding="latin-1")
    return tmp_path


def options():
    parser = Parser("seqcore")
    lm.register(parser.add_commands())
    for name in ("lm", "train"):
        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = commands.choices[name]
    return {action.option_strings[0] for action in parser._actions if action.option_strings} - {"-h"}


def test_no_option_is_left_out_here():
    given = {word for words in (*RUNS.values(), ALWAYS) for word in words if word.startswith("--")}
    assert given == options()


def interrupted(folder, words, **others):
    """What a run says that Ctrl-C ended after a few steps."""
    (folder / "log").unlink(missing_ok=True)
    process = start(*words, cwd=folder, text=True, **others)
    until(lambda: lines_in(folder / "log") > 3, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    return said


@pytest.mark.parametrize("name", RUNS)
def test_the_printed_line_goes_on(folder, name):
    begin = ["lm", "train", *ALWAYS, *RUNS[name], "--", *FILES]
    for needed in {"init", "begun"} & set(RUNS[name]):
        run("lm", "train", *SMALL, "--steps", 2, "--encoding", "latin-1", "--out", needed, "--", *FILES, cwd=folder)
    said = interrupted(folder, begin)
    (line,) = re.findall(r"go on with: (.*)", said)
    assert line.startswith(shlex.join([sys.executable, "-m", "seqcore", "lm", "train"]))
    at = int(re.search(r"at step ([\d,]+)", said)[1])
    if name == "the default of ten epochs":
        assert "--epochs" not in line
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, encoding="utf-8")
    assert done.returncode == 0 and ("step" in done.stderr) != ("--quiet" in begin), done.stderr
    found = losses(folder / "log")
    first = 3 if "begun" in begin else 1
    assert [row["step"] for row in found] == list(range(first, found[-1]["step"] + 1)) and len(found) + first > at + 1
    if name == "minutes":
        return
    assert ("--json" in begin) == bool(done.stdout)
    model = LanguageModel.load(folder / "the model's").state_dict()
    (folder / "log").unlink()
    run(*begin[:2], "--overwrite", *begin[2:], cwd=folder)
    assert losses(folder / "log") == found
    whole = LanguageModel.load(folder / "the model's").state_dict()
    assert all(np.array_equal(model[name].numpy(), whole[name].numpy()) for name in whole)


def test_the_minutes_that_are_left():
    options = argparse.Namespace(files=["-"], minutes=2.0, steps=None, run=None, out="--m")
    # a run of which nothing is left is still a command that the parser takes
    for spent, left in ((0.0, "2.0"), (0.5, "1.5"), (1.234, "0.77"), (2.0, "0.01"), (5.0, "0.01")):
        said = lm._how_to_go_on(options, argparse.ArgumentParser(), "--m", spent)
        assert said.endswith(f"lm train - --resume=--m --minutes {left}")


def test_a_run_on_standard_input_goes_on(folder):
    words = ["lm", "train", "-", *SMALL, *LIMIT, "--log", "log", "--out", "m"]
    with open(folder / FILES[0], "rb") as text:
        said = interrupted(folder, [*words, "--encoding", "latin-1"], stdin=text)
    line = re.search(r"go on with \(and the same text on standard input\): (.*)", said)[1]
    with open(folder / FILES[0], "rb") as text:
        subprocess.run(["bash", "-c", line], stdin=text, cwd=folder, check=True, capture_output=True)
    assert lines_in(folder / "log") == 400


def test_the_closing_hint_and_the_refusal_can_be_pasted(folder):
    names = ["it's m", "\x1b[31m\n'é\\"]
    for name in names:
        words = ["lm", "train", FILES[0], *SMALL, "--steps", 1, "--encoding", "latin-1", "--out", name]
        hint = re.search(r"^try     (.*)$", run(*words, cwd=folder).stderr, re.M)[1]
        done = subprocess.run(["bash", "-c", f"{hint} --length 5 --prompt é"], cwd=folder, capture_output=True)
        assert done.returncode == 0 and len(done.stdout.decode()) == 6
        hint = re.search(r"by (--resume .*), or", run(*words, cwd=folder, check=2).stderr)[1]
        assert subprocess.run(["bash", "-c", f"printf %s {hint}"], capture_output=True).stdout.decode() == (
            f"--resume{name}"
        )


def test_commands_are_printed_as_this_one_was_started(folder, monkeypatch):
    script = folder / "bin" / "seqcore"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom seqcore.cli import main\nsys.exit(main())\n")
    script.chmod(0o755)
    words = ["lm", "train", FILES[0], *SMALL, "--steps", "1", "--encoding", "latin-1", "--overwrite", "--out", "m"]
    on_path = {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
    elsewhere = {**os.environ, "PATH": "/usr/bin:/bin"}
    for first, environment, shown in (
        (["bin/seqcore"], elsewhere, "bin/seqcore"),
        (["seqcore"], on_path, "seqcore"),
        ([str(script)], on_path, "seqcore"),
        ([sys.executable, "-B", "-m", "seqcore"], elsewhere, shlex.join([sys.executable, "-B", "-m", "seqcore"])),
    ):
        line = shlex.join([*first, *words])
        done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, encoding="utf-8", env=environment)
        assert done.stderr.endswith(f"\ntry     {shown} lm generate m\n"), done.stderr
    monkeypatch.setattr(sys, "argv", ["/other/program.py", "--flag"])
    assert shell.started_as() == ["seqcore"]


# SIGTERM after the third step, and Ctrl-C before each thing that is said from there on
IMPATIENT = """
import signal, sys
from seqcore import cli
from seqcore.cli.progress import Display
from seqcore.train import Trainer
step, warn, ended = Trainer.step, Display.warn, []
def stepped(self):
    step(self)
    if self.steps == 3:
        ended.append(signal.raise_signal(signal.SIGTERM))
def warned(self, text):
    if ended:
        signal.raise_signal(signal.SIGINT)
    warn(self, text)
Trainer.step, Display.warn = stepped, warned
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main())
"""


def test_an_impatient_signal_does_not_take_the_line_away(folder):
    words = ["lm", "train", FILES[0], *SMALL, "--encoding", "latin-1", "--out", "m"]
    done = subprocess.run([sys.executable, "-c", IMPATIENT, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 143 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("saved m at step 3; go on with: ")
