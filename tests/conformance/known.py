"""Write the table of published mistakes into its page: ``python -m tests.conformance.known``."""

from pathlib import Path

from numpy_xlstm.conformance.bugs import BUGS

PAGE = Path(__file__).parents[2] / "docs" / "conformance-bugs.md"
BEGIN = "<!-- the table is written by tests/conformance/known.py -->\n\n"


def table() -> str:
    """Return a row for each mistake that a published package or paper has."""
    seen = [bug for bug in BUGS if bug.seen_in]
    lines = ["| mistake | the numbers are those of … | seen in |", "|---|---|---|"]
    for name in dict.fromkeys(bug.name for bug in seen):
        same = [bug for bug in seen if bug.name == name]
        where = dict.fromkeys(place for bug in same for place in bug.seen_in)
        what = same[0].description.replace("|", "\\|")
        lines.append(f"| `{name}` | {what} | {', '.join(where)} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the text of the page with the table."""
    return text[: text.index(BEGIN)] + BEGIN + table()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
