"""Numbers of examples that follow the profile of hypothesis."""

from hypothesis import settings


def times(factor: float) -> settings:
    """Return settings with this many times the examples of the profile."""
    return settings(max_examples=max(1, round(factor * settings().max_examples)))
