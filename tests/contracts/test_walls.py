"""The walls of the tree: who may import whom, where pyo3 and `unsafe` may stand. Read from the sources.

An operation uses another one through its `mod.rs` only; borders aside: a `python.rs` may also use another's `python.rs`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PACKAGE = ROOT / "python" / "seqcore"
FILES = sorted(SRC.rglob("*.rs"))


def code(text: str) -> str:
    """The source without comments and the contents of strings."""
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def leaves(tree: str) -> Iterator[str]:
    """Every path of a `use` tree: "a::{b, c::d}" gives a::b and a::c::d."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        yield re.sub(r"\s+as\s+\w+$", "", tree)
        return
    depth, start = 0, 0
    inner = rest[: rest.rindex("}")]
    for at, char in enumerate(inner + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if inner[start:at].strip():
                for leaf in leaves(inner[start:at]):
                    yield f"{head}{leaf}"
            start = at + 1


def absolute(path: str, module: list[str]) -> list[str]:
    """A path as its names from the crate's root; [] for one of another crate."""
    names = [name.strip() for name in path.split("::")]
    if names[0] in ("crate", "$crate"):
        return names[1:]
    here = list(module)
    if names[0] == "self":
        return here + names[1:]
    if names[0] == "super":
        while names and names[0] == "super":
            here, names = here[:-1], names[1:]
        return here + names
    return []


def module_of(path: Path) -> list[str]:
    names = list(path.relative_to(SRC).with_suffix("").parts)
    return names[:-1] if names[-1] in ("mod", "lib") else names


def imports(path: Path) -> set[tuple[str, ...]]:
    """Every path of our own crate that the file names."""
    text = code(path.read_text(encoding="utf-8"))
    found = set()
    for use in re.finditer(r"\buse\s+([^;]+);", text):
        for leaf in leaves(use[1]):
            found.add(tuple(absolute(leaf, module_of(path))))
    for mention in re.finditer(r"(?<![\w:])(\$?crate|super|self)((?:::\w+)+)", text):
        found.add(tuple(absolute(mention[1] + mention[2], module_of(path))))
    return {names for names in found if names}


# what each room may import, besides itself; ops and python have rules of their own below
ROOMS = {
    "error": set(),
    "tensor": {"error"},
    "backend": {"error", "tensor"},
    "cpu": {"error", "tensor", "backend"},
    "gpu": {"error", "tensor", "backend"},
    "device": {"error", "tensor", "backend", "cpu", "gpu"},
}


def breaches(path: Path) -> Iterator[str]:
    """What the file imports and may not."""
    parts = path.relative_to(SRC).parts
    room = parts[0].removesuffix(".rs")
    is_test = path.name.endswith("tests.rs") or "tests" in parts
    border = room == "python" or (room == "ops" and path.name == "python.rs")
    for names in imports(path):
        target = names[0]
        if target not in ROOMS and target not in ("ops", "python"):
            continue  # a macro at the crate's root
        shown = "::".join(names)
        if room in ROOMS and target != room and target not in ROOMS[room]:
            yield f"{room} imports {shown}"
        if target == "device" and not border and room != "device":
            yield f"only the border may import {shown}"
        if target == "python" and not border:
            yield f"only the border may import {shown}"
        if room == "ops" and len(parts) > 2:
            own = parts[1]
            if not is_test and not border:
                if target == "cpu" and path.name != "cpu.rs" and "cpu" not in parts:
                    yield f"{shown}: only cpu.rs may use the CPU workshop"
                if target == "gpu" and path.name != "gpu.rs" and "gpu" not in parts:
                    yield f"{shown}: only gpu.rs may use the GPU workshop"
            if target == "ops" and len(names) > 1 and names[1] != own:
                other = SRC / "ops" / names[1]
                inside = names[2] if len(names) > 2 else ""
                # a border may use another border: recurrent layers share theirs
                rooms = {"cpu", "gpu", "reference", "tests", "gpu_tests"} | (set() if border else {"python"})
                if inside in rooms and (other / f"{inside}.rs").exists() and not is_test:
                    yield f"{shown}: another operation is used through its mod.rs only, or by a border through its border"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_rust_imports(path: Path) -> None:
    if path.name == "lib.rs":
        return
    assert not sorted(breaches(path))


def test_pyo3_only_at_the_border() -> None:
    for path in FILES:
        parts = path.relative_to(SRC).parts
        if parts[0] == "python" or (parts[0] == "ops" and path.name == "python.rs"):
            continue
        text = code(path.read_text(encoding="utf-8"))
        if path == SRC / "ops" / "mod.rs":
            # the table of operations hands the module to each border, and does nothing else with it
            text = re.sub(r"pub fn register\(.*", "", text)
        assert not re.search(r"\b(pyo3|numpy)\s*::", text), f"{path.relative_to(ROOT)} knows Python"


def test_unsafe_stands_where_it_may_and_says_why() -> None:
    for path in FILES:
        parts = path.relative_to(SRC).parts
        lines = path.read_text(encoding="utf-8").splitlines()
        for at, line in enumerate(lines):
            if not re.search(r"\bunsafe\s*(\{|fn|impl|extern)", code(line)):
                continue
            # the workshops and kernels; the border, where foreign buffers are wrapped; the trait of element types
            allowed = parts[0] in ("cpu", "gpu", "python") or path.name in ("cpu.rs", "dtype.rs")
            allowed = allowed or "cpu" in parts
            assert allowed, f"{path.relative_to(ROOT)}:{at + 1}: `unsafe` outside its rooms"
            if re.search(r"\bunsafe\s+(fn|extern)", line):
                continue  # its contract stands in its documentation: rustdoc's `# Safety`, asked for by clippy
            near, above = "\n".join(lines[max(0, at - 8) : at + 1]), "\n".join(lines[:at])
            assert "SAFETY" in near or "SAFETY (every block" in above, (
                f"{path.relative_to(ROOT)}:{at + 1}: `unsafe` without a SAFETY line"
            )


def test_the_reader_is_not_blind() -> None:
    assert list(leaves("crate::{cpu::{Cpu, Fresh as F}, error::Result}")) == [
        "crate::cpu::Cpu",
        "crate::cpu::Fresh",
        "crate::error::Result",
    ]
    assert absolute("super::reference", ["ops", "lstm", "cpu"]) == ["ops", "lstm", "reference"]
    found = imports(SRC / "device.rs")
    assert {"cpu", "backend", "error"} <= {names[0] for names in found}
    # `from .. import _core`, `from ._core import ...`
    assert "seqcore._core" in set(python_imports(PACKAGE / "tensor" / "_memory.py"))
    assert {"seqcore._core", "seqcore._core.ShapeError"} <= set(python_imports(PACKAGE / "errors.py"))


def python_imports(path: Path) -> Iterator[str]:
    """Modules that the file imports, as absolute names."""
    inside = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = inside if path.name == "__init__.py" else inside[:-1]
    package = tuple(name for name in package if name != "__init__")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def test_only_the_lowest_layers_import_the_core() -> None:
    may = ("errors", "runtime", "debug", "ops", "tensor", "nn/stream")
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if any(name == one or name.startswith(f"{one}/") for one in may):
            continue
        core = {one for one in python_imports(path) if f"{one}.".startswith("seqcore._core.")}
        # the package itself takes its version from there
        allowed = {"seqcore._core", "seqcore._core.__version__"} if name == "__init__" else set()
        assert core <= allowed, f"{path.relative_to(ROOT)} imports {sorted(core - allowed)}"


def test_nothing_foreign_at_import() -> None:
    """At module level only numpy and the standard library; rich belongs to the command line and the trainer."""
    import sys

    for path in sorted(PACKAGE.rglob("*.py")):
        late = path.relative_to(PACKAGE).parts[0].removesuffix(".py") in ("cli", "train", "models", "__main__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                top = name.split(".")[0]
                known = top in sys.stdlib_module_names or top in ("numpy", "seqcore") or (late and top == "rich")
                assert known, f"{path.relative_to(ROOT)} imports {name} at import"


def test_names_and_sizes() -> None:
    """No room for everything and nothing; no file past the limit."""
    forbidden = re.compile(r"^(utils?|helpers?|common|misc|managers?)$")
    for folder, suffixes in ((SRC, (".rs", ".wgsl")), (PACKAGE, (".py",)), (ROOT / "tests", (".py",))):
        for path in folder.rglob("*"):
            if path.suffix in suffixes:
                names = [part.removesuffix(path.suffix) for part in path.relative_to(folder).parts]
                # PyTorch's own name for what clips gradients: nn.utils.clip_grad_norm_
                clipping = folder == PACKAGE and names[:2] == ["nn", "utils"]
                assert clipping or not any(map(forbidden.match, names)), path
                assert len(path.read_text(encoding="utf-8").splitlines()) <= 800, path
