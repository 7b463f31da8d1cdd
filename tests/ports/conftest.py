"""A correct port is checked with a seed for each trial; ``--long`` adds a second one."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise tests with ``seed_of_cases``."""
    if "seed_of_cases" in metafunc.fixturenames:
        trials = metafunc.config.getoption("--trials")
        second = pytest.param(1, marks=pytest.mark.long if trials == 1 else ())
        metafunc.parametrize("seed_of_cases", [0, second, *range(2, trials)])
