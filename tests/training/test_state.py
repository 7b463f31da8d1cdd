from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.checkpoints import read_arrays, save_pretrained, tensors, write_arrays
from numpy_xlstm.errors import CheckpointError, DTypeError, OptionError, ShapeError
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.training import AdamW, TrainingState
from numpy_xlstm.trees import leaves
from tests.training.build import CELLS, go_on

OPTIONS: dict[str, Any] = {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-7, "weight_decay": 0.1}


def start(cell: str = "lstm", bits: Any = np.random.PCG64, **more: Any) -> Any:
    rng = np.random.Generator(bits(4))
    model = LanguageModel(5, 4, CELLS[cell](4, 6, dtype=np.float32, rng=rng), rng=rng)
    return TrainingState(model, AdamW(model.params, **OPTIONS, **more), rng)


@pytest.mark.parametrize("cell", CELLS)
def test_a_stored_training_goes_on_bit_for_bit(cell: str, tmp_path: Path) -> None:
    """The decay rule, another than the default, is restored too."""
    path = tmp_path / "state.safetensors"
    whole, state = (start(cell, decays=lambda name, _: "b" in name) for _ in range(2))
    expected, losses = go_on(whole, 24, carry=True), []
    for steps in (4, 5, 11, 24):
        losses += go_on(state, steps, carry=True)
        state.validations.append((state.step, 1 / state.step))
        state.save(path)
        state, _ = TrainingState.load(path)
    assert losses == expected
    assert (state.step, state.tokens) == (24, whole.tokens)
    assert state.validations == [(4, 1 / 4), (5, 1 / 5), (11, 1 / 11), (24, 1 / 24)]
    assert state.optimizer.t == 24
    assert state.optimizer.options == whole.optimizer.options
    for name, array in whole.model.params.items():
        assert state.model.params[name].tobytes() == array.tobytes()
        assert state.optimizer.m[name].tobytes() == whole.optimizer.m[name].tobytes()
        assert state.optimizer.v[name].tobytes() == whole.optimizer.v[name].tobytes()
    carried = dict(leaves("", whole.carried))
    assert type(state.carried) is type(whole.carried)
    assert [name for name, _ in leaves("", state.carried)] == list(carried)
    for name, array in leaves("", state.carried):
        assert array.tobytes() == carried[name].tobytes()
    assert state.rng.random() == whole.rng.random()


@pytest.mark.parametrize("bits", ["PCG64", "PCG64DXSM"])
def test_every_generator_goes_on(bits: str, tmp_path: Path) -> None:
    state = start(bits=getattr(np.random, bits))
    state.rng.integers(0, 3, 7, dtype=np.int32)  # leaves half a word over
    state.save(tmp_path / "state.safetensors", text="abc")
    loaded, checkpoint = TrainingState.load(tmp_path / "state.safetensors")
    assert checkpoint.training["text"] == "abc"
    drawn = [s.rng.integers(0, 10**6, 9, dtype=np.int32).tolist() for s in (state, loaded)]
    assert drawn[0] == drawn[1]


def test_model_and_moments_must_fit_into_the_memory_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = start()
    state.save(tmp_path / "state.safetensors")
    size = sum(array.nbytes for array in state.model.params.values())
    monkeypatch.setattr(tensors, "memory_limit", lambda: 5 * size // 2)  # moments: twice the size
    with pytest.raises(CheckpointError, match=r"state\.safetensors: .*the available memory"):
        TrainingState.load(tmp_path / "state.safetensors")


def test_a_model_alone_is_no_training(tmp_path: Path) -> None:
    save_pretrained(start().model, tmp_path / "model.safetensors")
    message = r"^model\.safetensors: training: expected step, tokens, .* too; got {}$"
    with pytest.raises(CheckpointError, match=message):
        TrainingState.load(tmp_path / "model.safetensors")


STORED = OPTIONS | {"kind": "AdamW", "decays": ["head.weight"]}
PCG64: Any = np.random.PCG64(0).state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer.m.head.bias": None},
            "training: expected one that can be resumed.*'m.head.bias'",
        ),
        (
            {"optimizer.v.head.bias": np.ones(3, np.float32)},
            r"v\.head\.bias: expected shape \(5,\)",
        ),
        ({"optimizer.m.head.bias": np.ones(5)}, "expected float32.*got float64"),
        ({"optimizer.t": np.array(-1)}, "t: expected a whole number"),
        (
            {"carried.0.c": None},
            r"^state\.safetensors: training: expected .*\(carried state: expected \['carried",
        ),
        ({"carried.0.h": np.ones((3, 6))}, r"carried\.0\.h: expected float32.*got float64"),
        ({"carried.0.h": np.ones((3, 5), np.float32)}, r"carried\.0\.h: .*got \(3, 5\)"),
        ({"step": None}, r"^state\.safetensors: training: expected step too; got {"),
        ({"rng": {"bit_generator": "Dice"}}, r"rng\.bit_generator: expected .*; got 'Dice'"),
        ({"rng": np.random.MT19937(0).state}, r"rng\.bit_generator: .*; got 'MT19937'"),
        ({"rng": {"bit_generator": "PCG64"}}, "rng: expected the state of a PCG64; got"),
        ({"rng": PCG64 | {"state": 3}}, "rng: expected the state of a PCG64; got .*'state': 3"),
        ({"rng": PCG64 | {"state": {"state": 1, "inc": 2**128}}}, "rng: expected the state"),
        ({"rng": PCG64 | {"has_uint32": 2**70}}, "rng: expected .*'has_uint32': 1180"),
        ({"optimizer": STORED | {"lr": -1}}, "lr: expected a number"),
        ({"optimizer": STORED | {"lr": "1"}}, r"resumed; .*\(lr: expected a number"),
        ({"optimizer": STORED | {"betas": [0.9]}}, "betas: expected two numbers"),
        ({"optimizer": STORED | {"amsgrad": True}}, "AdamW.* 'amsgrad'"),
        ({"optimizer": STORED | {"decays": ["W"]}}, "decays: expected names of .*; got 'W'"),
        ({"optimizer": STORED | {"decays": [["W"]]}}, r"decays: .*; got \['W'\]"),
        ({"elapsed": -1.0}, r"training\.elapsed: expected a number in \[0, 3e\+38\); got -1"),
        ({"validations": [[3, 1.0], [5]]}, r"training\.validations\[1\]: expected a list of 2"),
        (
            {"validations": [[3, None]]},
            r"training\.validations\[0\]\[1\]: expected float; got None",
        ),
        ({"carried": ...}, r"carried\.0\..: expected shape \(0, 6\); got \(3, 6\)"),
        ({"carried": 10**9}, r"carried\.0\..: expected shape \(1000000000, 6\); got"),
    ],
)
def test_a_training_that_cannot_go_on(changes: Any, message: str, tmp_path: Path) -> None:
    """Change arrays, or values of the training; None removes one, and ... makes it null."""
    path, state = tmp_path / "state.safetensors", start()
    go_on(state, 2, carry=True)
    state.save(path)
    arrays, metadata = read_arrays(path)
    for name, value in changes.items():
        place: dict[str, Any] = arrays if "." in name else metadata["training"]
        place[name] = None if value is ... else value
        if value is None:
            del place[name]
    write_arrays(path, arrays, metadata)
    with pytest.raises(CheckpointError, match=message):
        TrainingState.load(path)


def test_wrong_arguments_are_not_the_fault_of_the_file(tmp_path: Path) -> None:
    path, state = tmp_path / "state.safetensors", start()
    state.save(path)
    with pytest.raises(OptionError, match=r"more: expected other names .*; got 'step'"):
        state.save(path, step=99)
    for carried in ((), 3, np.array(3)):
        with pytest.raises((ShapeError, DTypeError), match="state: expected"):
            TrainingState(state.model, state.optimizer, state.rng, carried=carried)


def test_a_generator_of_another_kind_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Mine(np.random.PCG64):
        pass

    with pytest.raises(CheckpointError, match=r"rng\.bit_generator: .*; got 'Mine'"):
        start(bits=Mine).save(tmp_path / "state.safetensors")
    assert list(tmp_path.iterdir()) == []
