"""The figures have their numbers and colours, nothing overlaps, and the pages show them."""

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from docs.figures import memory
from docs.figures.colours import DARK, LIGHT
from numpy_xlstm.numerics import Array, sigmoid

FIGURES = Path(__file__).parents[2] / "docs/figures"
SVG = "{http://www.w3.org/2000/svg}"
DRAWN = [
    path.name for path in sorted(FIGURES.glob("*.svg")) if '"paper"' in path.read_text("utf-8")
]


def drawn(name: str) -> ElementTree.Element:
    return ElementTree.parse(FIGURES / name).getroot()


@pytest.mark.parametrize("name", memory.FIGURES)
def test_the_file_is_what_the_script_draws(name: str) -> None:
    assert (FIGURES / name).read_text("utf-8") == memory.FIGURES[name]()


@pytest.mark.parametrize("name", sorted({*DRAWN} - {*memory.FIGURES}))
def test_each_theme_has_its_colours(name: str) -> None:
    style = drawn(name).findtext(f"{SVG}style") or ""
    for colours, rules in zip((LIGHT, DARK), style.split("@media"), strict=True):
        assert {*re.findall(r"#\w{6}", rules)} <= {*colours.values()}


@pytest.mark.parametrize("name", DRAWN)
def test_boxes_and_texts_are_on_the_sheet_and_do_not_overlap(name: str) -> None:
    root = drawn(name)
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    boxes = []
    for element in root.iter(f"{SVG}rect"):
        if "x" in element.attrib:
            x, y, w, h = (float(element.attrib[key]) for key in ("x", "y", "width", "height"))
            boxes.append((x, x + w, y, y + h))
            assert 0 <= x <= width - w
            assert 0 <= y <= height - h
    assert len(boxes) >= 4
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.attrib["x"]) <= width
        assert 0 <= float(text.attrib["y"]) <= height
    for a, b in combinations(boxes, 2):
        assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2], (a, b)


@pytest.mark.parametrize("path", sorted(FIGURES.glob("*.svg")), ids=lambda path: path.name)
def test_colours_need_no_variables_and_letters_are_large_enough(path: Path) -> None:
    svg = re.sub(r"<style.*?</style>", "", path.read_text("utf-8"), flags=re.S)
    assert "var(" not in svg
    width = float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0])
    size, unit = re.findall(r'<svg[^>]* width="([\d.]+)(pt)?"', svg)[0]
    shown = min(740, float(size) * (4 / 3 if unit else 1))  # the width of a page, or their own
    sizes = re.findall(r'font-size[:=] ?"?([\d.]+)|font: ([\d.]+)px', svg)
    letters = [float(a or b) for a, b in sizes]
    assert letters or "<text" not in svg
    assert min(letters, default=10) * shown / width >= 10


def test_the_moving_memory_returns_what_was_written() -> None:
    found = memory.steps()
    assert abs(found["h"][4:] - memory.V).max() < 1e-12
    assert abs(found["h"][:4]).max() == 0
    svg = memory.figure()
    assert svg.count("@keyframes n") == 4 * 6 + 4 + 4 + 6 + 6
    assert "prefers-reduced-motion:reduce" in svg


def shades(name: str) -> list[Array]:
    """Return the numbers of each map from white, 0, to blue, 1, row by row."""
    svg = (FIGURES / name).read_text("utf-8")
    maps = re.findall(r'<g id="QuadMesh_\d">(.*?)</g>', svg, re.S)
    white, blue = (int(colour[1:3], 16) for colour in ("#f6f8fa", "#0969d9"))
    reds = [[int(red, 16) for red in re.findall(r'#(\w\w)\w{4}"', cells)] for cells in maps]
    return [(white - np.array(red)) / (white - blue) for red in reds]


def test_what_the_page_sees_in_the_figures_of_trained_cells() -> None:
    text = 'A class definition is an executable statement, and "self" is a name.'
    blank = np.array(list(text)) == " "
    written, _ = shades("reading.svg")
    lowest = written.reshape(16, len(text))[:2]
    assert (lowest[:, 1:][:, ~blank[1:]] < 0.2).all()
    assert (lowest[:, blank].mean(axis=1) > [0.2, 0.7]).all()
    weights = np.zeros((2, 35, 35))
    weights[:, *np.tril_indices(35)] = shades("decay-matrix.svg")[:2]
    for step in np.flatnonzero(blank[:35]):
        assert weights[0, step, :step].max() < 0.015
    assert text[16:19] == "on "
    np.testing.assert_allclose(weights[1, 18, 16:18], [0.31, 0.41], atol=0.01)


def test_the_ideas_are_drawn_with_their_numbers() -> None:
    gates, exponential = (
        ["".join(text.itertext()).replace("−", "-") for text in drawn(name).iter(f"{SVG}text")]
        for name in ("idea-gates.svg", "idea-exponential.svg")
    )
    z, i, f, c, o, out = np.array(gates[:60]).reshape(6, 10)[:, 1:].astype(float)
    np.testing.assert_array_equal(c, f * np.append(0, c[:-1]) + i * z)
    np.testing.assert_array_equal(out, o * c)
    scores, expected = np.array([-4.0, 0.0, 4.0, 8.0]), []
    for weights in (sigmoid(scores), np.exp(scores)):
        for step in range(1, 5):
            shares = weights[:step] / weights[:step].sum()
            expected += [f"{share:.0%}" for share in shares if share > 0.1]  # there is room
    assert [text for text in exponential if "%" in text] == expected
    np.testing.assert_allclose(sigmoid(scores), [0.018, 0.5, 0.982, 0.9997], atol=5e-4)
    np.testing.assert_allclose(np.exp(scores), [0.018, 1, 55, 2981], rtol=0.02)


def test_every_figure_is_on_a_page() -> None:
    pages = "".join(page.read_text("utf-8") for page in FIGURES.parent.rglob("*.md"))
    files = sorted(path.name for path in FIGURES.glob("*.svg"))
    assert len(files) >= len(DRAWN) + 5
    assert [name for name in files if f"figures/{name})" not in pages] == ["xlstm-loss.svg"]


def test_the_v_of_each_difference_and_the_complex_step() -> None:
    plots = pytest.importorskip("docs.figures.plots", reason="needs the extra cli")
    found = {name: float(errors.min()) for name, (_, errors) in plots.difference_errors().items()}
    assert 1e-10 < found["forward difference"] < 1e-7
    assert 1e-14 < found["central difference"] < 1e-10
    assert found["central, Richardson"] < 1e-11
    steps, errors = plots.difference_errors()["complex step"]
    assert errors[steps < 1e-9].max() < 1e-14


def test_the_plots_of_the_changes() -> None:
    plots = pytest.importorskip("docs.figures.changes", reason="needs the extra plot")
    z, squashed, average = plots.averages()
    assert (squashed[1:12] > 0.99).all()
    assert ((z.min() < average) & (average < z.max())).all()
    assert plots.rising()["m"].max() > 100
    *_, best, slstm, lstm = plots.running_best()
    assert abs(slstm - best).max() < 0.01 < abs(lstm - best).max()
    same_head = np.kron(np.eye(4), np.ones((2, 2))) == 1
    assert ((plots.reach(4) != 0) == same_head).all()
    assert (plots.reach(1) != 0).all()
    _, v, _, read = plots.two_pairs()
    assert abs(read - v).max() < 1e-12
    _, parallel, recurrent = plots.both_forms()
    assert abs(parallel - recurrent).max() < 1e-12


def test_the_plot_of_costs() -> None:
    cost = pytest.importorskip("docs.figures.cost", reason="needs the extra plot")
    flops, kept = cost.flops(np.array([853, 854])), cost.kept(np.array([128, 129, 512, 514]))
    assert ((flops["parallel"] > flops["recurrent"]) == [False, True]).all()
    assert (flops["chunkwise"] < flops["recurrent"]).all()
    state = kept["state of xLSTM 7B"]
    assert ((kept["keys and values"] > state) == [False, True, True, True]).all()
    assert ((kept["a quarter of them"] > state) == [False, False, False, True]).all()


@pytest.mark.long
def test_how_far_a_gradient_reaches() -> None:
    plots = pytest.importorskip("docs.figures.plots", reason="needs the extra cli")
    norms = {name: float(found[-1]) for name, found in plots.gradient_norms().items()}
    assert norms["LSTM"] < 1e-20
    assert 0.01 < norms["sLSTM"] < 0.2
    assert 0.01 < norms["mLSTM"] < 0.2
