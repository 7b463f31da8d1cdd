"""What is saved can be loaded: while a thread writes, and whatever the options are."""

import re
import shlex
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, AdamW, from_pretrained, save_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import check_separate
from numpy_xlstm.training import TrainingState
from tests.cli.test_resume import CELL, SMALL, TEXT
from tests.reliability.loads import begun


def test_a_save_while_a_thread_updates_the_parameters(tmp_path: Path, trials: int) -> None:
    model, path, end = LSTM(64, 96), tmp_path / "a.safetensors", Event()

    def update() -> None:
        while not end.is_set():
            for array in model.params.values():
                array += 1e-3

    thread = Thread(target=update)
    thread.start()
    try:
        for _ in range(25 * trials):
            save_pretrained(model, path)
            from_pretrained(path, mapped=False)
    finally:
        end.set()
        thread.join()


def moments(state: TrainingState, letter: str) -> Any:
    """Return the moments of one parameter, not copied."""
    arrays = state.optimizer.state_dict()
    return next(array for name, array in arrays.items() if name.startswith(f"{letter}."))


def changed(state: TrainingState, way: str) -> None:
    if way == "nan moment":
        moments(state, "m").fill(np.nan)
    elif way == "negative second moment":
        moments(state, "v").fill(-1)
    elif way == "nan carried":
        _, state.carried = state.model(np.zeros((2, 3), int))
        state.carried = type(state.carried)(*(np.full_like(a, np.nan) for a in state.carried))
    elif way == "validations":
        state.validations = [(n, 1.0) for n in range(170_000)]
    else:
        name, value = way.split()
        where = state.optimizer if hasattr(state.optimizer, name) else state
        setattr(where, name, float(value))


WAYS = ["eps 0", "lr 1e300", "weight_decay 1e39", "elapsed -1", "lr nan"]
WAYS += ["nan moment", "negative second moment", "nan carried", "validations"]


@pytest.mark.parametrize("way", WAYS)
def test_a_state_that_load_would_refuse_is_not_saved(way: str, tmp_path: Path) -> None:
    path, state = tmp_path / "state.safetensors", begun()
    state.save(path)
    before = path.read_bytes()
    changed(state, way)
    with pytest.raises(CheckpointError):
        state.save(path)
    assert path.read_bytes() == before
    TrainingState.load(path)


def test_the_hint_of_a_diverging_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text(TEXT, "utf-8")
    command = ["train", str(tmp_path / "text"), *SMALL, *CELL, "--lr=2e38", "--steps=4"]
    assert main([*command, "--out", str(tmp_path / "my run")]) == 2
    hint = re.search(r"resume with numpy-xlstm (.*)", capsys.readouterr().err)
    assert hint is not None
    again = shlex.split(hint[1])
    assert again[:-1] == ["train", "--resume", str(tmp_path / "my run"), "--lr"]
    assert main([*again[:-1], "1e-3"]) == 0


def test_load_state_dict_changes_all_or_nothing() -> None:
    rng = np.random.default_rng(0)
    model = LanguageModel(5, 3, LSTM(3, 4, rng=rng), rng=rng)
    before, other = model.state_dict(), {n: a + 1 for n, a in model.params.items()}
    last = [*model.params.values()][-1]
    last.flags.writeable = False
    with pytest.raises(OptionError, match="expected an array that can be written to"):
        model.load_state_dict(other)
    for name, array in model.params.items():
        np.testing.assert_array_equal(array, before[name])
    optimizer = AdamW(before)
    given = {n: a + 1 for n, a in optimizer.state_dict().items()}
    [*optimizer.v.values()][-1].flags.writeable = False
    with pytest.raises(OptionError, match="expected an array that can be written to"):
        optimizer.load_state_dict(given)
    assert optimizer.t == 0
    assert not any(array.any() for array in optimizer.m.values())


def test_parameters_that_share_memory_are_refused() -> None:
    layer = LSTM(4, 4, 2, bias=False)
    params = layer.state_dict()
    one = params["weight_hh_l0"]
    with pytest.raises(OptionError, match=r"expected separate arrays; got one for weight_.* and"):
        layer.with_params(params | {"weight_hh_l1": one})
    flat = np.zeros(20 * 4)
    overlapping = {
        "weight_hh_l0": flat[:64].reshape(16, 4),
        "weight_hh_l1": flat[16:].reshape(16, 4),
    }
    with pytest.raises(OptionError, match="expected separate arrays"):
        layer.with_params(params | overlapping)
    content = bytearray(32)
    one, next_to_it, over = (np.frombuffer(content, float, 2, start) for start in (0, 16, 15))
    check_separate({"a": one, "b": next_to_it})
    with pytest.raises(OptionError, match="expected separate arrays; got one for a and b"):
        check_separate({"a": one, "b": over})
    both = np.zeros((16, 8))  # two halves of one matrix are separate
    layer.with_params(params | {"weight_hh_l0": both[:, :4], "weight_hh_l1": both[:, 4:]})
