"""Models learn the tasks, and do not if one gradient is wrong."""

from functools import partial
from typing import Any

import pytest

from numpy_xlstm.experiments import trials
from numpy_xlstm.experiments.catalogue import EXPERIMENTS
from numpy_xlstm.experiments.tasks import memory
from numpy_xlstm.numerics.memory import keep_freed_memory

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _as_the_command_does() -> None:
    keep_freed_memory()


def break_gradient(model: Any, part: str, factor: float) -> None:
    """Multiply the gradients of some parameters, as a mistake in the backward does."""
    right = model.compute_backward

    def wrong(*args: Any) -> Any:
        dx, dstate0, grads = right(*args)
        broken = [name for name in grads if part in name]
        assert broken
        return dx, dstate0, grads | {name: factor * grads[name] for name in broken}

    model.compute_backward = wrong


def error_after(
    name: str, model: str, steps: int, broken: str = "", factor: float = 0.0, **changes: Any
) -> float:
    """Return the error of the test after some steps, with a broken gradient if one is given."""
    experiment = EXPERIMENTS[name]._replace(**changes)
    state, curriculum = trials.begin(experiment, model, 0), trials.Curriculum()
    if broken:
        break_gradient(state.model, broken, factor)
    for progress in trials.trial(experiment, state, curriculum, experiment.steps):
        if progress.step == steps:
            break
    return trials.measure(experiment, state, experiment.test, trials.TEST_SEED, 1024)


def test_an_slstm_learns_parity_and_answers_for_longer_sequences() -> None:
    assert error_after("parity", "slstm", EXPERIMENTS["parity"].steps) <= 0.01


def test_without_the_gradient_of_its_recurrence_it_does_not() -> None:
    assert error_after("parity", "slstm", 500, "recurrent_kernel") > 0.8


PAIRS: dict[str, Any] = {"train": (1, 2), "test": (2, 2), "solved": 0.02}
PAIRS |= {"vocabulary": 16, "chance": 1 / 8}
PAIRS |= {"sample": partial(memory.recall, vocabulary=16, context=32)}
POINTS: dict[str, Any] = {"train": (1, 7), "test": (7, 7), "solved": 0.01}


def test_an_mlstm_learns_to_recall() -> None:
    assert error_after("recall-64-4", "mlstm", 500, **PAIRS) < 0.1


def test_with_the_wrong_sign_of_the_gradients_of_q_k_and_v_it_does_not() -> None:
    assert error_after("recall-64-4", "mlstm", 500, "_proj.", -1.0, **PAIRS) > 0.5


def test_an_slstm_finds_the_nearest_neighbour() -> None:
    assert error_after("nearest-neighbour", "slstm", 500, **POINTS) < 0.03


def test_with_the_wrong_sign_of_the_gradients_of_its_gates_it_does_not() -> None:
    assert error_after("nearest-neighbour", "slstm", 500, "gate", -1.0, **POINTS) > 0.05
