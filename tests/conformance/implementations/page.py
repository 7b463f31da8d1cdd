"""The tables of the page *Where implementations disagree*: read, and written."""

import re
import warnings
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.outcomes import outcome, row

PAGE = Path(__file__).parents[3] / "docs/where-implementations-disagree.md"
ROW = re.compile(
    r"^\| (?:(\S+) (\S+), (\S+) )?(\| .+? \| [\w.-]+ \| \d+ \| \d+ \| \d+ \|) *(.*?) *\|$", re.M
)
COLUMNS = "passed | failed | not offered | what differs |\n|---|---|---|---|---|---|"
TOP = f"| package | functions | {COLUMNS}\n"
FUNCTIONS = f"| package, date | function | subject | {COLUMNS}---|\n"


class Row(NamedTuple):
    """A row of the second table: ``cells`` is made by a run, and ``differs`` is written by hand."""

    package: str
    version: str
    day: str
    cells: str
    differs: str

    @property
    def function(self) -> tuple[str, ...]:
        """Package, function and subject."""
        return self.package, *self.cells.split(" | ")[:2]

    @property
    def counts(self) -> list[int]:
        """Numbers of functions and of cases that passed, failed or are not offered."""
        return [1, *map(int, self.cells.rstrip("| ").split(" | ")[2:])]


def rows(text: str) -> list[Row]:
    """Read the second table, in which only the first row of a package names it."""
    found, about = [], ("", "", "")
    for package, number, day, cells, differs in ROW.findall(text):
        about = (package, number, day) if package else about
        found.append(Row(*about, cells, differs))
    return found


def tables(every: Iterable[Row]) -> tuple[str, str]:
    """Format the table of packages, with sums, and the table of functions."""
    top, functions, sums = TOP, FUNCTIONS, [0, 0, 0, 0]
    groups = [[*group] for _, group in groupby(every, lambda each: each.package)]
    for group in groups:
        counts = [sum(column) for column in zip(*(each.counts for each in group), strict=True)]
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
        differs = dict.fromkeys(part for each in group for part in each.differs.split("; ") if part)
        first = group[0]
        top += _line(f"| {first.package} {first.version}", counts, "; ".join(differs))
        for each in group:
            head = f"| {each.package} {each.version}, {each.day} " if each is first else "| "
            functions += _line(f"{head}{each.cells[:-2]}", [], each.differs)
    return top + _line(f"| all {len(groups)}", sums, ""), functions


def _line(head: str, counts: Iterable[int], last: str) -> str:
    return " | ".join([head, *map(str, counts), last]).rstrip() + " |\n"


def write(package: str, version: str, implementations: Sequence[Implementation]) -> None:
    """Run the implementations of a package, and write its rows and both tables.

    A new failure has a question mark until someone explains it.
    """
    warnings.simplefilter("ignore")
    text, day = PAGE.read_text("utf-8"), f"{date.today()}"
    before = rows(text)
    explained = {each.function: each.differs for each in before}
    every = [each for each in before if each.package != package]
    for found in map(outcome, implementations):
        print(found, "", sep="\n", flush=True)
        new = Row(package, version, day, row(found), "")
        differs = explained.get(new.function) or "?" if found.failed else ""
        every.append(new._replace(differs=differs))
    every.sort(key=lambda each: each.package.lower())
    for head, table in zip((TOP, FUNCTIONS), tables(every), strict=True):
        above, _, below = text.partition(head)
        text = above + table + re.sub(r"\A(\|.*\n)*", "", below)
    PAGE.write_text(text, "utf-8")
