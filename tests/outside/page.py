"""Write the tables of the page: ``python -m tests.outside`` calls this where packages are installed."""

import re
import sys
import warnings
from datetime import date
from pathlib import Path

from tests.conformance.implementations.outcomes import Outcome, outcome, row
from tests.outside.shared import installed
from tests.outside.test_outside import ALL

PAGE = Path(__file__).parents[2] / "docs/where-implementations-disagree.md"
SECTION = re.compile(r"^### ([\w.@/-]+) (\d[\w.]*), (\d{4}-\d\d-\d\d)\n\n((?:\|.*\n)+)", re.M)
HEAD = "| function | subject | passed | failed | not offered | what differs |\n|---|---|---|---|---|---|\n"
TOP = "| package | functions | passed | failed | not offered | what differs |\n|---|---|---|---|---|---|\n"
DETAILS = "## Function by function\n"


def total(text: str) -> str:
    """Return the table of all: a row for each section, and the sums."""
    lines, sums = [], [0, 0, 0, 0]
    for package, number, _, table in sorted(SECTION.findall(text), key=lambda s: s[0].lower()):
        cells = [re.split(r" *\| *", line)[3:7] for line in table.splitlines()[2:]]
        counts = [len(cells), *(sum(int(line[k]) for line in cells) for k in range(3))]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        differs = dict.fromkeys(part for line in cells for part in line[3].split("; ") if part)
        lines.append(f"| {package} {number} | {_joined(counts)} | {'; '.join(differs)} |\n")
    lines.append(f"| **all {len(lines)}** | {_joined(sums)} | |\n")
    return TOP + "".join(lines).replace("|  |", "| |")


def _joined(counts: list[int]) -> str:
    return " | ".join(map(str, counts))


def last_cell(found: Outcome) -> str:
    each = found.implementation
    return "; ".join(getattr(each, "differs", {}))


def written(text: str, package: str, outcomes: list[Outcome], today: str) -> str:
    """Replace or add the section of a package, and make the table of all again."""
    lines = [f"{row(found)} {last_cell(found)} |\n".replace("|  |", "| |") for found in outcomes]
    section = f"### {package} {installed(package)}, {today}\n\n{HEAD}{''.join(lines)}"
    head, details = text.split(DETAILS)
    sections = {found[1].lower(): found[0] for found in SECTION.finditer(details)}
    intro = SECTION.split(details)[0].strip()
    sections[package.lower()] = section
    text = f"{head}{DETAILS}\n{intro}\n\n" + "\n".join(s for _, s in sorted(sections.items()))
    table = re.search(re.escape(TOP) + r"(\|.*\n)*", text)
    assert table is not None
    return text.replace(table[0], total(text))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for package in dict.fromkeys(each.package for each in ALL if installed(each.package)):
        if sys.argv[1:] and package not in sys.argv[1:]:
            continue
        outcomes = [outcome(each) for each in ALL if each.package == package]
        print(*outcomes, sep="\n\n", flush=True)
        text = written(PAGE.read_text("utf-8"), package, outcomes, date.today().isoformat())
        PAGE.write_text(text, "utf-8")
