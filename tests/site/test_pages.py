"""Every page of the site, in a browser without a network: wide and narrow, light and dark."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tags import lines_of_tags, pages_of_tags

from docs.figures.colours import DARK, LIGHT
from numpy_xlstm import __version__
from tests.site.browser import CHROMIUM, MODES, faults, opened, papers, served

ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("sphinx", "pydata_sphinx_theme", "playwright") if not find_spec(name)]
MISSING += [] if CHROMIUM else ["chromium"]
REQUIRED = os.environ.get("NUMPY_XLSTM_SITE") == "required"

pytestmark = pytest.mark.skipif(
    bool(MISSING) and not REQUIRED, reason=f"not installed: {', '.join(MISSING)}"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2"]
    built = subprocess.run(
        [*command, "-d", f"{folder}/trees", "docs", f"{folder}/html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


class Site(NamedTuple):
    """An open browser, and the address of the site in it."""

    browser: Any
    address: str

    def window(self, page: str, **options: Any) -> Any:
        window = self.browser.new_page(**options)
        window.goto(self.address + page)
        return window


@pytest.fixture(scope="module")
def shown(site: Path) -> Iterator[Site]:
    with served(site) as address, opened() as browser:
        yield Site(browser, address)


def test_no_page_has_a_fault(site: Path) -> None:
    assert len(list(site.rglob("*.html"))) > 100
    assert faults(site) == []


def test_an_old_page_leads_on_to_its_heir(site: Path, shown: Site) -> None:
    window = shown.window("check-your-layer.html")
    window.wait_for_url("**/gradcheck.html")
    for path in site.rglob("*.html"):
        for heir in re.findall(r"http-equiv='refresh' content='0; url=(.*?)'", path.read_text()):
            assert (path.parent / heir).exists(), path.name


@pytest.mark.parametrize(("theme", "system"), [("light", "dark"), ("dark", "light")])
def test_figures_follow_the_switch_of_the_site(
    site: Path, shown: Site, theme: str, system: str
) -> None:
    pages = [
        path.relative_to(site).as_posix()
        for path in sorted(site.rglob("*.html"))
        if re.search(r'<img [^>]*\.svg"', path.read_text("utf-8"))
    ]
    found = papers(*shown, pages, theme, system)
    paper = {"light": LIGHT, "dark": DARK}[theme]["paper"]
    assert len(found) > 10
    assert set(found.values()) == {paper}, found


FAULTS = {
    "formula in error": "<math><merror><mtext>no</mtext></merror></math>",
    "raw TeX": r"<p>where \tilde f is</p>",
    "doubled mark: where i = 1,, f": "<p>where i = 1,, f = 0</p>",
    "empty head: a": "<table><thead><tr><th><tbody><tr><td>a</table>",
    "id twice": "<p id='a'>one</p><p id='a'>two</p>",
    "broken image": "<img src='none.svg' width='9' height='9'>",
    "too wide at 390 px: word": "<p style='width: 400px; text-align: right'>word</p>",
    "too wide at 390 px: mmm": "<h1 style='overflow: hidden; width: 380px'>" + "m" * 60 + "</h1>",
    "too wide at 390 px: a narrow column": "<table style='width: 20px; table-layout: fixed'>"
    "<td style='padding: 0; overflow-wrap: anywhere'>meaning</table>",
    "too wide at 390 px: mmmm": "<div class='formula' style='overflow-x: auto'>"
    "<math><mtext>" + "m" * 60 + "</mtext></math></div>",
    "cut at 390 px: a cell": "<div class='pst-scrollable-table-container' style='overflow: auto'>"
    "<table><td>name</td><td><div style='width: 400px'>meaning</div></td></table></div>",
    "cut at 1280 px: code": f"<pre style='overflow: auto; font-size: 2em'>{'m' * 100}</pre>",
    "cut at 390 px: a name": "<dt style='width: 4em; overflow-wrap: anywhere'>"
    "<strong>hidden_size</strong></dt>",
    "cut at 390 px: a mark": "<p style='width: 2em'><math><mtext>mmmm</mtext></math>, and</p>",
    "cut on paper: code": f"<pre style='overflow: auto'>{'m' * 999}</pre>",
    "console": "<script>console.error('no')</script>",
    "script": "<script>undefined.no</script>",
    "request to https://example.org": "<img src='https://example.org/a.png' hidden>",
    "broken link: missing.html": "<a href='missing.html'>there</a>",
    "broken link: no such place": "<a href='#none'>there</a>",
}


PAGE = "<!doctype html><link rel='icon' href='data:,'><body style='margin: 0'><main>{}</main>"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the faults of pages that have one each, and of one that has none."""
    folder = tmp_path_factory.mktemp("faults")
    pages = {f"fault-{n}": text for n, text in enumerate(FAULTS.values())}
    breaks = (
        "<style>@media print { pre { white-space: pre-wrap; overflow-wrap: anywhere } }</style>"
    )
    pages["none"] = f"{breaks}<pre style='overflow: auto'>{'m' * 999}</pre>"
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(PAGE.format(text), "utf-8")
    return faults(folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, found: list[str]) -> None:
    page = f"fault-{list(FAULTS).index(fault)}.html"
    assert any(line.startswith(f"{page}: {fault}") for line in found)


def test_a_page_without_fault_has_none(found: list[str]) -> None:
    assert not [line for line in found if line.startswith("none.html")]


def test_every_tag_is_a_link_both_ways(site: Path) -> None:
    for tag, page in pages_of_tags().items():
        equation = (site / f"{page}.html").read_text("utf-8").split(f'id="{tag}"')
        assert len(equation) == 2, tag
        for module, line in lines_of_tags()[tag].items():
            path = module.replace(".", "/")
            link = f'_modules/{path}.html#{tag}">{path.removeprefix("numpy_xlstm/")}.py:{line}</a>'
            assert link in equation[1], (tag, module)
            source = (site / f"_modules/{path}.html").read_text("utf-8")
            place = rf'id="{tag}" class="tag" href="[./]*{page}\.html#{tag}">{tag}</a>'
            place = rf'<span class="linenos"> *{line}</span>.*{place}'
            assert len(re.findall(place, source)) == 1, (tag, module)


def test_a_tag_in_the_text_and_in_code_leads_to_its_equation(site: Path) -> None:
    page = (site / "derivations/lstm.html").read_text("utf-8")
    assert '(<a class="reference internal" href="recurrence.html#rec.2">rec.2</a>)' in page
    assert re.search(r'class="c1"># \[<a class="tag" href="[^"]*#lstm\.9">lstm\.9</a>\]', page)


@pytest.mark.parametrize("mode", MODES)
def test_a_linked_equation_has_one_colour(shown: Site, mode: str) -> None:
    colour, covers = shown.window("derivations/lstm.html#lstm.9", color_scheme=mode).evaluate(
        """() => {
          const style = e => getComputedStyle(document.querySelector(e));
          return [style(":target").backgroundColor, style(":target .formula").backgroundImage];
        }"""
    )
    assert covers.startswith(f"linear-gradient(to left, {colour} 40%"), (colour, covers)


@pytest.mark.parametrize("java_script", [True, False])
def test_the_players_are_on_their_page_and_a_sentence_without_javascript(
    shown: Site, java_script: bool
) -> None:
    for page, name, figures in (
        ("exponential-gates", "stabiliser", 5),
        ("matrix-memory", "memory", 2),
    ):
        window = shown.window(f"{page}.html", java_script_enabled=java_script)
        player = window.locator(".player")
        assert player.count() == window.locator(f".{name}-player").count() == 1
        assert (player.locator("input[type=range]").count() >= 2) == java_script
        assert ("if JavaScript is on" in player.inner_text()) != java_script
        if java_script and name == "stabiliser":  # at first, it shows what m is for
            status = player.get_by_role("status").inner_text()
            assert status.startswith("Without m, h is wrong at step 8")
        assert window.locator("main img[src*='change-']").count() == figures


def test_solutions_fold_out(shown: Site) -> None:
    solutions = shown.window("exponential-gates.html").locator("main details").all()
    assert len(solutions) == 3
    for solution in solutions:
        code = solution.locator("pre")
        assert not code.is_visible()
        solution.locator("summary").click()
        assert code.is_visible()


def test_the_first_page_has_versions_and_links(site: Path) -> None:
    page = (site / "index.html").read_text("utf-8")
    assert f"Version {__version__}" in page
    for link in ("changelog.html", "contributing.html", "derivations/slstm.html"):
        assert f'href="{link}"' in page


def test_three_figures_in_a_row_are_large_enough(shown: Site) -> None:
    for page, least in (("index.html", 380), ("cells-as-code.html", 260)):
        window = shown.window(page, viewport={"width": 1400, "height": 900})
        cells = window.locator("main img[src*='-cell.svg']")
        widths = [cell.bounding_box()["width"] for cell in cells.all()]
        assert len(widths) == 3
        assert min(widths) >= least, page


SEARCHES = {
    "stabiliser": "derivations/stabiliser.html",
    "stabilizer": "derivations/stabiliser.html",
    "lstm backward": "api/generated/numpy_xlstm.LSTMCell.html#numpy_xlstm.LSTMCell.backward",
    "mlstm forward": "api/generated/numpy_xlstm.mLSTMCell.html#numpy_xlstm.mLSTMCell.forward",
    "vanishing gradient": "through-time.html",
    "mlstm.12": "derivations/mlstm.html#mlstm.12",
    "mblock.3": "blocks/mlstm-block.html#mblock.3",
}


def test_the_first_result_of_a_search(shown: Site) -> None:
    results, window = {}, shown.window("search.html")
    for words in SEARCHES:
        window.goto(f"{shown.address}search.html?q={words}")
        first = window.locator("ul.search > li > a").first.get_attribute("href")
        results[words] = first.replace("#index-0", "")
    assert results == SEARCHES


def test_the_search_knows_no_tex(site: Path) -> None:
    index = (site / "searchindex.js").read_text("utf-8")
    assert "stabilis" in index
    assert re.findall(r'"(?:qquad|mathsf|mathrm|operatorname|tfrac)"', index) == []
