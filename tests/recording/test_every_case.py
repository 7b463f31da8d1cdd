"""What gradcheck checks, forward and backward: recorded for any inputs, or refused; never wrong."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.errors import RecordingError
from numpy_xlstm.gradcheck.target import function
from numpy_xlstm.suite import cases
from tests.models.build import draw_like
from tests.recording.test_forwards import assert_recorded

NO_FORWARD = ("lengths/LSTM", "lengths/sLSTM", "softmax_cross_entropy")
"""How the names of those begin that assign to a selection by a mask, or look for the largest."""

NO_BACKWARD = (
    *NO_FORWARD,
    *("mLSTM/", "mlstm_parallel", "mlstm_chunkwise", "lengths"),  # argmax, diagonal
    *("HeadwiseLinear", "mLSTMBlock", "sLSTMBlock"),  # blocks on a diagonal
    *("Embedding", "LanguageModel", "xLSTM"),  # add.at
)


def parts(target: Any, inputs: Any) -> tuple[Any, Any]:
    """Forward without its cache, and forward and backward in one."""
    forward, backward = function(target, "forward"), function(target, "backward")
    results = forward(*inputs)
    stateful = len(results) == 3
    rng = np.random.default_rng(1)
    cotangents = draw_like(results[:-1], rng)

    def outputs(*inputs: Any) -> Any:
        return forward(*inputs)[:-1]

    def both(inputs: Any, cotangents: Any) -> Any:
        *_, cache = forward(*inputs)
        dy, *dstate = cotangents
        found = backward(dy, cache, *dstate) if stateful else backward(dy, cache)
        return _without_dicts(found)

    return outputs, (both, cotangents)


def _without_dicts(tree: Any) -> Any:
    if isinstance(tree, dict):
        return tuple(tree.values())
    return tuple(map(_without_dicts, tree)) if isinstance(tree, tuple) else tree


@pytest.mark.parametrize("name", cases())
def test_forward(name: str) -> None:
    target, inputs = cases()[name](np.random.default_rng(2), np.float64)
    _, others = cases()[name](np.random.default_rng(3), np.float64)
    outputs, _ = parts(target, inputs)
    if name.startswith(NO_FORWARD):
        with pytest.raises(RecordingError):
            assert_recorded(outputs, inputs, others)
    else:
        assert_recorded(outputs, inputs, others)


@pytest.mark.parametrize("name", cases())
def test_forward_and_backward(name: str) -> None:
    target, inputs = cases()[name](np.random.default_rng(2), np.float64)
    _, others = cases()[name](np.random.default_rng(3), np.float64)
    _, (both, cotangents) = parts(target, inputs)
    other_cotangents = draw_like(cotangents, np.random.default_rng(4))
    given, other = (inputs, cotangents), (others, other_cotangents)
    if name.startswith(NO_BACKWARD):
        with pytest.raises(RecordingError):
            assert_recorded(both, given, other)
    else:
        assert_recorded(both, given, other)
