"""Lines per source file: the table, the largest, the median. `make check` prints the summary; `--all` every file."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMIT, AIM = 800, 600
GENERATED = {"python/seqcore/_core.pyi"}


def main() -> int:
    """Prints; fails when a file is over the limit."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs", "*.py", "*.pyi", "*.wgsl"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    paths = sorted({p for p in listed if (ROOT / p).is_file()} - GENERATED)
    sizes = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in paths}
    ranked = sorted(sizes.items(), key=lambda item: -item[1])
    for path, lines in ranked if "--all" in sys.argv[1:] else ranked[:5]:
        print(f"{lines:6} {path}")
    largest, total = ranked[0], sum(sizes.values())
    print(
        f"{len(sizes)} files, {total} lines, median {statistics.median(sizes.values()):.0f}, "
        f"largest {largest[1]} ({largest[0]}), over {AIM}: {sum(n > AIM for n in sizes.values())}"
    )
    over = [path for path, lines in sizes.items() if lines > LIMIT]
    for path in over:
        print(f"{path}: {sizes[path]} lines, the limit is {LIMIT}", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
