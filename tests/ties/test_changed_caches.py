"""Residuals are not replaced: a compiled loop of a public function stays within its arrays."""

import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from numpy_xlstm.errors import CacheError, ShapeError
from tests.ties.test_padding import subjects

SUBJECTS = subjects(np.float64)
NAMES = [n for n in SUBJECTS if re.fullmatch("lstm|slstm sigmoid|mlstm .* sigmoid .*", n)]
"""Public functions. No residual depends on the kind of the forget gate."""


@pytest.mark.parametrize("name", NAMES)
def test_residuals_are_not_replaced(name: str) -> None:
    subject = SUBJECTS[name]
    y, _, cache = subject.forward(*map(np.ones, subject.shapes))
    with pytest.raises(FrozenInstanceError):
        cache.kept = cache.kept
    for other in (cache.kept, (cache.cell, cache.kept)):
        with pytest.raises(CacheError, match="expected the FunctionCache that this forward has"):
            subject.backward(y, other)


@pytest.mark.parametrize(("width", "rows"), [(16, 12), (16, 20), (12, 16)])
def test_a_kernel_refuses_matrices_for_another_number_of_gates(width: int, rows: int) -> None:
    """Its loop would add R h outside of the gates."""
    from numpy_xlstm.kernels.lstm import forward

    state = (np.zeros((2, 4)),) * 2
    expected = r"W, b: expected 4·H rows; R: expected shape \(NH, 4·DH, DH\)"
    with pytest.raises(ShapeError, match=rf"{expected}.* {width} rows and \(1, {rows}, 4\)"):
        forward(np.zeros((2, 5, width)), {"R": np.zeros((1, rows, 4))}, state, None)
