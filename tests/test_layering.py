"""Packages import only from lower packages."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "numpy_xlstm"
ORDER = (
    "numerics",
    "torch_habits",
    "disk",
    "documents",
    "config",
    "trees",
    "outline",
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
    "experiments",
    "conformance",
    "suite",
    "cli",
)
"""Packages from the bottom to the top; all may import ``errors``."""


def imported(file: Path) -> set[str]:
    """Return the packages that a file imports, at its top or within functions."""
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
