"""`seqcore lm`: train a character language model on text, and let it write."""

import argparse
import functools
import io
import json
import math
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .parser import Parser, UsageError, device, filename, number, period, seed, steps_or_seconds, whole

if TYPE_CHECKING:
    import numpy as np

    from ..data import Vocabulary
    from ..models import LanguageModel
    from ..train import Trainer
    from .progress import Display, LossLog

_EXAMPLE = """\
seqcore lm train shakespeare.txt --out model.safetensors
seqcore lm generate model.safetensors --prompt "To be" --temperature 0.8
"""
_TRAIN_EXAMPLE = """\
seqcore lm train shakespeare.txt --hidden 256 --epochs 10 --out model.safetensors
seqcore lm train shakespeare.txt --resume model.safetensors --epochs 20
"""
_TRAIN = """\
Learns which character comes next. The text is cut into --batch streams that are read side by side, --bptt characters at
a time; its last part is held out for validation. Ctrl-C saves and says how to go on; a run that was killed goes on from
the last checkpoint with --resume, and computes the same as one that was not. What it left beside --out if it was killed
while it saved (.NAME.*.tmp) the next save removes.
"""
_GENERATE_EXAMPLE = """\
seqcore lm generate model.safetensors --prompt "To be" --temperature 0.8 --length 400
"""
_GENERATE = "Writes on from a prompt, one character at a time, on standard output."

# what float32 holds, as all that enters a computation must
_LARGEST = (2 - 2.0**-23) * 2.0**127
# what makes a run what it is: fixed when it begins, kept in its checkpoint, and the same when it goes on
_MODEL = {"embedding": 64, "hidden": 256, "layers": 2, "dropout": 0.2}
_TRAINING = {"batch": 50, "bptt": 64, "lr": 2e-3, "clip": 1.0, "validation": 0.1}
_EPOCHS = 10
# what only starts a run, and what goes on has another way to say
_ONLY_STARTS = ("init", "seed")
_SAID_BY_RESUME = ("out", "resume", "overwrite")


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command and the two below it."""
    what = "Character language models."
    parser = commands.add_parser("lm", help=what, example=_EXAMPLE, description=what)
    below = parser.add_commands()
    _register_train(below.add_parser("train", help="learn from text", example=_TRAIN_EXAMPLE, description=_TRAIN))
    _register_generate(
        below.add_parser("generate", help="write text", example=_GENERATE_EXAMPLE, description=_GENERATE)
    )


def _register_train(parser: Parser) -> None:
    parser.add_argument(
        "files", type=filename, nargs="+", metavar="FILE", help='text, read one after the other; "-" is standard input'
    )
    parser.add_argument("--encoding", metavar="NAME", help="encoding of files without a byte order mark (utf-8)")

    model = parser.add_argument_group("the model")
    model.add_argument("--embedding", type=whole(1), metavar="N", help="size of a character's vector (64)")
    model.add_argument("--hidden", type=whole(1), metavar="N", help="size of an LSTM layer (256)")
    model.add_argument("--layers", type=whole(1), metavar="N", help="LSTM layers (2)")
    model.add_argument("--dropout", type=number(0, 1), metavar="P", help="probability of dropping an element (0.2)")
    model.add_argument(
        "--init", type=filename, metavar="FILE", help="safetensors file of initial weights, named as in a state_dict"
    )

    training = parser.add_argument_group("training")
    training.add_argument("--batch", type=whole(1), metavar="N", help="streams read side by side (50)")
    training.add_argument("--bptt", type=whole(1), metavar="N", help="characters a step looks back (64)")
    training.add_argument("--lr", type=number(0, _LARGEST, above=True), metavar="X", help="Adam's step size (0.002)")
    training.add_argument("--clip", type=number(0, _LARGEST), metavar="X",
                          help="largest norm of the gradient, 0 for any (1)")  # fmt: skip
    training.add_argument("--validation", type=number(0, 1), metavar="X", help="part of the text held out (0.1)")
    training.add_argument("--seed", type=seed, metavar="N", help="of the initial weights and of dropout (0)")
    training.add_argument(
        "--epochs", type=whole(1), metavar="N", help="times through the text, in all (10, unless limited below)"
    )
    training.add_argument("--steps", type=whole(1), metavar="N", help="end after this many steps in all")
    training.add_argument("--minutes", type=number(0, 1e9, above=True), metavar="X",
                          help="end after this long, from now")  # fmt: skip
    training.add_argument("--device", type=device, default="auto", help="auto (a GPU if there is one), cpu, gpu, gpu:N")
    training.add_argument("--threads", type=whole(1, 1024), metavar="N", help="CPU threads (all)")

    files = parser.add_argument_group("files")
    files.add_argument(
        "--out", type=filename, metavar="FILE", help="the model and all that going on needs (model.safetensors)"
    )
    files.add_argument(
        "--resume", type=filename, metavar="FILE", help="go on with this run; it is written back unless --out is given"
    )
    files.add_argument("--overwrite", action="store_true", help="replace the files of --out and --log where they exist")
    files.add_argument("--save-every", type=period, default="60s", metavar="TIME",
                       help="a time such as 60s or 5m, or a number of steps (60s)")  # fmt: skip
    files.add_argument(
        "--log", type=filename, metavar="FILE", help="one line of JSON a step: run, loss, bits, gradient norm, speed"
    )
    files.add_argument("--json", action="store_true", help="end with one JSON object on standard output")
    files.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    parser.set_defaults(run=functools.partial(_train, parser=parser))


def _register_generate(parser: Parser) -> None:
    parser.add_argument("model", type=filename, metavar="MODEL", help="a file that `seqcore lm train` wrote")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="text to write on from (a line end, not written)")
    parser.add_argument("--length", type=whole(0), default=400, metavar="N", help="characters to write (400)")
    parser.add_argument("--temperature", type=number(0), default=0.8, metavar="X",
                        help="below 1 likelier, above 1 bolder, 0 always the likeliest (0.8)")  # fmt: skip
    parser.add_argument("--seed", type=seed, metavar="N", help="the same seed writes the same text (another each time)")
    parser.add_argument("--stop", default="", metavar="CHARACTERS", help="end after the first of these that is written")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, gpu, gpu:N or auto (cpu)")
    parser.add_argument("--threads", type=whole(1, 1024), metavar="N", help="CPU threads (all)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    parser.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> int:
    import secrets

    from ..models import LanguageModel
    from ..runtime import set_num_threads
    from .progress import Display

    _check_processor()
    if options.threads:
        set_num_threads(options.threads)
    place, why = _device(options.device)
    model = LanguageModel.load(options.model, device=place)
    if options.device != "cpu":
        Display().say(f"device  {place} ({why})")
    chosen = secrets.randbits(32) if options.seed is None else options.seed
    text = model.generate(options.prompt, options.length, options.temperature, chosen, options.stop)
    if options.json:
        found = {"prompt": options.prompt, "text": "".join(text), "temperature": options.temperature, "seed": chosen}
        print(json.dumps(found))
        return 0
    # text is data: the same bytes wherever it goes, and no character that a terminal lacks ends it
    terminal = sys.stdout.isatty()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=None if terminal else "utf-8", errors="backslashreplace", newline="")
    sys.stdout.write(options.prompt)
    sys.stdout.flush()
    last = options.prompt[-1:]
    try:
        for last in text:
            sys.stdout.write(last)
            sys.stdout.flush()
    finally:
        if terminal and last != "\n":
            sys.stdout.write("\n")
    return 0


def _train(options: argparse.Namespace, parser: Parser) -> int:
    from .. import runtime
    from ..train import Interrupted
    from .progress import Display

    _check_processor()
    if options.threads:
        runtime.set_num_threads(options.threads)
    out = _where_to_write(options)
    display = Display(options.quiet)
    place, why = _device(options.device)
    if options.resume:
        trainer = _resumed(options, place, display)
        before = f"step {trainer.steps:,} of {options.resume}"
    else:
        trainer = _begun(options, place, display)
        before = "the beginning"
    display.log = _log(options, trainer)
    epochs = options.epochs
    if epochs is None and options.steps is None and options.minutes is None:
        epochs = _EPOCHS
    _describe(trainer, display, f"{place} ({why}), {_count(runtime.num_threads(), 'thread')}", before)
    if trainer.finished(epochs, options.steps) and not trainer.unvalidated:
        display.say(f"nothing to do: {trainer.epoch} epochs and {trainer.steps:,} steps are made; ask for more.")
        if options.json:
            _print_json(trainer, display, out)
        return 0
    save_steps, save_seconds = steps_or_seconds(options.save_every)
    if display.log is not None:
        display.log.open(display.say)
    if not options.resume:
        # proves at once that there is a place to write to, and lets a run that is killed at once go on
        trainer.save(out)
    trainer.interrupts.last = True
    began = time.monotonic()
    try:
        with display.training(trainer, epochs, options.steps, options.minutes):
            trainer.run(
                epochs=epochs,
                steps=options.steps,
                seconds=None if options.minutes is None else 60 * options.minutes,
                path=out,
                save_seconds=save_seconds,
                save_steps=save_steps,
                watcher=display,
            )
    except Interrupted:
        spent = (time.monotonic() - began) / 60
        display.warn(f"saved {out} at step {trainer.steps:,}; {_how_to_go_on(options, parser, out, spent)}")
        raise
    _summarise(trainer, display, out)
    if options.json:
        _print_json(trainer, display, out)
    if display.log_failed is not None:
        raise display.log_failed
    return 0


def _how_to_go_on(options: argparse.Namespace, parser: Parser, out: Path, spent: float) -> str:
    """The command that does what is left to do, where `spent` minutes are over."""
    from . import shell

    left = argparse.Namespace(**vars(options))
    if options.minutes is not None:
        # never 0, which is no limit that can be asked for
        left.minutes = max(1, math.ceil(100 * (options.minutes - spent))) / 100
    held = {*_MODEL, *_TRAINING, *_ONLY_STARTS, *_SAID_BY_RESUME, "files"}
    # a file's name that begins like a flag is one no more
    files = [f"./{name}" if name.startswith("-") and name != "-" else name for name in options.files]
    words = [*shell.started_as(), "lm", "train", *files, *shell.option("--resume", str(out))]
    again = " (and the same text on standard input)" if "-" in files else ""
    return f"go on with{again}: {shell.quoted([*words, *shell.given(left, parser, held)])}"


def _check_processor() -> None:
    """Stops before anything is read or written where SEQCORE_ISA asks for what is not there."""
    from ..debug import cpu_info

    found = cpu_info()
    if found["isa"] not in found["features"]:
        raise RuntimeError(found["isa"])


def _log(options: argparse.Namespace, trainer: "Trainer") -> "LossLog | None":
    from .progress import LossLog

    if not options.log:
        return None
    try:
        return LossLog(options.log, trainer.identity, trainer.reported if options.resume else None, options.overwrite)
    except ValueError as error:
        raise UsageError(f"--log: {error}: name another file, or replace it by --overwrite") from None


def _where_to_write(options: argparse.Namespace) -> Path:
    from .shell import option, quoted

    out = Path(options.out or options.resume or "model.safetensors")
    for flag, path in (("--out", out), ("--log", Path(options.log) if options.log else out)):
        if path.is_dir():
            raise UsageError(f"{flag}: {path} is a folder")
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(2, "no such folder", str(path.absolute().parent))
    if out.exists() and not out.is_file():
        raise UsageError(f"--out: {out} is no regular file")
    _keep_apart(options, out)
    same = options.resume and out.exists() and os.path.exists(options.resume) and out.samefile(options.resume)
    if out.exists() and not same and not options.overwrite:
        raise UsageError(
            f"{out} exists: go on with it by {quoted(option('--resume', str(out)))}, or replace it by --overwrite"
        )
    if options.log and os.path.exists(options.log) and not options.resume and not options.overwrite:
        raise UsageError(f"--log: {options.log} exists: replace it by --overwrite")
    return out


def _keep_apart(options: argparse.Namespace, out: Path) -> None:
    """Refuses to write over what is read; --overwrite is no wish to lose that.

    --init and --resume are read before --out takes their place: what was learnt goes on there.
    """
    read = [0 if name == "-" else name for name in options.files]
    given: list[tuple[str, str | Path, list]] = [("--out", out, [] if options.out is None and options.resume else read)]
    if options.log:
        if _one_file(options.log, out):
            raise UsageError(f"--log: {options.log} is --out's file too: name another")
        given.append(("--log", options.log, [*read, *filter(None, (options.resume, options.init))]))
    for flag, path, inputs in given:
        if any(_one_file(path, other) for other in inputs):
            raise UsageError(f"{flag}: {path} is read from: name another file to write to")


def _one_file(path: str | Path, other: str | Path | int) -> bool:
    """Whether both (`other` also a descriptor) are one file, also by links; /dev/null may be all of them."""
    try:
        found = os.stat(other)
        return stat.S_ISREG(found.st_mode) and os.path.samestat(os.stat(path), found)
    except OSError:
        # one is not there yet, where the path is all there is to compare
        return not isinstance(other, int) and os.path.realpath(path) == os.path.realpath(other)


def _device(asked: str) -> tuple[str, str]:
    """The device to use, and why it is that one."""
    from .. import runtime

    place = runtime.place(asked)
    if place != "cpu":
        name = next((found.get("name") for found in runtime.devices() if found["device"] == place), None)
        return place, f"{name or 'adapter'}, {'the first hardware adapter' if asked == 'auto' else 'as asked'}"
    return place, "no hardware GPU that can be used" if asked == "auto" else "as asked"


def _text(options: argparse.Namespace, display: "Display") -> "tuple[np.ndarray, Vocabulary]":
    from ..data import check_encoding, read_ids

    if options.encoding is not None:
        try:
            check_encoding(options.encoding)
        except LookupError as error:
            raise UsageError(f"--{error.args[0].removeprefix('read_ids: ')}") from None
    if options.files.count("-") > 1:
        raise UsageError("standard input (-) can be read only once")
    return read_ids(options.files, options.encoding, skipped=display.warn)


def _begun(options: argparse.Namespace, place: str, display: "Display") -> "Trainer":
    from .. import runtime
    from ..data import TextError
    from ..models import LanguageModel
    from ..train import Trainer

    ids, vocabulary = _text(options, display)
    runtime.manual_seed(0 if options.seed is None else options.seed)
    model = LanguageModel(vocabulary, **_chosen(options, _MODEL))
    if options.init:
        _initialise(model, options.init)
    try:
        return Trainer(model.to(place), ids, **_chosen(options, _TRAINING))
    except TextError as error:
        raise TextError(str(error).replace("Streams: ids", _named(options.files), 1)) from None


def _chosen(options: argparse.Namespace, defaults: dict) -> dict:
    given = {name: getattr(options, name) for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in given.items()}


def _initialise(model: "LanguageModel", path: str) -> None:
    """Weights from a file of a model that seqcore saved, or of a bare state_dict."""
    from ..checkpoint import load_file, load_weights
    from ..errors import CheckpointError

    found = load_file(path)
    weights = dict(found) if found.format_version is None else found.model
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    if wrong:
        each = ", ".join(f"{ascii(n)[1:-1]} {wanted.get(n, 'unknown')} but {got.get(n, 'missing')}" for n in wrong[:8])
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise CheckpointError(f"--init {path}: expected the model's tensors, got others: {each}{more}.")
    load_weights(model, weights, f"--init {path}")


def _resumed(options: argparse.Namespace, place: str, display: "Display") -> "Trainer":
    from ..checkpoint import load_file
    from ..errors import CheckpointError
    from ..models import LanguageModel
    from ..train import Trainer, training_in

    checkpoint = load_file(options.resume)
    training = training_in(checkpoint, options.resume)
    fixed = {name: checkpoint.config.get(name) for name in _MODEL} | training["options"]
    for name, value in fixed.items():
        if getattr(options, name) not in (None, value):
            raise UsageError(f"--{name} {getattr(options, name)}: the run began with {value}, which cannot change")
    for name in _ONLY_STARTS:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} only starts a run; leave it out with --resume")
    model = LanguageModel.from_checkpoint(checkpoint, options.resume, place)
    ids, vocabulary = _text(options, display)
    if vocabulary != model.vocabulary:
        raise CheckpointError(
            f"{_named(options.files)}: expected the text that {options.resume} began with, "
            "got one of other characters. Hint: name the same files, with the same --encoding."
        )
    return Trainer.resume(model, ids, checkpoint, options.resume)


def _describe(trainer: "Trainer", display: "Display", device: str, before: str) -> None:
    sizes, streams = trainer.model.sizes, trainer.streams
    weights = sum(math.prod(parameter.shape) for parameter in trainer.model.parameters())
    held_out = trainer.text["characters"] - int((1 - trainer.options["validation"]) * trainer.text["characters"])
    display.say(
        f"text    {trainer.text['characters']:,} characters, {len(trainer.model.vocabulary)} different, "
        f"the last {held_out:,} held out"
    )
    display.say(
        f"model   embedding {sizes['embedding']}, {sizes['layers']} x LSTM {sizes['hidden']}, "
        f"dropout {sizes['dropout']:g}: {weights:,} weights"
    )
    display.say(f"device  {device}")
    display.say(
        f"train   {streams.batch} streams x {streams.bptt} characters, {len(streams):,} steps an epoch, from {before}"
    )


def _summarise(trainer: "Trainer", display: "Display", out: Path) -> None:
    from .progress import figure
    from .shell import quoted, started_as

    loss, validation = trainer.mean_loss(), trainer.validation_loss
    display.say(f"saved   {out} at step {trainer.steps:,}")
    if math.isnan(loss):
        display.say("loss    unknown: the time was over before the first step")
    elif validation is None:
        display.say(f"loss    {_nats(loss)}")
    else:
        display.say(f"loss    {figure(loss)} in training; held out {_nats(validation)}")
    model = f"./{out}" if str(out).startswith("-") else str(out)
    display.say(f"try     {quoted([*started_as(), 'lm', 'generate', model])}")


def _print_json(trainer: "Trainer", display: "Display", out: Path) -> None:
    loss = trainer.mean_loss()
    # JSON has no NaN: of no steps there is no loss
    found = {"out": str(out), "steps": trainer.steps, "epochs": trainer.epoch,
             "loss": None if math.isnan(loss) else loss, "validation_loss": trainer.validation_loss,
             "characters_per_second": display.overall_speed()}  # fmt: skip
    print(json.dumps(found))


def _nats(loss: float) -> str:
    from .progress import figure

    return f"{figure(loss)} nats = {figure(loss / math.log(2))} bits a character"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _named(files: list[str]) -> str:
    from ..data import display_name

    return display_name(files[0]) if len(files) == 1 else f"{display_name(files[0])} and {len(files) - 1} more"
