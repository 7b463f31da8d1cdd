"""Implementations by others fail where the page says, and nowhere else: what is mended is noticed."""

from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.implementations.outcomes import outcome
from tests.outside.shared import Outside, why_not

pytestmark = pytest.mark.filterwarnings("ignore")
NOT_ADAPTERS = {"__init__", "__main__", "page", "shared", "test_outside"}
MODULES = {
    path.stem: import_module(f"tests.outside.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if path.stem not in NOT_ADAPTERS
}
ALL: list[Outside] = [each for module in MODULES.values() for each in module.IMPLEMENTATIONS]
REQUIRES = {m.IMPLEMENTATIONS[0].package: m.REQUIRES.split()[0] for m in MODULES.values()}


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.package}-{each.name}-{each.subject}")
def test_it_fails_where_the_page_says_and_nowhere_else(each: Outside) -> None:
    if reason := why_not(REQUIRES[each.package]):
        pytest.skip(reason)
    found = outcome(each, seeds=range(1))
    assert not [v.case.id for v in found.failed if not each.fails(v.case)], str(found)
    mended = [v.case.id for v in found.passed if each.fails(v.case)]
    assert not mended, f"{each.package} was mended: remove {dict(each.differs)}, also on the page"
