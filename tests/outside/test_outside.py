"""Implementations by others do what the page says, also in newer versions."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.implementations import page
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.outcomes import outcome, row
from tests.outside.shared import installed

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
ADAPTERS = [import_module(f"tests.outside.{name}") for name in NAMES if name != "test_outside"]
ALL: list[Implementation] = [each for m in ADAPTERS for each in getattr(m, "IMPLEMENTATIONS", [])]
PAGE = page.PAGE.read_text("utf-8")


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.package}-{each.name}-{each.subject}")
def test_the_kit_says_what_the_table_says(each: Implementation) -> None:
    if missing := [name for name in each.requires.split() if not installed(name)]:
        pytest.skip(f"needs {' '.join(missing)}: python -m tests.outside {each.package}")
    found = outcome(each, seeds=range(1))
    told = {known.cells: known for known in page.rows(PAGE) if known.package == each.package}
    assert row(found) in told, str(found)
    if any(v.results is None for v in found.failed):
        assert "raises" in told[row(found)].differs, str(found)
