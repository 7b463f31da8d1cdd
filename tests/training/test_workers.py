"""Several processes compute the gradient of one."""

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    LSTM,
    AdamW,
    LanguageModel,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.errors import OptionError, ShapeError, WorkerError
from numpy_xlstm.training import Batch, Workers, train_step
from tests.variants import assert_close

V, T = 7, 9


def lstm_model() -> LanguageModel:
    rng = np.random.default_rng(0)
    return LanguageModel(V, 4, LSTM(4, 6, rng=rng), rng=rng)


def model(dropout: float = 0.0) -> xLSTMLMModel:
    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(mLSTMLayerConfig(num_heads=2, round_proj_up_to_multiple_of=8)),
        slstm_block=sLSTMBlockConfig(sLSTMLayerConfig(num_heads=2), None),
        num_blocks=2,
        embedding_dim=8,
        slstm_at=[1],
        vocab_size=V,
        dropout=dropout,
    )
    built = xLSTMLMModel(config, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for array in built.params.values():
        array += 0.2 * rng.standard_normal(array.shape)
    return built


def batch(rows: int, seed: int = 2) -> Batch:
    tokens = np.random.default_rng(seed).integers(0, V, (rows, T + 1))
    return Batch(tokens[:, :-1], tokens[:, 1:])


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(model(), 2) as found:
        yield found


def test_the_gradient_is_that_of_one_process(workers: Workers) -> None:
    for rows in (2, 5):
        alone, together = model(), model()
        one = train_step(alone, AdamW(alone.params), batch(rows))
        two = train_step(together, AdamW(together.params), batch(rows), workers=workers)
        assert two.loss == pytest.approx(one.loss, rel=1e-13)
        assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-12)
        assert_close(two.state, one.state, rtol=1e-12)
        loss, grads, _ = workers.gradient(model(), batch(rows), None)
        logits, _, cache = model().forward(batch(rows).inputs)
        _, _, expected = model().backward(_dlogits(logits, batch(rows)), cache)
        assert loss == pytest.approx(one.loss, rel=1e-13)
        assert grads.keys() == expected.keys()
        for name, grad in grads.items():
            assert_close(grad, expected[name], rtol=1e-10, atol=1e-14)


def _dlogits(logits: Any, step: Batch) -> Any:
    from numpy_xlstm import softmax_cross_entropy, softmax_cross_entropy_backward

    _, cache = softmax_cross_entropy(logits, step.targets)
    return softmax_cross_entropy_backward(1.0, cache)


def test_states_masks_and_parts_go_through(workers: Workers) -> None:
    mask = np.random.default_rng(3).random((4, T)) < 0.6
    mask[2:] = False  # nothing counts for the second process
    step = batch(4)._replace(mask=mask)
    _, state, _ = model().forward(batch(4, seed=4).inputs)
    options: dict[str, Any] = {"state": state, "accumulate": 2, "recompute": True}
    alone, together = model(), model()
    one = train_step(alone, AdamW(alone.params), step, **options)
    two = train_step(together, AdamW(together.params), step, workers=workers, **options)
    assert two.loss == pytest.approx(one.loss, rel=1e-13)
    assert_close(two.state, one.state, rtol=1e-12)
    for name, array in together.params.items():
        assert_close(array, alone.params[name], rtol=1e-9)


def test_the_workers_see_what_has_been_learned(workers: Workers) -> None:
    learner = model()
    optimizer = AdamW(learner.params, lr=0.02)
    losses = [train_step(learner, optimizer, batch(4), workers=workers).loss for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]


def test_dropout_is_drawn_from_the_generator_that_is_given() -> None:
    with Workers(model(0.5), 2) as found:

        def loss(seed: int) -> float:
            learner, rng = model(0.5), np.random.default_rng(seed)
            return train_step(learner, AdamW(learner.params), batch(4), rng=rng, workers=found).loss

        assert loss(1) == loss(1)
        assert loss(1) != loss(2)


def test_a_state_in_plain_tuples_is_the_same_state(workers: Workers) -> None:
    ids = np.random.default_rng(3).integers(0, V, (2, T))
    state = model()(ids)[1]
    plain = tuple(
        tuple(tuple(part) if isinstance(part, tuple) else part for part in block) for block in state
    )
    loss, grads, after = workers.gradient(model(), batch(2), state)
    grads = {name: grad.copy() for name, grad in grads.items()}
    same_loss, same_grads, same_after = workers.gradient(model(), batch(2), plain)
    assert loss == same_loss
    for name, grad in grads.items():
        np.testing.assert_array_equal(same_grads[name], grad)
    assert type(same_after[0]) is type(after[0])


def test_a_state_with_a_part_missing_leaves_them_at_work(workers: Workers) -> None:
    state = model()(np.zeros((2, T), int))[1]
    with pytest.raises(ShapeError, match=r"state: expected state.0.conv, .*; got 5 arrays"):
        workers.gradient(model(), batch(2), (state[0][1], state[1].slstm[:2]))
    assert np.isfinite(workers.gradient(model(), batch(2), state)[0])


def test_a_model_that_cannot_recompute_leaves_them_at_work() -> None:
    with Workers(lstm_model(), 1) as found:
        with pytest.raises(OptionError, match="recompute: expected a model that can"):
            found.gradient(lstm_model(), batch(2), None, recompute=True)
        assert np.isfinite(found.gradient(lstm_model(), batch(2), None)[0])


def test_a_model_of_the_same_sizes_with_another_configuration() -> None:
    """Its weights would fit, and the gradient would be that of the configuration before."""

    def large(cap: float) -> xLSTMLarge:
        config = xLSTMLargeConfig(8, num_heads=2, num_blocks=1, vocab_size=V, gate_soft_cap=cap)
        return xLSTMLarge(config, rng=np.random.default_rng(0))

    with Workers(large(15.0), 1) as found:
        with pytest.raises(OptionError, match=r"xLSTMLarge of another .* or configuration"):
            found.gradient(large(0.1), batch(2), None)
        assert np.isfinite(found.gradient(large(15.0), batch(2), None)[0])


def test_more_processes_than_rows(workers: Workers) -> None:
    with pytest.raises(OptionError, match="expected at most 1 parts, the rows; got 2"):
        workers.gradient(model(), batch(1), None)


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_a_count_that_is_none(count: Any) -> None:
    with pytest.raises(OptionError, match="count: expected a whole number"):
        Workers(model(), count)


@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_an_id_that_is_none_leaves_them_at_work(workers: Workers, name: str) -> None:
    ids = {"inputs": np.zeros((2, T), int), "targets": np.zeros((2, T), int)}
    ids[name][0, 1] = V
    wrong = Batch(ids["inputs"], ids["targets"])
    with pytest.raises(IndexError, match=rf"^{name}: expected ids from 0 to {V - 1}; got {V} at"):
        workers.gradient(model(), wrong, None)
    assert np.isfinite(workers.gradient(model(), batch(2), None)[0])


def test_an_error_in_a_worker_is_told_and_ends_them_all() -> None:
    with Workers(model(), 2) as found:
        wrong = Batch(np.zeros((2, T), int), np.full((2, T), V), np.ones((2, T), bool))
        with pytest.raises(IndexError, match=r"worker 0: targets: expected ids"):
            found.gradient(model(), wrong, None)
        with pytest.raises(WorkerError, match="expected processes that run; they have ended"):
            found.gradient(model(), batch(2), None)


def test_an_interrupt_between_order_and_answer_ends_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their answers to it must not be taken for answers to the next batch."""
    with Workers(model(), 2) as found:
        processes = list(found._processes)

        def interrupted(n: int) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(found, "_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            found.gradient(model(), batch(2), None)
        monkeypatch.undo()
        assert all(process.poll() is not None for process in processes)
        with pytest.raises(WorkerError, match="they have ended"):
            found.gradient(model(), batch(2), None)


def test_a_worker_that_was_killed_is_told() -> None:
    with Workers(model(), 2) as found:
        os.kill(found._processes[1].pid, signal.SIGKILL)
        found._processes[1].wait()
        with pytest.raises(WorkerError, match=r"worker 1: .* it has ended with status -9"):
            found.gradient(model(), batch(2), None)


def test_workers_that_nobody_holds_end() -> None:
    found = Workers(model(), 1)
    process = found._processes[0]
    del found
    gc.collect()
    assert process.poll() == 0


@pytest.mark.parametrize(
    ("step", "options", "error", "message"),
    [
        (batch(2), {"accumulate": 2}, OptionError, "expected at most 2 parts, the rows; got 4"),
        (
            batch(2)._replace(mask=np.zeros((2, T), bool)),
            {},
            ShapeError,
            "targets: expected at least one position that counts; got 0 of 18",
        ),
    ],
)
def test_what_is_refused_before_anything_is_sent(
    workers: Workers, step: Batch, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        workers.gradient(model(), step, None, **options)
    workers.gradient(model(), batch(2), None)  # they go on


def test_the_processes_end_with_the_block() -> None:
    with Workers(model(), 2) as found:
        processes = found._processes
        assert all(process.poll() is None for process in processes)
    assert all(process.poll() == 0 for process in processes)
