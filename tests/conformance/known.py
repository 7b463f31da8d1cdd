"""Write the table of known mistakes into its page: ``python -m tests.conformance.known``."""

from pathlib import Path

from numpy_xlstm.conformance.bugs import FILES, Bug
from numpy_xlstm.conformance.bugs.texts import CONVENTIONS, TITLES

PAGE = Path(__file__).parents[2] / "docs" / "conformance-bugs.md"
BEGIN = "<!-- the tables are written by tests/conformance/known.py -->\n\n"


def tables() -> str:
    """All tables, with their titles."""
    parts = []
    for name, bugs in FILES.items():
        lines = [f"## {TITLES[name]}", "", "| mistake | the numbers are those of … | seen in |"]
        lines += ["|---|---|---|", *rows(bugs)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def rows(bugs: list[Bug]) -> list[str]:
    """Return a row for each mistake, with one row for all gate orders without a convention."""
    found, orders = [], 0
    for name in dict.fromkeys(bug.name for bug in bugs):
        same = [bug for bug in bugs if bug.name == name]
        order = name.removeprefix("gates-in-order-")
        if len(order) == 4 and order not in CONVENTIONS:
            orders += 1
            continue
        seen = dict.fromkeys(where for bug in same for where in bug.seen_in)
        what = same[0].description.replace("|", "\\|")
        found.append(f"| `{name}` | {what} | {', '.join(seen)} |")
    if orders:
        found.append(f"| `gates-in-order-…` | the same in any of the {orders} other orders | |")
    return found


def page(text: str) -> str:
    """The page, with the tables as they are now."""
    return text[: text.index(BEGIN)] + BEGIN + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
