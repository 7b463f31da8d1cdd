"""The table of the page is the one that errors read."""

import re
from pathlib import Path

from numpy_xlstm.torch_habits import SENTENCES

PAGE = Path(__file__).parents[2] / "docs" / "coming-from-pytorch.md"


def test_the_page_lists_every_sentence() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert dict(rows) == SENTENCES
