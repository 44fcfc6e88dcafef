"""Numbers from an integer generator of our own, so that hashes hold on any machine and with any NumPy (S-164)."""

import hashlib

import numpy as np


def numbers(seed, *shape, scale=1.0, dtype=np.float32):
    """Exact multiples of 2^-10 in ±scale, a function of seed and position alone (SplitMix64)."""
    count = int(np.prod(shape, dtype=np.int64))
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(seed * 0x5851F42D4C957F2D & 0xFFFF_FFFF_FFFF_FFFF)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    steps = (state >> np.uint64(53)).astype(np.int64) - 1024
    return (steps * (scale / 1024)).astype(dtype).reshape(shape)


def ids(seed, below, *shape):
    """Integers in [0, below)."""
    return np.abs(numbers(seed, *shape, scale=1024.0, dtype=np.int64)) % below


def bits(*values):
    """A hash of shapes, dtypes and bits, of nested tuples and dicts of arrays and Tensors."""
    state = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            state.update(bits(*[part for item in sorted(value.items()) for part in item]).encode())
        elif isinstance(value, (tuple, list)):
            state.update(bits(*value).encode())
        elif isinstance(value, str):
            state.update(value.encode())
        else:
            array = np.asarray(value)
            state.update(f"{array.shape}{array.dtype.str}".encode() + array.tobytes())
    return state.hexdigest()[:16]
