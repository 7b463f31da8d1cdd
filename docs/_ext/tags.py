r"""Positions of tags, defined on pages as ``\tag{mlstm.9}`` and cited in code as ``[mlstm.9]``."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS, PACKAGE = ROOT / "docs", ROOT / "numpy_xlstm"
PAGES = [*sorted((DOCS / "derivations").glob("*.md")), *sorted((DOCS / "blocks").glob("*.md"))]
# The specification first: links lead readers to it.
SOURCES = sorted(PACKAGE.rglob("*.py"), key=lambda path: ("cells" not in path.parts, path))

TAG = r"[a-z]+\.[0-9]+"
DEFINITION = re.compile(rf"\\tag\{{({TAG})\}}")
CITATION = re.compile(rf"\[({TAG})\]")


class Place(NamedTuple):
    """A tag in a file; line numbers start at 1."""

    tag: str
    path: Path
    line: int
    text: str

    @property
    def computes(self) -> bool:
        """Return whether this is a line of code with the tag in its comment, not a docstring."""
        return "# [" in self.text


def places(pattern: re.Pattern[str], paths: list[Path]) -> list[Place]:
    """Return all matches of the pattern in the order of files and lines."""
    return [
        Place(tag, path, number, line)
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for tag in pattern.findall(line)
    ]


def pages_of_tags() -> dict[str, str]:
    """Return for each tag the Sphinx name of the page that defines it."""
    found = places(DEFINITION, PAGES)
    return {p.tag: p.path.relative_to(DOCS).with_suffix("").as_posix() for p in found}


def lines_of_tags() -> dict[str, dict[str, int]]:
    """Return for each tag the modules that cite it, with the line to link to."""
    found: dict[str, dict[str, int]] = {}
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = module.removesuffix(".__init__")
        for place in sorted(places(CITATION, [path]), key=lambda place: not place.computes):
            found.setdefault(place.tag, {}).setdefault(module, place.line)
    return found
