"""Every public object has a page with parameters, results and errors of its own.

The docstring is the source of the page. It has parameters with shapes, results, an example that
runs (see ``conftest.py``), and the errors that ``docs/api/errors.md`` does not describe for all.
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import numpy_xlstm
from numpy_xlstm import errors

numpydoc = pytest.importorskip("numpydoc.docscrape", reason="needs the docs extra")

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/api").glob("*.md"))
ENTRY = re.compile(r"^   ([\w.]+)$", flags=re.M)
LISTED = [name for page in PAGES for name in ENTRY.findall(page.read_text("utf-8"))]
ERRORS = ROOT / "docs/api/errors.md"
COMMON = set(re.findall(r"^### (\w+)$", ERRORS.read_text("utf-8"), flags=re.M))
"""Errors of the common checks, which are described on their page."""
OWN = {name for name, error in vars(errors).items() if isinstance(error, type)} - COMMON


def _public(name: str) -> Any:
    module, _, last = f"numpy_xlstm.{name}".rpartition(".")
    return getattr(importlib.import_module(module), last)


def _names(section: list[Any]) -> set[str]:
    return {name.strip("* ") for entry in section for name in entry.name.split(",")}


def missing(thing: Any) -> list[str]:
    """Return the missing parts of the docstring of a public object."""
    doc = numpydoc.get_doc_object(thing)
    found = [] if doc["Summary"] and doc["Summary"][0] else ["summary"]
    found += [] if _has_example(thing) else ["example"]
    raises = _words(doc["Raises"])
    found += [f"error {name}" for name in sorted(raised(thing) & OWN) if name not in raises]
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


def _has_example(thing: Any) -> bool:
    """Return whether there is an example; that of a backward may be the one of its forward."""
    name, module = thing.__name__, sys.modules[inspect.unwrap(thing).__module__]
    forward = getattr(module, name.removesuffix("_backward"), thing)
    texts = ["\n".join(numpydoc.get_doc_object(f)["Examples"]) for f in (thing, forward)]
    return ">>>" in texts[0] or f"{name}(" in texts[1]


def _words(section: list[Any]) -> set[str]:
    return set(re.findall(r"\w+", " ".join(f"{entry.name} {entry.type}" for entry in section)))


def raised(thing: Any) -> set[str]:
    """Return the names of errors that a function or class, or a function it calls, raises."""
    own = _code(thing)
    return {name for code in [own, *map(_code, _called(thing, own))] for name in _errors(code)}


def _code(thing: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing))))


def _called(thing: Any, code: ast.AST) -> Iterator[Callable[..., Any]]:
    """Yield the functions of the package that ``code``, the source of ``thing``, names."""
    names = vars(sys.modules[inspect.unwrap(thing).__module__])
    for node in ast.walk(code):
        value = names.get(node.id) if isinstance(node, ast.Name) else None
        if inspect.isfunction(value) and value.__module__.startswith("numpy_xlstm"):
            yield value


def _errors(code: ast.AST) -> Iterator[str]:
    for node in ast.walk(code):
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            yield ast.unparse(error).rpartition(".")[2]


def _has_shape(description: list[str]) -> bool:
    """Return whether a text gives a shape, such as (B, T), or refers to another one."""
    given = r"\([^()]*,[^()]*\)|\([A-Z]\)|[Ss]hape|[Aa]s in"
    return re.search(given, " ".join(description)) is not None


def test_every_public_name_has_a_page_and_none_has_two() -> None:
    assert {name for name in numpy_xlstm.__all__ if name != "__version__"} <= set(LISTED)
    assert len(set(LISTED)) == len(LISTED) > 90


@pytest.mark.parametrize("name", LISTED)
def test_its_page_says_everything_and_its_source_is_here(name: str) -> None:
    assert missing(_public(name)) == []
    source = inspect.getsourcefile(inspect.unwrap(_public(name)))
    assert source is not None
    assert Path(source).is_relative_to(Path(numpy_xlstm.__file__).parent)
