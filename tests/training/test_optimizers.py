"""An optimiser is one entry in the registry: training, checkpoints and runs need nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM
from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import (
    OPTIMIZERS,
    Budget,
    Run,
    TrainingState,
    consecutive_windows,
    train,
)

IDS = np.random.default_rng(1).integers(0, 5, 200)


class Momentum:
    """Gradient descent with momentum."""

    largest_update: float | None = None

    def __init__(self, params: Mapping[str, Array], *, lr: float, mu: float = 0.9) -> None:
        self.lr, self.mu, self.t = lr, mu, 0
        self.v = {name: np.zeros_like(array) for name, array in params.items()}

    @property
    def options(self) -> dict[str, Any]:
        return {"lr": self.lr, "mu": self.mu}

    def step(
        self,
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        lr: float | None = None,
        scale: float = 1.0,
    ) -> None:
        for name, v in self.v.items():
            v[...] = self.mu * v + scale * grads[name]
            params[name][...] -= (self.lr if lr is None else lr) * v
        self.t += 1

    def state_dict(self) -> dict[str, Array]:
        return {"t": np.array(self.t), **self.v}

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        self.t = int(arrays["t"])
        for name, v in self.v.items():
            v[...] = arrays[name]


def start() -> TrainingState:
    rng = np.random.default_rng(0)
    model = LanguageModel(5, 4, LSTM(4, 6, rng=rng), rng=rng)
    optimizer = Momentum(model.params, lr=0.1, mu=0.8)
    return TrainingState(model, optimizer, rng)


def go_on(state: TrainingState, steps: int) -> list[float]:
    windows = consecutive_windows(IDS, 3, 7, state.step)
    return [p.loss for p in train(state, windows, Budget(steps=steps), max_norm=1.0)]


def test_an_optimiser_is_added_by_one_entry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole, state = start(), start()
    expected = go_on(whole, 12)
    assert expected[-1] < expected[0]
    monkeypatch.setitem(OPTIMIZERS, "Momentum", Momentum)
    losses = go_on(state, 5)
    run = Run.begin(tmp_path, state)
    del run, state
    resumed = Run.resume(tmp_path).state
    assert isinstance(resumed.optimizer, Momentum)
    assert resumed.optimizer.options == {"lr": 0.1, "mu": 0.8}
    assert losses + go_on(resumed, 12) == expected
    for name, array in whole.model.params.items():
        assert resumed.model.params[name].tobytes() == array.tobytes()


def test_an_unknown_optimiser_in_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"optimizer\.kind: .* AdamW; got 'Mom"):
        start().save(tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
    with monkeypatch.context() as known:
        known.setitem(OPTIMIZERS, "Momentum", Momentum)
        start().save(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"optimizer\.kind: .* AdamW; got 'Mom"):
        TrainingState.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["kind", "lr", "betas", "eps", "weight_decay", "decays"])
def test_an_option_that_a_checkpoint_lacks_is_not_guessed(name: str, tmp_path: Path) -> None:
    path, state = tmp_path / "a.safetensors", start()
    state.optimizer = OPTIMIZERS["AdamW"](state.model.params, lr=0.5)
    state.save(path)
    arrays, metadata = read_arrays(path)
    del metadata["training"]["optimizer"][name]
    write_arrays(path, arrays, metadata)
    with pytest.raises(CheckpointError, match=r"optimizer(\.kind)?: expected .*AdamW|decays; got"):
        TrainingState.load(path)
