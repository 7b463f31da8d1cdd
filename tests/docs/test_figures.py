"""The figures of the blocks are what the script draws, and the pages show them."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.figures import blocks as script

FIGURES = Path(__file__).parents[2] / "docs/figures"
BLOCKS = FIGURES.parent / "blocks"
NAMES = ["language-model.svg", "mlstm-block.svg", "slstm-block.svg", "xlstm-large-block.svg"]


def test_the_script_draws_these_figures() -> None:
    assert sorted(script.FIGURES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_what_the_script_draws(name: str) -> None:
    assert (FIGURES / name).read_text("utf-8") == script.FIGURES[name]()


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_on_the_sheet(name: str) -> None:
    root = ElementTree.fromstring(script.FIGURES[name]())
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    boxes = [e.attrib for e in root.iter("{http://www.w3.org/2000/svg}rect") if "x" in e.attrib]
    assert len(boxes) >= 5
    for box in boxes:
        assert 0 <= float(box["x"]) <= width - float(box["width"])
        assert 0 <= float(box["y"]) <= height - float(box["height"])
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height


@pytest.mark.parametrize("name", NAMES)
def test_no_two_boxes_overlap(name: str) -> None:
    root = ElementTree.fromstring(script.FIGURES[name]())
    edges = [
        (x, x + float(e.attrib["width"]), y, y + float(e.attrib["height"]))
        for e in root.iter("{http://www.w3.org/2000/svg}rect")
        if "x" in e.attrib
        for x, y in [(float(e.attrib["x"]), float(e.attrib["y"]))]
    ]
    overlaps = [
        (a, b)
        for n, a in enumerate(edges)
        for b in edges[:n]
        if a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
    ]
    assert overlaps == []


def test_every_figure_is_on_a_page() -> None:
    pages = "".join(page.read_text("utf-8") for page in BLOCKS.glob("*.md"))
    assert [name for name in NAMES if f"(../figures/{name})" not in pages] == []
