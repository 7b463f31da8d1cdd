"""Pages: links have targets, the table of PyTorch's names is the one of the errors, and words."""

import re
from pathlib import Path

import pytest

from numpy_xlstm.torch_habits import SENTENCES

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")
INSTEAD = {
    r"guests?": "custom cells",
    r"strangers?": "unmatched files",
    r"whoever": "a noun",
    r"as ours": "C-order, little-endian",
    r"of above": "above",
    r"stands? beside": "is next to",
    r"by heart": "overfit",
    r"in one piece": "whole",
    r"what is (it|this)": "a noun",
}
"""Words that the project does not use, and the standard term or a plainer form."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    missing = [m[1] for m in LINK.finditer(text) if not (page.parent / m[1]).exists()]
    assert missing == []


def test_the_page_for_users_of_pytorch_lists_every_sentence() -> None:
    page = (ROOT / "docs" / "coming-from-pytorch.md").read_text("utf-8")
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE)) == SENTENCES


PARTS = "from-lstm-to-mlstm", "exponential-gates", "revising", "matrix-memory", "cells-as-code"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_long_page_fits_a_sitting_and_has_two_solutions_that_run(part: str) -> None:
    text = (ROOT / "docs" / f"{part}.md").read_text("utf-8")
    assert len(text.split()) <= 2000
    solutions = re.findall(r"^<details>\n<summary>Solution.*?^</details>$", text, re.M | re.S)
    assert len(solutions) == 2
    assert all("```python\n>>> " in solution for solution in solutions)


def test_the_terms_are_those_of_the_field() -> None:
    texts = [*PAGES, *ROOT.glob("numpy_xlstm/**/*.py")]
    assert len(PAGES) > 30
    assert len(texts) > 150
    unwanted = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}, where {term} would do"
        for path in texts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for word, term in INSTEAD.items()
        if (match := re.search(rf"\b{word}\b", line, re.IGNORECASE))
    ]
    assert not unwanted, "\n".join(unwanted)
