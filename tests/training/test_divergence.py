"""A diverging step raises an error, and changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import AdamW, mLSTM
from numpy_xlstm.errors import DivergenceError, NonFiniteError
from numpy_xlstm.training import (
    Batch,
    Budget,
    TrainingState,
    learn,
    random_windows,
    split_text,
    train,
    train_step,
)
from numpy_xlstm.trees import leaves, tree_map
from tests.training.build import V, small_model, started

TEXT = "abcde" * 100


def batches(state: TrainingState) -> Iterator[Batch]:
    return random_windows(np.arange(100) % V, 3, 7, state.rng)


def stored(state: TrainingState) -> dict[str, Any]:
    """Return the complete state of a training as bytes."""
    arrays = (
        dict(state.model.params) | state.optimizer.state_dict() | dict(leaves("", state.carried))
    )
    found: dict[str, Any] = {name: array.tobytes() for name, array in arrays.items()}
    return found | {"rng": state.rng.bit_generator.state, "step": state.step}


@pytest.mark.parametrize("spoilt", ["p", "m", "v", "lr"])
def test_all_parameters_are_updated_or_none(spoilt: str) -> None:
    params = {"a": np.ones((2, 3), np.float32), "b": np.full(4, 0.5, np.float32)}
    optimizer = AdamW(params, weight_decay=0.0)
    optimizer.step({name: np.ones_like(array) for name, array in params.items()})
    if spoilt == "p":
        params["b"][1] = 3.402e38
    elif spoilt != "lr":
        getattr(optimizer, spoilt)["b"][1] = np.nan
    before = {n: a.tobytes() for n, a in (params | optimizer.state_dict()).items()}
    lr = {"lr": 1e39, "p": 1e37}.get(spoilt, 0.1)
    name = "a" if spoilt == "lr" else "b"
    message = rf"diverged at step 2 \({name}: .*learning rate {lr:g}\); lower"
    with pytest.raises(DivergenceError, match=message.replace("+", r"\+")):
        optimizer.step({n: -np.ones_like(a) for n, a in params.items()}, lr=lr)
    assert {n: a.tobytes() for n, a in (params | optimizer.state_dict()).items()} == before


def test_a_training_that_diverges_goes_on_from_the_step_before(tmp_path: Path) -> None:
    state = started(dtype=np.float32, lr=1e30)
    found = [stored(state)]
    steps = train(state, batches(state), Budget(steps=50))
    with pytest.raises(DivergenceError, match=r"step \d+ \(.*rate 1e\+30\)"):
        found.extend(stored(state) for _ in steps)
    known = found[-1]
    assert stored(state) == known
    assert all(np.isfinite(array).all() for array in state.model.params.values())
    state.save(tmp_path / "state.safetensors")
    loaded, _ = TrainingState.load(tmp_path / "state.safetensors")
    assert stored(loaded) == known


def broken(model: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a NaN into the second gradient or state that the model returns."""
    original, calls = getattr(model, name), []

    def method(*args: Any, **options: Any) -> Any:
        first, second, third = original(*args, **options)
        calls.append(name)
        if len(calls) == 2 and name == "backward":
            third["head.bias"][1] = np.nan
        if len(calls) == 2 and name == "forward":
            second = tree_map(lambda array: array * np.inf, second)
        return first, second, third

    monkeypatch.setattr(model, name, method)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_what_goes_on_is_what_would_have_been(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, state = started(), started()
    for _ in train(whole, batches(whole), Budget(steps=6), carry=True):
        pass
    broken(state.model, method, monkeypatch)
    with pytest.raises(DivergenceError, match=r"step 2 .*rate 0.01\)"):
        list(train(state, batches(state), Budget(steps=6), carry=True))
    assert state.step == 1
    for _ in train(state, batches(state), Budget(steps=6), carry=True):
        pass
    assert stored(state) == stored(whole)


def test_a_state_that_the_caller_has_spoilt_is_no_divergence() -> None:
    model = small_model()
    batch = next(batches(started()))
    bad = tree_map(lambda array: array * np.nan, model.init_state(3))
    with pytest.raises(NonFiniteError, match=r"^state\.0\.h: expected finite") as found:
        train_step(model, AdamW(model.params), batch, state=bad)
    assert type(found.value) is NonFiniteError


def test_an_empty_state_is_finite_enough() -> None:
    """Without a step, m = −inf after the batch too."""
    model, batch = small_model(mLSTM), next(batches(started()))
    state = model.init_state(3)
    assert state.m is not None
    assert np.isneginf(state.m).all()
    assert np.isfinite(train_step(model, AdamW(model.params), batch, state=state).loss)


def test_a_validation_that_is_not_finite_is_a_divergence() -> None:
    state, split = started(), split_text(TEXT, 7)
    records = learn(state, split, Budget(steps=3), batch_size=3, window=7, validate_every=2)
    next(records)
    before = stored(state)
    state.model.params["head.bias"][...] = 1.7e308
    state.model.params["head.weight"][...] = 1.7e308
    assert stored(state) != before
    with pytest.raises(DivergenceError, match=r"step \d \((validation after|logits)"):
        next(records)


class TwoRanks:
    """The first of two ranks, the other of which has a non-finite loss."""

    rank, size = 0, 2

    def allreduce(self, value: float) -> float:
        return value + np.nan

    def allgather(self, value: Any) -> list[Any]:
        raise AssertionError

    bcast = Allreduce = allgather


def test_a_loss_that_is_not_finite_on_one_rank_is_an_error_on_all() -> None:
    state = started()
    before = stored(state)
    batch = next(batches(started()))
    with pytest.raises(DivergenceError, match="loss: expected a finite one on every rank"):
        train_step(state.model, state.optimizer, batch, comm=TwoRanks())
    assert stored(state) == before
