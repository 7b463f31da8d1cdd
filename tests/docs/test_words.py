"""Words that the project does not use: each has a standard term or a plainer form."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
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


def test_the_terms_are_those_of_the_field() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("numpy_xlstm/**/*.py")]
    assert len(texts) > 150
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}, where {term} would do"
        for path in texts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for word, term in INSTEAD.items()
        if (match := re.search(rf"\b{word}\b", line, re.IGNORECASE))
    ]
    assert not found, "\n".join(found)
