"""The benchmarks run, as far as they need no other package. What they measure is no test."""

import numpy as np
import pytest

from benchmarks import cells, forms, models
from benchmarks.timing import Setup

MODULES = (cells, forms, models)
OURS = ("ours", "our matrix products", "matrix products", "numpy_xlstm")
CONTENDERS = {
    f"{module.__name__}: {title}: {name}": setup
    for module in MODULES
    for title, contenders in module.TABLES.items()
    for name, setup in contenders.items()
    if name.startswith(OURS)
}


def test_every_table_has_one_of_ours() -> None:
    tables = sum(len(module.TABLES) for module in MODULES)
    assert len({name.rpartition(": ")[0] for name in CONTENDERS}) == tables


@pytest.mark.parametrize("name", CONTENDERS)
def test_ours_runs(name: str) -> None:
    setup: Setup = CONTENDERS[name]
    work = setup()
    assert callable(work)
    with np.errstate(all="raise", under="ignore"):
        work()
