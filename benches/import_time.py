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
    pair()  # Python compiles what is new
    pairs = [pair() for _ in range(arguments.rounds)]
    minimum = min(ours for _, ours in pairs) / min(numpy for numpy, _ in pairs)
    median = statistics.median(ours / numpy for numpy, ours in pairs)
    print(f"import seqcore beyond NumPy's, as a part of NumPy's own: median {median:.2f}, minimum {minimum:.2f}")
    print(f"at most 0.25: {'yes' if median <= 0.25 else 'NO'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
