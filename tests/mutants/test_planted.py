"""The battery finds all seeded mistakes in the cells and kernels."""

from functools import cache

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.cells import ElmanCell, GRUCell, LSTMPCell, OriginalGRUCell, PeepholeLSTMCell
from tests.mutants.mutate import Mutant, mutants
from tests.mutants.run import noticed
from tests.samples import random_state

CELLS = {"lstm": 6, "slstm": 8, "mlstm": 10}
KERNELS = {
    "lstm": 3,
    "slstm": 8,
    "peephole": 4,
    "gru": 4,
    "lstmp": 1,
    "mlstm/forms": 8,
    "mlstm/matrices": 2,
}
FILES = {
    f"numpy_xlstm/{folder}/{name}.py": count
    for folder, files in (("cells", CELLS), ("kernels", KERNELS))
    for name, count in files.items()
}
CUSTOM = [GRUCell, OriginalGRUCell, ElmanCell, PeepholeLSTMCell, LSTMPCell]


@cache
def lines(file: str) -> list[Mutant]:
    """Return a mutant of each line of a file with an equation."""
    found: dict[int, Mutant] = {}
    for mutant in mutants(file):
        if mutant.line not in found and mutant.computes and mutant.parses():
            found[mutant.line] = mutant
    return list(found.values())


def spread(file: str) -> list[Mutant]:
    """Return mutants of a file at lines as far apart as can be."""
    every, count = lines(file), FILES[file]
    return [every[n * len(every) // count] for n in range(count)]


def test_each_is_on_a_line_of_its_own() -> None:
    planted = [mutant for file in FILES for mutant in spread(file)]
    assert len({(mutant.file, mutant.line) for mutant in planted}) == len(planted)
    for folder in ("cells", "kernels"):
        assert sum(f"/{folder}/" in mutant.file for mutant in planted) >= 20


@pytest.mark.long
def test_the_battery_passes_without_a_mistake() -> None:
    none = Mutant("numpy_xlstm/cells/lstm.py", 1, 0, 0, "")
    none.planted().module("tests.mutants.battery").run()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In one trial a sixth of the mutants of each file, in six trials all of them."""
    if {"file", "n"} <= {*metafunc.fixturenames}:
        trials = metafunc.config.getoption("--trials")
        places = [(file, n) for file in FILES for n in range(FILES[file]) if n % 6 < trials]
        metafunc.parametrize(("file", "n"), places)


@pytest.mark.long
def test_it_is_noticed(file: str, n: int) -> None:
    mutant = spread(file)[n]
    assert noticed(mutant), mutant


@pytest.mark.long
@pytest.mark.parametrize("cell", CUSTOM)
def test_each_method_of_gradcheck_finds_each_of_a_custom_cell(cell: type, trials: int) -> None:
    found = lines(cell.__module__.replace(".", "/") + ".py")
    assert len(found) >= 9
    for mutant in (mutant for n, mutant in enumerate(found) if n % 6 < trials):
        rng = np.random.default_rng(8)
        layer = mutant.planted().of(cell)(2, 4, *[3] * (cell is LSTMPCell), rng=rng)
        x, state = rng.standard_normal((3, 2)), random_state(layer.init_state(3), rng)
        report = gradcheck(layer, x, state, rng=1, max_entries=4, directions=2)
        methods = {row.method for row in report.failures}
        assert methods == {"complex step", "adjoint"}, f"{mutant}\n{report}"
