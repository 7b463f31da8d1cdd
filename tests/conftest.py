"""Settings of all tests: hypothesis profiles, and how large samples are."""

import pytest
from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# A run of all tests takes few examples, the same ones every time; the thorough profile looks for
# new ones.
settings.register_profile("few", max_examples=20, derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("thorough", max_examples=2000, **_COMMON)  # type: ignore[arg-type]
settings.load_profile("few")


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> int:
    """Return how many times as much as by default a test tries that takes a sample."""
    return int(request.config.getoption("--trials") or 1)
