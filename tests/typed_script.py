"""A user's script, in which type checkers must know the type of every result.

``.ci/run`` checks it with mypy --strict and basedpyright (pyright with its own node), in a folder
that contains nothing else.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

from numpy_xlstm import (
    GRU,
    LSTM,
    Activation,
    AdamW,
    GRUCell,
    LanguageModel,
    LSTMState,
    SequenceLayer,
    from_pretrained,
    generate,
    gradcheck,
    mLSTM,
    mLSTMState,
    save_pretrained,
    sLSTM,
    sLSTMCell,
    sLSTMState,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
    xLSTMLarge,
    xLSTMLargeConfig,
)
from numpy_xlstm.cells.gru import GRUState
from numpy_xlstm.cells.slstm import sLSTMCache
from numpy_xlstm.gradcheck.report import Report
from numpy_xlstm.layers import LayerCache

Array = npt.NDArray[Any]
Grads = dict[str, Array]


def layers(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 5, 3))
    slstm = sLSTM(3, 4, num_heads=2, rng=0)
    y, state, cache = slstm.forward(x)
    assert_type(y, Array)
    assert_type(state, sLSTMState)
    assert_type(state.h, Array)
    assert_type(cache, LayerCache)
    dx, dstate0, grads = slstm.backward(y, cache, state._replace(m=np.zeros_like(state.m)))
    assert_type(dx, Array)
    assert_type(dstate0, sLSTMState)
    assert_type(grads, Grads)
    assert_type(slstm(x, state), tuple[Array, sLSTMState])
    assert_type(LSTM(3, 4, 2, bidirectional=True)(x), tuple[Array, LSTMState])
    assert_type(mLSTM(3, 4).forward(x), tuple[Array, mLSTMState, LayerCache])
    assert_type(GRU(3, 4).forward(x), tuple[Array, Array, LayerCache])
    assert_type(SequenceLayer(GRUCell(3, 4))(x), tuple[Array, GRUState])
    assert_type(sLSTMCell(3, 4).forward(x[:, 0]), tuple[Array, sLSTMState, sLSTMCache])
    assert_type(gradcheck(Activation("gelu"), x[:1]), Report)


def one_step(model: LanguageModel, optimizer: AdamW, ids: npt.NDArray[np.int64]) -> Array:
    logits, _, cache = model.forward(ids[:, :-1])
    assert_type(logits, Array)
    loss, kept = softmax_cross_entropy(logits, ids[:, 1:])
    assert_type(loss, Array)
    _, _, grads = model.backward(softmax_cross_entropy_backward(1.0, kept), cache)
    assert_type(grads, Grads)
    optimizer.step(grads)
    return loss


def models(folder: Path, rng: np.random.Generator) -> None:
    ids = np.array([[1, 2, 3]])
    model = LanguageModel(10, 4, LSTM(4, 8, rng=rng), rng=rng)
    assert_type(model.forward(ids), tuple[Array, LSTMState, LayerCache])
    assert_type(one_step(model, AdamW(model.params), ids), Array)
    save_pretrained(model, folder / "lstm.safetensors")
    loaded = from_pretrained(folder / "lstm.safetensors")
    assert_type(loaded, LanguageModel[tuple[Any, ...]])
    assert_type(generate(loaded, ids, max_new_tokens=2), npt.NDArray[np.int64])
    save_pretrained(
        xLSTMLarge(xLSTMLargeConfig(16, 2, 1, vocab_size=9)), folder / "large.safetensors"
    )
    large = from_pretrained(folder / "large.safetensors", xLSTMLarge)
    assert_type(large, xLSTMLarge)
    logits, states = large(ids)
    assert_type(logits, Array)
    assert_type(states, tuple[mLSTMState, ...])
    assert_type(states[0].C, Array)


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        layers(np.random.default_rng(0))
        models(Path(folder), np.random.default_rng(0))
