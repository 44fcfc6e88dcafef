"""The wheel as it is installed: what it holds, what it lacks, and that it needs nothing else."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import seqcore
import seqcore._core as core
from programs import program

ROOT = Path(__file__).resolve().parents[2]
WHEEL = importlib.metadata.distribution("seqcore")
FILES = {str(file): Path(str(WHEEL.locate_file(file))) for file in WHEEL.files or []}


def text_of(pattern: str) -> str:
    (found,) = [path for name, path in FILES.items() if re.search(pattern, name)]
    return found.read_text(encoding="utf-8")


def test_types_licences_and_bill_of_materials_are_there() -> None:
    assert "seqcore/py.typed" in FILES and "seqcore/_core.pyi" in FILES
    assert "the seqcore authors" in text_of(r"licenses/LICENSE$")
    bill = json.loads(text_of(r"/sboms/.*\.json$"))
    crates = {(part["name"], part["version"]) for part in bill["components"]}
    rows = set(re.findall(r"^\| ([\w-]+) \| (\S+) \| (?!licence)", text_of(r"licenses/THIRD_PARTY\.md$"), re.M))
    rows -= {("crate", "version")}
    assert rows and ("wgpu" not in dict(crates) or rows <= crates), f"not linked: {sorted(rows - crates)}"


def test_metadata_is_true() -> None:
    data = WHEEL.metadata
    assert data["Version"] == seqcore.__version__
    assert data["License-Expression"] == "MIT"
    assert data["Requires-Python"] == ">=3.11"
    assert set(WHEEL.requires or []) == {"numpy>=2.0", "rich>=13"}
    assert "Tag: cp311-abi3-" in (WHEEL.read_text("WHEEL") or "")
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    assert f'version = "{seqcore.__version__}"' in manifest


def test_no_path_of_the_build_machine() -> None:
    for name, path in FILES.items():
        if name.startswith("seqcore/") and path.suffix in (".so", ".pyd"):
            data = path.read_bytes()
            assert str(ROOT).encode() not in data and f"{Path.home()}/.cargo".encode() not in data


def test_no_panic_leaves_as_one() -> None:
    """fault 1: what pyo3 raises for a panic in any function or method, present or future, is an InternalError.

    `test_panics.py` makes panics of every kind; here the class itself is asked, as Python asks it.
    """
    program("""
    import seqcore
    (panic,) = [c for c in BaseException.__subclasses__() if c.__name__ == "PanicException"]
    error = panic("to order")
    assert type(error) is seqcore.InternalError and "to order" in str(error), error
    try:
        raise panic
    except seqcore.InternalError:
        pass
    """)


def test_feature_testing_is_absent() -> None:
    """The stub is written from all entries but those of `testing`, so an entry beyond it would be one of them."""
    tree = ast.parse(text_of(r"^seqcore/_core\.pyi$"))
    listed = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            listed.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            listed.add(node.target.id)
    assert {name for name in dir(core) if not name.startswith("__")} <= listed


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds the wheel, NumPy and nothing else (fault 36)."""
    import numpy

    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    near = Path(numpy.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (near / name).exists():
            (site / name).symlink_to(near / name)
    (site / "seqcore").symlink_to(Path(seqcore.__file__).parent)
    return python


@pytest.mark.parametrize("flags", [["-I"], ["-I", "-OO"], ["-I", "-W", "error"], ["-I", "-X", "dev", "-W", "error"]])
def test_works_in_an_empty_environment(empty: Path, tmp_path: Path, flags: list[str]) -> None:
    program = "import seqcore, sys; print(seqcore.__version__, 'rich' in sys.modules)"
    ran = subprocess.run([empty, *flags, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout.split(), ran.stderr) == (0, [seqcore.__version__, "False"], "")


def test_checks_do_not_sit_in_asserts(empty: Path, tmp_path: Path) -> None:
    """Under -OO a wrong argument is still refused (fault 36)."""
    program = (
        "import numpy as np, seqcore._core as c\n"
        "try: c.activation('sigmoid', np.ones(3, dtype=complex))\n"
        "except c.DTypeError: print('refused')\n"
    )
    ran = subprocess.run([empty, "-I", "-OO", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (ran.stdout.strip(), ran.stderr) == ("refused", "")


def test_import_loads_only_numpy_and_the_standard_library() -> None:
    program = "import seqcore, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    ran = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, timeout=120)
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import numpy, sys; print(*sorted({m.split('.')[0] for m in sys.modules}))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    added = set(ran.stdout.split()) - set(bare.stdout.split())
    assert {name for name in added if name not in sys.stdlib_module_names} <= {"seqcore"}
