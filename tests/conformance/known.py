"""Write the table of known mistakes into its page: ``python -m tests.conformance.known``."""

from pathlib import Path

from numpy_xlstm.conformance.bugs import FILES, Bug, read

PAGE = Path(__file__).parents[2] / "docs" / "conformance-bugs.md"
TITLES = {
    "gated": "Gates, LSTM, peepholes, projection",
    "gru": "GRU and Elman",
    "slstm": "sLSTM",
    "mlstm": "mLSTM",
    "chunkwise": "The chunkwise form of mLSTM",
    "sequence": "Sequences and stacks",
    "layers": "Layers, blocks and models",
}
"""Titles of the files."""
BEGIN = "<!-- the tables are written by tests/conformance/known.py -->\n\n"


def tables() -> str:
    parts = []
    for name in FILES:
        lines = [f"## {TITLES[name]}", "", "| mistake | the numbers are those of … | seen in |"]
        lines += ["|---|---|---|", *rows([*read(name)])]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def rows(bugs: list[Bug]) -> list[str]:
    table = []
    for name in dict.fromkeys(bug.name for bug in bugs):
        same = [bug for bug in bugs if bug.name == name]
        seen = dict.fromkeys(where for bug in same for where in bug.seen_in)
        what = same[0].description.replace("|", "\\|")
        table.append(f"| `{name}` | {what} | {', '.join(seen)} |")
    return table


def page(text: str) -> str:
    return text[: text.index(BEGIN)] + BEGIN + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
