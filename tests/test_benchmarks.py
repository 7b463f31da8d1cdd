"""The benchmarks run, as far as they need no other package. What they measure is no test."""

import numpy as np
import pytest

from benchmarks import cells, float32_gradients, forms, models
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


@pytest.mark.parametrize("kind", float32_gradients.OURS)
def test_gradients_in_float32(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    pytest.importorskip("jax", reason="JAX (the extra 'peers') is not installed")
    monkeypatch.setattr(float32_gradients, "NEIGHBOURS", 2)
    (found,) = float32_gradients.errors(kind, cases=1, seed=0)
    assert found.keys() == {"torch", "jax", *float32_gradients.OURS[kind]}
    assert 0 < max(found.values()) < 1e-4
