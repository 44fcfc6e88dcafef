"""Shows cargo's output and holds its skips to the frozen list, as tests/conftest.py does for pytest's.

Rust's tests cannot be skipped, so one that lacks its hardware prints `skipped: REASON` and passes. Reads the output of
`cargo test -- --show-output` from standard input and passes it on, but for what passing tests printed; fails on a skip
that tests/skips/PLATFORM.txt does not name (as `cargo MODULE::TEST`). For want of a Vulkan driver a test may be
skipped, unless SEQCORE_REQUIRE_GPU=1.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FROZEN = ROOT / "tests" / "skips" / f"{sys.platform}-{platform.machine().lower()}.txt"


def main() -> int:
    """Passes the output on, then says what was skipped."""
    test, printing, skipped = "", False, list[tuple[str, str]]()
    for line in sys.stdin:
        if line.startswith("successes:"):
            printing = True
        elif re.match(r"(failures:|test result:)", line):
            printing = False
        if printing:
            if head := re.match(r"---- (\S+).* stdout ----", line):
                test = head[1]
            elif reason := re.match(r"skipped: (.*)", line):
                skipped.append((test, reason[1]))
        else:
            print(line, end="", flush=True)
    lines = FROZEN.read_text(encoding="utf-8").splitlines() if FROZEN.exists() else []
    allowed = {line.split("  #")[0].strip().removeprefix("cargo ") for line in lines if line.startswith("cargo ")}
    required = os.environ.get("SEQCORE_REQUIRE_GPU") == "1"
    unnamed = [
        (name, why)
        for name, why in skipped
        if FROZEN.exists() and name not in allowed and (required or "Vulkan driver" not in why)
    ]
    print(f"skips: {len(skipped)} of cargo's tests, {len(unnamed)} that {FROZEN.name} does not name")
    for name, why in skipped:
        print(f"  {'not in the frozen list: ' if (name, why) in unnamed else ''}cargo {name}: {why}")
    return 1 if unnamed else 0


if __name__ == "__main__":
    sys.exit(main())
