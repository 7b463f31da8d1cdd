"""The notebooks of the tutorials have the code of their pages, in the same order."""

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

nbformat = pytest.importorskip("nbformat", reason="needs the extra docs")

from notebooks import is_tutorial, to_notebook  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
PARSER = PythonCodeBlockParser()
TUTORIALS = [page for page in sorted(DOCS.rglob("*.md")) if is_tutorial(page.read_text("utf-8"))]


def test_there_are_tutorials() -> None:
    expected = {"from-lstm-to-mlstm", "inside-a-cell", "add-a-cell", "gradcheck"}
    assert expected <= {page.stem for page in TUTORIALS}


def code_of(page: Path) -> list[str]:
    """Return the code of a valid notebook."""
    notebook = to_notebook(page)
    nbformat.validate(notebook)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def lines(sources: Iterable[str]) -> list[str]:
    """Return the statements, without the lines around an expected exception."""
    around = {"", "try:", "except Exception as error:", "print(error)"}
    stripped = (line.strip() for source in sources for line in source.splitlines())
    return [line for line in stripped if line not in around]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_notebook_is_valid_and_has_the_examples_of_its_page(page: Path) -> None:
    """The examples of a page run as tests of their own: see ``conftest.py``."""
    code = code_of(page)
    assert len(code) >= 3
    for source in code:
        compile(source, page.stem, "exec")
    examples = [example.parsed for example in Document.parse(str(page), PARSER).examples()]
    assert lines(code) == lines(getattr(each, "source", str(each)) for each in examples)


def test_a_notebook_runs() -> None:
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in code_of(DOCS / "inside-a-cell.md"):
            exec(source, names)


def test_pictures_are_inside_and_directives_are_not() -> None:
    cells = to_notebook(DOCS / "from-lstm-to-mlstm.md").cells
    text = "\n".join(cell.source for cell in cells)
    assert "literalinclude" not in text
    assert ">>>" not in text
    assert ":::" not in text
    assert ":gutter:" not in text
    assert "details>" not in text
    assert text.count("**Solution**") == 2
    assert any("lstm-cell.svg" in cell.get("attachments", {}) for cell in cells)
