"""The safetensors format: reading files that nobody vouches for, and the bytes of one of our own.

A file is the header's length (8 bytes, little endian), the header (JSON: name to dtype, shape and the offsets of the
data; `__metadata__` maps strings to strings), and the data. Every figure in it is checked against the file's own
length before anything of that size is allocated; nothing in it is executed, imported or used as a path.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import stat
import zlib
from typing import Any

import numpy as np

from .errors import CheckpointError, message

__all__ = ["PIECE", "File", "header_and_order", "parsed", "quoted", "read"]

PIECE = 1 << 24  # bytes that are read, written or summed at a time: between them Python handles Ctrl-C
MAX_HEADER = 100_000_000
MAX_TENSORS = 200_000
MAX_NAME = 65_536
MAX_RANK = 32

_DTYPES = {
    "BOOL": "?",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "BF16": "<u2",  # widened to float32 after reading
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
}
_CODES = {np.dtype(kind): code for code, kind in _DTYPES.items() if code != "BF16"}


class File:
    """What a file holds: `tensors` (name to ndarray), `metadata`, and `crc` of the data."""

    def __init__(self, tensors: Any, metadata: Any, entries: Any, crc: Any) -> None:
        self.tensors = tensors
        self.metadata = metadata
        self.entries = entries
        self.crc = crc


def quoted(name: str) -> str:
    """A name from a file, on one line and of bounded length."""
    text = ascii(name)
    return text if len(text) <= 120 else f"{text[:100]}... ({len(name)} characters)"


def read(path: Any) -> File:
    """The File at `path`.

    Raises:
        CheckpointError: it is no whole safetensors file; OSError: it cannot be read.
    """
    # without O_NONBLOCK a FIFO would wait for somebody to write into it
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        # open() would name the descriptor in place of the path
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(status.st_mode):
            raise _wrong(path, "a regular file", "a pipe, socket or device")
        try:
            return _read(path, file, status.st_size)
        except OSError as error:
            error.filename = os.fspath(path)
            raise


def _read(path: Any, file: Any, size: Any) -> File:
    start = _exactly(path, file, min(size, 9))
    length = int.from_bytes(start[:8], "little")
    plausible = len(start) == 9 and 2 <= length <= size - 8
    # b"\x80" and b"PK" may also be the low bytes of a good length
    if not (plausible and start[8:] == b"{") and (start[:1] == b"\x80" or start[:2] == b"PK"):
        raise _wrong(
            path,
            "a safetensors file",
            "what looks like a PyTorch pickle or a zip archive; it is not unpickled here",
            "convert it where torch and safetensors are installed:\n"
            '    state = torch.load(path, map_location="cpu", weights_only=True)\n'
            '    safetensors.torch.save_file(state, "model.safetensors")',
        )
    if size < 8:
        raise _wrong(path, "a safetensors file", f"one of {size} bytes")
    if length > MAX_HEADER or not plausible:
        raise _wrong(path, "a safetensors file", f"a header of {length} bytes in a file of {size}")
    if start[8:] != b"{":
        raise _wrong(path, "a header that begins with {", f"one that begins with {start[8:]!r}")
    header = _header(path, start[8:] + _exactly(path, file, length - 1))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _wrong(path, "__metadata__ of strings", "other values")
    entries = _checked(path, header, size - 8 - length)
    tensors, crc = {}, 0
    for name, (code, shape, _begin, _end) in entries.items():
        array = np.empty(shape, _DTYPES[code])
        if array.size:
            data = array.reshape(-1).data.cast("B")
            _fill(path, file, data)
            crc = _summed(data, crc)
        if code == "BF16":
            array = _widened(array)
        tensors[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return File(tensors, metadata, entries, crc)


def _header(path: Any, header: Any) -> dict[str, Any]:
    try:
        return parsed(header.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "a header of JSON", f"an error in it ({str(error)[:120]})") from None


def parsed(text: str) -> Any:
    """What JSON holds, by the letter of its definition: no name twice, every number finite.

    Raises:
        ValueError: it is none; RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_not_finite, parse_float=_finite)


def _no_duplicates(pairs: Any) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(a for a, b in itertools.pairwise(names) if a == b)
        raise ValueError(f"the name {quoted(twice)} twice")
    return made


def _not_finite(text: Any) -> Any:
    raise ValueError(f"{text[:20]} is no finite number")


def _finite(text: Any) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _checked(path: Any, header: Any, length: Any) -> dict[str, Any]:
    """Name to (dtype, shape, begin, end), in the order of the data, which the entries cover without hole or overlap."""
    if len(header) > MAX_TENSORS:
        raise _wrong(path, f"at most {MAX_TENSORS} tensors", len(header))
    entries = {}
    for name, entry in header.items():
        if len(name) > MAX_NAME:
            raise _wrong(path, f"names of at most {MAX_NAME} characters", len(name))
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise _wrong(path, f"dtype, shape and data_offsets of {quoted(name)}", "others")
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(code, str) or code not in _DTYPES:
            raise _wrong(
                path, f"a known dtype of {quoted(name)}", quoted(code) if isinstance(code, str) else "no string"
            )
        if not _are_sizes(shape) or len(shape) > MAX_RANK:
            raise _wrong(path, f"at most {MAX_RANK} sizes from 0 as the shape of {quoted(name)}", "others")
        if not _are_sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= length:
            raise _wrong(path, f"two rising offsets up to {length} of {quoted(name)}", f"{str(offsets)[:80]}")
        needed = np.dtype(_DTYPES[code]).itemsize
        for n in shape:  # Python's integers do not overflow
            needed *= n
        if not needed:  # NumPy refuses an empty array whose other sizes overflow
            sizes = np.prod([n for n in shape if n], dtype=object)
            if sizes * np.dtype(_DTYPES[code]).itemsize >= 1 << 63:
                raise _wrong(path, f"a shape of {quoted(name)} that fits into memory", f"{str(shape)[:80]}")
        if needed != offsets[1] - offsets[0]:
            got = f"{offsets[1] - offsets[0]} bytes"
            raise _wrong(path, f"{needed} bytes of {quoted(name)}, of shape {shape} and dtype {code}", got)
        entries[name] = (code, tuple(shape), *offsets)
    entries = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    position = 0
    for name, (_, _, begin, end) in entries.items():
        if begin != position:
            raise _wrong(path, f"{quoted(name)} to begin at byte {position} of the data", f"byte {begin}")
        position = end
    if position != length:
        raise _wrong(path, f"{position} bytes of data", f"{length}")
    return entries


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in values)


def _exactly(path: Any, file: Any, count: int) -> bytes:
    data = bytearray(count)
    _fill(path, file, memoryview(data))
    return bytes(data)


def _fill(path: Any, file: Any, data: Any) -> None:
    done = 0
    while done < len(data):
        count = file.readinto(data[done : done + PIECE])
        if not count:
            raise _wrong(path, f"{len(data) - done} more bytes", "the end of the file")
        done += count


def _summed(data: memoryview, crc: int) -> int:
    for start in range(0, len(data), PIECE):
        crc = zlib.crc32(data[start : start + PIECE], crc)
    return crc


def _widened(halves: np.ndarray) -> np.ndarray:
    """bfloat16, which is float32's upper half, as float32."""
    wide = np.empty(halves.size, np.uint32)
    flat = halves.reshape(-1)
    for start in range(0, len(flat), PIECE // 4):
        piece = slice(start, start + PIECE // 4)
        wide[piece] = flat[piece]
        wide[piece] <<= 16
    return wide.view(np.float32).reshape(halves.shape)


def _wrong(path: Any, expected: Any, got: Any, hint: str | None = None) -> CheckpointError:
    return CheckpointError(message("load_file", repr(os.fspath(path)), expected, got, hint))


def header_and_order(arrays: Any, metadata: Any, finish: Any) -> tuple[bytes, list[memoryview]]:
    """The bytes in front of the data, and the arrays in the order of the data.

    `finish(entries, crc)` gives the metadata's last entry, which covers all the others.
    """
    order = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    entries, position, crc, data = {}, 0, 0, []
    for name, array in order:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        begin, position = position, position + little.nbytes
        entries[name] = (_CODES[array.dtype], tuple(array.shape), begin, position)
        if little.size:
            data.append(little.reshape(-1).data.cast("B"))
            crc = _summed(data[-1], crc)
    header = {"__metadata__": metadata | finish(entries, crc)}
    for name, (code, shape, begin, end) in entries.items():
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, data
