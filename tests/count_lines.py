"""Prints the number of lines of each subpackage of alljax and of the tests; fails above the limits.

python tests/count_lines.py
"""

import sys
from collections import Counter
from pathlib import Path

MAX_PACKAGE = 17_000
MAX_TESTS = 16_900
ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = {".py", ".j2", ".css", ".js", ".csv"}


def count(folder: Path) -> Counter[str]:
    """Returns the lines below `folder` per subfolder; files directly in it count as ``.``."""
    lines: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
            parts = path.relative_to(folder).parts
            lines[parts[0] if len(parts) > 1 else "."] += len(path.read_text(encoding="utf-8").splitlines())
    return lines


def main() -> int:
    """Prints the table; returns 1 if a limit is exceeded."""
    code = 0
    for name, limit in (("alljax", MAX_PACKAGE), ("tests", MAX_TESTS)):
        lines = count(ROOT / name)
        for part, number in sorted(lines.items()):
            print(f"{name}/{part:20} {number:7,}")
        total = sum(lines.values())
        print(f"{name:20} total {total:7,} of at most {limit:,}\n")
        code |= total > limit
    return code


if __name__ == "__main__":
    sys.exit(main())
