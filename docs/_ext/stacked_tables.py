"""Tables without an empty head, and stacked tables of words for phones.

A stacked table is read row by row and hides no column.

In a stacked table, each cell except the first of a row starts with the head of its column. Tables
of numbers and formulas, tables with a column that is aligned to the right, and tables with a column
without a head, keep their columns. On a phone they scroll.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class StackTables(SphinxPostTransform):
    """Mark the tables to stack, and add the heads to their cells."""

    default_priority = 850  # after the links, before the formulas
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Find the tables to stack in the document."""
        for table in list(self.document.findall(nodes.table)):
            head, *rows = table.findall(nodes.row)
            cells = [cell for row in rows for cell in row[1:]]
            numbers = any("text-right" in cell["classes"] for cell in cells)
            words = any(_has_words(cell) for cell in cells)
            if (
                words
                and not numbers
                and (len(head) == 2 or all(cell.astext() for cell in head[1:]))
            ):
                table["classes"].append("stacks")
                for row in rows if len(head) > 2 else []:
                    _add_heads(row, head)
            if not head.astext().strip():
                head.parent.parent.remove(head.parent)


def _has_words(cell: nodes.Element) -> bool:
    return re.search("[A-Za-z]{2}", cell.astext()) is not None


def _add_heads(row: nodes.row, head: nodes.row) -> None:
    for cell, name in zip(row[1:], head[1:], strict=True):
        if cell.astext():
            cell[0].insert(0, nodes.inline("", "", *name.deepcopy()[0], classes=["head"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_post_transform(StackTables)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
