"""The directive ``recipes``: a table with the recipe of every experiment."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from numpy_xlstm.experiments.catalogue import EXPERIMENTS, Experiment

HEAD = [
    *("experiment", "`train`", "`test`", "`first`", "`grow`", "`below`", "`lr`", "`warmup`"),
    *("then", "`batch`", "`steps`", "`solved`"),
]


def cells(name: str, e: Experiment) -> list[str]:
    """Return a row of the table."""
    rate = "falls" if e.final < 1 else "s/t" if e.settles else "constant"
    lengths = [" to ".join(str(n) for n in dict.fromkeys(pair)) for pair in (e.train, e.test)]
    grows = e.first < e.train[1]
    growth = [f"{value:g}" if grows else "" for value in (e.first, e.grow, e.below)]
    ends = [f"{e.batch}", f"{e.steps:,}", f"{e.solved:g}"]
    return [f"`{name}`", *lengths, *growth, f"{e.lr:g}", f"{e.warmup:g}", rate, *ends]


class Recipes(SphinxDirective):
    """Parse the table as a part of the page."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        line = ["---" if name in ("experiment", "then") else "--:" for name in HEAD]
        rows = [HEAD, line, *(cells(name, e) for name, e in EXPERIMENTS.items())]
        return self.parse_text_to_nodes("\n".join(f"| {' | '.join(row)} |" for row in rows))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_directive("recipes", Recipes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
