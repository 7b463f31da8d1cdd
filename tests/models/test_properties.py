"""Properties of every block, stack and model: gradients, pieces of sequences, arrays, lengths."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm import LSTM, LSTMCell, SequenceLayer, stack_layers
from numpy_xlstm.layers import CausalConv1d, base
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.blocks import BlockStack
from numpy_xlstm.trees import leaves, tree_map
from tests.models.build import (
    CONFIGS,
    EVERY_SUBJECT,
    B,
    D,
    assert_close,
    assert_same,
    check,
    draw_input,
    few,
    fill,
    flat,
    run,
    subject,
)
from tests.samples import draw_like, random_state

# Gradients


@pytest.mark.parametrize("name", [*CONFIGS, "ResidualBlock"])
def test_every_gradient_by_complex_step(name: str) -> None:
    """Gradients of x, of all parameters and of a non-empty initial state.

    Blocks, and models of other layers, are subjects of ``tests/gradcheck/test_suite.py``.
    """
    model = subject(name)
    state = random_state(model.init_state(B), np.random.default_rng(5))
    report = check(model, draw_input(model), state)
    tensors = {row.tensor for row in report.rows}
    assert tensors >= model.params.keys() | flat(model.init_state(1)).keys()
    assert ("x" in tensors) != isinstance(model, LanguageModel)


@pytest.mark.parametrize(
    "name", [pytest.param("mixed", marks=pytest.mark.long), "large-single", "mLSTMLayer"]
)
@pytest.mark.parametrize(("rows", "steps"), [(1, 70), (B, 1)])
def test_gradients_across_blocks_of_steps_and_chunks(name: str, rows: int, steps: int) -> None:
    """A scan has blocks of 25 steps, an mLSTM chunks of 64; 70 is a multiple of neither.

    Also from the empty state.
    """
    model = subject(name, seed=7)
    state = random_state(model.init_state(rows), np.random.default_rng(8))
    x = draw_input(model, steps, rows=rows)
    check(model, x, state, seed=9)
    check(model, x, seed=6)


# Pieces of a sequence


@EVERY_SUBJECT
def test_pieces_equal_the_whole(name: str) -> None:
    """Compare outputs, final state and all gradients; some pieces are empty."""
    model, rng = subject(name), np.random.default_rng(4)
    x, state = draw_input(model, 9), random_state(model.init_state(B), rng)
    y, last, cache = model.forward(x, state)
    dy, dstate = rng.standard_normal(y.shape), draw_like(last, rng)
    dx, dstate0, grads = model.backward(dy, cache, dstate)
    pieces = [slice(*edges) for edges in itertools.pairwise([0, 0, 1, 2, 3, 4, 7, 9, 9])]
    ys, caches, dxs = [], [], list[Any]()
    for piece in pieces:
        part, state, cache = model.forward(x[:, piece], state)
        ys.append(part)
        caches.append(cache)
    assert_close(flat(state, {"y": np.concatenate(ys, axis=1)}), flat(last, {"y": y}), 1e-11)
    total = {name: np.zeros_like(array) for name, array in grads.items()}
    for piece, cache in reversed(list(zip(pieces, caches, strict=True))):
        part, dstate, some = model.backward(dy[:, piece], cache, dstate)
        dxs.insert(0, part)
        total = {name: total[name] + some[name] for name in total}
    if dx is not None:
        total, grads = total | {"x": np.concatenate(dxs, axis=1)}, grads | {"x": dx}
    assert_close(flat(dstate, total), flat(dstate0, grads), 1e-10)


@EVERY_SUBJECT
def test_evaluation_equals_the_forward(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit within one block of steps; 4, 5 and 11 steps are one, two and three blocks."""
    monkeypatch.setattr(base, "EVALUATION_BLOCK", 4)
    model = subject(name)
    start = random_state(model.init_state(B), np.random.default_rng(5))
    lengths = np.array([2, 9])
    y, after, _ = model.forward(draw_input(model, 11), start, lengths=lengths)
    got, got_after = model(draw_input(model, 11), start, lengths=lengths)
    assert_close(flat(got_after, {"y": got}), flat(after, {"y": y}), 1e-11)
    for steps, state in itertools.product((0, 1, 3, 4, 5, 11), (None, start)):
        x = draw_input(model, steps)
        y, after, _ = model.forward(x, state)
        got, got_after = model(x, state)
        results = flat(got_after, {"y": got})
        given = flat(start, {"x": x}).values()
        pairs = itertools.chain(
            itertools.product(results.values(), [*given, *model.params.values()]),
            itertools.product([got], flat(got_after).values()),
        )
        assert not any(np.shares_memory(new, other) for new, other in pairs)
        assert_close(flat(got_after, {"y": got}), flat(after, {"y": y}), 1e-11)
        if steps <= 4:
            assert_same(flat(got_after, {"y": got}), flat(after, {"y": y}))


@pytest.mark.parametrize(
    "name", ["mLSTMBlock", "sLSTMBlock", "xLSTMBlockStack", "mixed", "large-single", "wide"]
)
@pytest.mark.parametrize("padded", [False, True])
def test_memory_of_evaluation_does_not_grow_with_the_sequence(name: str, padded: bool) -> None:
    model = LSTM(200, 100, rng=0) if name == "wide" else subject(name)

    def above_outputs(blocks: int) -> int:
        x = draw_input(model, blocks * base.EVALUATION_BLOCK, rows=1)
        lengths = np.array([x.shape[1] - 3]) if padded else None
        tracemalloc.start()
        try:
            outputs: int = model(x, lengths=lengths)[0].nbytes
            return tracemalloc.get_traced_memory()[1] - outputs
        finally:
            tracemalloc.stop()

    above_outputs(2)
    assert above_outputs(4) <= 1.2 * above_outputs(2)


@EVERY_SUBJECT
def test_the_empty_state_and_no_steps(name: str) -> None:
    model, rng = subject(name), np.random.default_rng(7)
    empty = model.init_state(B)
    for part, array in leaves("", empty):
        assert (array == (-np.inf if part.endswith(".m") else 0)).all(), part
    x = draw_input(model)
    (y, after, _), (same, same_after, _) = model.forward(x), model.forward(x, empty)
    assert_same(flat(after, {"y": y}), flat(same_after, {"y": same}))
    for state in (empty, random_state(empty, rng)):
        y, after, cache = model.forward(draw_input(model, 0), state)
        assert y.shape == (B, 0, model.out_features)
        assert_same(flat(after), flat(state))
        assert_same(flat(model(draw_input(model, 0), state)[1]), flat(state))
        dstate = draw_like(after, rng)
        dx, dstate0, grads = model.backward(y, cache, dstate)
        assert dx is None or dx.shape == (B, 0, D)
        assert_close(flat(dstate0), flat(dstate), 1e-13)
        assert {n: g.shape for n, g in grads.items()} == {
            n: p.shape for n, p in model.params.items()
        }
        assert not any(g.any() for g in grads.values())


# Rows and lengths


def lstm(*sizes: int, **options: Any) -> Any:
    return SequenceLayer(LSTMCell(*sizes, **options))


LAYERS: dict[str, Any] = {
    "conv": lambda rng: CausalConv1d(D, 3, rng=rng),
    "stack of layers": lambda rng: stack_layers(lstm, D, D, 2, bidirectional=True, rng=rng),
}
OF_ROWS = [*LAYERS, "mLSTMBlock", "sLSTMBlock", "sLSTMLayer-no-conv", "xLSTMBlockStack"]
OF_ROWS += ["mixed", "tied", "large-single", "large-fused", "LSTM", "GRU", "sLSTM", "mLSTM"]


def row(tree: Any, b: int) -> Any:
    return tree_map(lambda a: a[b : b + 1], tree)


@pytest.mark.parametrize("name", OF_ROWS)
@few
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    more=st.integers(0, 2),
    recompute=st.booleans(),
)
def test_each_row_is_computed_as_it_is_alone(
    name: str, seed: int, lengths: list[int], more: int, recompute: bool
) -> None:
    """Results of a row do not depend on others or on padding, and gradients of rows add up."""
    rng, rows, steps = np.random.default_rng(seed), len(lengths), max(lengths) + more
    made = LAYERS[name](rng) if name in LAYERS else None
    model = fill(made, rng) if made is not None else subject(name, seed=seed)
    x = draw_input(model, steps, rows=rows, seed=seed)
    if x.dtype.kind == "f":
        for b, length in enumerate(lengths):
            x[b, length:] = 1e30  # padding may have any finite value
    state = random_state(model.init_state(rows), rng)
    if isinstance(body := getattr(model, "body", None), BlockStack):
        body.recompute = recompute
    y, after, cache = model.forward(x, state, lengths=np.array(lengths))
    dy, dstate = rng.standard_normal(y.shape), draw_like(after, rng)
    dx, dstate0, grads = model.backward(dy, cache, dstate)
    evaluated, last = model(x, state, lengths=np.array(lengths))
    assert_close(flat(last, {"y": evaluated}), flat(after, {"y": y}), 1e-11)
    total = {key: np.zeros_like(array) for key, array in model.params.items()}
    for b, length in enumerate(lengths):
        one, real = slice(b, b + 1), (slice(b, b + 1), slice(length))
        out, gradients = run(model, x[real], row(state, b), dy[real], row(dstate, b))
        assert_close(flat(row(after, b), {"y": y[real]}), out, 1e-11)
        assert not y[b, length:].any()
        back = flat(row(dstate0, b), {} if dx is None else {"x": dx[real]})
        assert_close(back, {key: gradients[key] for key in back}, 1e-10)
        assert dx is None or not dx[one, length:].any()
        total = {key: total[key] + gradients[key] for key in total}
    assert_close(grads, total, 1e-10)
