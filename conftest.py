"""The examples in README and docs, and in docstrings, are tests: they run and print what they say."""

from doctest import ELLIPSIS

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

pytest_collect_file = (
    Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)], patterns=["*.md"])
    + Sybil(parsers=[DocTestParser(optionflags=ELLIPSIS)], patterns=["*.py"], path="numpy_xlstm")
).pytest()
