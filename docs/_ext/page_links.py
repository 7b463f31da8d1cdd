"""Titles of links, and links from public names.

A link whose text is its file, such as ``[slstm.md](slstm.md)``, gets the title of the page. Inline
code that is a public name, such as ``sLSTM`` or ``sLSTM.forward``, links to its page of the API.
The empty line at the end of a block of examples, which the tests need, is removed.
"""

import posixpath
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode


class PageLinks(SphinxPostTransform):
    """Replace file names in links by titles, and link public names."""

    default_priority = 800  # when links are resolved
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Process links whose text is a file name, and names that have a page."""
        page = self.env.current_document.docname
        for link in list(self.document.findall(nodes.reference)):
            self._title(link, posixpath.dirname(page))
        for code in list(self.document.findall(nodes.literal)):
            if not isinstance(code.parent, nodes.reference | nodes.title):
                self._name(code, page)

    def _title(self, link: nodes.reference, folder: str) -> None:
        path = posixpath.normpath(posixpath.join(folder, link.get("refuri", "").split("#")[0]))
        title = self.env.titles.get(path.removesuffix(".html"))
        if title is not None and re.fullmatch(r"[\w./-]+\.md", link.astext()):
            link.children = [nodes.inline("", title.astext())]

    def _name(self, code: nodes.literal, page: str) -> None:
        name = code.astext().removeprefix("numpy_xlstm.")
        found = self.env.domains.python_domain.objects.get(f"numpy_xlstm.{name}")
        if found is not None and found.docname != page:
            builder = self.env._app.builder
            link = make_refnode(builder, page, found.docname, found.node_id, code.deepcopy())
            code.replace_self(link)


def trim_code(_app: Sphinx, document: nodes.document) -> None:
    """Remove empty lines at the end of a block of code."""
    for block in document.findall(nodes.literal_block):
        if block.rawsource == block.astext():
            block.rawsource = block.rawsource.rstrip()
            block[:] = [nodes.Text(block.rawsource)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("doctree-read", trim_code)
    app.add_post_transform(PageLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
