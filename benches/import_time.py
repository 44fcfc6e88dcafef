"""What `import seqcore` adds to NumPy's own import, each pair in a fresh process; at most a quarter is asked for.

python benches/import_time.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=15, help="fresh processes (default 15)")
parser.add_argument("--threads", type=int, default=1, help="not used: an import has one")
arguments = parser.parse_args()

TIMED = """
import time
a = time.perf_counter()
import numpy
b = time.perf_counter()
import seqcore
print(b - a, time.perf_counter() - b)
"""


def pair() -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", TIMED], capture_output=True, text=True, check=True)
    numpy, ours = map(float, done.stdout.split())
    return numpy, ours


def main() -> int:
    pairs = [pair() for _ in range(arguments.rounds)]
    numpy, ours = min(n for n, _ in pairs), min(o for _, o in pairs)
    median = statistics.median(o / n for n, o in pairs)
    print(
        f"import seqcore beyond NumPy's: {ours / numpy:.2f} (minima), {median:.2f} (paired median) of NumPy's own; 0.25"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
