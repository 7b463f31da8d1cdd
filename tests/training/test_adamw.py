"""AdamW and the rules of its decay."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import sLSTM
from numpy_xlstm.errors import (
    DivergenceError,
    DTypeError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from numpy_xlstm.models import (
    LanguageModel,
    mLSTMBlockConfig,
    sLSTMBlockConfig,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
)
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import AdamW, adamw, decay_rule, is_matrix, official_decay
from tests.models.build import lm_config

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
    optimizer.step({"w": np.array([[0.5]])})
    assert params["w"][0, 0] == pytest.approx(0.89000000199999996, rel=1e-15)
    optimizer.step({"w": np.array([[-0.25]])})
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
        optimizer.step(grads)
    tolerance = 50 * np.finfo(dtype).eps
    for name, array in params.items():
        assert array.dtype == dtype
        np.testing.assert_allclose(array, theirs[name].detach().numpy(), tolerance, tolerance)


@pytest.mark.parametrize(
    ("rule", "decaying"),
    [
        (is_matrix, {"weight", "heads"}),
        (lambda name, array: name == "bias", {"bias"}),
        (official_decay, {"weight"}),
        (["bias", "heads"], {"bias", "heads"}),
    ],
)
def test_the_parameters_of_a_rule_decay_by_lr_times_weight_decay(
    rule: Any, decaying: set[str]
) -> None:
    params, before = draw(0), draw(0)
    zeros = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    optimizer = AdamW(params, lr=0.5, weight_decay=0.2, decays=rule)
    optimizer.step(zeros)
    assert set(optimizer.decays) == decaying
    for name, array in params.items():
        np.testing.assert_allclose(array, before[name] * (0.9 if name in decaying else 1), 1e-15)


HUGE = np.array([1, 2, 3, 4, 1e200])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bias": np.ones(4)}, ShapeError, r"bias: expected shape \(5,\); got \(4,\)"),
        ({"bias": None}, ShapeError, r"expected \['bias'\] too"),
        ({"bias": np.ones(5, np.float32)}, DTypeError, "grads.*bias.*expected float64"),
        ({"bias": np.array([1, 2, np.nan, 4, 5])}, NonFiniteError, r"grads.*bias.*index \(2,\)"),
        ({"bias": HUGE}, DivergenceError, "bias: expected finite numbers after the update"),
        ({"lr": -1}, OptionError, r"lr: .*got -1"),
    ],
)
def test_a_bad_step_updates_nothing(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    params = draw(0)
    optimizer, grads = AdamW(params), draw(1) | change
    lr = grads.pop("lr", None)
    with pytest.raises(error, match=message):
        optimizer.step({n: g for n, g in grads.items() if g is not None}, lr=lr)
    assert optimizer.t == 0
    assert not any(moment.any() for moment in (optimizer.m | optimizer.v).values())
    for name, array in draw(0).items():
        np.testing.assert_array_equal(params[name], array)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"m.bias": np.ones(4)}, ShapeError, r"m\.bias: expected shape \(5,\); got \(4,\)"),
        ({"v.bias": np.ones(5, np.float32)}, DTypeError, r"v\.bias: expected float64"),
        ({"v.bias": np.full(5, np.inf)}, NonFiniteError, r"v\.bias: expected finite numbers"),
        ({"t": np.array(-1)}, OptionError, "t: expected a whole number, at least 0; got .*-1"),
        ({"t": None}, ShapeError, r"expected \['t'\] too"),
    ],
)
def test_a_bad_state_changes_nothing(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    optimizer = AdamW(draw(0))
    good = {name: np.ones_like(array) for name, array in optimizer.state_dict().items()}
    arrays = {name: array for name, array in (good | change).items() if array is not None}
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(arrays)
    assert optimizer.t == 0
    assert not any(moment.any() for moment in (optimizer.m | optimizer.v).values())


def test_an_array_of_several_blocks_is_updated_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows in several blocks; a single row; no axis; no entry."""
    shapes: dict[str, tuple[int, ...]] = {
        "rows": (7, 10), "row": (1, 30), "heads": (3, 2, 5), "b": (45,), "one": (), "none": (3, 0)
    }  # fmt: skip

    def arrays(seed: int) -> dict[str, Array]:
        rng = np.random.default_rng(seed)
        return {name: np.array(rng.standard_normal(shape)) for name, shape in shapes.items()}

    results, counts = [], []
    for block in (5, 2**15):
        monkeypatch.setattr(adamw, "BLOCK", block)
        params = arrays(0)
        optimizer = AdamW(params, lr=0.1, weight_decay=0.1)
        for seed in (1, 2, 3):
            optimizer.step(arrays(seed))
        results.append(params | optimizer.state_dict())
        counts.append([block.name for block in optimizer._blocks(params, 0, 1)].count("rows"))
    assert counts[0] > 1 == counts[1]
    for name, array in results[0].items():
        assert array.tobytes() == results[1][name].tobytes()
        assert name == "t" or array.size == 0 or (array != arrays(0).get(name, 0)).all()


def test_large_numbers_of_float32_whose_squares_sum_to_infinity_are_no_error() -> None:
    params = {"w": np.full(100, 1e19, np.float32)}
    AdamW(params, lr=0.1).step({"w": np.full(100, 5e18, np.float32)})
    np.testing.assert_allclose(params["w"], 1e19, rtol=1e-6)
    params["w"][3] = np.inf
    with pytest.raises(NonFiniteError, match=r"w: expected finite numbers; got inf at index \(3,"):
        AdamW(params).step({"w": np.ones(100, np.float32)})


def xlstm(**options: Any) -> xLSTMLMModel:
    config = lm_config(
        mlstm_block=mLSTMBlockConfig(), slstm_block=sLSTMBlockConfig(), num_blocks=2, **options
    )
    return xLSTMLMModel(config, rng=np.random.default_rng(0))


def large() -> xLSTMLarge:
    config = xLSTMLargeConfig(embedding_dim=8, num_heads=2, num_blocks=1, vocab_size=5)
    return xLSTMLarge(config, rng=np.random.default_rng(0))


def cell() -> LanguageModel:
    return LanguageModel(5, 4, sLSTM(4, 8, num_heads=2))


KERNEL = "xlstm_block_stack.blocks.1.xlstm.slstm_cell._recurrent_kernel_"


@pytest.mark.parametrize(
    ("model", "others"),
    [
        (xlstm(), {"token_embedding.weight", KERNEL}),
        (xlstm(weight_decay_on_embedding=True), {KERNEL}),
        (large(), {"embedding.weight"}),
        (cell(), set()),
    ],
    ids=["xlstm", "with embedding", "large", "cell"],
)
def test_all_matrices_decay_but_these(model: Any, others: set[str]) -> None:
    decays = decay_rule(model)
    matrices = {name for name, array in model.params.items() if array.ndim >= 2}
    assert others < matrices
    assert {name for name in model.params if decays(name, model.params[name])} == matrices - others


def test_decays_are_checked() -> None:
    params = {"w": np.ones((2, 2)), "b": np.ones(2)}
    wrong: Any
    for wrong in ("w", {"w": True}, ["other"], [3], True):
        with pytest.raises(OptionError, match="decays: expected"):
            AdamW(params, decays=wrong)
    optimizer = AdamW(params, decays={"b", "w"})
    assert optimizer.options["decays"] == ["w", "b"]
    optimizer.decays = ["other"]
    with pytest.raises(OptionError, match="decays: expected names of parameters; got 'other'"):
        optimizer.step({name: np.ones(array.shape) for name, array in params.items()})


@pytest.mark.parametrize("layout", ["vanilla", "cuda", "canonical"])
def test_a_model_over_the_moments_reads_and_writes_them_in_every_layout(layout: str) -> None:
    model, rng = xlstm(), np.random.default_rng(1)
    moments = AdamW(model.params).m
    drawn = {name: rng.standard_normal(array.shape) for name, array in moments.items()}
    stored = model.with_params(drawn).state_dict(layout)
    assert (stored[KERNEL].shape == drawn[KERNEL].shape) == (layout == "vanilla")
    model.with_params(moments).load_state_dict(stored)
    for name, array in drawn.items():
        np.testing.assert_array_equal(moments[name], array)
