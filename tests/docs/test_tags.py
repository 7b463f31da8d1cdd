r"""Equations and code point at each other: each tag is defined once and cited by the code.

A tag is defined in ``docs/derivations/`` or ``docs/blocks/`` as ``\tag{mlstm.9}``, and cited in the
package as ``[mlstm.9]``.
"""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
TAG = r"[a-z]+\.[0-9]+"


def _found(pattern: str, files: list[Path]) -> Counter[str]:
    return Counter(tag for file in files for tag in re.findall(pattern, file.read_text("utf-8")))


PAGES = [*(ROOT / "docs/derivations").glob("*.md"), *(ROOT / "docs/blocks").glob("*.md")]
DEFINED = _found(rf"\\tag\{{({TAG})\}}", PAGES)
CITED = _found(rf"\[({TAG})\]", sorted((ROOT / "numpy_xlstm").rglob("*.py")))


def test_there_are_tags() -> None:
    assert len(DEFINED) > 60
    assert {"rec.1", "lstm.5", "slstm.10", "mlstm.13", "stab.6", "mblock.14"} <= DEFINED.keys()


def test_every_cited_tag_is_defined() -> None:
    assert not CITED.keys() - DEFINED.keys()


def test_every_defined_tag_is_cited() -> None:
    assert not DEFINED.keys() - CITED.keys()


def test_no_tag_is_defined_twice() -> None:
    assert [tag for tag, times in DEFINED.items() if times > 1] == []
