"""Packages that some tests need and others do not."""

from typing import Any

import pytest


@pytest.fixture(scope="module")
def transformers() -> Any:
    found = pytest.importorskip(
        "transformers", reason="transformers (the extra 'peers') is not installed"
    )
    found.logging.set_verbosity_error()
    found.logging.disable_progress_bar()
    return found
