"""Sphinx: ``python -m sphinx -W docs docs/_build``. No network is needed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from numpydoc import xref
from sphinx.application import Sphinx

import numpy_xlstm
from numpy_xlstm import errors

project = "numpy-xlstm"
copyright = "2026, the numpy-xlstm authors"
version = release = numpy_xlstm.__version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "api_pages",
    "mathml",
    "notebooks",
    "page_links",
    "recipes",
    "stacked_tables",
    "tag_links",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autosummary_generate = True
viewcode_line_numbers = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # but for ours; other projects' lists of names need a network
xref.DEFAULT_LINKS.clear()
numpydoc_xref_aliases = {
    **{name: f"numpy_xlstm.{name}" for name in numpy_xlstm.__all__ if name[0] != "_"},
    **{name: f"numpy_xlstm.errors.{name}" for name in vars(errors) if name[0] != "_"},
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "numpy-xlstm"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_context = {"default_mode": "auto"}
html_css_files = ["site.css", "player.css"]
html_js_files = [
    (f"{name}.js", {"defer": ""}) for name in ("player", "stabiliser-player", "memory-player")
]
html_sidebars = {"changelog": [], "contributing": []}
html_use_index = False
html_domain_indices = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navigation_depth": 3,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["project"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-dark",
}

MOVED = {
    "check-your-layer": "gradcheck",
    "derivations/stabiliser-practice": "derivations/stabiliser",
    "derivations/gru-original": "derivations/gru",
    "revising": "exponential-gates",
}
"""Pages that are gone, and their heirs, to which old links lead on."""


def lead_on(app: Sphinx, error: Exception | None) -> None:
    """Write the old pages."""
    for old, new in MOVED.items() if app.builder.format == "html" and not error else ():
        link = "../" * old.count("/") + f"{new}.html"
        Path(app.outdir, f"{old}.html").write_text(
            f"<!doctype html><html lang='en'><title>{new}</title>"
            f"<meta http-equiv='refresh' content='0; url={link}'>"
            f"<a href='{link}'>{new}</a></html>\n",
            "utf-8",
        )


def setup(app: Sphinx) -> None:
    """Write the old pages at the end of a build."""
    app.connect("build-finished", lead_on)
