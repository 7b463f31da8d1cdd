"""Sphinx: ``python -m sphinx -W docs docs/_build``."""

import sys
from pathlib import Path

from numpy_xlstm import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "numpy-xlstm"
copyright = "2026, the numpy-xlstm authors"
version = release = __version__
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "notebooks"]
myst_enable_extensions = ["dollarmath", "amsmath"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
autodoc_typehints = "none"
numpydoc_show_class_members = False
nitpicky = False
