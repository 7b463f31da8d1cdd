from typing import Any

import numpy as np
import pytest

from numpy_xlstm import RNN, xLSTMLMModel
from numpy_xlstm.layers import softmax_cross_entropy
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.training import AdamW, Batch, StepResult, train_step
from numpy_xlstm.trees import leaves
from tests.models.build import lm_config
from tests.training.build import CELLS, V, draw_batches, small_model, watched


def build(cell: str = "lstm", kind: Any = LanguageModel) -> Any:
    return small_model(CELLS[cell], kind)


def test_a_step_reports_the_loss_before_it_and_moves_along_the_clipped_gradient() -> None:
    model, batch = build(), next(draw_batches())
    loss, _ = softmax_cross_entropy(model(batch.inputs)[0], batch.targets)
    before = {name: array.copy() for name, array in model.params.items()}
    optimizer = AdamW(model.params, weight_decay=0.0)
    result = train_step(model, optimizer, batch, lr=0.01, max_norm=1e-3)
    assert result.loss == float(loss)
    assert result.grad_norm > 1e-3
    first_moment = np.concatenate([m.ravel() for m in optimizer.m.values()])
    clipped = 1e-3 * result.grad_norm / (result.grad_norm + 1e-6)
    assert np.linalg.norm(first_moment) == pytest.approx(0.1 * clipped, rel=1e-12)
    for name, array in model.params.items():
        assert np.abs(array - before[name]).max() <= 0.01 * (1 + 1e-6)
        assert (array != before[name]).any()


def gradients(model: Any, batch: Batch, **options: Any) -> tuple[StepResult, dict[str, Any]]:
    """Return the results of a step, and its gradient, which is the first moment with β₁ = 0."""
    optimizer = AdamW(model.params, betas=(0.0, 0.999))
    result = train_step(model, optimizer, batch, **options)
    return result, optimizer.m


def test_a_factor_that_float32_does_not_hold_keeps_its_digits() -> None:
    """The gradient of w is 2 (w x) x = 2e38, and the factor 5e-44 is 36 times the smallest."""
    model = RNN(1, 1, nonlinearity="relu", bias=False, dtype=np.float32)
    model.params["weight_ih_l0"][...] = 1
    batch = Batch(np.full((1, 1, 1), 1e19, np.float32), np.zeros((1, 1), np.float32))
    result, moments = gradients(model, batch, max_norm=1e-5)
    assert result.grad_norm == pytest.approx(2e38, rel=1e-6)
    assert moments["weight_ih_l0"].item() == pytest.approx(1e-5, rel=1e-6)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    cell: str, parts: int, masked: bool
) -> None:
    rng = np.random.default_rng(3)
    ids = rng.integers(0, V, (5, 8))
    mask = rng.random((5, 7)) < 0.5 if masked else None
    if mask is not None:
        mask[0] = False  # one of 5 parts has no counted token
    batch = Batch(ids[:, :-1], ids[:, 1:], mask)
    before = build(cell)(np.random.default_rng(7).integers(0, V, (5, 6)))[1]
    whole, expected = gradients(build(cell), batch, state=before)
    result, found = gradients(build(cell), batch, state=before, accumulate=parts)
    assert result.loss == pytest.approx(whole.loss, rel=1e-14)
    assert result.grad_norm == pytest.approx(whole.grad_norm, rel=1e-13)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-15)
    after = dict(leaves("state", whole.state))
    assert after.keys() == dict(leaves("state", result.state)).keys()
    for name, array in leaves("state", result.state):
        np.testing.assert_allclose(array, after[name], rtol=1e-12)


def test_only_one_part_goes_through_the_model_at_once() -> None:
    ids, model = np.zeros((7, 5), int), build()
    calls = watched(model)
    gradients(model, Batch(ids[:, 1:], ids[:, 1:]), accumulate=3)
    assert [len(call.inputs) for call in calls] == [2, 2, 3]


def test_a_mask_says_what_counts() -> None:
    model, batch = build(), next(draw_batches())
    mask = np.zeros(batch.targets.shape, bool)
    mask[1, :4] = True
    result, found = gradients(model, batch._replace(mask=mask))
    alone, expected = gradients(build(), Batch(batch.inputs[1:2, :4], batch.targets[1:2, :4]))
    assert result.loss == pytest.approx(alone.loss, rel=1e-14)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-12, atol=1e-16)


def test_dropout_is_passed_on_only_where_it_is_wanted() -> None:
    rng, batch = np.random.default_rng(1), next(draw_batches())
    for dropout in (0.0, 0.1):
        config = lm_config(num_blocks=1, slstm_at=[], slstm_block=None, dropout=dropout)
        model = xLSTMLMModel(config, rng=rng)
        calls = watched(model)
        gradients(model, batch, rng=rng)
        gradients(model, batch)
        expected: list[Any] = [{"rng": rng} if dropout else {}, {}]
        assert [call.options for call in calls] == expected
