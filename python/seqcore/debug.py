"""Questions to the engine: what ran, on what, how often; so that claims about it can be checked from outside."""

from __future__ import annotations

from typing import Any

from . import _core

__all__ = ["cpu_info", "gpu_counters", "shaders"]


def gpu_counters() -> dict[str, int]:
    """Counts since the last call of this function: a dict of `dispatches`, `submits`, `bytes_up`, `bytes_back`.

    Example:
        >>> import seqcore
        >>> sorted(seqcore.debug.gpu_counters())
        ['bytes_back', 'bytes_up', 'dispatches', 'submits']
    """
    return _core.gpu_counters()


def shaders() -> dict[str, tuple[str, str]]:
    """The shaders exactly as they are built in: a dict of name to (WGSL source, manifest as JSON).

    It is empty in a build without GPU support.

    Example:
        >>> import seqcore
        >>> all("fn " in source for source, manifest in seqcore.debug.shaders().values())
        True
    """
    return _core.shaders()


def cpu_info() -> dict[str, Any]:
    """The instruction set `isa` in use, the `features` that it was chosen from, and the number of `threads`, as a dict.

    With a SEQCORE_ISA that this processor lacks, `isa` is the sentence that says so.

    Example:
        >>> import seqcore
        >>> sorted(seqcore.debug.cpu_info())
        ['features', 'isa', 'threads']
    """
    return _core.cpu_info()
