"""`seqcore info`: what this installation is and what it found on this machine."""

import argparse
import json
import platform
import sys

from .. import __version__
from .parser import Parser

_EXAMPLE = """\
seqcore info
seqcore info --json
"""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Adds the command."""
    what = "Version, instruction set, threads and GPU adapters, as this machine has them."
    parser = commands.add_parser("info", help=what, example=_EXAMPLE, description=what)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def facts() -> dict:
    """All that the command shows."""
    import numpy

    from .. import debug, runtime

    cpu = debug.cpu_info()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "isa": cpu["isa"],
        "cpu_features": list(cpu["features"]),
        "threads": runtime.num_threads(),
        "gpus": [found for found in runtime.devices() if found["device"] != "cpu"],
    }


def _why_no_gpu() -> str:
    """What a tensor on "gpu" would say: there may be a driver that is taken only when asked for."""
    from .. import Tensor
    from ..errors import DeviceError

    try:
        Tensor([0.0], device="gpu")
    except DeviceError as error:
        return str(error).rpartition("got gpu:0 where ")[2]
    return "found just now"


def _run(options: argparse.Namespace) -> int:
    found = facts()
    if options.json:
        print(json.dumps(found))
    else:
        _print_rows(found)
    if found["isa"] not in found["cpu_features"]:
        # all is shown first; the error is that of every other command
        sys.stdout.flush()
        raise RuntimeError(found["isa"])
    return 0


def _print_rows(found: dict) -> None:
    known = found["cpu_features"]
    rows = [
        ("version", f"seqcore {found['version']}, Python {found['python']}, NumPy {found['numpy']}"),
        ("platform", found["platform"]),
        ("instruction set", found["isa"] + (f" (of {' '.join(known)})" if found["isa"] in known else "")),
        ("threads", str(found["threads"])),
    ]
    for gpu in found["gpus"]:
        kind = "hardware" if gpu.get("hardware") else "software, taken only when asked for"
        details = ", ".join(str(gpu[key]) for key in ("name", "backend", "driver") if gpu.get(key))
        rows.append((gpu["device"], f"{details} ({kind})"))
    if not found["gpus"]:
        rows.append(("gpu", _why_no_gpu()))
    width = max(len(name) for name, _ in rows)
    sys.stdout.writelines(f"{name:<{width}}  {value}\n" for name, value in rows)
