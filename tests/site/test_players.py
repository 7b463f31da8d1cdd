"""The players of the site, driven by keys and clicks, show the numbers of the cells."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTMCell, sLSTMCell
from numpy_xlstm.numerics import Array
from tests.site.browser import opened, served
from tests.site.test_pages import pytestmark as pytestmark

STATIC = Path(__file__).parents[2] / "docs/_static"
PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">
<link rel="stylesheet" href="player.css">
<div class="player stabiliser-player">a sentence</div>
<div class="player memory-player">a sentence</div>
<script defer src="player.js"></script>
<script defer src="stabiliser-player.js"></script>
<script defer src="memory-player.js"></script>"""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("players")
    (folder / "index.html").write_text(PAGE, "utf-8")
    for path in STATIC.glob("*player*"):
        shutil.copy(path, folder)
    with served(folder) as address, opened() as browser:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        yield page


def move(slider: Any, value: float) -> None:
    """Move a slider to a value with the arrow keys."""
    steps = (value - float(slider.input_value())) / float(slider.get_attribute("step"))
    for _ in range(round(abs(steps))):
        slider.press("ArrowRight" if steps > 0 else "ArrowLeft")


def values(place: Any, selector: str, *shape: int) -> Array:
    found = [float(e.get_attribute("data-value")) for e in place.locator(selector).all()]
    return np.array(found).reshape(shape)


SETTINGS = [
    (20.0, 2.0, 0.0, "sigmoid", "the same"),
    (90.0, 2.0, -7.0, "sigmoid", "beyond the range of float32"),
    (-30.0, 10.0, 5.0, "exp", "beyond the range of float32"),
    (-110.0, -20.0, 12.0, "sigmoid", "too small for float32"),
    (-1.0, 0.5, 3.0, "exp", "the same"),
]
Z = np.array([0.2, 0.8, -0.5, 0.6, 0.1, -0.9, 0.4, 0.7, -0.2, 0.5])


def stabilised(i: float, f: float, m: float, gate: str) -> Array:
    """Return i′, f′, m, c, n and h of each step of the cell."""
    cell = sLSTMCell(4, 1, forget_gate=gate)
    cell.params["W"][:], cell.params["R"][:], cell.params["b"][:] = np.eye(4), 0, 0
    state = cell.init_state(1)
    first = {"c": 0.5 * np.exp(-m), "n": np.exp(-m), "m": m}
    state = state._replace(**{name: np.full((1, 1), value) for name, value in first.items()})
    rows = []
    for z in Z:
        h, state, cache = cell.forward(np.array([[i, f, np.arctanh(z), 100.0]]), state)
        rows.append([cache.i, cache.f, state.m, state.c, state.n, h])
    return np.array(rows)[..., 0, 0]


def plain(i: float, f: float, gate: str) -> Array:
    """Return i, f, c, n and h of each step without a stabiliser, in float32."""
    log_f = f if gate == "exp" else -np.log1p(np.exp(-f))
    with np.errstate(all="ignore"):
        weights = np.exp([i, log_f]).astype(np.float32)
        c, n, rows = np.float32(0.5), np.float32(1), []
        for z in Z.astype(np.float32):
            c, n = weights[1] * c + weights[0] * z, weights[1] * n + weights[0]
            rows.append([*weights, c, n, c / n])
    return np.array(rows)


@pytest.mark.parametrize(("i", "f", "m", "gate", "said"), SETTINGS)
def test_the_stabiliser(window: Any, i: float, f: float, m: float, gate: str, said: str) -> None:
    place = window.locator(".stabiliser-player")
    place.get_by_role("combobox", name="forget gate").select_option(gate)
    for name, value in (("ĩ (input gate)", i), ("f̃ (forget gate)", f), ("m₀ (stabiliser)", m)):
        move(place.get_by_role("slider", name=name), value)
    found = values(place, "table >> nth=0 >> td", 10, 6)
    np.testing.assert_allclose(found, stabilised(i, f, m, gate), rtol=1e-6, atol=1e-12)
    found = values(place, "table >> nth=1 >> td", 10, 5)
    np.testing.assert_allclose(found, plain(i, f, gate), rtol=1e-5)
    assert said in place.get_by_role("status").inner_text()
    assert place.locator("svg path.cross").count() == (
        0 if said == "the same" else 10 - right(i, f, gate)
    )


def right(i: float, f: float, gate: str) -> int:
    """Return the number of steps at which the plain equations are right."""
    return int((abs(plain(i, f, gate)[:, 4] - stabilised(i, f, 0.0, gate)[:, 5]) < 1e-3).sum())


def memory_cell() -> mLSTMCell:
    """Return a cell whose input is q, k, v, ĩ, f̃ and õ."""
    cell = mLSTMCell(18, 4, num_heads=1, forget_gate="exp", eps=0.0)
    for array in cell.params.values():
        array[:] = 0
    for name, start, width in (
        ("q", 0, 4),
        ("k", 4, 4),
        ("v", 8, 4),
        ("i", 12, 1),
        ("f", 13, 1),
        ("o", 14, 4),
    ):
        cell.params[f"W_{name}"][:, start : start + width] = np.eye(width)
    cell.params["W_k"] *= 2  # the cell divides keys by the root of their width
    return cell


def test_the_memory(window: Any) -> None:
    place = window.locator(".memory-player")
    place.get_by_role("button", name="Empty the memory").click()
    rng = np.random.default_rng(0)
    cell = memory_cell()
    state = cell.init_state(1)
    for step in range(8):
        for button in rng.permutation(12)[:4]:
            name, element = "kqv"[button // 4], button % 4 + 1
            place.get_by_role("button", name=f"{name}, element {element}:").press("Enter")
        i, f = rng.integers(-6, 13) / 2, rng.integers(-30, 1) / 10
        move(place.get_by_role("slider", name="ĩ"), i)
        move(place.get_by_role("slider", name="f̃"), f)
        k, q, v = (chosen(place, name) for name in "kqv")
        place.get_by_role("button", name="Write v under k").click()
        x = np.concatenate([q, k, v, [i, f], np.full(4, 100.0)])
        h, state, _ = cell.forward(x[None], state)
        found = values(place, "td[data-value]", 6 * 4)
        C, n = found[:20].reshape(4, 5)[:, :4], found[:20].reshape(4, 5)[:, 4]
        np.testing.assert_allclose(C, np.asarray(state.C)[0, 0], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(n, np.asarray(state.n)[0, 0], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(
            values(place, "span[data-value]", 1), np.asarray(state.m)[0], rtol=1e-6
        )
        np.testing.assert_allclose(found[20:], h[0], rtol=1e-6, atol=1e-12)
        assert place.locator("li").count() == step + 1


def chosen(place: Any, name: str) -> Array:
    """Return the vector that the buttons of a name show."""
    buttons = [place.get_by_role("button", name=f"{name}, element {a}:") for a in (1, 2, 3, 4)]
    return np.array([float(button.inner_text().replace("−", "-")) for button in buttons])
