"""Costs of a step in counts of Python and NumPy calls and bytes of residuals, without times."""

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    GRU,
    LSTM,
    RNN,
    mLSTM,
    mLSTMBlockConfig,
    sLSTM,
    sLSTMBlockConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.kernels import compiled, functions

B, D = 2, 8
LAYERS: dict[str, Any] = {
    "LSTM": lambda: LSTM(D, D, dtype=np.float32),
    "GRU": lambda: GRU(D, D, dtype=np.float32),
    "RNN": lambda: RNN(D, D, dtype=np.float32),
    "sLSTM": lambda: sLSTM(D, D, 2, dtype=np.float32),
    "mLSTM": lambda: mLSTM(D, D, 2, chunk_size=4, dtype=np.float32),
}


def both_ways(layer: Any, T: int) -> Callable[[], None]:
    """Return a forward and a backward over T steps, after a first run of both."""
    x = np.ones((B, T, D), np.float32)

    def run() -> None:
        y, _, cache = layer.forward(x)
        layer.backward(y, cache)

    run()
    return run


def calls(work: Callable[[], Any]) -> int:
    """Count the calls of Python and C functions."""
    found = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    before = sys.getprofile()
    gc.disable()  # its callbacks would be counted too
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return found


def kept(layer: Any, T: int) -> int:
    """Return the bytes of the residuals, output and state of a forward."""
    x = np.ones((B, T, D), np.float32)
    layer.forward(x)
    tracemalloc.start()
    result = layer.forward(x)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del result
    return size


CALLS_PER_STEP = {"LSTM": 27, "GRU": 26, "RNN": 14, "sLSTM": 34, "mLSTM": 31}
"""Limits for forward and backward over arrays, with a margin of 1/9 for versions of NumPy."""


@pytest.mark.parametrize("kind", LAYERS)
def test_calls_per_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "compiles", lambda: False)
    layer = LAYERS[kind]()
    some, more = (calls(both_ways(layer, T)) for T in (8, 24))
    assert 0 < (more - some) / 16 <= CALLS_PER_STEP[kind]


@pytest.mark.skipif(not compiled(), reason="numba is not installed")
@pytest.mark.parametrize("kind", LAYERS)
def test_compiled_loops_call_nothing_per_step(kind: str) -> None:
    layer = LAYERS[kind]()
    some, more = (calls(both_ways(layer, T)) for T in (8, 24))
    assert some == more


CALLS_PER_RUN = {"LSTM": 620, "GRU": 670, "RNN": 590, "sLSTM": 570, "mLSTM": 890}
"""Limits for forward and backward with compiled loops, with the same margin."""


@pytest.mark.skipif(not compiled(), reason="numba is not installed")
@pytest.mark.parametrize("kind", LAYERS)
def test_calls_around_compiled_loops(kind: str) -> None:
    assert 0 < calls(both_ways(LAYERS[kind](), 8)) <= CALLS_PER_RUN[kind]


NUMBERS_PER_STEP = {"LSTM": 7.2, "GRU": 7.2, "RNN": 3.2, "sLSTM": 9.2, "mLSTM": 12.2}
"""Numbers for each unit of each row: pre-activations, h, memory and y."""


@pytest.mark.parametrize("kind", LAYERS)
def test_bytes_that_are_kept_per_step(kind: str) -> None:
    layer = LAYERS[kind]()
    numbers = (kept(layer, 512) - kept(layer, 128)) / 384 / (4 * B * D)
    assert 0 < numbers <= NUMBERS_PER_STEP[kind]


def test_calls_of_a_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functions, "compiles", lambda: False)
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(),
        slstm_block=sLSTMBlockConfig(),
        num_blocks=2,
        embedding_dim=32,
        vocab_size=11,
        slstm_at=[1],
    )
    model = xLSTMLMModel(config, dtype=np.float32, rng=np.random.default_rng(0))
    tokens = np.ones((B, 4), int)
    y, _, cache = model.forward(tokens)
    model.backward(y, cache)
    assert calls(lambda: model.forward(tokens)) <= 1400
    assert calls(lambda: model.backward(y, cache)) <= 2250
