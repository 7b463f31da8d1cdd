"""Links between a tagged equation, its mentions and the lines of code that compute it.

A tagged equation has an anchor with the name of the tag, and links to the lines of code next to it.
A tag in text, in code on a page, or in the view of a source links to its equation, and so does the
search for a tag.
"""

import re
from pathlib import PurePosixPath
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.viewcode import OUTPUT_DIRNAME
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from tags import CITATION, DEFINITION, TAG, lines_of_tags, pages_of_tags

PAGE_OF, LINES_OF = pages_of_tags(), lines_of_tags()
COMMENT = re.compile(r'<span class="c1">.*?</span>')
# A link of viewcode from a source to a page of the API, with the name of the object.
BACK = re.compile(r'href="([^"#]*/)((?:\w+\.)+(\w+))\.html#(?:\w+\.)*?\3\b')
MENTION = re.compile(rf"(?<![\w.])({TAG})(?![\w.]\w)")


def _source_page(module: str) -> str:
    return f"{OUTPUT_DIRNAME}/{module.replace('.', '/')}"


class LinkTags(SphinxPostTransform):
    """Add anchors and links to code to equations, and link mentions of tags."""

    default_priority = 800  # before the formulas are converted
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Process the equations and mentions in the document."""
        for block in list(self.document.findall(nodes.math_block)):
            if found := DEFINITION.search(block.astext()):
                self._equation(block, found[1])
        for text in list(self.document.findall(nodes.Text)):
            if not _stands_for_itself(text):
                self._mentions(text)

    def _uri(self, page: str, tag: str) -> str:
        here = self.env.current_document.docname
        return f"{self.env._app.builder.get_relative_uri(here, page)}#{tag}"

    def _equation(self, block: nodes.math_block, tag: str) -> None:
        plain = DEFINITION.sub("", block.astext()).strip()
        links = [f'<a class="tag" href="#{tag}">({tag})</a>']
        for module, line in LINES_OF.get(tag, {}).items():
            name = module.removeprefix("numpy_xlstm.").replace(".", "/")
            uri = self._uri(_source_page(module), tag)
            links.append(f'<a class="line" href="{uri}">{name}.py:{line}</a>')
        opening = f'<div class="equation" id="{tag}">'
        closing = f'<div class="beside">{" ".join(links)}</div></div>'
        block.replace_self(
            [
                addnodes.index(entries=[("single", tag, tag, "main", None)]),
                nodes.raw("", opening, format="html"),
                nodes.math_block(plain, plain),
                nodes.raw("", closing, format="html"),
            ]
        )

    def _mentions(self, text: nodes.Text) -> None:
        parts: list[nodes.Node] = []
        for n, part in enumerate(MENTION.split(text.astext())):
            if n % 2 and part in PAGE_OF:
                uri = self._uri(PAGE_OF[part], part)
                parts.append(nodes.reference(part, part, refuri=uri, internal=True))
            elif part:
                parts.append(nodes.Text(part))
        if any(isinstance(part, nodes.reference) for part in parts):
            text.parent.replace(text, parts)


def _stands_for_itself(text: nodes.Text) -> bool:
    """Return whether a text is code, a formula, a title or a link, and so cannot contain a link."""
    kinds = nodes.literal_block | nodes.literal | nodes.raw | nodes.title | nodes.reference
    kinds |= nodes.math | nodes.math_block | nodes.comment | nodes.doctest_block
    node = text.parent
    while node is not None:
        if isinstance(node, kinds):
            return True
        node = node.parent
    return False


def link_code(app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Link the tags in the code of a page; in the view of a source, also make them anchors."""
    body = context.get("body", "")
    source = PurePosixPath(page).is_relative_to(OUTPUT_DIRNAME)
    anchors = _places_to_look_at(body) if source else {}

    def link(found: re.Match[str]) -> str:
        tag = found[1]
        if tag not in PAGE_OF:
            return found[0]
        anchor = f' id="{tag}"' if anchors.get(tag) == found.start() else ""
        uri = app.builder.get_relative_uri(page, PAGE_OF[tag])
        return f'[<a{anchor} class="tag" href="{uri}#{tag}">{tag}</a>]'

    context["body"] = CITATION.sub(link, BACK.sub(r'href="\1\2.html#\2', body))


def _places_to_look_at(body: str) -> dict[str, int]:
    """Return the position for the anchor of each tag in a source, preferably in a comment."""
    found: dict[str, int] = {}
    for pattern in (COMMENT, re.compile(".+")):
        for part in pattern.finditer(body):
            for tag in CITATION.finditer(body, *part.span()):
                found.setdefault(tag[1], tag.start())
    return found


def view_every_source(app: Sphinx) -> list[Any]:
    """Let viewcode show all modules that cite tags, even without a public name."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for foreign in [name for name in modules if not name.startswith("numpy_xlstm")]:
        del modules[foreign]
    for module in {module for lines in LINES_OF.values() for module in lines}:
        if not modules.get(module):
            analyzer = ModuleAnalyzer.for_module(module)
            analyzer.find_tags()
            modules[module] = analyzer.code, analyzer.tags, {}, module
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_post_transform(LinkTags)
    app.connect("html-page-context", link_code)
    app.connect("html-collect-pages", view_every_source, priority=400)  # before viewcode
    return {"parallel_read_safe": True, "parallel_write_safe": True}
