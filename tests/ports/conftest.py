"""A correct port is checked with one seed; with ``--trials N`` with two, or N."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise tests with ``seed_of_cases``."""
    if "seed_of_cases" in metafunc.fixturenames:
        trials = metafunc.config.getoption("--trials")
        second = pytest.param(1, marks=pytest.mark.long)
        metafunc.parametrize("seed_of_cases", [0, second, *range(2, trials)])
