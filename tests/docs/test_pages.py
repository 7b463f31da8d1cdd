"""Pages: links, the table of names in errors, words, and numbers of the default text."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import xLSTMLargeBlock, xLSTMLargeConfig
from numpy_xlstm.cli import options
from numpy_xlstm.cli.language_models import build
from numpy_xlstm.torch_habits import ADVICE, SENTENCES
from numpy_xlstm.training import bigram_entropy, default_text, split_text
from numpy_xlstm.trees import places

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#:\s]+)(#[^)\s]*)?\)")
INSTEAD = {
    r"guests?": "custom cells",
    r"strangers?": "unmatched files",
    r"whoever": "a noun",
    r"as ours": "C-order, little-endian",
    r"of above": "above",
    r"stands? beside": "is next to",
    r"by heart": "overfit",
    r"in one piece": "whole",
    r"what is (it|this)": "a noun",
}
"""Words that the project does not use, and the standard term or a plainer form."""


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    missing = [m[1] for m in LINK.finditer(text) if not (page.parent / m[1]).exists()]
    assert missing == []


def test_the_page_for_users_of_pytorch_lists_every_sentence() -> None:
    page = (ROOT / "docs" / "coming-from-pytorch.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", page, re.MULTILINE)
    assert {re.sub("[`,]", "", names): advice for names, advice in rows} == {
        names: advice for advice, names in ADVICE.items()
    }
    assert len(SENTENCES) == sum(len(names.split()) for names in ADVICE.values())  # none twice


EXERCISES = {
    "from-lstm-to-mlstm": 2,
    "exponential-gates": 3,
    "matrix-memory": 2,
    "cells-as-code": 1,
}


@pytest.mark.parametrize("part", EXERCISES)
def test_a_part_of_the_long_page_fits_a_sitting_and_has_solutions_that_run(part: str) -> None:
    text = (ROOT / "docs" / f"{part}.md").read_text("utf-8")
    assert len(text.split()) <= 2000
    solutions = re.findall(r"^<details>\n<summary>Solution.*?^</details>$", text, re.M | re.S)
    assert len(solutions) == EXERCISES[part]
    assert all("```python\n>>> " in solution for solution in solutions)


def test_the_terms_are_those_of_the_field() -> None:
    texts = [*PAGES, *ROOT.glob("numpy_xlstm/**/*.py")]
    assert len(PAGES) > 30
    assert len(texts) > 150
    unwanted = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}, where {term} would do"
        for path in texts
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for word, term in INSTEAD.items()
        if (match := re.search(rf"\b{word}\b", line, re.IGNORECASE))
    ]
    assert not unwanted, "\n".join(unwanted)


def test_readme_shows_a_cell_as_it_is() -> None:
    blocks = re.findall(r"^```py\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    source = (ROOT / "numpy_xlstm/cells/lstm.py").read_text("utf-8")
    start, end = source.index("    @checked_step"), source.index("    def __init__")
    assert textwrap.indent("\n".join(blocks), "    ") + "\n" == source[start:end]


def test_the_numbers_of_readme_are_those_of_the_default_text() -> None:
    split, readme = split_text(default_text(), window=128), (ROOT / "README.md").read_text("utf-8")
    chosen = options.begin({"model": "xlstm"})
    model = build(chosen, split.tokenizer.size, np.random.default_rng(0), None)
    assert f"xLSTM of {model.num_parameters:,} parameters" in readme
    assert f"bigram entropy is {bigram_entropy(split.validation):.2f};" in readme


def test_the_bounds_of_the_table_of_accuracy_are_those_of_the_tests() -> None:
    page = (ROOT / "docs" / "how-the-cells-are-checked.md").read_text("utf-8")
    table, named = page.split("## Accuracy")[1], ""
    rows = re.findall(r"^\|.*\| (.*) \| (.*) \|$", table, re.MULTILINE)[1:]
    assert len(rows) > 15
    for bounds, test in rows:
        named = named if test == "the same" else test.strip("`")
        path = ROOT / named
        files = path.glob("*.py") if path.is_dir() else [path]
        text = "".join(file.read_text("utf-8") for file in files)
        for bound in re.findall(r"1e-\d+", bounds):
            assert bound in text, f"{bound} in {named}"


def test_the_page_of_a_block_names_its_residuals() -> None:
    config = xLSTMLargeConfig(embedding_dim=32, num_heads=2, num_blocks=1, vocab_size=2)
    _, _, cache = xLSTMLargeBlock(config, rng=0).forward(np.ones((2, 5, 32)))
    kept = {re.sub(r"\.(\d+)", r"[\1]", name.lstrip(".")) for name, _ in places("", cache.kept)}
    page = (ROOT / "docs" / "blocks" / "xlstm-large-block.md").read_text("utf-8")
    named: list[str] = []
    for name in re.findall(r"`([^`]+)`", page.split("| in the cache |")[1].split("\n\n")[0]):
        above = named[-1].rpartition(".")[0] if name.startswith(".") else ""
        named.append(f"layer.{name}" if name.startswith("mlstm") else above + name)
    assert len(named) > 20
    assert [name for name in named if not any(place.startswith(name) for place in kept)] == []


def test_every_cited_paper_is_in_the_bibliography_and_linked() -> None:
    number, docs = (
        re.compile(r"(?<![\w./])(?:arXiv )?(\d{4}\.\d{5}|(?<=arXiv )\d{4}\.\d{4})\b"),
        ROOT / "docs",
    )
    listed = set(re.findall(r"arxiv\.org/abs/([\d.]+)\)", (docs / "bibliography.md").read_text()))
    cited = set()
    for page in set(docs.rglob("*.md")) - {docs / "bibliography.md"}:
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
        found = set(number.findall(text)) | set(
            re.findall(r"\[(?:arXiv )?(\d{4}\.\d{4,5})\]", text)
        )
        cited |= found
        assert found <= listed, page
        assert not found or "bibliography.md" in text, page
    assert len(listed) > 30
    assert listed == cited
