"""How many seeds a right port is checked over."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test with a ``seed_of_cases``."""
    if "seed_of_cases" in metafunc.fixturenames:
        metafunc.parametrize("seed_of_cases", range(metafunc.config.getoption("--seeds")))
