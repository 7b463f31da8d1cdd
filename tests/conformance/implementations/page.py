"""The tables of the page *Where implementations disagree*: read, and written."""

import re
import warnings
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.outcomes import outcome, row

PAGE = Path(__file__).parents[3] / "docs/where-implementations-disagree.md"
ROW = re.compile(
    r"^\| (?:(\S+) (\S+), (\S+) )?(\| .+? \| [\w.-]+ \| \d+ \| \d+ \| \d+ \|) *(.*?) *\|$", re.M
)
HEAD = (
    "| package, date | function | subject | passed | failed | not offered | what differs |\n"
    "|---|---|---|---|---|---|---|\n"
)
RIGHT = re.compile(r"^\| (\S+) (\S+), (\S+) \| (.+, [\w.-]+, \d+ of \d+) \|$", re.M)
RIGHT_FUNCTION = re.compile(r"(.+), ([\w.-]+), (\d+) of (\d+)")
RIGHT_HEAD = "| package, date | function, subject, passed cases of all |\n|---|---|\n"


class Row(NamedTuple):
    """A function: ``cells`` is made by a run, and ``differs`` is written by hand."""

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
    """Read both tables. In the first, only the first row of a package names it."""
    every, about = [], ("", "", "")
    for package, number, day, cells, differs in ROW.findall(text):
        about = (package, number, day) if package else about
        every.append(Row(*about, cells, differs))
    for package, number, day, functions in RIGHT.findall(text):
        for function in functions.split("; "):
            match = RIGHT_FUNCTION.fullmatch(function)
            assert match, function
            name, subject, passed, total = match.groups()
            cells = f"| {name} | {subject} | {passed} | 0 | {int(total) - int(passed)} |"
            every.append(Row(package, number, day, cells, ""))
    return every


def table(every: Iterable[Row]) -> str:
    """Format the functions that fail cases. The first row of a package names it."""
    lines, before = [HEAD], ""
    for each in every:
        if each.counts[2]:
            about = f"{each.package} {each.version}, {each.day} "
            head = about if each.package != before else ""
            lines.append(f"| {head}{each.cells[:-2]} | {each.differs}".rstrip() + " |\n")
            before = each.package
    return "".join(lines)


def right(every: Iterable[Row]) -> str:
    """Format the functions without a failure, a row for each package."""
    packages: dict[str, list[str]] = {}
    for each in every:
        _, passed, failed, missing = each.counts
        if not failed:
            name, subject = each.function[1:]
            about = f"{each.package} {each.version}, {each.day}"
            function = f"{name[2:]}, {subject}, {passed} of {passed + missing}"
            packages.setdefault(about, []).append(function)
    lines = [f"| {about} | {'; '.join(names)} |\n" for about, names in packages.items()]
    return RIGHT_HEAD + "".join(lines)


def write(package: str, version: str, implementations: Sequence[Implementation]) -> None:
    """Run the implementations of a package, and write its rows.

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
    for head, lines in ((HEAD, table(every)), (RIGHT_HEAD, right(every))):
        above, _, below = text.partition(head)
        text = above + lines + re.sub(r"\A(\|.*\n)*", "", below)
    PAGE.write_text(text, "utf-8")
