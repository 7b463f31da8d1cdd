"""Every forward of the package can be recorded, and some backwards: for other inputs as well."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, mLSTM, mlstm_chunkwise, mlstm_parallel, mlstm_recurrent, sLSTM
from numpy_xlstm.errors import BranchError
from numpy_xlstm.recording import record
from numpy_xlstm.trees import leaves, tree_map
from tests.models.build import CONFIGS, V, assert_same, build, draw_like, draw_tokens, random_state
from tests.variants import VARIANTS, Sizes, Variant, make
from tests.variants import random_state as a_state

FORMS = (mlstm_recurrent, mlstm_parallel, mlstm_chunkwise)


def assert_recorded(function: Callable[..., Any], inputs: Any, others: Any) -> None:
    """The program does for the others what the function does."""
    program = record(function, *inputs)
    assert_same(dict(leaves("", program.outputs)), dict(leaves("", function(*inputs))))
    for (_, place), (_, array) in zip(leaves("", program.inputs), leaves("", others), strict=True):
        place[...] = array
    program.run()
    expected = function(*tree_map(np.copy, others))
    assert_same(dict(leaves("", program.outputs)), dict(leaves("", expected)))


@pytest.mark.parametrize("T", [1, 2, 9])
@pytest.mark.parametrize("name", CONFIGS)
def test_models(name: str, T: int) -> None:
    model, rng = build(name), np.random.default_rng(1)
    tokens = draw_tokens(T)
    one, other = (random_state(model.init_state(2), rng) for _ in range(2))
    assert_recorded(model, (tokens, one), ((tokens + 3) % V, other))
    assert_recorded(model, (tokens,), ((tokens + 2) % V,))
    assert_recorded(lambda ids: model.forward(ids)[:2], (tokens,), ((tokens + 1) % V,))


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("T", [1, 5])
def test_cells(variant: Variant, T: int) -> None:
    s = Sizes(B=2, T=T, D=2, NH=2, DH=3, DK=2, with_state=True, eps=1e-3, seed=4)
    case = make(variant, s)
    layer = case.layer
    others = case.rng.standard_normal(case.x.shape), a_state(case, 2)
    assert_recorded(layer, (case.x, case.state), others)
    assert_recorded(lambda x: layer.forward(x)[:2], (case.x,), others[:1])
    step = make(variant, s, step=True).layer
    one, another = case.x[:, 0].copy(), others[0][:, 0].copy()
    assert_recorded(lambda x: step.forward(x)[:2], (one,), (another,))


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(3, 4),
        sLSTM(3, 4, 2),
        sLSTM(3, 4, forget_gate="exp"),
        mLSTM(3, 4, 2, form="recurrent"),
        mLSTM(3, 4, 2, form="recurrent", input_gate="sigmoid"),
    ],
)
def test_forward_and_backward(layer: Any) -> None:
    rng = np.random.default_rng(2)

    def both(x: Any, state: Any, dy: Any, dstate: Any) -> Any:
        y, after, cache = layer.forward(x, state)
        dx, dstate0, grads = layer.backward(dy, cache, dstate)
        return y, after, dx, dstate0, tuple(grads.values())

    def inputs() -> Any:
        x, dy = (rng.standard_normal((2, 5, n)) for n in (3, 4))
        state = layer.init_state(2)
        dstate = draw_like(state, rng)
        drawn = draw_like(state, rng)
        return x, (drawn._replace(n=np.exp(drawn.n)) if _has_n(drawn) else drawn), dy, dstate

    assert_recorded(both, inputs(), inputs())


def _has_n(state: Any) -> bool:
    return getattr(state, "n", None) is not None and hasattr(state, "h")


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)

    def inputs() -> Any:
        q, k, v = rng.standard_normal((3, 2, 2, 7, 3))
        i, f = rng.standard_normal((2, 2, 2, 7))
        return q, k, v, i, f

    lengths = np.array([3, 7])
    assert_recorded(lambda *args: form(*args)[:2], inputs(), inputs())
    assert_recorded(lambda *args: form(*args, lengths=lengths)[:2], inputs(), inputs())


@pytest.mark.parametrize("form", FORMS)
def test_lengths_can_be_an_argument(form: Callable[..., Any]) -> None:
    rng = np.random.default_rng(4)

    def padded(x: Any, lengths: Any) -> Any:
        return form(x, x, x, x[..., 0], x[..., 0], lengths=lengths)[:2]

    x, other = rng.standard_normal((2, 2, 2, 5, 3))
    assert_recorded(padded, (x, np.array([2, 5])), (other, np.array([4, 1])))
    with pytest.raises(BranchError):
        record(padded, x, np.array([2, 5]))(x, np.array([2, 6]))
