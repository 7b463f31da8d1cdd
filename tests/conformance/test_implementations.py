"""Other implementations in the kit: their outcomes are in the table of the docs."""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from numpy_xlstm import conformance
from numpy_xlstm.conformance import Case
from tests.conformance.implementations import page
from tests.conformance.implementations.offers import Implementation
from tests.conformance.implementations.outcomes import ALL, SEEDS, outcome, row
from tests.outside.test_outside import ALL as OUTSIDE

# Kernels are compiled at first use, through deprecated functions of PyTorch.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:onnx"),
]
PAGE = page.PAGE.read_text("utf-8")
ROWS = page.rows(PAGE)
VERSIONS = {each.package: each.version for each in ROWS}
REFUSED = {"no step", "keys unlike values"}
"""Features without which an implementation raises an error."""


def test_every_implementation_has_a_row() -> None:
    every = [(each.package, f"| {each.name}", each.subject) for each in [*ALL, *OUTSIDE]]
    assert sorted(each.function for each in ROWS) == sorted(every)


def test_the_page_has_the_sums() -> None:
    assert page.table(ROWS) in PAGE
    assert page.right(ROWS) in PAGE
    counts = [sum(column) for column in zip(*(each.counts for each in ROWS), strict=True)]
    functions, passed, failed, _ = counts
    packages = len({each.package for each in ROWS})
    assert f"run on {functions} functions of {packages} packages" in PAGE
    assert f": {passed} cases passed and {failed} failed." in PAGE


@pytest.mark.parametrize("path", ["README.md", "docs/index.md"])
def test_the_numbers_are_those_of_the_page(path: str) -> None:
    text = (page.PAGE.parents[1] / path).read_text("utf-8")
    found = re.findall(
        r"(\d+) packages by other authors\]\(.+?\), (\d+) functions, and found (\d+) errors; "
        r"their code showed (\d+) more",
        text,
    )
    errors = {*re.findall(r"^- \*\*\((\d+)\)", PAGE.partition("## Choices")[0], re.M)}
    shown = errors & {number for each in ROWS for number in re.findall(r"\((\d+)\)", each.differs)}
    counts = [f"{len(shown)}", f"{len(errors - shown)}"]
    assert found == [(f"{len(VERSIONS)}", f"{len(ROWS)}", *counts)]
    others = [f"({number})" for number in sorted(errors - shown, key=int)]
    assert f"{', '.join(others[:-1])} and {others[-1]} by reading" in PAGE


def test_every_difference_of_the_table_is_explained() -> None:
    named = {number for each in ROWS for number in re.findall(r"\((\d+)\)", each.differs)}
    explained = re.findall(r"^- \*\*\((\d+)\)", PAGE, re.M)
    assert explained == [str(n) for n in range(1, len(explained) + 1)]
    assert named <= {*explained}
    assert all(bool(re.search(r"\(\d+\)", each.differs)) == (each.counts[2] > 0) for each in ROWS)


def test_what_an_implementation_raises_is_a_failure() -> None:
    def port(case: Case) -> Mapping[str, Any]:
        raise ValueError("of its own")

    found = outcome(Implementation("none", "raises", "lstm.sequence", port, ("lengths",)))
    assert (len(found.passed), len(found.failed), found.missing["lengths"]) == (0, 8, 1)
    assert "ValueError: of its own" in str(found)


@pytest.mark.parametrize(
    "each",
    [each for each in ALL if REFUSED & {*each.lacks}],
    ids=lambda each: f"{each.package}-{each.name}-{each.subject}",
)
def test_what_is_said_to_be_refused_is(each: Implementation) -> None:
    pytest.importorskip(each.package, reason=f"{each.package} (the extra 'peers') is not installed")
    refused = [
        case
        for case in conformance.cases(each.subject, each.dtype)
        if each.missing(case) in REFUSED
    ]
    assert refused or each.subject.endswith(".stack")
    for case in refused:
        with pytest.raises((RuntimeError, ValueError, IndexError, ZeroDivisionError)):
            each.port(each.case(case))


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.package}-{each.name}-{each.subject}")
def test_the_kit_says_what_the_table_says(each: Implementation, trials: int) -> None:
    """With three seeds if some cases fail, which with one may pass; or with a seed a trial."""
    try:
        installed = version(each.package).partition("+")[0]
    except PackageNotFoundError:
        pytest.skip(f"{each.package} (the extra 'peers') is not installed")
    if installed != VERSIONS[each.package]:
        pytest.skip(f"the table is of {each.package} {VERSIONS[each.package]}, not {installed}")
    function = each.package, f"| {each.name}", each.subject
    (told,) = [known for known in ROWS if known.function == function]
    found = outcome(each, SEEDS if told.counts[2] else SEEDS[:trials])
    assert row(found) == told.cells, str(found)
