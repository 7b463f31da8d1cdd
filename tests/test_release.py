"""The files of a release name the same version and date."""

import re
from pathlib import Path

from numpy_xlstm import __version__

ROOT = Path(__file__).parents[1]


def test_changelog_and_citation_are_of_this_version() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    version, date = re.findall(r"^## (\S+) — (\d{4}-\d\d-\d\d)$", changes, re.MULTILINE)[0]
    assert version == __version__
    assert f"\nversion: {version}\ndate-released: {date}\n" in citation
