"""Checkpoints: one safetensors file with weights, optimizer, configuration and random state.

Tensors lie under `model.` and `optimizer.` (and what a training program carries along under `state.`); the rest is
JSON in the metadata. A checksum over all of it tells a damaged file from a whole one. Files are written beside the
old one (`.NAME.*.tmp`) and renamed over it, so that at any moment a whole file is there; what a killed process left the
next save to the same name removes. No pickle is ever read.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _arguments, _safetensors, runtime
from .errors import CheckpointError, message
from .tensor import as_tensor, overwrite, values_for

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["FORMAT_VERSION", "Checkpoint", "load_file", "save"]

FORMAT_VERSION = 1


class Checkpoint(dict):
    """What `load_file` gives: a dict of tensor name to ndarray, with the parts of a seqcore checkpoint as attributes.

    Attributes:
        metadata: the file's strings; path: where it was read.
        format_version: of seqcore's checkpoints, None for other safetensors files.

    Example:
        >>> import pathlib, seqcore, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "model.safetensors")
        ...     seqcore.save(path, seqcore.nn.Linear(3, 2))
        ...     checkpoint = seqcore.load_file(path)
        >>> checkpoint["model.bias"].shape, checkpoint.optimizer, checkpoint.format_version
        ((2,), None, 1)
    """

    def __init__(self, tensors: Any, metadata: Any, path: Any) -> None:
        super().__init__(tensors)
        self.metadata = metadata
        self.path = path
        self.format_version = int(metadata["format_version"]) if _is_ours(metadata) else None

    def _section(self, name: str) -> dict[str, np.ndarray]:
        if self.format_version is None:
            hint = "its tensors can be read by name: module.load_state_dict(load_file(path))"
            raise CheckpointError(message("load_file", repr(self.path), "a seqcore checkpoint", "another file", hint))
        return {key.removeprefix(f"{name}."): value for key, value in self.items() if key.startswith(f"{name}.")}

    def _json(self, name: str) -> Any:
        self._section(name)
        try:
            return _safetensors.parsed(self.metadata.get(name, ""))
        except (ValueError, RecursionError) as error:
            raise self._wrong(name, "JSON", f"an error in it ({str(error)[:120]})") from None

    def _wrong(self, name: str, expected: str, got: Any) -> CheckpointError:
        return CheckpointError(message(f"load_file: {self.path!r}", name, expected, got))

    @property
    def model(self) -> dict[str, np.ndarray]:
        """The module's state_dict, as ndarrays."""
        return self._section("model")

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What the training program carried along, as ndarrays."""
        return self._section("state")

    @property
    def optimizer(self) -> dict[str, Any] | None:
        """The optimizer's state_dict, or None."""
        tensors = self._section("optimizer")
        if "optimizer" not in self.metadata:
            return None
        groups = self._json("optimizer")
        if not isinstance(groups, list) or not all(isinstance(g, dict) and _numbers(g.get("params")) for g in groups):
            raise self._wrong("optimizer", "a list of groups, each with the numbers of its params", _short(groups))
        state: dict[int, dict[str, np.ndarray]] = {}
        for key, value in tensors.items():
            number, _, name = key.partition(".")
            if re.fullmatch(r"0|[1-9][0-9]{0,8}", number) is None:
                raise self._wrong("optimizer", "tensors named by a parameter's number", _safetensors.quoted(key))
            state.setdefault(int(number), {})[name] = value
        return {"state": state, "param_groups": groups}

    @property
    def config(self) -> Any:
        """The configuration that was given to `save`."""
        return self._json("config")

    @property
    def random_state(self) -> dict[str, int]:
        """The seed and the number of calls under it, for `runtime.set_random_state`."""
        state = self._json("random_state")
        whole = isinstance(state, dict) and state.keys() == {"seed", "calls"}
        if not whole or not all(type(n) is int and 0 <= n < 1 << 64 for n in state.values()):
            raise self._wrong("random_state", "integers seed and calls from 0 to 2^64 - 1", _short(state))
        return state


def a_checkpoint(op: str, value: Any) -> Checkpoint:
    """The value, if it is what `load_file` gives."""
    if not isinstance(value, Checkpoint):
        raise TypeError(message(op, "checkpoint", "what load_file gives", _arguments.shown(value)))
    return value


def load_weights(module: Any, weights: Mapping[str, np.ndarray], where: str) -> None:
    """Writes the tensors of a file into a module of their names and shapes; `where` they were read is for messages.

    Raises:
        CheckpointError: they are no numbers of the module's dtypes; nothing was written then.
    """
    pairs = []
    for name, parameter in module.named_parameters():
        try:
            pairs.append((parameter, values_for("load", f"{where}, {name}", parameter, weights[name])))
        except (TypeError, ValueError) as error:
            raise CheckpointError(str(error)) from None
    overwrite(pairs)


def save(path: Any, module: Any, optimizer: Any = None, config: Any = None, *, state: Any = None) -> None:
    """Writes a checkpoint; until it is whole, what was at `path` stays.

    Args:
        path: where; its folder must exist.
        module: a Module; optimizer: an Optimizer or None.
        config: anything that JSON can hold, such as what the module was made with.
        state: a mapping of name to array or Tensor that training will want back, such as carried states.

    Raises:
        OSError: the file cannot be written (the old one is whole then); TypeError: config is not JSON's, module no
            Module, or a name in state no string.

    Example:
        >>> import os, seqcore, tempfile
        >>> layer = seqcore.nn.Linear(2, 1)
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> seqcore.save(path, layer, config={"sizes": [2, 1]})
        >>> loaded = seqcore.load_file(path)
        >>> keys = layer.load_state_dict(loaded.model)
        >>> loaded.config
        {'sizes': [2, 1]}
    """
    path = _arguments.path("save", "path", path)
    if isinstance(module, type) or not hasattr(module, "state_dict"):
        raise TypeError(message("save", "module", "a Module", f"a {type(module).__name__}"))
    if optimizer is not None and not hasattr(optimizer, "state_dict"):
        raise TypeError(message("save", "optimizer", "an Optimizer or None", f"a {type(optimizer).__name__}"))
    if not isinstance(state, Mapping | None):
        raise TypeError(message("save", "state", "a mapping or None", f"a {type(state).__name__}"))
    metadata = {"format": "seqcore", "format_version": str(FORMAT_VERSION), "seqcore_version": runtime.VERSION}
    metadata["config"] = _as_json("config", config)
    metadata["random_state"] = json.dumps(runtime.get_random_state())
    weights, saved = module.state_dict(), None if optimizer is None else optimizer.state_dict()
    arrays = {f"model.{name}": tensor.numpy() for name, tensor in weights.items()}
    if saved is not None:
        metadata["optimizer"] = _as_json("optimizer", saved["param_groups"])
        for number, entry in saved["state"].items():
            arrays |= {f"optimizer.{number}.{k}": v.numpy() for k, v in entry.items() if v is not None}
    for name, value in (state or {}).items():
        if not isinstance(name, str):  # 1 and "1" would be one name in the file
            raise TypeError(message("save", "state", "names that are strings", _arguments.shown(name)))
        arrays[f"state.{name}"] = as_tensor("save", f"state[{name!r}]", value).numpy(copy=True)
    header, data = _safetensors.header_and_order(
        arrays, metadata, lambda entries, crc: {"checksum": _checksum(entries, metadata, crc)}
    )
    _write(path, [header, *data])


def load_file(path: Any) -> Checkpoint:
    """Reads a safetensors file, seqcore's or another's.

    It is seqcore's, and checked to be whole and of a version that is known, where its metadata says `format: seqcore`
    or has a `seqcore_version`.

    Args:
        path: a regular file.

    Returns:
        a Checkpoint: a dict of name to ndarray, with `.model`, `.optimizer`, `.config`, `.random_state`.

    Raises:
        CheckpointError: it is damaged, of a newer version, no safetensors file, or a pickle; OSError: it cannot be
            read.

    Example:
        >>> import pathlib, seqcore, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "model.safetensors")
        ...     seqcore.save(path, seqcore.nn.Linear(3, 2))
        ...     sorted(seqcore.load_file(path).model)
        ['bias', 'weight']
    """
    path = _arguments.path("load_file", "path", path)
    try:
        file = _safetensors.read(path)
    except MemoryError:
        raise _arguments.no_room("load_file", f"the tensors of {path!r}") from None
    metadata = file.metadata
    if _is_ours(metadata):
        _check(path, file)
    return Checkpoint(file.tensors, metadata, path)


def _is_ours(metadata: Any) -> bool:
    """By either of two marks, so that damage to one is found; others' files may have the other names."""
    return metadata.get("format") == "seqcore" or "seqcore_version" in metadata


def _check(path: Any, file: Any) -> None:
    metadata = file.metadata
    version = metadata.get("format_version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 10 and int(version) >= 1):
        got = _safetensors.quoted(version)
        raise CheckpointError(message("load_file", repr(path), f"format_version up to {FORMAT_VERSION}", got))
    if int(version) > FORMAT_VERSION:
        hint = "install a newer seqcore"
        expected = f"format_version up to {FORMAT_VERSION}"
        raise CheckpointError(message("load_file", repr(path), expected, version, hint))
    stored = metadata.get("checksum")
    right = _checksum(file.entries, {k: v for k, v in metadata.items() if k != "checksum"}, file.crc)
    if stored != right:
        got = "none" if stored is None else _safetensors.quoted(stored)
        hint = "take a copy that was not damaged or changed"
        raise CheckpointError(message("load_file", repr(path), f"checksum {right}", got, hint))
    checkpoint = Checkpoint(file.tensors, metadata, path)
    for part in (checkpoint.config, checkpoint.random_state, checkpoint.optimizer):
        del part


def _as_json(name: str, value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
        # also keys that are different only here, such as 1 and "1"
        _safetensors.parsed(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(message("save", name, "what JSON can hold", str(error))) from None
    return text


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _checksum(entries: Any, metadata: Any, crc: Any) -> str:
    """Over names, dtypes, shapes and metadata, whatever their spelling, and the data."""
    text = json.dumps([sorted(entries.items()), sorted(metadata.items())]).encode("ascii")
    return f"{zlib.crc32(text, crc):08x}"


def _write(path: Any, chunks: Any) -> None:
    """Writes `path` so that at any moment the old file or the new one is there, whole, also after a power failure."""
    path = os.path.realpath(os.fsdecode(path))
    folder, name = os.path.split(path)
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise FileExistsError(errno.EEXIST, "not a regular file", path)
    _remove_abandoned(folder, name)
    try:
        file = _new_file(folder, name)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    try:
        with file:
            if old is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(file.fileno(), view[: _safetensors.PIECE]) :]
            os.fsync(file.fileno())
            if fcntl is not None:
                # before it is closed: until then the lock says that it is wanted
                os.replace(file.name, path)
        if fcntl is None:
            os.replace(file.name, path)
    except BaseException as error:
        try:
            os.unlink(file.name)
        except FileNotFoundError:
            pass  # the rename was done before a Ctrl-C arrived
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, path) from None
        raise
    if os.name == "posix":
        opened: list[int] = []
        try:
            # one call of C: a signal's exception comes before there is a descriptor, or when it is in the list
            opened.extend(map(os.open, [folder], [os.O_RDONLY]))
            os.fsync(opened[0])
        finally:
            for descriptor in opened:
                os.close(descriptor)


def _new_file(folder: Any, name: str) -> Any:
    """A new file in `folder` with the mode that the user's umask gives (tempfile.mkstemp would give 0600).

    It is locked until it is closed, which tells it from one that a killed process left. An object of Python's, and no
    descriptor: where a signal's exception comes between any two instructions, it is closed all the same.
    """
    while True:
        path = os.path.join(folder, f".{name[:50]}.{os.urandom(6).hex()}.tmp")
        try:
            file = open(path, "xb", buffering=0)
        except FileExistsError:
            continue
        if _locked(file, path):
            return file
        # another save took it for abandoned before it was locked
        file.close()


def _locked(file: Any, path: str) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks, where nothing is removed either
    return os.path.exists(path)


def _remove_abandoned(folder: Any, name: str) -> None:
    """Removes what saves to the same name left that were killed; where that cannot be told or done, it stays."""
    if fcntl is None:
        return
    form = re.compile(rf"\.{re.escape(name[:50])}\.[0-9a-f]{{12}}\.tmp")
    try:
        left = [entry for entry in os.listdir(folder) if form.fullmatch(entry)]
    except OSError:
        return
    for entry in left:
        path = os.path.join(folder, entry)
        try:
            # a pipe of that name would be waited for
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            with open(path, "rb", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                os.unlink(path)
        except OSError:
            pass  # somebody writes it, or it may not be read
