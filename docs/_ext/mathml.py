"""Conversion of formulas to MathML during the build, so that pages need no script and no network.

A formula that cannot be converted causes a warning. The site includes a mathematical font, reduced
to the characters in its formulas.
"""

import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from docutils import nodes
from fontTools import subset
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)

PAIRS = ("{", "}"), (r"\begin", r"\end")
# The prime of this font is already a superscript.
PRIME = re.compile(r"<msup>((?:(?!</?msup>).)*)<mo>([′″])</mo></msup>")
INDEX_AND_PRIME = re.compile(r"<msubsup>(<mi>\w</mi>)((?:(?!msub).)*)<mo>([′″])</mo></msubsup>")


def mathml(tex: str, display: bool) -> str:
    """Return the MathML of a formula; raise ``LatexError`` if it has an error."""
    tex = re.sub(r"\\(tilde|hat|bar) ?([ij])(?![a-z])", r"\\\1\\\2math ", tex)
    if display and r"\begin" not in tex and re.search(r"\\\\|&", tex):
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    found = _converter().convert_with_local_state(tex, displaystyle=display)
    found = INDEX_AND_PRIME.sub(r"<msub><msup>\1<mo>\3</mo></msup>\2</msub>", found)
    return PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>', found)


def formula(tex: str) -> str:
    """Return the HTML of a displayed formula, with possible line breaks at wide gaps."""
    parts = [""]
    for piece in re.split(r"(\\q?quad(?![a-z]))", tex):
        gap = piece.startswith(r"\q")
        if gap and all(parts[-1].count(a) == parts[-1].count(b) for a, b in PAIRS):
            parts.append("")
        else:
            parts[-1] += piece
    return f'<div class="formula">{"".join(mathml(part, display=True) for part in parts)}</div>'


@cache
def _converter() -> LatexToMathML:
    return LatexToMathML()


class MathToMathML(SphinxPostTransform):
    """Replace each formula by MathML."""

    default_priority = 900
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Convert every formula of the document."""
        formulas = [*self.document.findall(nodes.math), *self.document.findall(nodes.math_block)]
        for node in formulas:
            tex = node.astext()
            try:
                html = formula(tex) if isinstance(node, nodes.math_block) else mathml(tex, False)
            except LatexError as error:
                logger.warning("formula %r: %s", tex, error, location=node)
                continue
            if isinstance(node, nodes.math):
                html = _with_punctuation(html, node)
            node.replace_self(nodes.raw("", html, format="html"))


def _with_punctuation(html: str, node: nodes.math) -> str:
    """Move punctuation after an inline formula into it, so that it cannot start a line."""
    after = node.next_node(descend=False, siblings=True)
    found = re.match(r"[.,;:!?)’”]+", after) if isinstance(after, nodes.Text) else None
    if found is None:
        return html
    # By position: `replace` takes the first sibling with an equal text.
    node.parent[node.parent.index(node) + 1] = nodes.Text(after[found.end() :])
    return f'<span class="formula-and-mark">{html}{found[0]}</span>'


def write_font(app: Sphinx, exception: Exception | None) -> None:
    """Write the font of the formulas, reduced to the characters in them."""
    if exception is not None or app.builder.format != "html":
        return
    pages = "".join(page.read_text("utf-8") for page in Path(app.outdir).rglob("*.html"))
    text = "".join(re.findall(r"<math.*?</math>", pages, flags=re.S))
    options = subset.Options(flavor="woff2", layout_features=["*"], notdef_outline=True)
    with resources.as_file(resources.files("ziamath.fonts") / "STIXTwoMath-Regular.ttf") as path:
        font = subset.load_font(str(path), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=text + MATH_ITALIC + "√")
    subsetter.subset(font)
    subset.save_font(font, str(Path(app.outdir, "_static/math.woff2")), options)


# A browser shows a one-letter symbol in italics, which are separate characters.
MATH_ITALIC = "".join(
    map(chr, [0x210E, *range(0x1D434, 0x1D468), 0x1D6A4, 0x1D6A5, *range(0x1D6E2, 0x1D71C)])
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_post_transform(MathToMathML)
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
