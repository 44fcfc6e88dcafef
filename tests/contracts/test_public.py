"""The public names: `__all__` is what the documentation shows and what can be imported, each with a docstring."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import seqcore

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "seqcore"


def declared(path: Path) -> list[str] | None:
    """`__all__` of the file, if it has one."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def public_modules() -> dict[str, list[str]]:
    """Modules with `__all__`, none of whose names begins with an underscore."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        names = names[:-1] if names[-1] == "__init__" else names
        listed = declared(path)
        if listed is not None and not any(name.startswith("_") for name in names):
            found[".".join(names)] = listed
    return found


def test_every_module_of_the_package_says_what_is_public() -> None:
    found = {one.name for one in pkgutil.iter_modules(seqcore.__path__) if not one.name.startswith("_")}
    missing = {f"seqcore.{name}" for name in found} - public_modules().keys()
    assert not missing, f"no __all__ in {sorted(missing)}"


def test_all_can_be_imported_and_is_documented() -> None:
    for name, listed in public_modules().items():
        module = importlib.import_module(name)
        assert len(listed) == len(set(listed)), name
        for one in listed:
            value = getattr(module, one)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert (value.__doc__ or "").strip(), f"{name}.{one} has no docstring"


def test_reference_shows_every_public_module() -> None:
    """mkdocstrings shows what `__all__` of a module names, so the pages need to name the modules only."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    shown = set(re.findall(r"^::: ([\w.]+)$", pages, re.M))
    missing = public_modules().keys() - shown
    assert not missing, f"add lines `::: NAME` to docs/reference.md for {sorted(missing)}"
    for name in shown:
        importlib.import_module(name)


def modules() -> list[str]:
    """All of the package, private ones too: what they define is shown under public names."""
    found = pkgutil.walk_packages(seqcore.__path__, "seqcore.")
    return ["seqcore", *(one.name for one in found if one.name not in ("seqcore._core", "seqcore.__main__"))]


@pytest.mark.parametrize("name", modules())
def test_examples_of_docstrings_say_what_happens(name: str) -> None:
    # with no names but those that the example itself imports
    failed, _ = doctest.testmod(importlib.import_module(name), globs={})
    assert not failed


def test_every_public_name_has_an_example_that_runs() -> None:
    """None is asked of exceptions, which are there to be caught, of submodules and of constants; Args are asked of a
    function that takes any."""
    finder = doctest.DocTestFinder()
    run = {test.name for name in modules() for test in finder.find(importlib.import_module(name)) if test.examples}
    lacking = set()
    for name, listed in public_modules().items():
        for one in listed:
            value = getattr(importlib.import_module(name), one)
            if isinstance(value, type) and issubclass(value, BaseException):
                continue
            if callable(value) and f"{value.__module__}.{value.__qualname__}" not in run:
                lacking.add(f"{name}.{one}: Example")
            takes_any = inspect.isfunction(value) and inspect.signature(value).parameters
            if takes_any and "Args:" not in (value.__doc__ or ""):
                lacking.add(f"{name}.{one}: Args")
    assert not lacking, f"docstrings without: {sorted(lacking)}"


def test_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    exec(compile(program, "README.md", "exec"), {})
    assert 0 < float(capsys.readouterr().out) < 0.8


def test_every_promise_names_a_test_that_is_there() -> None:
    rows = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "contracts.md").read_text(encoding="utf-8"))
    assert len(rows) > 30
    for file, test in rows:
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not test or re.search(rf"^def {test}\(", source, re.M), f"{file}::{test}"
