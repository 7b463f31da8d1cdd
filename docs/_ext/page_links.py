"""A link that is called by its file, as in ``[slstm.md](slstm.md)``, gets the title of the page."""

import posixpath
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class TitleLinks(SphinxPostTransform):
    """Call links to pages by their titles."""

    default_priority = 800  # when links are resolved
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Find the links that have a file's name."""
        folder = posixpath.dirname(self.env.current_document.docname)
        for link in list(self.document.findall(nodes.reference)):
            page = posixpath.normpath(posixpath.join(folder, link.get("refuri", "").split("#")[0]))
            title = self.env.titles.get(page.removesuffix(".html"))
            if title is not None and re.fullmatch(r"[\w./-]+\.md", link.astext()):
                link.children = [nodes.inline("", title.astext())]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_post_transform(TitleLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
