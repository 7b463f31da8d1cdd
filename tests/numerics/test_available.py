"""Available memory, and errors for arrays that exceed it."""

from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import LSTM, GRUCell, Linear, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.errors import SizeError
from numpy_xlstm.models.skeleton import MetaInitialisation
from numpy_xlstm.numerics import available


@pytest.fixture(autouse=True)
def _fresh() -> None:
    available._machine.cache_clear()


def test_the_machine_has_some_memory_and_no_more_than_a_petabyte() -> None:
    assert 2**24 < available.memory_limit() < 2**50


def test_the_limits_of_a_container_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "CGROUPS", tmp_path)
    whole = available._machine()
    (tmp_path / "memory.max").write_text("max\n")
    available._machine.cache_clear()
    assert available._machine() == whole
    (tmp_path / "memory.max").write_text("1234567\n")
    available._machine.cache_clear()
    assert available._machine() == 1234567
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("1000\n")
    available._machine.cache_clear()
    assert available._machine() == 1000


def test_a_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**26, resource.RLIM_INFINITY))
    assert available.memory_limit() == 2**26
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert available.memory_limit() == available._machine()


def test_what_fits_exactly_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 parameters need additional memory for the float64 numbers that are drawn."""
    monkeypatch.setattr(available, "memory_limit", lambda: (64 * 32 + 64) * 4 + 64 * 32 * 8)
    Linear(32, 64, dtype=np.float32)
    Linear(47, 64)
    for width, dtype in ((48, np.float64), (33, np.float32)):
        with pytest.raises(SizeError, match="sizes: expected"):
            Linear(width, 64, dtype=dtype)


def test_the_layers_together_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "memory_limit", lambda: 10**5)
    LSTM(4, 4, num_layers=3)
    with pytest.raises(SizeError):
        LSTM(4, 4, num_layers=100)
    GRUCell(4, 8)
    config = xLSTMLargeConfig(8, num_heads=2, num_blocks=20, vocab_size=5)
    with pytest.raises(SizeError):
        xLSTMLarge(config)
    assert xLSTMLarge(config, rng=MetaInitialisation()).num_parameters * 8 > 10**5
