from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.training import constant, warmup_cosine


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            warmup_cosine(warmup=0.25, final=0.2),
            {0: 0, 0.125: 0.5, 0.25: 1, 0.5: 0.8, 0.625: 0.6, 1: 0.2, 1.5: 0.2},
        ),
        (warmup_cosine(warmup=0.0), {0: 1}),
        (warmup_cosine(warmup=0.0, final=1.0), {0.7: 1}),
        (constant, {0.3: 1}),
    ],
)
def test_by_hand(schedule: Any, expected: dict[float, float]) -> None:
    for progress, factor in expected.items():
        assert schedule(progress) == pytest.approx(factor, abs=1e-15)


@given(st.floats(0, 0.99), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_it_rises_and_then_falls(warmup: float, final: float, p: float, q: float) -> None:
    schedule = warmup_cosine(warmup, final)
    p, q = min(p, q), max(p, q)
    if q < warmup:
        assert 0 <= schedule(p) <= schedule(q) <= 1
    if p >= warmup:
        assert 1 + 1e-15 >= schedule(p) >= schedule(q) >= final - 1e-15
