"""Why a port is wrong: known mistakes that give its numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy_xlstm.conformance.case import Case


def diagnose(failed: Sequence[tuple["Case", Mapping[str, Any]]]) -> list[str]:
    """What is known of cases that a port failed, each with its results, as lines of text."""
    return []
