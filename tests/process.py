"""Runs Python in a process of its own: what it prints, and that it ends in time."""

import os
import subprocess
import sys
import textwrap


def python(code, timeout=60, unset=(), **environment):
    """Standard output of `code`, which must end well and write nothing to standard error."""
    env = {name: value for name, value in os.environ.items() if name not in unset} | environment
    head = "import numpy as np\nimport seqcore\nfrom seqcore import Tensor, nn\n"
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout, env=env
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert done.stderr == "", done.stderr
    return done.stdout
