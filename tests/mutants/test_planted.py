"""The battery finds all seeded mistakes in the cells and kernels."""

from functools import cache

import pytest

from tests.mutants.mutate import Mutant, mutants
from tests.mutants.run import noticed

CELLS = {"lstm": 6, "slstm": 8, "mlstm": 10}
KERNELS = {
    "lstm": 3,
    "slstm": 8,
    "peephole": 4,
    "gru": 4,
    "lstmp": 1,
    "mlstm/shared": 8,
    "mlstm/recurrent": 1,
    "mlstm/matrices": 2,
}


@cache
def spread(file: str, count: int) -> list[Mutant]:
    """Return mutants of a file that change results, at lines as far apart as can be."""
    first = {mutant.line: mutant for mutant in reversed(mutants(file)) if _computes(mutant)}
    lines = sorted(first)
    return [first[lines[n * len(lines) // count]] for n in range(count)]


def _computes(mutant: Mutant) -> bool:
    """Return whether the mutant changes an equation with a tag on the line, and not a number."""
    line = mutant.source().splitlines()[mutant.line - 1]
    return "# [" in line and not mutant.text.lstrip("-").isdigit()


FILES = {
    f"numpy_xlstm/{folder}/{name}.py": count
    for folder, files in (("cells", CELLS), ("kernels", KERNELS))
    for name, count in files.items()
}


def test_each_is_on_a_line_of_its_own() -> None:
    planted = [mutant for file, count in FILES.items() for mutant in spread(file, count)]
    assert len({(mutant.file, mutant.line) for mutant in planted}) == len(planted)
    for folder in ("cells", "kernels"):
        assert sum(f"/{folder}/" in mutant.file for mutant in planted) >= 20


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In one trial a third of the mutants of each file, in three trials all of them."""
    if {"file", "n"} <= {*metafunc.fixturenames}:
        trials = metafunc.config.getoption("--trials")
        places = [(file, n) for file in FILES for n in range(FILES[file]) if n % 3 < trials]
        metafunc.parametrize(("file", "n"), places)


def test_it_is_noticed(file: str, n: int) -> None:
    mutant = spread(file, FILES[file])[n]
    assert noticed(mutant), mutant
