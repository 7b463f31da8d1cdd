"""Correct layers pass by every method, for random shapes."""

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from tests.variants import VARIANTS, Sizes, make

SHAPES, PARTS = 24, 4
"""How many shapes there are in a trial, and in how many parts."""


@pytest.mark.parametrize("part", range(PARTS))
def test_random_shapes(part: int, trials: int) -> None:
    for seed in range(part, SHAPES * trials, PARTS):
        rng = np.random.default_rng([2024, seed])
        B, T, D, NH, DH, DK = (int(n) for n in rng.integers((1, 0, 1, 1, 1, 1), (5, 9, 6, 4, 4, 4)))
        s = Sizes(B, T, D, NH, DH, DK, bool(rng.integers(2)), float(rng.choice([0, 1e-6])), seed)
        variant = VARIANTS[seed % len(VARIANTS)]
        case = make(variant, s, step=bool(rng.integers(2)))
        report = gradcheck(case.layer, *case.inputs, rng=seed, max_entries=8, directions=3)
        assert not report.failures, f"{variant} {s}\n{report}"
