"""Conversion of tutorials to notebooks, with executable cells and embedded figures.

A page that starts with the line ``(download-notebook)=`` is converted. The build writes the
notebook next to the page, and adds a link below the title of the page.
"""

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

MARK = "(download-notebook)="
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$\n?", flags=re.M | re.S)
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.svg)\)")
INCLUDED = re.compile(r":pyobject: (\S+)")


def is_tutorial(text: str) -> bool:
    """Return whether a page is converted to a notebook."""
    return text.startswith(MARK)


def to_notebook(page: Path) -> Any:
    """Return the notebook of a page, with prose and code in order and without printed output."""
    text = page.read_text("utf-8").removeprefix(MARK).lstrip()
    text = re.sub(r"^</?details>\n", "", text, flags=re.M)  # a cell cannot fold several cells
    cells = []
    for kind, part in _parts(text):
        if kind == "code":
            cells.append(new_code_cell(part))
        elif part.strip():
            cells.append(_markdown(page, part.strip()))
    for number, cell in enumerate(cells):
        cell["id"] = f"{page.stem}-{number}"
    return new_notebook(cells=cells)


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield prose and code; code that prints something ends a cell."""
    end = 0
    for fence in FENCE.finditer(text):
        yield "prose", text[end : fence.start()]
        language, body = fence[1], fence[2]
        if ">>> " in body:
            yield from (("code", cell) for cell in _cells(body))
        elif language == "python":
            yield "code", body.rstrip()
        elif "literalinclude" in language:
            name = INCLUDED.search(body)
            yield "prose", f"(The source of `{name[1] if name else body.strip()}`.)"
        elif language.startswith("{include}"):
            yield "prose", f"(A table of `{language.split()[1]}`.)"
        else:
            yield "prose", fence[0]
        end = fence.end()
    yield "prose", text[end:]


def _cells(body: str) -> Iterator[str]:
    cell: list[str] = []
    for example in doctest.DocTestParser().get_examples(body):
        source = example.source.rstrip()
        if example.exc_msg:
            source = f"try:\n    {source}\nexcept Exception as error:\n    print(error)"
        cell.append(source)
        if example.want:
            yield "\n".join(cell)
            cell = []
    if cell:
        yield "\n".join(cell)


def _markdown(page: Path, text: str) -> Any:
    """Make a cell of prose, with pictures as attachments and links to pages as names."""
    attachments = {}

    def attach(image: re.Match[str]) -> str:
        path = page.parent / image[2]
        attachments[path.name] = {"image/svg+xml": path.read_text("utf-8")}
        return f"![{image[1]}](attachment:{path.name})"

    text = IMAGE.sub(attach, re.sub(r"^:{3,}.*\n?(:[\w-]+:.*\n)*", "", text, flags=re.M))
    text = re.sub(r"\[([^\]]+)\]\([^):]+\.md(#[\w-]+)?\)", r"\1", text)
    text = re.sub(r"<summary>(.*?)</summary>", r"**\1**", text)
    return new_markdown_cell(text, attachments=attachments)


def write_notebooks(app: Any, exception: Exception | None) -> None:
    """Write the notebook of each tutorial next to its page."""
    if exception is None and app.builder.format == "html":
        for page in sorted(Path(app.srcdir).rglob("*.md")):
            if is_tutorial(page.read_text("utf-8")):
                target = Path(app.outdir) / page.relative_to(app.srcdir).with_suffix(".ipynb")
                nbformat.write(to_notebook(page), target)


def add_link(app: Any, docname: str, source: list[str]) -> None:
    """Add the link below the title of a tutorial."""
    if is_tutorial(source[0]):
        name = docname.rpartition("/")[2]
        link = f"<p><a download href='{name}.ipynb'>Download this page as a notebook</a></p>"
        title, _, rest = source[0].removeprefix(MARK).lstrip().partition("\n")
        source[0] = f"{title}\n\n{link}\n{rest}"


def setup(app: Any) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", add_link)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True}
