"""A stack of blocks computes the halves of a large batch on two threads."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.layers import Recurrent, RMSNorm
from numpy_xlstm.layers.base import EVALUATION, RunOptions
from numpy_xlstm.models import blocks
from numpy_xlstm.models.blocks import ResidualBlock
from numpy_xlstm.numerics import Array, threads
from tests.models.build import EVERY_MODEL, T, V, assert_same, build, distance, draw_tokens, run
from tests.models.test_models_recomputed import with_dropout
from tests.samples import draw_like, random_state

ROWS = 5
LENGTHS = np.array([T, 3, 0, T - 1, 2])


def halve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute halves of every batch, also without compiled kernels."""
    monkeypatch.setattr(blocks, "WORTH_THREADS", 0)
    monkeypatch.setattr(blocks, "compiled", lambda dtype: True)


def results(name: str, lengths: Any, recompute: bool = False) -> dict[str, Any]:
    """Return everything that a forward and a backward of five rows give."""
    model, rng = build(name), np.random.default_rng(21)
    state = random_state(model.init_state(ROWS), rng)
    dlogits, dstate = rng.standard_normal((ROWS, T, V)), draw_like(state, rng)
    given = model, draw_tokens(rows=ROWS), state, dlogits, dstate
    after, before = run(*given, lengths=lengths, recompute=recompute)
    return after | {f"before.{name}": array for name, array in before.items()}


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@EVERY_MODEL
def test_halves_give_what_the_batch_gives(
    name: str, lengths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = results(name, lengths)
    halve(monkeypatch)
    halves = results(name, lengths)
    error, place = distance(halves, whole)
    assert error < 1e-12, place
    assert_same(results(name, lengths, recompute=True), halves)


@EVERY_MODEL
def test_results_do_not_depend_on_the_number_of_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("threadpoolctl", reason="threadpoolctl (the extra 'fast') is missing")
    halve(monkeypatch)
    monkeypatch.setattr(threads, "WORTH_THREADS", 0)
    with threads.blas_library().limit(limits=1):
        one = results(name, None)
    with threads.blas_library().limit(limits=2):
        if threads.num_threads() != 2:
            pytest.skip("this BLAS cannot have two threads here")
        assert_same(results(name, None), one)


def test_dropout_is_drawn_for_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = with_dropout(), draw_tokens(rows=ROWS)
    whole, *_ = model.forward(tokens, rng=np.random.default_rng(1))
    halve(monkeypatch)
    again, *_ = model.forward(tokens, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again, whole)


class Shift(Recurrent[Array]):
    """y = x + a + b; both gradients are one read-only array, and the state counts the calls."""

    Cache = tuple

    def __init__(self, width: int) -> None:
        self.in_features = self.out_features = width
        self.params = {"a": np.ones(width), "b": np.ones(width)}

    def init_state(self, batch_size: int) -> Array:
        return np.zeros((batch_size, 1))

    def compute(self, x: Array, state: Any, options: RunOptions = EVALUATION) -> Any:
        return x + self.params["a"] + self.params["b"], state + 1, ()

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> Any:
        gradient = dy.sum(axis=(0, 1))
        gradient.flags.writeable = False
        return dy, dstate, {"a": gradient, "b": gradient}


def test_the_gradients_of_a_custom_block_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = blocks.BlockStack([ResidualBlock(Shift(3), RMSNorm(3))], None, "")
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, ROWS, T, 3))

    def ran() -> dict[str, Any]:
        y, after, cache = stack.forward(x, (np.arange(5.0)[:, None],))
        dx, before, grads = stack.backward(dy, cache, (-np.arange(5.0)[:, None],))
        return {"y": y, "after": after[0], "dx": dx, "before": before[0]} | grads

    whole = ran()
    halve(monkeypatch)
    error, place = distance(ran(), whole)
    assert error < 1e-14, place
