"""What others wrote, run on the kit: the table of the docs is what comes out."""

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.outcomes import ALL, outcome, row

# Kernels are compiled when first used, with what their PyTorch calls outdated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx"),
]
PAGE = (Path(__file__).parents[2] / "docs/where-implementations-disagree.md").read_text("utf-8")
ROWS = re.findall(r"^(\| \w+: .+? \| [\w.-]+ \| \d+ \| \d+ \| \d+ \|) *(.*?) *\|$", PAGE, re.M)
VERSIONS = dict(re.findall(r"(\w+) (\d+\.\d+\.\d+)", PAGE.split("Versions:")[1].split("\n")[0]))


def test_every_implementation_has_a_row() -> None:
    rows = [found.split(" | ")[:2] for found, _ in ROWS]
    assert rows == [[f"| {each.package}: {each.name}", each.subject] for each in ALL]
    assert len(ROWS) > 25


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.package}-{each.name}-{each.subject}")
def test_the_kit_says_what_the_table_says(each: Implementation) -> None:
    try:
        installed = version(each.package).partition("+")[0]
    except PackageNotFoundError:
        pytest.skip(f"{each.package} (the extra 'peers') is not installed")
    if installed != VERSIONS[each.package]:
        pytest.skip(f"the table is of {each.package} {VERSIONS[each.package]}, not {installed}")
    found = outcome(each)
    told = dict(ROWS)
    assert row(found) in told, str(found)
    assert bool(found.failed) == bool(told[row(found)])
