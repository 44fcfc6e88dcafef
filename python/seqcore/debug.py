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
    """The shaders exactly as they are built in: a dict of name to (WGSL source, manifest)."""
    return _core.shaders()


def cpu_info() -> dict[str, Any]:
    """The instruction set in use, the CPU's features, and the number of threads, as a dict."""
    return _core.cpu_info()
