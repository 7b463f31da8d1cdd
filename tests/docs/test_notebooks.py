"""The notebooks of the tutorials run from top to bottom."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra docs")

from notebooks import is_tutorial, to_notebook  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
PEERS = {"torch", "jax", "cc"}  # optional dependencies of tutorials
TUTORIALS = [page for page in sorted(DOCS.rglob("*.md")) if is_tutorial(page.read_text("utf-8"))]


def test_there_are_tutorials() -> None:
    expected = {"from-lstm-to-mlstm", "inside-a-cell", "add-a-cell", "check-your-layer"}
    assert expected <= {page.stem for page in TUTORIALS}


def code_of(page: Path) -> list[str]:
    """Return the code of a valid notebook."""
    notebook = to_notebook(page)
    nbformat.validate(notebook)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_notebook_is_valid_and_can_be_compiled(page: Path) -> None:
    code = code_of(page)
    assert len(code) >= 3
    for source in code:
        compile(source, page.stem, "exec")


@pytest.mark.long
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_notebook_runs(page: Path) -> None:
    """The examples of its page run without ``--long`` too."""
    names: dict[str, Any] = {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for number, source in enumerate(code_of(page)):
                exec(compile(source, f"{page.stem}[{number}]", "exec"), names)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else error.filename
        if missing not in PEERS:
            raise
        pytest.skip(f"{missing} is not installed")


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
