"""The shipped wheel: `seal` takes this machine's paths out of it, `check` says what is wrong with it.

maturin's bill of materials names the crate by the folder that it was built in; sealing replaces that, and writes the
archive in a fixed order with fixed times, so that the same sources give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOMENT = (2020, 1, 1, 0, 0, 0)
MAX_BYTES = 8_000_000


def seal(path: Path) -> None:
    """Rewrites the wheel in place."""
    with zipfile.ZipFile(path) as wheel:
        files = {info.filename: (wheel.read(info), info.external_attr) for info in wheel.infolist()}
    for name, (data, mode) in files.items():
        if "/sboms/" in name:
            files[name] = (data.replace(str(ROOT).encode(), b"/seqcore"), mode)
    record = next(name for name in files if name.endswith(".dist-info/RECORD"))
    lines = []
    for name in sorted(files):
        data = files[name][0]
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},," if name == record else f"{name},sha256={digest},{len(data)}")
    files[record] = ("\n".join(lines).encode() + b"\n", files[record][1])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name in sorted(files, key=lambda n: (".dist-info/" in n, n)):
            info = zipfile.ZipInfo(name, MOMENT)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, files[name][1]
            wheel.writestr(info, files[name][0])


def sections(elf: bytes) -> set[str]:
    """Names of the sections of a little-endian 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", elf, 0x3A)
    heads = [struct.unpack_from("<IIQQQQ", elf, table + at * size) for at in range(count)]
    names = elf[heads[names_at][4] : heads[names_at][4] + heads[names_at][5]]
    return {names[head[0] : names.index(b"\0", head[0])].decode() for head in heads}


def faults(path: Path) -> Iterator[str]:
    """What is wrong with the wheel."""
    if path.stat().st_size > MAX_BYTES:
        yield f"{path.stat().st_size} bytes, the limit is {MAX_BYTES}"
    if not re.search(r"-cp311-abi3-(manylinux_2_17_|manylinux2014_|macosx|win)", path.name):
        yield "its name is not that of a stable-ABI wheel that installs anywhere"
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist()}
    text = "\n".join(files)
    for wanted in (r"^seqcore/py\.typed$", r"^seqcore/_core\.pyi$", r"\.dist-info/sboms/.*\.json$"):
        if not re.search(wanted, text, re.M):
            yield f"no file {wanted}"
    for wanted in ("LICENSE", "THIRD_PARTY.md"):
        if not any(name.endswith(f"licenses/{wanted}") and data.strip() for name, data in files.items()):
            yield f"no text in licenses/{wanted}"
    private = {str(ROOT).encode(), str(Path.home()).encode() + b"/"} - {b"//"}
    for name, data in files.items():
        for path_here in private:
            if path_here in data:
                yield f"{name} holds a path of the machine that built it"
        if name.endswith(".so") and data[:6] == b"\x7fELF\x02\x01":
            if sections(data) & {".symtab", ".debug_info"}:
                yield f"{name} is not stripped"


def main() -> int:
    """`seal WHEEL...` or `check WHEEL...`"""
    wheels = [Path(name) for name in sys.argv[2:]]
    if sys.argv[1:2] == ["seal"] and wheels:
        for wheel in wheels:
            seal(wheel)
        return 0
    if sys.argv[1:2] == ["check"] and wheels:
        found = [f"{wheel.name}: {fault}" for wheel in wheels for fault in faults(wheel)]
        print(
            "\n".join(found) or "\n".join(f"{w.name}: {w.stat().st_size / 1e6:.2f} MB, as it should be" for w in wheels)
        )
        return 1 if found else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
