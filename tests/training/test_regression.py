"""A batch of real targets: the squared error, its gradient, and training steps with it."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM
from numpy_xlstm.training import AdamW, Batch, train_step
from numpy_xlstm.training.step import squared_error


def draw(rng: np.random.Generator) -> Batch:
    inputs = rng.standard_normal((4, 6, 3))
    return Batch(inputs, np.cumsum(inputs[:, :, 0], axis=1), rng.random((4, 6)) < 0.7)


def model() -> Any:
    return LSTM(3, 16, proj_size=1, rng=np.random.default_rng(0))


def test_the_loss_is_the_mean_over_the_positions_that_count() -> None:
    y, targets = np.array([[[1.0], [5.0], [2.0]]]), np.array([[3.0, 0.0, 1.0]])
    loss, _ = squared_error(y, targets, np.array([[True, False, True]]))
    assert float(loss) == ((1 - 3) ** 2 + (2 - 1) ** 2) / 2


def test_the_gradient_is_that_of_a_complex_step() -> None:
    rng = np.random.default_rng(1)
    y, batch = rng.standard_normal((4, 6, 1)), draw(rng)
    _, dy = squared_error(y, batch.targets, batch.mask, 0.5)
    for at in np.ndindex(y.shape):
        moved = y.astype(complex)
        moved[at] += 1e-30j
        loss, _ = squared_error(moved, batch.targets, batch.mask)
        assert dy[at] == pytest.approx(0.5 * loss.imag / 1e-30, rel=1e-14, abs=0)


def test_steps_learn_a_sum() -> None:
    rng, learner = np.random.default_rng(2), model()
    optimizer = AdamW(learner.params, lr=0.02)
    losses = [train_step(learner, optimizer, draw(rng)).loss for _ in range(200)]
    assert np.mean(losses[:10]) > 2
    assert np.mean(losses[-10:]) < 1
