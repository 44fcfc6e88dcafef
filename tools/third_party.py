"""Writes THIRD_PARTY.md: every crate that is linked into the wheel, its licence, and the licence texts.

Linked means: reached from seqcore by normal dependencies (no build script, procedural macro or test) with the features
of the wheel, for Linux. `python tools/third_party.py` writes; `--check` fails when a linked crate or its version is not
in the file.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTICE = ROOT / "THIRD_PARTY.md"
FEATURES, TARGET = "python,gpu", "x86_64-unknown-linux-gnu"
# read in this order where a crate may be taken under one of several
PREFERRED = ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "Zlib", "ISC", "Unicode-3.0")


def linked() -> list[dict[str, Any]]:
    """The packages of `cargo metadata --locked` that end up in the shared library."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--features", FEATURES]
    command += ["--filter-platform", TARGET]
    data = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    root = data["resolve"]["root"]
    seen, waiting = {root}, [root]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            name = dependency["pkg"]
            normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            macro = any("proc-macro" in target["kind"] for target in packages[name]["targets"])
            if normal and not macro and name not in seen:
                seen.add(name)
                waiting.append(name)
    return sorted((packages[one] for one in seen - {root}), key=lambda p: (p["name"], p["version"]))


def licence_texts(package: dict[str, Any]) -> list[tuple[str, str]]:
    """(file name, text) of the licence that we take the crate under, and of any notice."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and re.match(r"(?i)(licen[cs]e|copying|notice|copyright|unlicense)", path.name)
    )
    offered = package["license"] or ""
    if (" OR " in offered or "/" in offered) and " AND " not in offered:
        for choice in PREFERRED:
            key = choice.split("-")[0].upper()
            chosen = [f for f in files if key in f.name.upper()]
            if choice in offered and chosen:
                return [(f.name, f.read_text(encoding="utf-8", errors="replace")) for f in chosen]
    return [(f.name, f.read_text(encoding="utf-8", errors="replace")) for f in files]


def notice(packages: list[dict[str, Any]]) -> str:
    """The text of the file."""
    lines = [
        "# Third-party software in seqcore's wheels",
        "",
        "The compiled module links these Rust crates, for Linux, as `Cargo.lock` fixes them. Where a crate is offered",
        "under a choice of licences, the text that seqcore takes it under follows. Rust's standard library (MIT or",
        "Apache-2.0, https://github.com/rust-lang/rust) is linked too. Written by `tools/third_party.py`.",
        "",
        "| crate | version | licence | where |",
        "|---|---|---|---|",
    ]
    texts: dict[str, list[str]] = {}
    for package in packages:
        where = package["repository"] or package["homepage"] or ""
        lines.append(f"| {package['name']} | {package['version']} | {package['license']} | {where} |")
        for _, text in licence_texts(package):
            tidy = "\n".join(line.rstrip() for line in text.strip().splitlines())
            texts.setdefault(tidy, []).append(f"{package['name']} {package['version']}")
    silent = [f"{p['name']} {p['version']}" for p in packages if not licence_texts(p)]
    if silent:
        lines += ["", f"These bring no licence file of their own, only the name above: {', '.join(silent)}."]
    for text, names in texts.items():
        lines += ["", f"## {', '.join(names)}", "", "```text", text.replace("```", "'''"), "```"]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes the file, or compares the rows."""
    packages = linked()
    if "--check" in sys.argv[1:]:
        text = NOTICE.read_text(encoding="utf-8")
        rows = {(p["name"], p["version"]) for p in packages}
        there = set(re.findall(r"^\| ([\w-]+) \| (\S+) \|", text, re.M)) - {("crate", "version")}
        for name, version in sorted(rows - there):
            print(f"THIRD_PARTY.md lacks {name} {version}: run `make notices`", file=sys.stderr)
        for name, version in sorted(there - rows):
            print(f"THIRD_PARTY.md lists {name} {version}, which is not linked: run `make notices`", file=sys.stderr)
        return 1 if rows != there else 0
    NOTICE.write_text(notice(packages), encoding="utf-8")
    print(f"wrote THIRD_PARTY.md: {len(packages)} crates")
    return 0


if __name__ == "__main__":
    sys.exit(main())
