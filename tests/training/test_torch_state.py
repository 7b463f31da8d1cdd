"""AdamW's state in PyTorch's form; that PyTorch takes it is tested in tests/parity."""

import copy
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError, ShapeError
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import AdamW

CELL = "blocks.0.xlstm.slstm_cell"
SHAPES: dict[str, tuple[int, ...]] = {
    "weight": (3, 4),
    "bias": (5,),
    f"{CELL}._recurrent_kernel_": (2, 12, 3),
    f"{CELL}._bias_": (24,),
}
ORDER = ["bias", f"{CELL}._recurrent_kernel_", f"{CELL}._bias_", "weight"]


def draw(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}


def build(steps: int = 3, **options: Any) -> AdamW:
    params = draw(0)
    optimizer = AdamW(params, **options)
    for seed in range(1, steps + 1):
        optimizer.step(draw(seed))
    return optimizer


def assert_same(found: AdamW, expected: AdamW) -> None:
    for option in ("lr", "betas", "eps", "weight_decay"):
        assert getattr(found, option) == getattr(expected, option)
    assert found.t == expected.t
    for name, array in expected.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], array)


def test_the_form_and_the_order() -> None:
    """Parameters with decay, here the matrices, are numbered first."""
    optimizer = build(lr=0.2, weight_decay=0.3)
    state = optimizer.state_dict(format="torch", order=ORDER)
    first, second = state["param_groups"]
    assert first["param_names"] == [ORDER[1], "weight"]
    assert second["param_names"] == ["bias", ORDER[2]]
    assert (first["params"], second["params"]) == ([0, 1], [2, 3])
    assert (first["weight_decay"], second["weight_decay"]) == (0.3, 0.0)
    assert first["lr"] == second["lr"] == 0.2
    for index, name in enumerate([ORDER[1], "weight", "bias", ORDER[2]]):
        entry = state["state"][index]
        assert list(entry) == ["step", "exp_avg", "exp_avg_sq"]
        assert entry["step"].dtype == np.float32
        assert entry["step"] == 3
        np.testing.assert_array_equal(entry["exp_avg"], optimizer.m[name])
        np.testing.assert_array_equal(entry["exp_avg_sq"], optimizer.v[name])


@pytest.mark.parametrize("layout", ["vanilla", "cuda", "canonical"])
@pytest.mark.parametrize("steps", [0, 3])
def test_it_comes_back(steps: int, layout: str) -> None:
    """The loaded options replace all options of the optimiser."""
    optimizer = build(steps, lr=0.2, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.3)
    other = build(2)
    other.load_state_dict(optimizer.state_dict(format="torch", order=ORDER, layout=layout))
    assert_same(other, optimizer)


def test_the_moments_of_R_and_b_change_places_together() -> None:
    optimizer = build()
    vanilla = optimizer.state_dict(format="torch")["state"]
    cuda = optimizer.state_dict(format="torch", layout="cuda")["state"]
    same = [np.array_equal(vanilla[n]["exp_avg"], cuda[n]["exp_avg"]) for n in range(4)]
    assert same == [True, False, True, False]
    R = vanilla[1]["exp_avg_sq"].reshape(2, 4, 3, 3)
    np.testing.assert_array_equal(
        cuda[1]["exp_avg_sq"].reshape(2, 3, 4, 3), R.transpose(0, 3, 1, 2)
    )
    b = vanilla[3]["exp_avg_sq"].reshape(4, 2, 3)
    np.testing.assert_array_equal(cuda[3]["exp_avg_sq"].reshape(2, 4, 3), b.swapaxes(0, 1))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_names_within_wrappers(prefix: str) -> None:
    optimizer, other = build(), build(1)
    state = optimizer.state_dict(format="torch", order=[prefix + name for name in ORDER])
    assert state["param_groups"][1]["param_names"][0] == f"{prefix}bias"
    other.load_state_dict(state)
    assert_same(other, optimizer)


def nameless(state: dict[str, Any]) -> dict[str, Any]:
    groups = [{k: v for k, v in g.items() if k != "param_names"} for g in state["param_groups"]]
    return state | {"param_groups": groups}


def test_without_names_the_order_is_said() -> None:
    optimizer, other = build(), build(1)
    state = nameless(optimizer.state_dict(format="torch", order=ORDER))
    with pytest.raises(OptionError, match="order: expected the names of named_parameters"):
        other.load_state_dict(state)
    other.load_state_dict(state, order=ORDER)
    assert_same(other, optimizer)


def test_one_group_has_the_plain_order() -> None:
    optimizer = build(decays=lambda name, array: len(name) < 5)  # the bias alone
    state = nameless(optimizer.state_dict(format="torch", order=ORDER))
    first, second = state["param_groups"]
    one = {**second, "params": [*first["params"], *second["params"]]}
    other = build(1, weight_decay=0.0)
    other.load_state_dict(state | {"param_groups": [one]}, order=ORDER)
    assert other.weight_decay == 0
    np.testing.assert_array_equal(other.m["weight"], optimizer.m["weight"])
    np.testing.assert_array_equal(other.v["bias"], optimizer.v["bias"])


def test_the_learning_rate_is_that_before_the_schedule() -> None:
    optimizer = build()
    state = optimizer.state_dict(format="torch")
    for group in state["param_groups"]:
        group |= {"lr": 1e-5, "initial_lr": 0.25}
    optimizer.load_state_dict(state)
    assert optimizer.lr == 0.25


@pytest.mark.parametrize(
    ("where", "value", "error", "message"),
    [
        ("state", None, OptionError, r"expected state and param_groups.*got \['param_"),
        ("param_groups", [], OptionError, "expected state and param_groups"),
        ("param_groups.0", 3, OptionError, r"param_groups\[0\]: expected a mapping of names"),
        ("param_groups.1.params", ["x", "y"], OptionError, r"params\[0\]: expected int"),
        (
            "param_groups.1.param_names",
            ["bias", []],
            OptionError,
            r"param_names\[1\]: expected str",
        ),
        ("param_groups.1.param_names", ["b"], ShapeError, r"\[2, 1\]; got \[2, 2\]"),
        ("param_groups.0.amsgrad", True, OptionError, "amsgrad: expected False; got True"),
        (
            "param_groups.0.decoupled_weight_decay",
            False,
            OptionError,
            "decoupled_weight_decay: expected True",
        ),
        ("param_groups.1.lr", 0.5, OptionError, "lr: expected 0.001 for bias; got 0.5"),
        ("param_groups.1.weight_decay", 0.1, OptionError, "expected 0 for bias; got 0.1"),
        ("param_groups.0.betas", None, OptionError, "expected betas too"),
        ("param_groups.0.lr", None, OptionError, "expected lr too"),
        (
            "param_groups.0.param_names.0",
            "w",
            ShapeError,
            r"missing: \['weight'\]; unknown or repeated: \['w'\]",
        ),
        ("param_groups.0.param_names.0", "bias", ShapeError, r"repeated: \['bias'\]"),
        ("state.1", None, ShapeError, r"an entry for each.*'1', '2', '3'\]; got \['0', '2'"),
        ("state.7", {}, ShapeError, "state: expected an entry for each of params"),
        ("param_groups.1.params", [2, 2], ShapeError, "state: expected an entry for each"),
        ("state.1.step", None, ShapeError, r"state\[1\]: expected step of .*kernel_; got"),
        ("state.2.step", np.array([4.0, 5.0]), OptionError, r"step: .*got \[4. 5.\]"),
        ("state.2.exp_avg", None, ShapeError, r"state\[2\]: expected exp_avg of bias"),
        ("state.2.step", 2.0, OptionError, "step: expected one whole number"),
        ("state.2.exp_avg", np.ones(4), ShapeError, r"bias: expected shape \(5,\); got"),
        ("state.2.exp_avg", np.ones(5, int), DTypeError, "bias: expected floating-point"),
        ("state.2.exp_avg", np.full(5, np.nan), NonFiniteError, "bias: expected finite"),
        ("state.2.exp_avg_sq", -np.ones(5), OptionError, "v.bias: expected no negative"),
    ],
)
def test_a_bad_state_changes_nothing(
    where: str, value: Any, error: type[Exception], message: str
) -> None:
    """Change the value at a path of keys and indices; None removes it."""
    state: Any = copy.deepcopy(build(4, eps=1e-3).state_dict(format="torch"))
    place = state
    *path, last = (int(key) if key.isdecimal() else key for key in where.split("."))
    for key in path:
        place = place[key]
    place[last] = value
    if value is None:
        del place[last]
    optimizer = build(2, lr=1e-3)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert_same(optimizer, build(2, lr=1e-3))
