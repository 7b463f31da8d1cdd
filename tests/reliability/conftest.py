"""The mark of these tests, and how much they have tried."""

from collections import Counter
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.reliability)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the counts from ``record_property``."""
    tried: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, number in report.user_properties:
            if isinstance(number, int):
                tried[name] += number
    if tried:
        terminalreporter.section("tried")
        for name, number in sorted(tried.items()):
            terminalreporter.write_line(f"{number:8,d}  {name}")
