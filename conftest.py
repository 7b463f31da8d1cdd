"""The examples in README, docs and docstrings are tests: they run and print what they say."""

import os
from doctest import ELLIPSIS

import pytest
from sybil import Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

# Tests run in several processes. If each has threads of its own for its small matrix products, they
# take the cores from each other. This must be set before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

pytest_collect_file = (
    Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)], patterns=["*.md"])
    + Sybil(parsers=[DocTestParser(optionflags=ELLIPSIS)], patterns=["*.py"], path="numpy_xlstm")
).pytest()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the examples of a page or docstring in one process: they build on each other."""
    for item in items:
        if isinstance(item, SybilItem):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
