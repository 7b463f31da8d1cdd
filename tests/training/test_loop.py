from collections.abc import Callable, Iterator

import numpy as np
import pytest

from numpy_xlstm.cells import LSTM
from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.layers import softmax_cross_entropy
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.training import AdamW, Batch, Budget, Progress, train, train_step, warmup_cosine

V = 5


def build() -> LanguageModel:
    rng = np.random.default_rng(0)
    return LanguageModel(V, 4, LSTM(4, 6, rng=rng), rng=rng)


def draw_batches(seed: int = 1) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    while True:
        windows = (rng.integers(0, V, (3, 1)) + np.arange(8)) % V
        yield Batch(windows[:, :-1], windows[:, 1:])


def ticking(seconds: float = 1.0) -> Callable[[], float]:
    now = [100.0]

    def clock() -> float:
        now[0] += seconds
        return now[0]

    return clock


def run(budget: Budget, model: LanguageModel | None = None, **options: object) -> list[Progress]:
    model = model or build()
    optimizer = AdamW(model.params, lr=0.01)
    return list(train(model, optimizer, draw_batches(), budget, **options))  # type: ignore[arg-type]


def test_a_step_reports_the_loss_before_it_and_moves_along_the_clipped_gradient() -> None:
    model, batch = build(), next(draw_batches())
    loss, _ = softmax_cross_entropy(model(batch.inputs)[0], batch.targets)
    before = {name: array.copy() for name, array in model.params.items()}
    optimizer = AdamW(model.params, weight_decay=0.0)
    result = train_step(model, optimizer, batch, lr=0.01, max_norm=1e-3)
    assert result.loss == float(loss)
    assert result.grad_norm > 1e-3
    first_moment = np.concatenate([m.ravel() for m in optimizer.m.values()])
    assert np.linalg.norm(first_moment) == pytest.approx(0.1 * 1e-3, rel=1e-12)
    for name, array in model.params.items():
        assert np.abs(array - before[name]).max() <= 0.01 * (1 + 1e-6)
        assert (array != before[name]).any()


def test_a_step_with_a_gradient_that_is_not_finite_updates_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = build(), next(draw_batches())
    optimizer = AdamW(model.params)
    backward = model.backward

    def broken(*args: object) -> object:
        _, dstate0, grads = backward(*args)  # type: ignore[arg-type]
        grads["head.bias"][1] = np.nan
        return None, dstate0, grads

    monkeypatch.setattr(model, "backward", broken)
    with pytest.raises(NonFiniteError, match=r"finite norm; got nan \(in head\.bias\)"):
        train_step(model, optimizer, batch)
    for name, array in build().params.items():
        np.testing.assert_array_equal(model.params[name], array)
    assert optimizer.t == 0


def test_it_learns_a_cycle() -> None:
    history = run(Budget(steps=150), max_norm=1.0)
    assert history[0].loss > 1.2
    assert history[-1].loss < 0.3


def test_it_stops_after_the_steps() -> None:
    history = run(Budget(steps=7))
    assert [p.step for p in history] == [1, 2, 3, 4, 5, 6, 7]
    assert [p.tokens for p in history] == [21 * n for n in range(1, 8)]
    assert history[-1].fraction == 1.0
    assert history[2].fraction == pytest.approx(3 / 7)


def test_it_stops_after_the_time() -> None:
    # readings: the start, then for each step its beginning, its end and one before the next
    history = run(Budget(seconds=10), clock=ticking())
    assert [p.elapsed for p in history] == [2, 5, 8, 11]
    assert [p.busy for p in history] == [1, 2, 3, 4]
    assert [p.fraction for p in history] == [0.2, 0.5, 0.8, 1.0]
    assert history[1].tokens_per_second == 21.0
    assert history[1].seconds_left == pytest.approx(5.0)
    assert history[-1].seconds_left == 0.0


def test_whichever_comes_first() -> None:
    assert len(run(Budget(steps=3, seconds=1000), clock=ticking())) == 3
    assert len(run(Budget(steps=1000, seconds=5), clock=ticking())) == 2


def test_what_the_caller_does_between_steps_takes_time_too() -> None:
    model, now = build(), [0.0]
    records = train(
        model, AdamW(model.params), draw_batches(), Budget(seconds=10), clock=lambda: now[0]
    )
    for _ in range(3):
        next(records)
        now[0] += 4
    assert list(records) == []


def test_it_stops_when_the_batches_end() -> None:
    model = build()
    batches = [next(draw_batches())] * 4
    assert len(list(train(model, AdamW(model.params), batches, Budget(steps=9)))) == 4


def test_the_learning_rate_follows_the_schedule() -> None:
    schedule = warmup_cosine(warmup=0.4, final=0.1)
    rates = [p.lr for p in run(Budget(steps=5), schedule=schedule)]
    assert rates == pytest.approx([0.01 * schedule(k / 5) for k in range(1, 6)])
    timed = [p.lr for p in run(Budget(seconds=10), schedule=schedule, clock=ticking())]
    assert timed == pytest.approx([0.01 * schedule(t / 10) for t in (1, 4, 7, 10)])


def test_the_same_seed_gives_the_same_model_bit_for_bit() -> None:
    one, two = build(), build()
    first, second = run(Budget(steps=5), one), run(Budget(steps=5), two)
    assert [p.loss for p in first] == [p.loss for p in second]
    for name, array in one.params.items():
        np.testing.assert_array_equal(array, two.params[name])


@pytest.mark.parametrize(
    ("steps", "seconds", "message"),
    [
        (None, None, "budget: expected steps, seconds or both; got neither"),
        (0, None, "steps: expected a number above 0; got 0"),
        (None, -1.0, "seconds: .*got -1.0"),
        (None, float("nan"), "seconds: .*got nan"),
        (None, float("inf"), "seconds: .*got inf"),
    ],
)
def test_a_bad_budget(steps: int | None, seconds: float | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Budget(steps, seconds)
