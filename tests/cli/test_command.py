"""The command as a whole: help, version, usage, `seqcore info`, and what it costs to start."""

import json
import os
import subprocess
import sys

import pytest

import seqcore
from command import command, run


@pytest.mark.parametrize("below", [[], ["lm"], ["lm", "train"], ["lm", "generate"], ["info"]])
def test_help_opens_with_an_example_that_the_parser_takes(below):
    done = run(*below, "--help")
    lines = done.stdout.splitlines()
    assert lines[0] == "For example:" and lines[1].startswith("  seqcore ") and done.stderr == ""
    assert all(len(line) <= 100 for line in lines)


def test_version():
    assert run("--version").stdout == f"seqcore {seqcore.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lm"],
        ["nonsense"],
        ["lm", "train"],
        ["lm", "train", "x", "--hidden", "0"],
        ["lm", "train", "x", "--hid", "3"],
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments):
    assert "--help" in run(*arguments, check=2).stderr


@pytest.mark.parametrize(
    "arguments", [["info", "more"], ["lm", "train", "x", "--hiden", "3"], ["lm", "generate", "x", "--length", "x"]]
)
def test_wrong_usage_names_the_help_of_its_own_command(arguments):
    own = [part for part in arguments if part in ("lm", "train", "generate", "info")]
    assert f"(see seqcore {' '.join(own)} --help)." in run(*arguments, check=2).stderr


def test_help_on_a_full_disk_has_failed():
    with open("/dev/full", "wb") as full:
        for flag in ("--help", "--version"):
            done = subprocess.run(command(flag), stdout=full, stderr=subprocess.PIPE, text=True)
            assert (done.returncode, done.stderr) == (1, "seqcore: No space left on device.\n")


@pytest.mark.parametrize(
    ("closed", "arguments", "status", "says"),
    [
        (">&-", ["info"], 0, ""),
        (">&-", ["--version"], 0, ""),
        ("2>&-", ["nonsense"], 2, ""),
        (">&- 2>&-", ["nonsense"], 2, ""),
        ("<&-", ["lm", "train", "-"], 1, "seqcore: standard input: expected text, got an empty file.\n"),
    ],
)
def test_streams_that_are_closed_are_streams_that_nobody_reads(tmp_path, closed, arguments, status, says):
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command(*arguments)]
    done = subprocess.run(shell, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", says)


@pytest.mark.parametrize(
    ("flag", "wrong"),
    [
        ("--hidden", ["0", "-1", "x", "1.5", "99999999999999999999"]),
        ("--dropout", ["1", "-0.1", "nan", "inf"]),
        ("--lr", ["0", "-1", "nan", "inf", "x", "1e39", "1e300", "3.4028234663852886e38"]),
        ("--validation", ["1", "-1"]),
        ("--save-every", ["0", "0s", "x", "5d", "-3"]),
        ("--device", ["tpu", "gpu:", "gpu:-1", "gpu:x"]),
        ("--seed", ["-1", "18446744073709551616", "x"]),
        ("--minutes", ["0", "-1", "inf", "1e400", "1e307"]),
        ("--clip", ["-1", "nan", "inf", "1e39"]),
        ("--out", ["", "/dev/null"]),
        ("--resume", [""]),
        ("--init", [""]),
        ("--log", [""]),
    ],
)
def test_wrong_values_name_their_flag(flag, wrong):
    for value in wrong:
        assert flag in run("lm", "train", "x", f"{flag}={value}", check=2).stderr


def test_whole_numbers_that_are_too_large_name_their_limits():
    for command_, flags, least, most in (
        ("train", ("--hidden", "--layers", "--batch", "--bptt", "--steps", "--epochs"), 1, 2147483647),
        ("generate", ("--length",), 0, 2147483647),
        ("train", ("--threads",), 1, 1024),
        ("generate", ("--threads",), 1, 1024),
    ):
        for flag in flags:
            for value in (most + 1, least - 1, 10**30, "9" * 5000, "x"):
                said = run("lm", command_, "x", f"{flag}={value}", check=2).stderr
                shown = str(value) if len(str(value)) < 100 else "99"
                assert f"{flag}: expected an integer from {least} to {most}, got '{shown}" in said
    assert "No such file" in run("lm", "generate", "x", "--threads", 1024, check=1).stderr


def test_info():
    found = json.loads(run("info", "--json").stdout)
    assert found["version"] == seqcore.__version__ and found["threads"] >= 1
    assert found["isa"] in ("portable", "avx2", "avx512")
    assert isinstance(found["gpus"], list) and isinstance(found["cpu_features"], list)
    done = run("info")
    assert found["isa"] in done.stdout and f"seqcore {seqcore.__version__}" in done.stdout and done.stderr == ""


def test_info_names_the_instruction_set_that_is_forced():
    import os

    found = json.loads(run("info", "--json", env={**os.environ, "SEQCORE_ISA": "portable"}).stdout)
    assert found["isa"] == "portable"
    # fault 23: what is wrong is shown where the instruction set would be, and is a failure
    for flags in ([], ["--json"]):
        wrong = run("info", *flags, check=1, env={**os.environ, "SEQCORE_ISA": "nonsense"})
        assert "SEQCORE_ISA: expected one of portable" in wrong.stdout and "got nonsense" in wrong.stdout
        assert "threads" in wrong.stdout and wrong.stderr.startswith("seqcore: SEQCORE_ISA: expected one of")


def test_an_adapter_that_is_not_there_is_one_line(tmp_path):
    text = tmp_path / "text"
    text.write_text("text " * 100)
    run("lm", "train", text, "--device", "gpu:999", "--batch", 5, "--out", tmp_path / "m", check=1)


def test_help_loads_nothing_that_import_does_not():
    script = "import sys, seqcore; before = set(sys.modules); from seqcore.cli import main\n"
    script += "try: main(['lm', 'train', '--help'])\nexcept SystemExit: pass\n"
    script += "print('\\n' + ' '.join(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    ours = {name for name in loaded if name.startswith("seqcore.")}
    assert ours == {"seqcore.cli", "seqcore.cli.info", "seqcore.cli.lm", "seqcore.cli.parser"}
    assert not {name.split(".")[0] for name in loaded} & {"rich", "torch", "asyncio", "unittest", "multiprocessing"}


@pytest.mark.parametrize(
    "module",
    ["typing", "enum", "numpy", "numpy._core.multiarray", "seqcore._core", "seqcore.cli.parser", "seqcore.cli.lm"],
)
def test_ctrl_c_while_it_starts_is_quiet(module, tmp_path):
    """A program that imports seqcore gets its KeyboardInterrupt all the same."""
    pressed = f"""
import _signal, sys
class Pressed:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            _signal.raise_signal(_signal.SIGINT)
sys.meta_path.insert(0, Pressed)
"""
    (tmp_path / "sitecustomize.py").write_text(pressed)
    script = tmp_path / "seqcore"
    script.write_text("import sys\nfrom seqcore.cli import main\nsys.exit(main())\n")
    program = tmp_path / "program.py"
    program.write_text("import seqcore\nfrom seqcore.cli import lm\n")
    (tmp_path / "other.py").write_text(program.read_text())
    for words in ([script], ["-m", "seqcore"], ["-mseqcore"], [program], ["-m", "other", "seqcore"]):
        done = subprocess.run(
            [sys.executable, *words, "info"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        )
        if words == [program] or "other" in words:
            assert "KeyboardInterrupt" in done.stderr
        else:
            assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_module_and_the_function_are_the_same_command(capsys):
    from seqcore.cli import main

    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == seqcore.__version__
    assert main(["nonsense"]) == 2
    assert subprocess.run(command("--version"), capture_output=True).returncode == 0
