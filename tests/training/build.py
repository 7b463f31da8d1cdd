"""Small models and batches for tests of training."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm import LSTM, LanguageModel, mLSTM, sLSTM
from numpy_xlstm.training import AdamW, Batch, Budget, TrainingState, consecutive_windows, train

V = 5
IDS = np.random.default_rng(1).integers(0, V, 200)
CELLS: dict[str, Any] = {
    "lstm": LSTM,
    "slstm": sLSTM,
    "mlstm": mLSTM,
    "mlstmsig": lambda *sizes, **options: mLSTM(*sizes, input_gate="sigmoid", **options),
}


def small_model(cell: Any = LSTM, kind: Any = LanguageModel, dtype: Any = np.float64) -> Any:
    rng = np.random.default_rng(0)
    return kind(V, 4, cell(4, 6, dtype=dtype, rng=rng), rng=rng)


def started(model: Any = None, lr: float = 0.01, **kind: Any) -> TrainingState:
    """Return the state before the first step of a model, or of a small model of this kind."""
    model = small_model(**kind) if model is None else model
    return TrainingState(model, AdamW(model.params, lr=lr), np.random.default_rng(5))


def draw_batches(seed: int = 1) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    while True:
        windows = (rng.integers(0, V, (3, 1)) + np.arange(8)) % V
        yield Batch(windows[:, :-1], windows[:, 1:])


def go_on(state: TrainingState, steps: int, **options: Any) -> list[float]:
    """Train up to this step with the rows of a text, and return the losses."""
    windows = consecutive_windows(IDS, 3, 7, state.step)
    options |= {"max_norm": 1.0}
    return [p.loss for p in train(state, windows, Budget(steps=steps), **options)]


class Call(NamedTuple):
    """Arguments and results of a call of ``forward``."""

    inputs: Any
    state: Any
    options: dict[str, Any]
    after: Any


def watched(model: Any) -> list[Call]:
    """Return a list to which each call of the model's ``forward`` is added."""
    calls, forward = list[Call](), model.forward

    def recorded(inputs: Any, state: Any = None, **options: Any) -> Any:
        results = forward(inputs, state, **options)
        calls.append(Call(inputs, state, options, results[1]))
        return results

    model.forward = recorded
    return calls
