"""The tables of the page *Where implementations disagree*: read, and written."""

import re
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.outcomes import Outcome, outcome, row

PAGE = Path(__file__).parents[3] / "docs/where-implementations-disagree.md"
SECTION = re.compile(r"^### (\S+) (\d[\w.]*), (\d{4}-\d\d-\d\d)\n\n((?:\|.*\n)+)", re.M)
"""Package, version, date and table."""
ROW = re.compile(r"^(\| .+? \| [\w.-]+ \| \d+ \| \d+ \| \d+ \|) *(.*?) *\|$", re.M)
DETAILS = "## Function by function\n"
COLUMNS = "passed | failed | not offered | what differs |\n|---|---|---|---|---|---|\n"
TOP, HEAD = f"| package | functions | {COLUMNS}", f"| function | subject | {COLUMNS}"


def table_of_all(text: str) -> str:
    """Return the table with a row for each package, and the sums."""
    lines, sums = [], [0, 0, 0, 0]
    for package, number, _, table in SECTION.findall(text):
        cells = [(head.split("|")[3:6], last) for head, last in ROW.findall(table)]
        counts = [len(cells), *(sum(int(numbers[k]) for numbers, _ in cells) for k in range(3))]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        differs = dict.fromkeys(part for _, last in cells for part in last.split("; ") if part)
        lines.append(_line(f"{package} {number}", counts, "; ".join(differs)))
    return TOP + "".join([*lines, _line(f"all {len(lines)}", sums, "")])


def _line(name: str, counts: Sequence[int], last: str) -> str:
    return f"| {name} | {' | '.join(map(str, counts))} | {last}{' ' * bool(last)}|\n"


def last_cell(found: Outcome) -> str:
    """Return the differences that the implementation names."""
    return "; ".join(getattr(found.implementation, "differs", ()))


def write(package: str, version: str, implementations: Sequence[Implementation]) -> None:
    """Run implementations of a package, and replace or add its section and the table of all."""
    warnings.simplefilter("ignore")
    outcomes = [outcome(each) for each in implementations]
    print(*outcomes, sep="\n\n", flush=True)
    lines = [f"{row(found)} {last_cell(found)} |\n".replace("|  |", "| |") for found in outcomes]
    section = f"### {package} {version}, {date.today()}\n\n{HEAD}{''.join(lines)}"
    head, details = PAGE.read_text("utf-8").split(DETAILS)
    sections = {found[1].lower(): found[0] for found in SECTION.finditer(details)}
    sections[package.lower()] = section
    start = min(found.start() for found in SECTION.finditer(details))
    details = details[:start] + "\n".join(text for _, text in sorted(sections.items()))
    before, _, rest = head.partition(TOP)
    after = re.sub(r"\A(\|.*\n)+", "", rest)
    PAGE.write_text(f"{before}{table_of_all(details)}{after}{DETAILS}{details}", "utf-8")
