r"""Each tag of an equation is defined once, and cited in the code.

A tag is defined in ``docs/derivations/`` or ``docs/blocks/`` as ``\tag{mlstm.9}``, and cited in the
package as ``[mlstm.9]``. In the specification the line with the tag assigns the left-hand side of
the equation, and the lines have the order of the page.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from tags import CITATION, DEFINITION, PAGES, SOURCES, TAG, lines_of_tags, pages_of_tags, places

from numpy_xlstm.cells import lstm

DEFINED = Counter(place.tag for place in places(DEFINITION, PAGES))
CITED = Counter(place.tag for place in places(CITATION, SOURCES))
CELLS = sorted(Path(lstm.__file__).parent.glob("*.py"))
CITING = [path for path in CELLS if re.search(rf"\[{TAG}\]", path.read_text("utf-8"))]
assert {"gates", "lstm", "slstm", "mlstm"} <= {path.stem for path in CITING}


def test_every_tag_is_defined_once_and_cited() -> None:
    assert len(DEFINED) > 60
    assert {"rec.1", "lstm.6", "slstm.10", "mlstm.13", "stab.8", "mblock.14"} <= DEFINED.keys()
    assert CITED.keys() == DEFINED.keys()
    assert [tag for tag, times in DEFINED.items() if times > 1] == []


def test_tags_are_numbered_in_the_order_of_their_page() -> None:
    numbers: dict[str, list[int]] = {}
    for tag in DEFINED:
        kind, _, number = tag.partition(".")
        numbers.setdefault(kind, []).append(int(number))
    wrong = {kind: n for kind, n in numbers.items() if n != list(range(1, len(n) + 1))}
    assert not wrong, wrong


def test_a_tag_leads_to_its_page_and_to_the_line_of_the_specification() -> None:
    assert pages_of_tags()["slstm.12"] == "derivations/slstm"
    module, line = next(iter(lines_of_tags()["slstm.12"].items()))
    assert module == "numpy_xlstm.cells.slstm"
    source = Path(lstm.__file__).with_name("slstm.py").read_text("utf-8").splitlines()
    assert source[line - 1].endswith("# [slstm.12]")


# Symbols whose name in the code does not follow from the rules of `_names`.
NAMES = {
    r"\log g": {"log_gate"},  # the value of that function
    r"\gamma(\tilde g)": {"log_gate_slope"},
    r"\tilde g": {"pre_activations"},
    r"\bar q": {"q_bar"},
    r"\log i": {"log_i", "i_pre"},  # the same, for an exponential gate
    r"\tilde h": {"h_tilde", "h_pre"},
    r"\hat h": {"h_reset"},
    r"q\cdot n": {"qn"},
    r"(q\cdot n)": {"qn"},
    r"\mathrm{den}": {"den"},
    "b'": {"b_h"},
    "W_{hr}": {"W_hr"},
}


def _names(symbol: str) -> set[str]:
    """Return possible names of a symbol in code: δ is d, a tilde _pre, a minus below _prev."""
    symbol = symbol.strip()
    if symbol in NAMES:
        return NAMES[symbol]
    if symbol.startswith(r"\delta"):
        return {f"d{name}" for name in _names(symbol.removeprefix(r"\delta"))}
    if symbol.endswith("_-"):
        return {f"{name}_prev" for name in _names(symbol.removesuffix("_-"))}
    return {re.sub(r"\\tilde (\w)", r"\1_pre", symbol).removesuffix("'")}


def _symbols(left: str) -> list[str]:
    """Return the symbols of a left-hand side, which may be a tuple."""
    return left.strip().strip("()").split(",") if "," in left else [left]


def _equations() -> dict[str, list[set[str]]]:
    """Return for each tag the names of the left-hand sides of its equation, up to any text."""
    pages = "\n".join(page.read_text("utf-8") for page in PAGES)
    found = {}
    for equation in re.findall(r"\$\$(.*?)\$\$", pages, flags=re.S):
        tag = re.search(rf"\\tag\{{({TAG})\}}", equation)
        if tag:
            plain = re.sub(r"\^\{\([^)]*\)\}|\\[,;]", "", equation.split(r"\text{")[0])
            lefts = [part.split("=")[0] for part in re.split(r"\\q?quad", plain) if "=" in part]
            found[tag[1]] = [_names(symbol) for left in lefts for symbol in _symbols(left)]
    return found


def _lines(source: str) -> dict[str, tuple[int, list[str]]]:
    """Return for each tag its line, and the names that the line assigns or returns."""
    lines, found = source.splitlines(), {}
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Assign | ast.Return):
                names = (
                    [function.name] if isinstance(node, ast.Return) else _targets(node.targets[0])
                )
                for tag in re.findall(rf"# \[({TAG})\]", lines[(node.end_lineno or 0) - 1]):
                    found[tag] = (node.lineno, names)
    return found


def _targets(target: ast.expr) -> list[str]:
    """Return the names in an assignment target; grads["W"] counts as dW."""
    if isinstance(target, ast.Tuple):
        return [name for part in target.elts for name in _targets(part)]
    text = ast.unparse(target)
    return [re.sub(r"grads\[f'(\w+)\{(\w+)\}'\]", r"d\1\2", text)]


def _misplaced(source: str) -> list[str]:
    """Return the tags that are not on a line with their left-hand side, or not in order."""
    lines = _lines(source)
    wrong = []
    for tag in re.findall(rf"\[({TAG})\]", source):
        left, names = EQUATIONS[tag], lines.get(tag, (0, []))[1]
        fits = len(left) == len(names) and all(a in b for a, b in zip(names, left, strict=True))
        wrong += [] if fits else [tag]
    for kind in {tag.split(".")[0] for tag in lines}:
        page = [tag for tag in EQUATIONS if tag in lines and tag.startswith(f"{kind}.")]
        code = sorted(page, key=lambda tag: lines[tag][0])
        wrong += [a for a, b in zip(page, code, strict=True) if a != b]
    return wrong


EQUATIONS = _equations()


@pytest.mark.parametrize("path", CITING, ids=lambda path: path.stem)
def test_a_line_assigns_the_left_hand_side_of_its_equation(path: Path) -> None:
    assert _misplaced(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", CITING, ids=lambda path: path.stem)
def test_a_tag_on_another_line_is_found(path: Path) -> None:
    source = path.read_text("utf-8")
    tags = re.findall(rf"\[({TAG})\]", source)
    for a, b in zip(tags, tags[1:] + tags[:1], strict=True):
        moved = source.replace(f"[{a}]", "[]").replace(f"[{b}]", f"[{a}]").replace("[]", f"[{b}]")
        assert {a, b} & set(_misplaced(moved)), (a, b)
