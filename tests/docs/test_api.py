"""Every public object has a page with parameters, results and errors.

The docstring is the source of the page. It has parameters with shapes, results, errors, and an
example that runs (see ``conftest.py``).
"""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import numpy_xlstm
from numpy_xlstm.numerics import Array

numpydoc = pytest.importorskip("numpydoc.docscrape", reason="needs the docs extra")

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/api").glob("*.md"))
ENTRY = re.compile(r"^   ([\w.]+)$", flags=re.M)
LISTED = [name for page in PAGES for name in ENTRY.findall(page.read_text("utf-8"))]


def _public(name: str) -> Any:
    module, _, last = f"numpy_xlstm.{name}".rpartition(".")
    return getattr(importlib.import_module(module), last)


def _is_record(thing: Any) -> bool:
    """Return whether a class is a state or a result, whose fields are not validated."""
    settings = getattr(thing, "__dataclass_params__", None)
    frozen = settings is not None and settings.frozen
    return isinstance(thing, type) and (issubclass(thing, tuple) or frozen)


def _names(section: list[Any]) -> set[str]:
    return {name.strip("* ") for entry in section for name in entry.name.split(",")}


def missing(thing: Any) -> list[str]:
    """Return the missing parts of the docstring of a public object."""
    doc = numpydoc.get_doc_object(thing)
    found = [] if doc["Summary"] and doc["Summary"][0] else ["summary"]
    found += [] if any(line.startswith(">>>") for line in doc["Examples"]) else ["example"]
    found += [] if doc["Raises"] or _is_record(thing) else ["errors"]
    described = doc["Parameters"] + doc["Attributes"]
    signature = inspect.signature(thing)
    found += [name for name in signature.parameters if name not in _names(described)]
    found += [
        f"shape of {entry.name}"
        for entry in described + doc["Returns"]
        if re.search("ndarray|Array|^array", entry.type) and not _has_shape(entry.desc)
    ]
    returns = signature.return_annotation not in (None, "None") and not isinstance(thing, type)
    return found + (["results"] if returns and not doc["Returns"] + doc["Yields"] else [])


def _has_shape(description: list[str]) -> bool:
    """Return whether a text gives a shape, such as (B, T), or refers to another one."""
    given = r"\([^()]*,[^()]*\)|\([A-Z]\)|[Ss]hape|[Aa]s in"
    return re.search(given, " ".join(description)) is not None


def test_every_public_name_has_a_page_and_none_has_two() -> None:
    assert {name for name in numpy_xlstm.__all__ if name != "__version__"} <= set(LISTED)
    assert len(set(LISTED)) == len(LISTED) > 90


@pytest.mark.parametrize("name", LISTED)
def test_its_page_says_everything(name: str) -> None:
    assert missing(_public(name)) == []


@pytest.mark.parametrize("name", LISTED)
def test_its_source_is_here(name: str) -> None:
    source = inspect.getsourcefile(inspect.unwrap(_public(name)))
    assert source is not None
    assert Path(source).is_relative_to(Path(numpy_xlstm.__file__).parent)


def test_what_is_left_out_is_found() -> None:
    def forward(x: Array, eps: float) -> None:
        """Do something.

        Parameters
        ----------
        x : np.ndarray
            Numbers.
        """

    assert missing(forward) == ["example", "errors", "eps", "shape of x"]
    forward.__doc__ = ""
    assert missing(forward) == ["summary", "example", "errors", "x", "eps"]
