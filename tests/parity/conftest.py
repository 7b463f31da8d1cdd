"""Packages that some tests need and others do not."""

from typing import Any

import pytest

IGNORED = (
    "ignore:.*torch.jit.script_method:DeprecationWarning",
    "ignore::FutureWarning:transformers",
)
"""Warnings of other packages: their kernels are compiled at first use, by deprecated functions."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "parity" in item.path.parts:
            for warning in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="module")
def transformers() -> Any:
    found = pytest.importorskip(
        "transformers", reason="transformers (the extra 'peers') is not installed"
    )
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found
