"""Small numbers in exported graphs have as many digits as in the package.

A relative error of a small number reaches the results where a norm or a division follows: h of an
mLSTM does not depend on the scale of q and k if the stabiliser m is large.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import SequenceLayer, xLSTMLargeConfig, xLSTMLMModelConfig
from numpy_xlstm.cells import mLSTMCell, mLSTMState
from numpy_xlstm.numerics import log_sigmoid
from tests.checkpoints.onnx_run import Session, beside, in_pieces, onnx_function
from tests.models.build import draw_tokens, large_config, lm_config, make, slstm_block

EACH_DTYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])

ACT_FNS = ["gelu_tanh", "swish", "relu^2", "sigmoid", "selu"]
"""Activations that exist in longdouble."""

KINDS: list[Callable[[Any], xLSTMLMModelConfig | xLSTMLargeConfig]] = [
    lambda _: lm_config(slstm_at=[], slstm_block=None, num_blocks=2),
    lambda _: lm_config(slstm_at=[], slstm_block=None, num_blocks=2, bias=True),
    lambda ffn: lm_config(
        slstm_at="all", mlstm_block=None, num_blocks=2, slstm_block=slstm_block(ffn=ffn)
    ),
    lambda ffn: lm_config(bias=True, slstm_block=slstm_block(ffn=ffn)),
    lambda _: large_config(use_bias=True),
    lambda _: large_config(use_bias=True, gate_soft_cap=None),
]

RANGES = {
    "conv.bias": (-15, 0),
    "igate.bias": (0, 30),
    "igate_preact.bias": (0, 30),
    "fgate.bias": (-30, 30),
    "fgate_preact.bias": (-30, 30),
    "ogate_preact.bias": (-30, 0),
    "_bias_": (-30, 30),
    "proj_up.bias": (-30, 0),
    "proj_up_gate.bias": (-30, 0),
}
"""Endings of names of parameters, and ranges from which their numbers are drawn."""

SIZES: tuple[Sequence[int], ...] = [70], [40, 30], [1] * 70
"""Steps of the pieces of a run of 70 steps: a whole run, two pieces, and single steps."""


def harsh(seed: int) -> Any:
    """Make a model whose gates and activations are far from 0, with parameters of float32."""
    rng, kind = np.random.default_rng(seed), seed % len(KINDS)
    ffn = {"act_fn": ACT_FNS[seed // len(KINDS) % len(ACT_FNS)], "bias": True}
    model = make(KINDS[kind](ffn), seed=seed)
    for name, array in model.params.items():
        for ending, (low, high) in RANGES.items():
            if name.endswith(ending):
                array[...] = rng.uniform(low, high, array.shape)
        array[...] = array.astype(np.float32)
    return model


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Take 6 models, one of each kind, or with ``--trials 20`` all 120."""
    if "seed_of_model" in metafunc.fixturenames:
        count = min(120, len(KINDS) * (metafunc.config.getoption("--trials") or 1))
        metafunc.parametrize("seed_of_model", range(count))


def test_harsh_models(seed_of_model: int) -> None:
    """Errors are relative to the largest logit of a run in longdouble."""
    model, tokens = harsh(seed_of_model), draw_tokens(70, rows=3, seed=seed_of_model)
    narrow, exact = model.astype(np.float32), model.astype(np.longdouble)(tokens)[0]

    def error(run: Any, empty: Any) -> float:
        """Return the largest error of a session or a model."""
        runs = [in_pieces(run, tokens, empty, sizes)[0] for sizes in SIZES]
        return max(float(np.abs(logits - exact).max() / np.abs(exact).max()) for logits in runs)

    ours = max(error(near, None) for near in beside(narrow))
    assert error(Session(narrow), narrow.init_state(3)) <= 4 * ours
    assert error(Session(model), model.init_state(3)) < 1e-12


@EACH_DTYPE
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("swish", lambda x: x / (1 + np.exp(-x))),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        (
            "selu",
            lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
        ),
        ("gelu_tanh", lambda x: x / (1 + np.exp(-((8 / np.pi) ** 0.5) * (x + 0.044715 * x**3)))),
        ("log_sigmoid", log_sigmoid),
    ],
)
def test_functions_keep_their_digits(name: str, function: Any, dtype: Any) -> None:
    """Relative errors are a few units in the last place, also of results near 1e-30."""
    from numpy_xlstm.checkpoints.onnx import maps

    magnitudes = np.concatenate([np.geomspace(1e-6, 6, 200), np.linspace(6, 60, 100)])
    x = np.concatenate([-magnitudes, [0], magnitudes]).astype(dtype)
    x = x[x > -6] if name == "gelu_tanh" else x
    add = maps.log_sigmoid if name == "log_sigmoid" else maps.ACTIVATIONS[name]
    found, expected = onnx_function(add, x), function(x.astype(np.longdouble))
    tolerance = 100 if name == "gelu_tanh" else 16  # the error of its exponent grows with x³
    np.testing.assert_allclose(found, expected, tolerance * np.finfo(dtype).eps, 0)


@EACH_DTYPE
@pytest.mark.parametrize("step", [False, True])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.5])
def test_the_denominator_of_mlstm(step: bool, eps: float, dtype: Any) -> None:
    """It is max(|q·n|, e^−m) + ε, with m clipped to the range where e^±m keeps its digits.

    All gates are open or closed, so that h is q·C over the denominator, with C equal to it.
    """
    limit = -np.log(np.finfo(dtype).tiny)
    stabilisers = limit * np.array([-2, -1.02, -1, -0.98, -0.5, 0.01, 0.2, 0.5, 0.98, 1, 1.02, 2])
    m, ratio = (a.ravel() for a in np.meshgrid(stabilisers, [0, -0.5, 0.5, -1.5, 1.5]))
    m = m.astype(dtype)
    floor = np.exp(-np.clip(m, -limit, limit).astype(np.longdouble))
    denominator = np.maximum(np.abs(ratio * floor), floor) + eps
    layer = SequenceLayer(mLSTMCell(1, 1, eps=eps, dtype=dtype))
    for name, array in layer.params.items():
        array[...] = {"q": 1, "i": -4 * limit, "f": 4 * limit, "o": 100}.get(name[-1], 0)
        array[...] *= array.ndim == 1
    C = denominator.astype(dtype).reshape(-1, 1, 1, 1)
    n = (ratio * floor).astype(dtype).reshape(-1, 1, 1)
    state, x = mLSTMState(C, n, m[:, None]), np.zeros((len(m), 1 if step else 2, 1), dtype)
    tolerance = 1e-12 if dtype == np.float64 else 2e-5  # of e^87 and e^708
    for h, _ in (layer(x, state), Session(layer, step=step)(x, state)):
        np.testing.assert_allclose(h, np.ones_like(h), rtol=tolerance)
