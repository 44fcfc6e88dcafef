"""Writes python/seqcore/_core.pyi from the Rust sources, so that the stub cannot drift from the border.

Reads every `#[pyfunction]`, `#[pyclass]`, `#[pymethods]`, `module.add("NAME", ...)` and exception class in src/python/
and in the python.rs of each row of src/ops/mod.rs's table. A Rust type that it does not know is an error that names the
place: add it to TYPES. `python tools/stubs.py` writes, `--check` fails when the file is stale. mypy's stubtest compares
the result with the built module.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUB = ROOT / "python" / "seqcore" / "_core.pyi"

# Rust type, without references and lifetimes: (as an argument, as a result)
TYPES = {
    "bool": ("bool", "bool"),
    "str": ("str", "str"),
    "String": ("str", "str"),
    "PathBuf": ("str | os.PathLike[str]", "pathlib.Path"),
    "PyAny": ("Any", "Any"),
    "PyTuple": ("tuple[Any, ...]", "tuple[Any, ...]"),
    "PyList": ("list[Any]", "list[Any]"),
    "PyDict": ("dict[str, Any]", "dict[str, Any]"),
    "PyBytes": ("bytes", "bytes"),
    "PyString": ("str", "str"),
    "PyType": ("type[Any]", "type[Any]"),
    "PyUntypedArray": ("np.ndarray[Any, Any]", "np.ndarray[Any, Any]"),
    "Vec<u8>": ("bytes", "bytes"),
    "()": ("None", "None"),
}
TYPES |= dict.fromkeys("u8 u16 u32 u64 u128 usize i8 i16 i32 i64 isize".split(), ("int", "int"))
TYPES |= dict.fromkeys(("f32", "f64"), ("float", "float"))
ARGUMENT, RESULT = 0, 1

MODULE_DOC = '"""The compiled core. Written by `make stubs` from the Rust sources: do not edit."""'


@dataclass
class Function:
    """A `#[pyfunction]` or a method."""

    name: str
    doc: str
    arguments: list[tuple[str, str, str | None]]  # name, Python type, default
    markers: dict[int, str]  # before the argument of that index: "/" or "*"
    result: str
    kind: str = "function"  # function, method, getter, static, class, new


@dataclass
class Class:
    """A `#[pyclass]`."""

    name: str
    doc: str
    subclassable: bool
    python_name: str
    methods: list[Function] = field(default_factory=list)


def split(text: str, separator: str = ",") -> list[str]:
    """Splits at separators that stand outside brackets and strings."""
    parts, depth, start, quoted = [], 0, 0, False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char in "(<[{":
            depth += 1
        elif char in ")]}" or (char == ">" and text[at - 1] != "-"):
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def closing(text: str, start: int) -> int:
    """The place after the bracket that closes the one at `start`; quoted brackets do not count."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    opening, close = text[start], pairs[text[start]]
    depth = 0
    for match in re.finditer(r'"(?:\\.|[^"\\])*"|//[^\n]*|[(){}\[\]]', text[start:]):
        depth += (match[0] == opening) - (match[0] == close)
        if depth == 0:
            return start + match.end()
    raise SystemExit(f"unbalanced {opening} in: {text[start : start + 80]}")


class Translator:
    """Rust types to Python ones.

    `classes` maps the names of `#[pyclass]`es to their Python names; `aliases` are the `type X = Y;` of a file.
    """

    def __init__(self, classes: dict[str, str], aliases: dict[str, str]) -> None:
        self.classes = classes
        self.aliases = aliases

    def __call__(self, rust: str, role: int, where: str) -> str:
        rust = re.sub(r"&\s*('\w+\s+)?(mut\s+)?", "", rust.strip())
        rust = re.sub(r"'\w+\s*,?\s*", "", rust).replace("<>", "").strip()
        rust = re.sub(r"\b(?:\w+::)+(?=\w)", "", rust)  # a path: its last name
        if rust in TYPES:
            return TYPES[rust][role]
        if rust in self.classes:
            return self.classes[rust]
        if rust in self.aliases:
            return self(self.aliases[rust], role, where)
        if match := re.fullmatch(r"\((.*)\)", rust, re.S):
            inner = [self(part, role, where) for part in split(match[1])]
            return f"tuple[{', '.join(inner)}]"
        if match := re.fullmatch(r"(\w+)\s*<(.*)>", rust, re.S):
            outer, inner = match[1], split(match[2])
            first = inner[0] if inner else "()"
            if outer in ("PyResult", "Result", "Bound", "Borrowed", "Py", "PyRef", "PyRefMut", "Box", "Arc"):
                return self(first, role, where)
            if outer == "Option":
                return f"{self(first, role, where)} | None"
            if outer == "Vec":
                name = "Sequence" if role == ARGUMENT else "list"
                return f"{name}[{self(first, role, where)}]"
            if outer in ("HashMap", "BTreeMap", "IndexMap"):
                name = "Mapping" if role == ARGUMENT else "dict"
                return f"{name}[{self(first, role, where)}, {self(inner[1], role, where)}]"
        if match := re.fullmatch(r"\[(.*);\s*\d+\]", rust):
            return f"{'Sequence' if role == ARGUMENT else 'list'}[{self(match[1], role, where)}]"
        raise SystemExit(f"{where}: no Python type is known for Rust's {rust!r}: add it to TYPES in tools/stubs.py")


def default(rust: str) -> str:
    """A default value as Python writes it."""
    return {"None": "None", "true": "True", "false": "False"}.get(rust, rust)


ITEM = re.compile(
    r"(?P<docs>(?:[ \t]*///[^\n]*\n)*)"
    r"(?P<attributes>(?:[ \t]*#\[[^\n]*\]\n|[ \t]*#\[pyo3\((?:[^\]]|\n)*?\)\]\n)+)?"
    r"[ \t]*(?:pub(?:\([a-z]+\))?\s+)?(?:unsafe\s+)?fn\s+(?P<name>\w+)\s*(?:<[^>(]*>)?\s*(?=\()",
)


def document(lines: str) -> str:
    """The text of `///` lines."""
    return "\n".join(line.strip()[3:].strip() for line in lines.strip().splitlines())


def read_function(source: str, match: re.Match[str], translate: Translator, where: str, owner: str = "") -> Function:
    """The function whose head `match` found."""
    end = closing(source, match.end())
    arguments = source[match.end() + 1 : end - 1]
    result = re.match(r"\s*->\s*((?:[^{;]|\n)*?)\s*(?:where\b|\{|;)", source[end:])
    attributes = match["attributes"] or ""
    name = match["name"]
    where = f"{where}: {name}"
    # not the default of an argument that is called `name`
    if renamed := re.search(r'\(\s*name\s*=\s*"(\w+)"', re.sub(r"signature\s*=\s*\([^\n]*\)", "", attributes)):
        name = renamed[1]

    types: dict[str, str] = {}
    has_self = False
    for argument in split(re.sub(r"//[^\n]*", "", arguments)):
        if re.fullmatch(r"(&\s*)?(mut\s+)?self", argument):
            has_self = True
            continue
        left, right = (part.strip() for part in argument.split(":", 1))
        left = left.removeprefix("mut ").strip()
        if right.startswith("Python<"):
            continue
        if left.lstrip("_") in ("slf", "self_"):
            has_self = True
            continue
        if left == "cls":
            continue
        types[left] = translate(right, ARGUMENT, where)

    listed: list[tuple[str, str, str | None]] = []
    markers: dict[int, str] = {}
    if signature := re.search(r"signature\s*=\s*\((.*?)\)\s*[,)]", attributes, re.S):
        for part in split(signature[1]):
            if part in ("/", "*"):
                markers[len(listed)] = part
                continue
            key, _, value = (p.strip() for p in part.partition("="))
            star = "**" if key.startswith("**") else "*" if key.startswith("*") else ""
            key = key.lstrip("*")
            if star:
                listed.append((star + key, "Any", None))
            else:
                listed.append((key, types[key], default(value) if value else None))
    else:
        listed = [(key, kind, None) for key, kind in types.items()]

    kind = "method" if owner and has_self else "static" if owner else "function"
    if "#[getter" in attributes:
        kind = "getter"
    elif "#[new]" in attributes:
        kind, name = "new", "__new__"
    elif "#[classmethod]" in attributes:
        kind = "class"
    answer = translate(result[1], RESULT, where) if result else "None"
    if kind == "new":
        answer = "Self"
    return Function(name, document(match["docs"]), listed, markers, answer, kind)


def read(files: list[Path]) -> tuple[list[Class], list[Function], list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Classes, functions, constants (name, type) and exceptions (name, doc, bases) of the border."""
    sources = {file: file.read_text(encoding="utf-8") for file in files}
    classes: dict[str, Class] = {}
    for source in sources.values():
        for match in re.finditer(
            r"(?P<docs>(?:[ \t]*///[^\n]*\n)*)[ \t]*#\[pyclass(?:\((?P<options>[^)]*)\))?\]\n"
            r"(?:[ \t]*#\[[^\n]*\]\n|[ \t]*///[^\n]*\n)*"
            r"[ \t]*(?:pub(?:\([a-z]+\))?\s+)?(?:struct|enum)\s+(?P<name>\w+)",
            source,
        ):
            options = match["options"] or ""
            renamed = re.search(r'\bname\s*=\s*"(\w+)"', options)
            python_name = renamed[1] if renamed else match["name"]
            doc = document(match["docs"])
            classes[match["name"]] = Class(match["name"], doc, "subclass" in options, python_name)

    functions: list[Function] = []
    constants: list[tuple[str, str]] = []
    exceptions: list[tuple[str, str, str]] = []
    for file, source in sources.items():
        where = str(file.relative_to(ROOT))
        aliases = dict(re.findall(r"^(?:pub )?type (\w+)(?:<[^=]*>)? = ([^;]+);", source, re.M))
        translate = Translator({name: one.python_name for name, one in classes.items()}, aliases)
        for match in ITEM.finditer(source):
            if "#[pyfunction" in (match["attributes"] or "") and "testing" not in (match["attributes"] or ""):
                functions.append(read_function(source, match, translate, where))
        for block in re.finditer(r"#\[pymethods\]\s*impl\s+(\w+)\s*(?=\{)", source):
            body = source[block.end() : closing(source, block.end())]
            for match in ITEM.finditer(body):
                if re.search(r"\n    (?!\s)", "\n" + match[0]):  # of the block itself, not nested deeper
                    where_method = f"{where}: {block[1]}"
                    classes[block[1]].methods.append(read_function(body, match, translate, where_method, block[1]))
        for name in re.findall(r'\bmodule\.add\(\s*"(\w+)"', source):
            constants.append((name, "str" if name.startswith("__") else "Any"))
        exceptions += read_exceptions(source)
    return list(classes.values()), functions, constants, exceptions


def read_exceptions(source: str) -> list[tuple[str, str, str]]:
    """The classes that src/python/errors.rs makes: `class(py, NAME, DOC, &[BASE...])` and `derive(NAME, DOC, BASE)`."""
    texts = dict(re.findall(r'let (\w+) = "([^"]*)";', source))
    made = {}
    for match in re.finditer(r"(?:let\s+)?(\w+)\s*[:=]\s*(?:class|derive)(?=\()", source):
        parts = split(source[match.end() + 1 : closing(source, match.end()) - 1])
        parts = parts[1:] if parts and parts[0] == "py" else parts
        if len(parts) < 3 or not parts[0].startswith('"'):
            continue
        name, doc = parts[0].strip('"'), parts[1].strip('"') if parts[1].startswith('"') else texts[parts[1]]
        made[match[1]] = (name, doc, parts[2], "derive" in match[0])
    found = []
    for name, doc, base, derived in made.values():
        if standard := re.search(r"get_type::<Py(\w+)>", base):
            bases = f"SeqcoreError, {standard[1]}" if derived else standard[1]
        else:
            own = re.search(r"&?\[?(\w+)", base)
            local = own[1] if own else ""
            bases = made[local][0] if local in made else "Exception"
        found.append((name, doc, bases))
    order = {name: at for at, (name, _, _) in enumerate(found)}
    return sorted(found, key=lambda one: (one[0] != "SeqcoreError", one[2] in order, one[0]))


def docstring(text: str, indent: str) -> list[str]:
    """The text as a docstring."""
    text = text.replace("\\", "\\\\").replace('"""', "'''")
    lines = text.splitlines() or [""]
    if len(lines) == 1:
        end = " " if text.endswith('"') else ""
        return [f'{indent}"""{text}{end}"""']
    return [f'{indent}"""{lines[0]}', *(f"{indent}{line}".rstrip() for line in lines[1:]), f'{indent}"""']


def write_function(function: Function, indent: str = "") -> list[str]:
    """The function's lines in the stub."""
    if function.name in ("__eq__", "__ne__"):
        function.arguments = [(name, "object", value) for name, _, value in function.arguments]
    words = []
    for at, (name, kind, value) in enumerate(function.arguments):
        if at in function.markers:
            words.append(function.markers[at])
        words.append(f"{name}: {kind}" + (f" = {value}" if value is not None else ""))
    if len(function.arguments) in function.markers:
        words.append(function.markers[len(function.arguments)])
    lines = []
    if function.kind == "getter":
        lines.append(f"{indent}@property")
    elif function.kind == "static":
        lines.append(f"{indent}@staticmethod")
    elif function.kind == "class":
        lines.append(f"{indent}@classmethod")
    first = {"function": [], "static": [], "new": ["cls"], "class": ["cls"]}.get(function.kind, ["self"])
    if function.name.startswith("__") and function.kind == "method" and words and "/" not in words:
        words.append("/")  # slots take their arguments by position
    lines.append(f"{indent}def {function.name}({', '.join(first + words)}) -> {function.result}:")
    if function.doc:
        lines += docstring(function.doc, indent + "    ")
    else:
        lines[-1] += " ..."
    return lines


def stub() -> str:
    """The text of the stub."""
    table = (ROOT / "src" / "ops" / "mod.rs").read_text(encoding="utf-8")
    rows = re.findall(r"^    (\w+)::python::register\(module\)", table, re.M)
    border = [p for p in (ROOT / "src" / "python").rglob("*.rs") if p.name != "testing.rs"]
    # beside the rows, what recurrent layers share
    files = sorted(border) + [ROOT / "src" / "ops" / row / "python.rs" for row in ["recurrent", *rows]]
    classes, functions, constants, exceptions = read(files)
    names = {*dict(constants), *(c.python_name for c in classes), *(f.name for f in functions)}
    names |= {name for name, _, _ in exceptions}
    body: list[str] = ["__all__ = [", *(f'    "{name}",' for name in sorted(names)), "]", ""]
    for name, kind in sorted(constants):
        body.append(f"{name}: {kind}")
    for name, doc, bases in exceptions:
        body += ["", f"class {name}({bases}):", *docstring(doc, "    ")]
    for one in sorted(classes, key=lambda c: c.python_name):
        body += ["", "@disjoint_base" if one.subclassable else "@final", f"class {one.python_name}:"]
        body += docstring(one.doc, "    ") if one.doc else []
        for method in one.methods:
            body += ["", *write_function(method, "    ")]
        if not one.doc and not one.methods:
            body[-1] += " ..."
    for function in sorted(functions, key=lambda f: f.name):
        body += ["", *write_function(function)]
    text = "\n".join(body)
    typing = [n for n in ("Any", "Self", "final") if re.search(rf"\b{n}\b", text)]
    collections = [n for n in ("Mapping", "Sequence") if re.search(rf"\b{n}\b", text)]
    head = [MODULE_DOC, ""]
    head += [f"import {name}" for name in ("os", "pathlib") if re.search(rf"\b{name}\.", text)]
    head += [f"from collections.abc import {', '.join(collections)}"] if collections else []
    head += [f"from typing import {', '.join(typing)}"] if typing else []
    head += ["", "import numpy as np"] if re.search(r"\bnp\.", text) else []
    head += ["", "from typing_extensions import disjoint_base"] if "@disjoint_base" in text else []
    return "\n".join(head) + "\n\n" + text.strip() + "\n"


def main() -> int:
    """Writes the stub, or compares."""
    new = stub()
    if "--check" in sys.argv[1:]:
        old = STUB.read_text(encoding="utf-8") if STUB.exists() else ""
        if old != new:
            print(f"{STUB.relative_to(ROOT)} is stale: run `make stubs`", file=sys.stderr)
            return 1
        return 0
    STUB.write_text(new, encoding="utf-8")
    print(f"wrote {STUB.relative_to(ROOT)}: {new.count('def ')} functions and methods")
    return 0


if __name__ == "__main__":
    sys.exit(main())
