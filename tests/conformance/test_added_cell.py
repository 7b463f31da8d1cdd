"""A cell is added to gradcheck and to the kit by one entry of the catalogue, as the docs say."""

import numpy as np
import pytest

from numpy_xlstm import LSTMCell, conformance, gradcheck
from numpy_xlstm.cli.gradcheck import QUICK
from numpy_xlstm.conformance import suite
from numpy_xlstm.conformance.catalogue import GATED, PLAIN, Family, subjects_of


class ToyCell(LSTMCell):
    """A cell that the package does not know."""


def test_one_entry_of_the_catalogue_adds_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(ToyCell, {"": PLAIN}, {**GATED, **ToyCell.tensor_axes})
    for subject in subjects_of("toy", family):
        monkeypatch.setitem(conformance.SUBJECTS, subject.name, subject)
    names = suite.select(["toy"], suite.cases())
    forms = {"toy.step", "toy.sequence", "toy.stack"}
    assert {*names} == forms | {"toy.sequence/lengths", "toy.stack/lengths"}
    for name in names:
        target, arguments = suite.cases()[name](np.random.default_rng(0), np.float64)
        assert gradcheck(target, *arguments, rng=0, **QUICK).passed, name
    cases = conformance.cases("toy", "float64")
    assert {case.subject.name for case in cases} == forms
    for case in {case.subject.name: case for case in cases if not case.flags}.values():
        case.check(case.results())
        rows = conformance.compare(case, {**case.results(), "y": case.expected["y"] + 1})
        assert [row.tensor for row in rows if not row.passed] == ["y"]
