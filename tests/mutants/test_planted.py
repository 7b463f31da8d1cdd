"""The battery finds all seeded mistakes in the cells and kernels."""

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


def spread(file: str, count: int) -> list[Mutant]:
    """Select this number of mutants that change results, on lines as far apart as possible."""
    first = {mutant.line: mutant for mutant in reversed(mutants(file)) if _computes(mutant)}
    lines = sorted(first)
    return [first[lines[n * len(lines) // count]] for n in range(count)]


def _computes(mutant: Mutant) -> bool:
    """Return whether the mutant changes an equation with a tag on the line, and not a number."""
    line = mutant.source().splitlines()[mutant.line - 1]
    return "# [" in line and not mutant.text.lstrip("-").isdigit()


PLANTED = [
    mutant
    for folder, files in (("cells", CELLS), ("kernels", KERNELS))
    for name, count in files.items()
    for mutant in spread(f"numpy_xlstm/{folder}/{name}.py", count)
]


def test_each_is_on_a_line_of_its_own() -> None:
    assert len({(mutant.file, mutant.line) for mutant in PLANTED}) == len(PLANTED)
    for folder in ("cells", "kernels"):
        assert sum(f"/{folder}/" in mutant.file for mutant in PLANTED) >= 20


@pytest.mark.parametrize("mutant", PLANTED, ids=str)
def test_it_is_noticed(mutant: Mutant) -> None:
    assert noticed(mutant)
