"""States that are not finite, plain tuples as states, and parameters that are changed in place."""

import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import AdamW, LanguageModel
from numpy_xlstm.conformance import suite
from numpy_xlstm.errors import NonFiniteError
from numpy_xlstm.generation import join_states
from numpy_xlstm.layers import Recurrent
from numpy_xlstm.training import Batch, TrainingState, train_step
from numpy_xlstm.trees import leaves, rebuild, tree_map


def subject(name: str) -> tuple[Any, tuple[Any, ...]]:
    """Return a cell, layer, model or pair of the catalogue, and its arguments."""
    return suite.cases()[name](np.random.default_rng(0), np.float64)


@functools.cache
def made(name: str) -> tuple[Any, Any, Any]:
    """Return a cell, layer or model of the catalogue, an input, and the state after it."""
    module, (x, *state) = subject(name)
    return module, x, module.forward(x, *state)[1]


RECURRENT = [name for name in suite.cases() if hasattr(subject(name)[0], "init_state")]
MODELS = [name for name in RECURRENT if isinstance(subject(name)[0], LanguageModel)]


def plain(tree: Any) -> Any:
    """Return the same arrays in plain tuples."""
    return tuple(map(plain, tree)) if isinstance(tree, tuple) else tree


def same(one: Any, two: Any) -> None:
    pairs = zip(leaves("", one), leaves("", two), strict=True)
    assert all(name == other and np.array_equal(a, b) for (name, a), (other, b) in pairs)


def calls(name: str) -> list[Callable[[Any], Any]]:
    """Return everything that takes a state."""
    module, x, _ = made(name)
    functions = [lambda state: module.forward(x, state)]
    if isinstance(module, Recurrent):
        functions.append(lambda state: module(x, state))
    if name in MODELS:
        step = module.prepared().step
        functions.append(lambda state: step(x[:, 0], state))
    return functions


def test_every_kind_has_a_state() -> None:
    assert len(RECURRENT) > 40
    assert len(MODELS) >= 5


def spoiled(state: Any, bad: float) -> Iterator[tuple[str, Any]]:
    """Yield a path and a copy of the state with one bad number there, for each array."""
    for place, (path, _) in enumerate(leaves("state", state)):
        arrays = [array.copy() for _, array in leaves("", state)]
        arrays[place].flat[-1] = bad
        yield path, rebuild(state, iter(arrays))


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_states_and_cotangents_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    """Except m = −∞, that of the empty state, which no cotangent is."""
    module, x, _ = made(name)
    y, state, cache = module.forward(x)
    for path, wrong in spoiled(state, bad):
        message = rf"{path}: expected finite numbers; got"
        with pytest.raises(NonFiniteError, match=f"^d{message}"):
            module.backward(np.cos(y), cache, wrong)
        for call in calls(name):
            if bad == -np.inf and path.endswith(".m"):
                call(wrong)
                continue
            with pytest.raises(NonFiniteError, match=f"^{message}"):
                call(wrong)


@pytest.mark.parametrize("name", RECURRENT)
def test_plain_tuples_are_states_everywhere(name: str) -> None:
    module, x, state = made(name)
    for call in calls(name):
        for found, expected in zip(call(plain(state)), call(state), strict=True):
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(found, expected)
        assert type(call(plain(state))[1]) is type(call(state)[1])
    y, after, cache = module.forward(x, plain(state))
    dy, dstate = np.cos(y), tree_map(np.cos, after)
    pairs = zip(
        module.backward(dy, cache, plain(dstate)), module.backward(dy, cache, dstate), strict=True
    )
    for found, expected in pairs:
        if not isinstance(expected, dict):
            same(found, expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_begins_and_goes_on_in_plain_tuples(name: str, tmp_path: Path) -> None:
    results = []
    for form in (plain, lambda state: state):
        model, ids, state = made(name)
        model = copy.deepcopy(model)
        training = TrainingState(
            model, AdamW(model.params), np.random.default_rng(0), carried=form(state)
        )
        batch = Batch(ids[:, :-1], ids[:, 1:])
        result = train_step(model, training.optimizer, batch, state=training.carried, accumulate=2)
        training.save(tmp_path / "state.safetensors")
        loaded, _ = TrainingState.load(tmp_path / "state.safetensors")
        results.append((result.loss, result.state, loaded.carried))
    for found, expected in zip(*results, strict=True):
        same(found, expected)


def test_plain_and_named_tuples_are_joined() -> None:
    state = made("slstm.sequence/sigmoid")[2]
    one, two = (tree_map(lambda array, rows=rows: array[rows], state) for rows in ([0], [1]))
    same(join_states([one, plain(two)]), state)
    same(plain(join_states([plain(one), two])), plain(state))
