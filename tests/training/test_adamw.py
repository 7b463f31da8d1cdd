from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError, ShapeError
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import AdamW, adamw, is_matrix, official_decay
from numpy_xlstm.training.adamw_block import cut

SHAPES: dict[str, tuple[int, ...]] = {"weight": (3, 4), "heads": (2, 3, 3), "bias": (5,)}


def draw(seed: int, dtype: Any = np.float64) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def test_two_steps_by_hand() -> None:
    """β = 0.9, 0.99, η = λ = 0.1, gradients 1/2 and −1/4.

    Step 1: θ = 1·0.99, m = 0.05, v = 0.0025, corrected 0.5 and 0.25, so θ −= 0.1·0.5/0.5.
    Step 2: θ = 0.89·0.99, m = 0.02, v = 0.0031, corrected 0.02/0.19 and 0.0031/0.0199.
    """
    params = {"w": np.array([[1.0]])}
    optimizer = AdamW(params, lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    optimizer.step(params, {"w": np.array([[0.5]])})
    assert params["w"][0, 0] == pytest.approx(0.89000000199999996, rel=1e-15)
    optimizer.step(params, {"w": np.array([[-0.25]])})
    assert params["w"][0, 0] == pytest.approx(0.854430059747933469, rel=1e-15)
    assert optimizer.m["w"][0, 0] == pytest.approx(0.02, rel=1e-15)
    assert optimizer.v["w"][0, 0] == pytest.approx(0.0031, rel=1e-15)
    assert optimizer.t == 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3},
        {"betas": (0.0, 0.0), "weight_decay": 0.0},
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_does_the_same(options: dict[str, Any], dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    params = draw(0, dtype)
    theirs = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in params.items()}
    reference = torch.optim.AdamW(theirs.values(), **options)
    optimizer = AdamW(params, decays=lambda name, array: True, **options)
    for seed in range(1, 30):
        grads = draw(seed, dtype)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(grads[name])
        reference.step()
        optimizer.step(params, grads)
    tolerance = 50 * np.finfo(dtype).eps
    for name, array in params.items():
        assert array.dtype == dtype
        np.testing.assert_allclose(array, theirs[name].detach().numpy(), tolerance, tolerance)


def test_the_defaults_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]).defaults
    ours = AdamW(draw(0))
    assert (ours.lr, ours.betas, ours.eps, ours.weight_decay) == tuple(
        theirs[name] for name in ("lr", "betas", "eps", "weight_decay")
    )


def test_matrices_decay_and_vectors_do_not() -> None:
    params, before = draw(0), draw(0)
    zeros = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    AdamW(params, lr=0.5, weight_decay=0.2).step(params, zeros)
    for name in ("weight", "heads"):
        np.testing.assert_allclose(params[name], 0.9 * before[name], rtol=1e-15)
    np.testing.assert_array_equal(params["bias"], before["bias"])
    assert is_matrix("bias", np.ones((1, 1)))
    assert not is_matrix("weight", np.ones(3))


def test_a_rule_by_name() -> None:
    params, before = draw(0), draw(0)
    zeros = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    optimizer = AdamW(params, lr=0.5, weight_decay=0.2, decays=lambda name, _: name == "bias")
    optimizer.step(params, zeros)
    np.testing.assert_allclose(params["bias"], 0.9 * before["bias"], rtol=1e-15)
    np.testing.assert_array_equal(params["weight"], before["weight"])


def test_a_learning_rate_for_one_step() -> None:
    params, others = draw(0), draw(0)
    AdamW(params, lr=0.3).step(params, draw(1), lr=0.05)
    AdamW(others, lr=0.05).step(others, draw(1))
    for name, array in params.items():
        np.testing.assert_array_equal(array, others[name])
    unmoved = draw(0)
    AdamW(unmoved).step(unmoved, draw(1), lr=0.0)
    np.testing.assert_array_equal(unmoved["weight"], draw(0)["weight"])


def test_arrays_stay_the_same_objects_and_gradients_stay_as_they_were() -> None:
    params, grads = draw(0), draw(1)
    arrays = dict(params)
    AdamW(params).step(params, grads)
    assert all(params[name] is array for name, array in arrays.items())
    for name, grad in draw(1).items():
        np.testing.assert_array_equal(grads[name], grad)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bias": np.ones(4)}, ShapeError, r"bias: expected shape \(5,\); got \(4,\)"),
        ({"extra": np.ones(4)}, ShapeError, r"got \['extra'\]"),
        ({"bias": np.ones(5, np.float32)}, DTypeError, "grads.*bias.*expected float64"),
        ({"bias": np.array([1, 2, np.nan, 4, 5])}, NonFiniteError, r"grads.*bias.*index \(2,\)"),
    ],
)
def test_bad_gradients_update_nothing(
    change: dict[str, Array], error: type[Exception], message: str
) -> None:
    params = draw(0)
    optimizer = AdamW(params)
    with pytest.raises(error, match=message):
        optimizer.step(params, draw(1) | change)
    with pytest.raises(ShapeError, match=r"expected \['bias'\] too"):
        optimizer.step(params, {name: g for name, g in draw(1).items() if name != "bias"})
    assert optimizer.t == 0
    assert not any(moment.any() for moment in (optimizer.m | optimizer.v).values())
    for name, array in draw(0).items():
        np.testing.assert_array_equal(params[name], array)


def test_a_bad_learning_rate_updates_nothing() -> None:
    params = draw(0)
    optimizer = AdamW(params)
    with pytest.raises(OptionError, match=r"lr: .*got -1"):
        optimizer.step(params, draw(1), lr=-1)
    np.testing.assert_array_equal(params["weight"], draw(0)["weight"])


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 1e20), (np.float64, 1e200)])
def test_a_gradient_whose_square_overflows_is_refused_and_nothing_is_updated(
    dtype: Any, size: float
) -> None:
    params = {"w": np.ones(2, dtype)}
    optimizer = AdamW(params)
    with pytest.raises(NonFiniteError, match="expected entries whose squares are finite"):
        optimizer.step(params, {"w": np.array([1, size], dtype)})
    assert params["w"].tolist() == [1, 1]
    assert optimizer.t == 0
    assert not optimizer.v["w"].any()


def test_the_official_rule_goes_by_name() -> None:
    names = {
        "token_embedding.weight": False,
        "embedding.weight": False,
        "lm_head.weight": True,
        "blocks.0.xlstm_norm.weight": False,
        "blocks.0.xlstm.q_proj.weight": True,
        "blocks.0.conv1d.weight": True,
        "blocks.0.xlstm.q_proj.bias": False,
        "blocks.0.embedding.weight": True,
        "cell.W": False,
    }
    found = {name: official_decay()(name, np.ones((2, 2))) for name in names}
    assert found == names
    with_embedding = official_decay(weight_decay_on_embedding=True)
    assert {name: with_embedding(name, np.ones(2)) for name in names} == names | {
        "token_embedding.weight": True,
        "embedding.weight": True,
    }


def test_the_official_rule_in_a_step() -> None:
    params = {"norm.weight": np.ones(3), "head.weight": np.ones(3)}
    zeros = {name: np.zeros(3) for name in params}
    optimizer = AdamW(params, lr=0.5, weight_decay=0.2, decays=official_decay())
    optimizer.step(params, zeros)
    assert params["norm.weight"].tolist() == [1, 1, 1]
    assert params["head.weight"].tolist() == [0.9, 0.9, 0.9]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_goes_on_bit_for_bit_from_its_state(dtype: Any) -> None:
    params, others = draw(0, dtype), draw(0, dtype)
    whole, first = AdamW(params), AdamW(others)
    for seed in range(1, 8):
        whole.step(params, draw(seed, dtype))
    for seed in range(1, 4):
        first.step(others, draw(seed, dtype))
    second = AdamW(others)
    second.load_state_dict({k: v.copy() for k, v in first.state_dict().items()})
    for array in (*first.m.values(), *first.v.values()):
        array[...] = np.nan  # what was loaded is a copy
    for seed in range(4, 8):
        second.step(others, draw(seed, dtype))
    assert second.t == 7
    assert second.state_dict()["t"] == 7
    for name, array in params.items():
        assert others[name].tobytes() == array.tobytes()
        assert second.m[name].tobytes() == whole.m[name].tobytes()
        assert second.v[name].tobytes() == whole.v[name].tobytes()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"m.bias": np.ones(4)}, ShapeError, r"m\.bias: expected shape \(5,\); got \(4,\)"),
        ({"m.other": np.ones(4)}, ShapeError, r"got \['m\.other'\]"),
        ({"v.bias": np.ones(5, np.float32)}, DTypeError, r"v\.bias: expected float64"),
        ({"v.bias": np.full(5, np.inf)}, NonFiniteError, r"v\.bias: expected finite numbers"),
        ({"t": np.array(-1)}, OptionError, "t: expected a whole number, at least 0; got .*-1"),
        ({"t": np.array(1.5)}, OptionError, "t: expected a whole number, at least 0; got .*1.5"),
    ],
)
def test_a_bad_state_changes_nothing(
    change: dict[str, Array], error: type[Exception], message: str
) -> None:
    optimizer = AdamW(draw(0))
    good = {name: np.ones_like(array) for name, array in optimizer.state_dict().items()}
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(good | change)
    with pytest.raises(ShapeError, match=r"expected \['t'\] too"):
        optimizer.load_state_dict({name: array for name, array in good.items() if name != "t"})
    assert optimizer.t == 0
    assert not any(moment.any() for moment in (optimizer.m | optimizer.v).values())


def test_an_array_of_several_blocks_is_updated_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows in blocks of two and a rest of one; a single row; no axis; no entry."""
    shapes: dict[str, tuple[int, ...]] = {
        "rows": (7, 10), "row": (1, 30), "heads": (3, 2, 5), "b": (45,), "one": (), "none": (3, 0)
    }  # fmt: skip

    def arrays(seed: int) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        return {name: np.array(rng.standard_normal(shape)) for name, shape in shapes.items()}

    found = []
    for block in (20, 2**15):
        monkeypatch.setattr(adamw, "BLOCK", block)
        params = arrays(0)
        optimizer = AdamW(params, lr=0.1, weight_decay=0.1)
        for seed in (1, 2, 3):
            optimizer.step(params, arrays(seed))
        found.append(params | optimizer.state_dict())
    assert [len(b) for (b,) in cut(70, params["rows"])] == [7]
    assert [len(b) for (b,) in cut(20, params["rows"])] == [2, 2, 2, 1]
    for name, array in found[0].items():
        assert array.tobytes() == found[1][name].tobytes()
        assert name == "t" or array.size == 0 or (array != arrays(0).get(name, 0)).all()


@pytest.mark.parametrize("layout", ["transposed", "strided"])
def test_layouts_change_nothing(layout: str) -> None:
    def arrays(seed: int) -> dict[str, Array]:
        return {"w": np.random.default_rng(seed).standard_normal((7, 11))}

    expected, params = arrays(0), arrays(0)
    if layout == "transposed":
        params = {"w": params["w"].T.copy().T}
    if layout == "strided":
        params = {"w": np.repeat(params["w"], 2, axis=1)[:, ::2]}
    optimizer = AdamW(params, lr=0.1)
    for seed in (1, 2, 3):
        optimizer.step(params, arrays(seed))
    plain = AdamW(expected, lr=0.1)
    for seed in (1, 2, 3):
        plain.step(expected, arrays(seed))
    np.testing.assert_array_equal(params["w"], expected["w"])
    assert not np.array_equal(params["w"], arrays(0)["w"])


def test_large_numbers_of_float32_whose_squares_sum_to_infinity_are_no_error() -> None:
    params = {"w": np.full(100, 1e19, np.float32)}
    AdamW(params, lr=0.1).step(params, {"w": np.full(100, 5e18, np.float32)})
    np.testing.assert_allclose(params["w"], 1e19, rtol=1e-6)
    params["w"][3] = np.inf
    with pytest.raises(NonFiniteError, match=r"w: expected finite numbers; got inf at index \(3,"):
        AdamW(params).step(params, {"w": np.ones(100, np.float32)})
