"""Packages import only what is below them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "numpy_xlstm"
ORDER = (
    "numerics",
    "disk",
    "documents",
    "trees",
    "module",
    "validation",
    "gradcheck",
    "cells",
    "kernels",
    "layers",
    "generation",
    "models",
    "checkpoints",
    "training",
    "suite",
    "conformance",
    "cli",
)
"""From the bottom to the top; errors may be imported by all."""


def imported(file: Path) -> set[str]:
    """The parts of the package that a file imports by name, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numpy_xlstm."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "numpy_xlstm":
            found |= {alias.name for alias in node.names} - {"__version__"}
    return found


@pytest.mark.parametrize("part", ORDER)
def test_nothing_is_imported_from_above(part: str) -> None:
    files = [*(ROOT / part).rglob("*.py"), *ROOT.glob(f"{part}.py")]
    assert files
    allowed = {*ORDER[: ORDER.index(part) + 1], "errors", "_version"}
    assert {f.name: above for f in files if (above := imported(f) - allowed)} == {}
