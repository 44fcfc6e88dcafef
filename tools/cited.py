"""Which numbered requirements the tests cite, and which wait.

tests/cited.txt lists, per block, the numbers that belong to it: traps of meaning (S-12), lessons of other projects
(lesson 3), faults (fault 16). A test cites one by naming it so in its text. Prints a table; a number of a finished
block that no test cites fails the run when `--strict` is given.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"S": "S-{}", "lesson": "lesson {}", "fault": "fault {}"}
NUMBERS = r"(\d+(?:\s*(?:,|and|to|-)\s*\d+)*)"
CITATIONS = {
    "S": re.compile(r"\bS-(\d+(?:(?:\s*(?:,|and|to)\s*S-\d+|-\d+))*)"),
    "lesson": re.compile(rf"\blessons?\s+{NUMBERS}", re.I),
    "fault": re.compile(rf"\bfaults?(?:\s+rows?)?\s+{NUMBERS}", re.I),
}


def numbers(text: str) -> set[int]:
    """The numbers of "1-3 5, 7 and 9 to 11"."""
    text = re.sub(r"S-", "", text)
    found: set[int] = set()
    for low, high in re.findall(r"(\d+)(?:\s*(?:-|to)\s*(\d+))?", text):
        found |= set(range(int(low), int(high or low) + 1))
    return found


def wanted() -> list[tuple[str, str, set[int]]]:
    """(block, kind, numbers) of tests/cited.txt."""
    rows = []
    for line in (ROOT / "tests" / "cited.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            block, kind, listed = line.split(None, 2)
            rows.append((block, kind, numbers(listed)))
    return rows


def test_sources() -> list[Path]:
    """Every file that holds tests."""
    rust = [p for p in (ROOT / "src").rglob("*.rs") if p.name.endswith("tests.rs") or "tests" in p.parts]
    inline = [p for p in (ROOT / "src").rglob("*.rs") if p not in rust and "#[cfg(test)]\nmod tests {" in p.read_text()]
    return [*(ROOT / "tests").rglob("*.py"), *(ROOT / "tests").rglob("*.rs"), *rust, *inline]


def cited() -> dict[str, dict[int, set[str]]]:
    """Kind and number to the files that cite it."""
    found: dict[str, dict[int, set[str]]] = {kind: {} for kind in KINDS}
    for path in test_sources():
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".rs" and not path.name.endswith("tests.rs") and "#[cfg(test)]" in text:
            text = text[text.index("#[cfg(test)]") :]
        for kind, pattern in CITATIONS.items():
            for match in pattern.finditer(text):
                for number in numbers(match[1]):
                    found[kind].setdefault(number, set()).add(str(path.relative_to(ROOT)))
    return found


def spans(values: set[int]) -> str:
    """ "1-3 5" """
    parts: list[str] = []
    for value in sorted(values):
        if parts and int(parts[-1].split("-")[-1]) == value - 1:
            parts[-1] = f"{parts[-1].split('-')[0]}-{value}"
        else:
            parts.append(str(value))
    return " ".join(parts) or "none"


def main() -> int:
    """Prints the table."""
    found = cited()
    if "--files" in sys.argv[1:]:
        for kind, by_number in found.items():
            for number, files in sorted(by_number.items()):
                print(f"{KINDS[kind].format(number):10} {', '.join(sorted(files))}")
        return 0
    missing_now = 0
    print(f"{'block':12} {'kind':8} {'cited':>9}  not cited")
    for block, kind, listed in wanted():
        missing = listed - found[kind].keys()
        if block == "foundation":
            missing_now += len(missing)
            print(f"{block:12} {kind:8} {len(listed) - len(missing):4}/{len(listed):<4}  {spans(missing)}")
        else:
            print(f"{block:12} {kind:8} {len(listed) - len(missing):4}/{len(listed):<4}  waits: {spans(missing)}")
    if missing_now and "--strict" in sys.argv[1:]:
        print(f"{missing_now} numbers of this block are cited by no test", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
