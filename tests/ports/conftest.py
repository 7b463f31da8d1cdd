"""Number of seeds with which a correct port is checked."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise tests with ``seed_of_cases``."""
    if "seed_of_cases" in metafunc.fixturenames:
        metafunc.parametrize("seed_of_cases", range(metafunc.config.getoption("--seeds")))
