"""Members on pages of the API, references from names in docstrings, and methods in the search."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

# Members that only the package itself uses, and members that need no entry of their own.
INTERNAL = {
    *("Cache", "state_type", "compute", "compute_backward", "run", "inner_state", "outer_state"),
    *("check", "check_backward", "inner_start", "axes", "decode_step", "copied"),
    *("cell_params", "current_cell", "named", "make_cell"),
    *("check_cache", "check_input", "check_size", "checked", "named_grads"),
    *("kernel", "options", "tensor_axes"),
}


def skip(_app: Sphinx, _kind: str, name: str, member: Any, *_: Any) -> bool | None:
    """Skip internal members, and fields of tuples, which the docstring of the class describes."""
    field = str(getattr(member, "__doc__", "")).startswith("Alias for field number")
    return True if name in INTERNAL or field else None


def look_everywhere(app: Sphinx, env: Any, node: Any, content: Any) -> nodes.reference | None:
    """Resolve a name without its module, from a docstring, in the whole package."""
    if node.get("refdomain") != "py" or node["reftype"] == "obj":
        return None
    node["refspecific"] = True
    kind, name = node["reftype"], node["reftarget"]
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, kind, name, node, content)


class IndexMethods(SphinxPostTransform):
    """Let the search for "lstm backward" find ``LSTMCell.backward`` first."""

    default_priority = 800
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        """Add an index entry for each method of a cell."""
        for signature in list(self.document.findall(addnodes.desc_signature)):
            cell, _, method = signature.get("fullname", "").partition("Cell.")
            if method:
                entry = ("single", f"{cell} {method}", signature["ids"][0], "main", None)
                signature.parent.insert(0, addnodes.index(entries=[entry]))


def remove_old_pages(app: Sphinx) -> None:
    """Remove the pages of names that are no longer listed."""
    folder = Path(app.srcdir, "api")
    listed = "".join(page.read_text("utf-8") for page in folder.glob("*.md"))
    for page in (folder / "generated").glob("*.rst"):
        if f"   {page.stem.removeprefix('numpy_xlstm.')}\n" not in listed:
            page.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("builder-inited", remove_old_pages, priority=400)  # before autosummary
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", look_everywhere)
    app.add_post_transform(IndexMethods)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
