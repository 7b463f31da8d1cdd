"""Loops over batches: budgets, schedules, and the state that is carried."""

import itertools
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.layers import softmax_cross_entropy, softmax_cross_entropy_backward
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.training import (
    AdamW,
    Batch,
    Budget,
    Progress,
    constant,
    loop,
    ranks,
    train,
    train_step,
    warmup_cosine,
)
from tests.training.build import V, draw_batches, small_model, started, watched


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each reading of the clock take a second."""
    times = itertools.count(100.0)
    monkeypatch.setattr(ranks, "seconds", lambda comm: next(times))


def run(budget: Budget, model: LanguageModel | None = None, **options: Any) -> list[Progress]:
    return list(train(started(model), draw_batches(), budget, **options))


def test_it_stops_after_the_steps() -> None:
    history = run(Budget(steps=7))
    assert [p.step for p in history] == [1, 2, 3, 4, 5, 6, 7]
    assert [p.tokens for p in history] == [21 * n for n in range(1, 8)]
    assert history[-1].fraction == 1.0
    assert history[2].fraction == pytest.approx(3 / 7)


@pytest.mark.usefixtures("ticking")
def test_it_stops_after_the_time() -> None:
    # readings: the end of each step, and one before the next
    history = run(Budget(seconds=10))
    assert [p.elapsed for p in history] == [0, 2, 4, 6, 8, 10]
    assert [p.fraction for p in history] == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert history[1].tokens_per_second == 42 / 2
    assert history[1].seconds_left == pytest.approx(8.0)
    assert history[-1].seconds_left == 0.0


def test_what_the_caller_does_between_steps_takes_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(ranks, "seconds", lambda comm: now[0])
    records = train(started(), draw_batches(), Budget(seconds=10))
    for _ in range(3):
        next(records)
        now[0] += 4
    assert list(records) == []


def test_neither_compilation_nor_validation_takes_time_of_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The learning rate does not jump at a validation, and the first step may compile kernels."""
    now, durations = [0.0], itertools.chain([60.0], itertools.repeat(1.0))

    def step(*args: Any, **options: Any) -> Any:
        now[0] += next(durations)
        return train_step(*args, **options)

    def validate(progress: Progress) -> float | None:
        now[0] += 7 if progress.step == 3 else 0
        return 1.5 if progress.step == 3 else None

    monkeypatch.setattr(ranks, "seconds", lambda comm: now[0])
    monkeypatch.setattr(loop, "train_step", step)
    schedule = warmup_cosine(warmup=0.5)
    history = run(Budget(seconds=4), validate=validate, schedule=schedule)
    assert [p.elapsed for p in history] == [0, 1, 2, 3, 4]
    rates = [0.01 * schedule(t / 4) for t in (0, 0, 1, 2, 3)]
    assert [p.lr for p in history] == pytest.approx(rates)
    assert [p.validation for p in history] == [None, None, 1.5, None, None]
    assert [p.validation_seconds for p in history] == [0, 0, 7, 0, 0]


@pytest.mark.usefixtures("ticking")
def test_the_learning_rate_follows_the_schedule() -> None:
    schedule = warmup_cosine(warmup=0.4, final=0.1)
    rates = [p.lr for p in run(Budget(steps=5), schedule=schedule)]
    assert rates == pytest.approx([0.01 * schedule(k / 5) for k in range(1, 6)])
    timed = [p.lr for p in run(Budget(seconds=10), schedule=schedule)]
    assert timed == pytest.approx([0.01 * schedule(t / 10) for t in (0, 1, 3, 5, 7, 9)])


@pytest.mark.usefixtures("ticking")
def test_it_goes_on_where_the_state_stands() -> None:
    whole, state = run(Budget(steps=7)), started()
    batches = draw_batches()
    records = train(state, batches, Budget(steps=7))
    parts = [next(records) for _ in range(3)]
    assert (state.step, state.elapsed) == (3, 4.0)
    parts += train(state, batches, Budget(steps=7))
    assert [p.step for p in parts] == [1, 2, 3, 4, 5, 6, 7]
    assert [(p.loss, p.grad_norm, p.tokens) for p in parts] == [
        (p.loss, p.grad_norm, p.tokens) for p in whole
    ]
    assert list(train(state, batches, Budget(steps=7))) == []
    assert [p.elapsed for p in parts] == [0, 2, 4, 4, 6, 8, 10]


def test_the_state_is_carried_if_that_is_asked_for_and_the_batch_is_not_fresh() -> None:
    model, batch = small_model(), next(draw_batches())
    calls = watched(model)
    batches = [batch._replace(fresh=fresh) for fresh in (True, False, False, True)]
    list(train(started(model), batches, Budget(steps=9), carry=True))
    assert [call.state is None for call in calls] == [True, False, False, True]
    for call, last in zip(calls[1:3], calls[:2], strict=True):
        np.testing.assert_array_equal(call.state[0].h, last.after[0].h)
        np.testing.assert_array_equal(call.state[0].c, last.after[0].c)
    calls.clear()
    state = started(model)
    list(train(state, batches, Budget(steps=9)))
    assert [call.state for call in calls] == [None] * 4
    assert state.carried is None


def test_a_carried_state_is_the_truncated_back_propagation_by_hand() -> None:
    """Loss and parameters equal those of a loop that passes the state itself."""
    ids = np.random.default_rng(2).integers(0, V, (3, 13))
    batches = [Batch(ids[:, t : t + 4], ids[:, t + 1 : t + 5], fresh=t == 0) for t in (0, 4, 8)]
    state = started()
    losses = [p.loss for p in train(state, batches, Budget(steps=3), carry=True)]
    model, carried, expected = small_model(), None, []
    optimizer = AdamW(model.params, lr=0.01)
    for inputs, targets, *_ in batches:
        logits, carried, cache = model.forward(inputs, carried)
        loss, loss_cache = softmax_cross_entropy(logits, targets)
        _, _, grads = model.backward(softmax_cross_entropy_backward(1.0, loss_cache), cache)
        optimizer.step(grads)
        expected.append(float(loss))
    assert losses == expected
    for name, array in model.params.items():
        np.testing.assert_array_equal(state.model.params[name], array)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (
            warmup_cosine(warmup=0.25, final=0.2),
            {0: 0, 0.125: 0.5, 0.25: 1, 0.5: 0.8, 0.625: 0.6, 1: 0.2, 1.5: 0.2},
        ),
        (warmup_cosine(warmup=0.0), {0: 1}),
        (warmup_cosine(warmup=0.0, final=1.0), {0.7: 1}),
        (constant, {0.3: 1}),
    ],
)
def test_by_hand(schedule: Any, expected: dict[float, float]) -> None:
    for progress, factor in expected.items():
        assert schedule(progress) == pytest.approx(factor, abs=1e-15)
