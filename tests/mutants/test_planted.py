"""The battery finds all seeded mistakes in the cells and kernels."""

from functools import cache

import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.cells import ElmanCell, GRUCell, LSTMPCell, OriginalGRUCell, PeepholeLSTMCell
from numpy_xlstm.conformance.copies import source
from tests.mutants.run import Mutant, changes_of, lines
from tests.samples import random_state

CELLS = {"lstm": 6, "slstm": 8, "mlstm": 10}
KERNELS = {
    "lstm": 3,
    "slstm": 8,
    "peephole": 4,
    "gru": 4,
    "lstmp": 1,
    "mlstm.forms": 8,
    "mlstm.matrices": 2,
}
MODULES = {
    f"numpy_xlstm.{folder}.{name}": count
    for folder, names in (("cells", CELLS), ("kernels", KERNELS))
    for name, count in names.items()
}
CUSTOM = [GRUCell, OriginalGRUCell, ElmanCell, PeepholeLSTMCell, LSTMPCell]


@cache
def equations(name: str) -> list[Mutant]:
    """Return a mutant with another sign for each line of a module with the tag of an equation."""
    rows = {row.split("  #")[0].strip() for row in source(name).split("\n") if "# [" in row}
    every = changes_of(name).all
    texts = [[every[mutant.number].new for mutant in line[:3]] for line in lines(name)]
    pairs = zip(lines(name), texts, strict=True)  # without the orders of a tuple
    signs = [line[2] for line, new in pairs if any("0 * " in text for text in new)]
    return [m for m in signs if every[m.number].old.split("\n")[-1].strip() in rows]


def spread(name: str) -> list[Mutant]:
    """Return mutants of a module at lines as far apart as can be."""
    every, count = equations(name), MODULES[name]
    return [every[n * len(every) // count] for n in range(count)]


@pytest.mark.long
def test_the_battery_passes_without_a_mistake() -> None:
    assert not Mutant("numpy_xlstm.cells.lstm", -1).noticed()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """In one trial a sixth of the mutants of each module, in six trials all of them."""
    if {"module", "n"} <= {*metafunc.fixturenames}:
        trials = metafunc.config.getoption("--trials") or 1
        places = [(name, n) for name in MODULES for n in range(MODULES[name]) if n % 6 < trials]
        metafunc.parametrize(("module", "n"), places)


@pytest.mark.long
def test_it_is_noticed(module: str, n: int) -> None:
    mutant = spread(module)[n]
    assert mutant.noticed(), mutant


@pytest.mark.long
@pytest.mark.parametrize("cell", CUSTOM)
def test_each_method_of_gradcheck_finds_each_of_a_custom_cell(cell: type, trials: int) -> None:
    mutants = equations(cell.__module__)
    assert len(mutants) >= 9
    for mutant in (mutant for n, mutant in enumerate(mutants) if n % 6 < trials):
        rng = np.random.default_rng(8)
        layer = mutant.planted().of(cell)(2, 4, *[3] * (cell is LSTMPCell), rng=rng)
        x, state = rng.standard_normal((3, 2)), random_state(layer.init_state(3), rng)
        report = gradcheck(layer, x, state, rng=1, max_entries=4, directions=2)
        methods = {row.method for row in report.failures}
        assert methods == {"complex step", "adjoint"}, f"{mutant}\n{report}"
