"""Settings of all tests: hypothesis profiles and isolation of tests."""

from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# The fast profile takes the same examples every time, and so does the one with few, for runs as
# other processors; the thorough one looks for new ones.
settings.register_profile("fast", max_examples=200, derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("few", max_examples=20, derandomize=True, **_COMMON)  # type: ignore[arg-type]
settings.register_profile("thorough", max_examples=2000, **_COMMON)  # type: ignore[arg-type]
settings.load_profile("fast")
