"""Packages import only from lower packages."""

import pytest

from tests.test_structure import ROOT, imports

ORDER = (
    "numerics",
    "torch_habits",
    "disk",
    "documents",
    "config",
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
    "experiments",
    "conformance",
    "numpy_xlstm",
    "cli",
)
"""Packages from the bottom to the top; all may import ``errors``."""


def package(file: str) -> str:
    """Return the package that contains a file, or the name of a file in none."""
    return file.removeprefix("numpy_xlstm.").split(".")[0]


@pytest.mark.parametrize("part", ORDER)
def test_nothing_is_imported_from_above(part: str) -> None:
    own = {file: names for file, names in imports(ROOT).items() if package(file) == part}
    allowed = {*ORDER[: ORDER.index(part) + 1], "errors", "_version"}
    assert own
    assert {
        f: above for f, names in own.items() if (above := {*map(package, names)} - allowed)
    } == {}
