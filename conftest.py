"""The examples in README, docs and docstrings are tests: they run and print what they say."""

import os
import subprocess
import sys
from doctest import ELLIPSIS
from importlib.util import find_spec
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

# Tests run in several processes. If each has threads of its own for its small matrix products, they
# take the cores from each other. This must be set before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _name_what_pages_ask(namespace: dict[str, Any]) -> None:
    """``installed("onnx")``: a page skips what needs an absent package."""
    namespace["installed"] = lambda name: find_spec(name) is not None


pytest_collect_file = (
    Sybil(
        parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), SkipParser()],
        patterns=["*.md"],
        setup=_name_what_pages_ask,
    )
    + Sybil(parsers=[DocTestParser(optionflags=ELLIPSIS)], patterns=["*.py"], path="numpy_xlstm")
).pytest()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What takes too long for every run."""
    parser.addoption(
        "--rest",
        action="store_true",
        help="run only what has not passed since the last run without it",
    )
    parser.addoption(
        "--trials",
        metavar="N",
        type=int,
        default=0,
        help="also run the tests marked as long, and check N times as many cases of a sample",
    )


FIRST = (
    "tests/docs/test_commands_as_printed.py",
    "tests/site/test_pages.py",
    "tests/experiments/test_learning.py",
    "tests/conformance/",
)
"""Files that take longest: if one began last, the other core would wait for it. Tests of the kit
need few kernels, which are compiled meanwhile."""

PASSED = "numpy_xlstm/passed"
"""Key of the tests that passed, in pytest's cache."""

COMPILE = """
import os
import numpy as np
from numpy_xlstm import gradcheck, kernels
from numpy_xlstm.conformance import suite
subjects = {name.split("/")[0]: case for name, case in reversed(suite.cases().items())}
parent = os.getppid()
for dtype in (np.float64, np.float32) if kernels.compiled() else ():
    for case in subjects.values():
        if os.getppid() != parent:  # pytest was killed
            break
        target, arguments = case(np.random.default_rng(0), dtype)
        gradcheck(target, *arguments, max_entries=0, directions=1)
"""


def pytest_configure(config: pytest.Config) -> None:
    """Compile next to the workers of ``-n``; two that need the same kernel would leave a core."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        command, nowhere = [sys.executable, "-c", COMPILE], subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)

        def stop() -> None:
            process.kill()
            process.wait()

        config.add_cleanup(stop)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what passed before with ``--rest``, and skip long tests without ``--trials``."""
    items.sort(key=lambda item: [not item.nodeid.startswith(start) for start in FIRST])
    if config.getoption("--rest"):
        if not hasattr(config, "cache"):
            raise pytest.UsageError("--rest needs pytest's cache")
        passed = config.cache.get(PASSED, [])
        rest = {_test(nodeid) for nodeid in {item.nodeid for item in items}.difference(passed)}
        items[:] = [item for item in items if _test(item.nodeid) in rest]
    if not config.getoption("--trials"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes long: needs --trials 1"))


def _test(nodeid: str) -> str:
    """Return the file of an example, which needs those before it; a test is itself."""
    return nodeid.partition("::line:")[0]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Store what passed; with ``--rest``, in addition to what passed before."""
    if hasattr(config, "cache") and not config.option.collectonly:
        passed = {report.nodeid for report in terminalreporter.stats.get("passed", [])}
        before = config.cache.get(PASSED, []) if config.getoption("--rest") else []
        config.cache.set(PASSED, sorted(passed.union(before)))
