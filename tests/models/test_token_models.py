"""What holds for both language models, whatever their configuration."""

import copy
import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.errors import DTypeError, NonFiniteError, OptionError, ShapeError, StateError
from numpy_xlstm.layers import base
from numpy_xlstm.models import LanguageModel, xLSTMLarge, xLSTMLMModel
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild
from tests.models.build import (
    CONFIGS,
    B,
    Example,
    T,
    V,
    assert_close,
    assert_same,
    build,
    check,
    draw_like,
    draw_tokens,
    examples,
    few,
    flat,
    lm_config,
    make,
    random_state,
    slstm_block,
)

KINDS = pytest.mark.parametrize("name", list(CONFIGS))
MAIN = pytest.mark.parametrize("name", ["mixed", "tied", "large-single", "large-fused"])


def run(
    model: LanguageModel, tokens: Array, state: Any, dlogits: Array, dstate: Any, **options: Any
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Logits and final state, and the gradients of the initial state and of the parameters."""
    logits, after, cache = model.forward(tokens, state, **options)
    nothing, before, grads = model.backward(dlogits, cache, dstate)
    assert nothing is None
    return flat(after, {"logits": logits}), flat(before, grads)


# Gradients


@KINDS
@pytest.mark.parametrize("steps", [1, T])
def test_every_gradient_by_complex_step(name: str, steps: int) -> None:
    """All parameters and all parts of the initial state, from a state that is not empty."""
    model, rng = build(name), np.random.default_rng(5)
    report = check(model, draw_tokens(steps), random_state(model.init_state(B), rng))
    tensors = {row.tensor for row in report.rows}
    assert tensors >= model.params.keys() | flat(model.init_state(1)).keys()


@MAIN
def test_every_gradient_from_the_empty_state(name: str) -> None:
    check(build(name, seed=4), draw_tokens(), seed=6)


@MAIN
@pytest.mark.parametrize("rows", [1, B])
def test_gradients_across_blocks_of_steps_and_chunks(name: str, rows: int) -> None:
    """A scan has blocks of 25 steps, an mLSTM chunks of 64; 70 is a multiple of neither."""
    model = build(name, seed=7)
    state = random_state(model.init_state(rows), np.random.default_rng(8))
    check(model, draw_tokens(70, rows=rows), state, seed=9)


@few
@given(example=examples(smallest_head=3).filter(lambda example: example.T > 0))
def test_gradients_of_any_configuration(example: Example) -> None:
    """Heads of one or two are left out: a norm over two numbers is ill conditioned."""
    model = example.model()
    state = random_state(model.init_state(example.B), np.random.default_rng(example.seed))
    check(model, example.tokens(), state, seed=example.seed)


@MAIN
def test_the_gradient_is_zero_where_there_are_no_tokens(name: str) -> None:
    model, rng = build(name), np.random.default_rng(7)
    state = random_state(model.init_state(B), rng)
    logits, after, cache = model.forward(draw_tokens(0), state)
    assert logits.shape == (B, 0, V)
    assert_same(flat(after), flat(state))
    dstate = draw_like(after, rng)
    _, dstate0, grads = model.backward(logits, cache, dstate)
    assert_close(flat(dstate0), flat(dstate), 1e-13)
    assert grads.keys() == model.params.keys()
    assert all((g == 0).all() and g.shape == model.params[n].shape for n, g in grads.items())
    assert_same(flat(model(draw_tokens(0), state)[1]), flat(state))


# One path


@few
@given(example=examples(smallest_head=3), cuts=st.tuples(st.integers(0, 7), st.integers(0, 7)))
def test_three_pieces_equal_the_whole(example: Example, cuts: tuple[int, int]) -> None:
    """Logits, final state and, with the cotangent of the state passed back, all gradients."""
    model, tokens, rng = example.model(), example.tokens(), np.random.default_rng(example.seed)
    state = random_state(model.init_state(example.B), rng)
    dlogits = rng.standard_normal((*tokens.shape, model.vocab_size))
    dstate = draw_like(state, rng)
    out, gradients = run(model, tokens, state, dlogits, dstate)

    edges = [0, *sorted(min(cut, example.T) for cut in cuts), example.T]
    pieces = [slice(*edge) for edge in itertools.pairwise(edges)]
    logits, caches, now = [], [], state
    for piece in pieces:
        some, now, cache = model.forward(tokens[:, piece], now)
        logits.append(some)
        caches.append(cache)
    assert_close(flat(now, {"logits": np.concatenate(logits, axis=1)}), out, 1e-11)

    total = {name: np.zeros_like(array) for name, array in model.params.items()}
    for piece, cache in reversed(list(zip(pieces, caches, strict=True))):
        _, dstate, grads = model.backward(dlogits[:, piece], cache, dstate)
        total = {name: total[name] + grads[name] for name in total}
    assert_close(flat(dstate, total), gradients, 1e-10)


@KINDS
@pytest.mark.parametrize("empty", [True, False])
def test_token_by_token_equals_the_sequence(name: str, empty: bool) -> None:
    model, tokens, rng = build(name), draw_tokens(20), np.random.default_rng(8)
    state = None if empty else random_state(model.init_state(B), rng)
    logits, after, _ = model.forward(tokens, state)
    steps, now = np.empty_like(logits), state
    for t in range(20):
        steps[:, t : t + 1], now = model(tokens[:, t : t + 1], now)
    assert_close(flat(now, {"logits": steps}), flat(after, {"logits": logits}), 1e-11)


@KINDS
def test_the_empty_state_is_the_default(name: str) -> None:
    model = build(name)
    empty = model.init_state(B)
    for part, array in leaves("", empty):
        assert (array == (-np.inf if part.endswith(".m") else 0)).all(), part
    logits, after, _ = model.forward(draw_tokens())
    explicit, after_explicit, _ = model.forward(draw_tokens(), empty)
    assert_same(flat(after, {"logits": logits}), flat(after_explicit, {"logits": explicit}))


@MAIN
def test_evaluation_in_blocks_equals_the_forward(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "EVALUATION_BLOCK", 4)
    model = build(name)
    state = random_state(model.init_state(B), np.random.default_rng(9))
    for steps in (3, 4, 5, 11):
        logits, after, _ = model.forward(draw_tokens(steps), state)
        got, got_after = model(draw_tokens(steps), state)
        assert_close(flat(got_after, {"logits": got}), flat(after, {"logits": logits}), 1e-11)


def peak(call: Callable[[], Any]) -> int:
    """Bytes that were allocated at once during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["mixed", "large-single"])
def test_memory_of_evaluation_does_not_grow_with_the_sequence(name: str) -> None:
    model = build(name)

    def above_logits(blocks: int) -> int:
        steps = blocks * base.EVALUATION_BLOCK
        tokens = draw_tokens(steps, rows=1)
        return peak(lambda: model(tokens)) - steps * V * 8

    above_logits(2)
    assert above_logits(4) <= 1.2 * above_logits(2)


@MAIN
def test_rows_of_a_batch_do_not_know_each_other(name: str) -> None:
    """Each row alone gives what it gives in the batch; its gradients add up."""
    model, rng, rows = build(name), np.random.default_rng(10), 3
    tokens = draw_tokens(rows=rows)
    state = random_state(model.init_state(rows), rng)
    dlogits, dstate = rng.standard_normal((rows, T, V)), draw_like(state, rng)
    out, gradients = run(model, tokens, state, dlogits, dstate)

    def row(tree: Any, n: int) -> Any:
        return rebuild(tree, iter([a[n : n + 1] for _, a in leaves("", tree)]))

    alone = [
        run(model, tokens[n : n + 1], row(state, n), dlogits[n : n + 1], row(dstate, n))
        for n in range(rows)
    ]
    together = {key: np.concatenate([found[0][key] for found in alone]) for key in out}
    assert_close(together, out, 1e-12)
    joined = {
        key: np.concatenate([found[1][key] for found in alone])
        if key.startswith("state.")
        else np.sum([found[1][key] for found in alone], axis=0)
        for key in gradients
    }
    assert_close(joined, gradients, 1e-11)


# Recomputation and dropout


def with_dropout(**options: Any) -> LanguageModel:
    config = lm_config(
        dropout=0.4,
        add_embedding_dropout=True,
        slstm_block=slstm_block(ffn={"dropout": 0.3}),
        **options,
    )
    return make(config)


@KINDS
def test_recomputation_gives_the_same_bits(name: str) -> None:
    model, rng = build(name), np.random.default_rng(11)
    state = random_state(model.init_state(B), rng)
    dlogits, dstate = rng.standard_normal((B, T, V)), draw_like(state, rng)
    plain, again = (
        run(model, draw_tokens(), state, dlogits, dstate, recompute=r) for r in (False, True)
    )
    assert_same(again[0], plain[0])
    assert_same(again[1], plain[1])


@pytest.mark.parametrize("tied", [True, False])
def test_recomputation_drops_the_same_entries(tied: bool) -> None:
    model, rng = with_dropout(tie_weights=tied), np.random.default_rng(12)
    dlogits = rng.standard_normal((B, T, V))
    dstate = draw_like(model.init_state(B), rng)
    source, source_again = np.random.default_rng(13), np.random.default_rng(13)
    plain = run(model, draw_tokens(), None, dlogits, dstate, rng=source)
    again = run(model, draw_tokens(), None, dlogits, dstate, rng=source_again, recompute=True)
    assert_same(again[0], plain[0])
    assert_same(again[1], plain[1])
    assert source.random() == source_again.random()


def test_a_cache_of_recomputation_can_be_used_twice() -> None:
    model, rng = with_dropout(), np.random.default_rng(14)
    logits, _, cache = model.forward(draw_tokens(), rng=np.random.default_rng(1), recompute=True)
    dlogits = rng.standard_normal(logits.shape)
    first, second = (model.backward(dlogits, cache) for _ in range(2))
    assert_same(flat(*second[1:]), flat(*first[1:]))


@MAIN
def test_recomputation_keeps_less(name: str) -> None:
    model, tokens = build(name), draw_tokens(128)

    def kept(recompute: bool) -> int:
        model.forward(tokens[:, :2])
        tracemalloc.start()
        try:
            found = model.forward(tokens, recompute=recompute)
            assert found[0].shape == (B, 128, V)
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert kept(True) < 0.5 * kept(False)


class Seeded(Module):
    """A model whose every forward drops the same entries."""

    def __init__(self, model: LanguageModel, seed: int) -> None:
        self.model, self.seed, self.params = model, seed, model.params

    def with_params(self, params: Any) -> "Seeded":
        return Seeded(self.model.with_params(params), self.seed)

    def forward(self, tokens: Array, state: Any) -> Any:
        return self.model.forward(tokens, state, rng=np.random.default_rng(self.seed))

    def backward(self, dlogits: Array, cache: Any, dstate: Any) -> Any:
        return self.model.backward(dlogits, cache, dstate)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_with_dropout(seed: int) -> None:
    model = with_dropout()
    state = random_state(model.init_state(B), np.random.default_rng(15))
    check(Seeded(model, seed), draw_tokens(), state)


def test_dropout_needs_a_generator_and_follows_it() -> None:
    model, plain = with_dropout(), build("mixed")
    assert (model.dropout, plain.dropout) == (0.4, 0.0)
    plain = plain.with_params(model.params)
    tokens = draw_tokens()

    def logits(seed: int) -> Array:
        return model.forward(tokens, rng=np.random.default_rng(seed))[0]

    np.testing.assert_array_equal(model.forward(tokens)[0], plain.forward(tokens)[0])
    np.testing.assert_array_equal(model(tokens)[0], plain(tokens)[0])
    np.testing.assert_array_equal(logits(1), logits(1))
    assert np.abs(logits(1) - logits(2)).max() > 1e-3
    assert np.abs(logits(1) - model(tokens)[0]).max() > 1e-3
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(plain.forward(tokens, rng=rng)[0], plain(tokens)[0])


def test_the_largest_dropout_of_any_part_is_told() -> None:
    config = lm_config(dropout=0.1, slstm_block=slstm_block(ffn={"dropout": 0.25}))
    assert make(config).dropout == 0.25
    assert make(lm_config(dropout=0.1)).dropout == 0.1


# Arrays that come and go


DTYPES = {
    "mixed": np.float32,
    "tied": np.float32,
    "large-single": np.float32,
    "large-fused": np.longdouble,
    "gelu_tanh": np.longdouble,
}


@pytest.mark.parametrize("name", list(DTYPES))
def test_the_dtype_is_kept(name: str) -> None:
    dtype = DTYPES[name]
    tanh = lm_config(slstm_block=slstm_block(ffn={"act_fn": "gelu_tanh"}), dropout=0.5)
    config = tanh if name == "gelu_tanh" else CONFIGS[name]()
    model, dlogits = make(config, dtype=dtype), np.ones((B, T, V), dtype)
    for recompute in (False, True):
        out = run(model, draw_tokens(), None, dlogits, None, recompute=recompute)
        assert {a.dtype for found in out for a in found.values()} == {np.dtype(dtype)}
    logits, state = model(draw_tokens())
    assert {a.dtype for a in flat(state, {"logits": logits}).values()} == {np.dtype(dtype)}
    out = run(model, draw_tokens(), None, dlogits, None, rng=np.random.default_rng(1))
    assert {a.dtype for found in out for a in found.values()} == {np.dtype(dtype)}


@MAIN
def test_float32_is_near_float64(name: str) -> None:
    wide = build(name)
    narrow = wide.astype(np.float32)
    assert narrow(draw_tokens())[0] == pytest.approx(wide(draw_tokens())[0], abs=1e-3)


@MAIN
@pytest.mark.parametrize("recompute", [False, True])
def test_nothing_that_goes_in_is_changed(name: str, recompute: bool) -> None:
    model, rng = build(name), np.random.default_rng(16)
    tokens, state = draw_tokens(), random_state(model.init_state(B), rng)
    dlogits, dstate = rng.standard_normal((B, T, V)), draw_like(state, rng)
    given_in = {"tokens": tokens, "dlogits": dlogits, **model.params}
    given_in |= flat(state) | {f"d{key}": a for key, a in flat(dstate).items()}
    before = copy.deepcopy(given_in)
    logits, _, cache = model.forward(tokens, state, recompute=recompute)
    first = model.backward(dlogits, cache, dstate)
    second = model.backward(dlogits, cache, dstate)
    model(tokens, state)
    assert_same(given_in, before)
    assert_same(flat(*second[1:]), flat(*first[1:]))
    assert logits.shape == dlogits.shape


@MAIN
@pytest.mark.parametrize("recompute", [False, True])
def test_changed_gradients_do_not_change_the_cache(name: str, recompute: bool) -> None:
    """Gradients are arrays of their own: a cache can be used again."""
    model, rng = build(name), np.random.default_rng(17)
    tokens, state = draw_tokens(), random_state(model.init_state(B), rng)
    dlogits = rng.standard_normal((B, T, V))
    _, _, cache = model.forward(tokens, state, recompute=recompute)
    first = flat(*model.backward(dlogits, cache)[1:])
    expected = copy.deepcopy(first)
    for array in first.values():
        array[...] = 8.0
    assert_same(flat(*model.backward(dlogits, cache)[1:]), expected)


@MAIN
@pytest.mark.parametrize(
    "steps",
    [
        0,
        1,
        T,
        40,
    ],
)
def test_evaluation_gives_a_state_of_its_own(name: str, steps: int) -> None:
    """Writing into the state that came out does not change the state that went in."""
    model = build(name)
    state = random_state(model.init_state(B), np.random.default_rng(18))
    before = copy.deepcopy(flat(state))
    _, after = model(draw_tokens(steps), state)
    for array in flat(after).values():
        array[...] = 9.0
    assert_same(flat(state), before)


# Parameters


@KINDS
def test_with_params_replaces_every_part(name: str) -> None:
    model, other = build(name), build(name, seed=20)
    clone = model.with_params(other.params)
    assert all(clone.params[key] is array for key, array in other.params.items())
    np.testing.assert_array_equal(clone(draw_tokens())[0], other(draw_tokens())[0])
    assert np.abs(model(draw_tokens())[0] - clone(draw_tokens())[0]).max() > 1e-3
    with pytest.raises(ShapeError, match="weight"):
        model.with_params({**model.params, "weight": np.zeros(2)})


@KINDS
def test_the_order_of_the_parameters_does_not_matter(name: str) -> None:
    model = build(name)
    clone = model.with_params(dict(reversed(dict(model.params).items())))
    tokens = draw_tokens()
    dlogits = np.random.default_rng(3).standard_normal((*tokens.shape, model.vocab_size))
    results = []
    for other in (model, clone):
        logits, _, cache = other.forward(tokens)
        results.append((logits, other.backward(dlogits, cache)[2]))
    (logits, grads), (same_logits, same_grads) = results
    np.testing.assert_array_equal(same_logits, logits)
    for key, grad in grads.items():
        np.testing.assert_array_equal(same_grads[key], grad)


@MAIN
def test_every_parameter_has_a_gradient(name: str) -> None:
    model, rng = build(name), np.random.default_rng(21)
    _, grads = run(model, draw_tokens(12), None, rng.standard_normal((B, 12, V)), None)
    for key, array in model.params.items():
        assert np.abs(grads[key]).max() > 0, key
        assert grads[key].shape == array.shape


@MAIN
def test_a_written_parameter_is_read(name: str) -> None:
    model = build(name)
    before = model(draw_tokens())[0]
    for key, array in model.params.items():
        kept = array.copy()
        array += 0.1
        assert np.abs(model(draw_tokens())[0] - before).max() > 0, key
        array[...] = kept
    np.testing.assert_array_equal(model(draw_tokens())[0], before)


@KINDS
def test_a_seed_repeats(name: str) -> None:
    config = CONFIGS[name]()
    kind: Callable[..., LanguageModel] = type(build(name))
    first, same, other = (kind(config, rng=np.random.default_rng(s)) for s in (1, 1, 2))
    assert_same(same.params, first.params)
    assert any((other.params[key] != array).any() for key, array in first.params.items())
    narrow = kind(config, rng=np.random.default_rng(1), dtype=np.float32)
    for key, array in first.params.items():
        np.testing.assert_array_equal(narrow.params[key], array.astype(np.float32))


@KINDS
def test_the_tree_of_a_model_names_everything(name: str) -> None:
    model = build(name)
    drawn = str(model)
    assert drawn.splitlines()[0] == f"{type(model).__name__}  {model.num_parameters:,}"
    assert model.num_parameters == sum(a.size for a in model.params.values())
    for key, array in model.params.items():
        leaf = key.rsplit(".", 1)[-1]
        assert f"{leaf}  {array.shape} float64  {array.size:,}" in drawn


# State dicts


@KINDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_dict_goes_round(name: str, dtype: Any) -> None:
    model, other = build(name, dtype=dtype), build(name, dtype=dtype, seed=22)
    arrays = model.state_dict()
    live = {key: id(array) for key, array in other.params.items()}
    other.load_state_dict(arrays)
    assert_same(other.params, model.params)
    assert {key: id(array) for key, array in other.params.items()} == live
    for array in arrays.values():
        array[...] = 5.0
    assert_same(other.params, model.params)


def refused(
    model: LanguageModel, arrays: dict[str, Any], error: type[Exception], match: str
) -> None:
    before = copy.deepcopy(dict(model.params))
    with pytest.raises(error, match=match):
        model.load_state_dict(arrays)
    assert_same(model.params, before)


@MAIN
def test_bad_state_dicts_are_refused_and_nothing_is_copied(name: str) -> None:
    model = build(name)
    last = model.names[2] if not model.tied else model.names[0]
    key = f"{last}.weight"
    good = {k: a + 1 for k, a in build(name, seed=23).state_dict().items()}
    refused(model, {k: a for k, a in good.items() if "blocks.0" not in k}, ShapeError, "expected")
    refused(model, good | {"other.weight": np.ones(2)}, ShapeError, r"got \['other\.weight'\]")
    if model.tied:
        good.pop("lm_head.weight")
    shape = good[key].shape
    refused(model, good | {key: good[key].T}, ShapeError, rf"{key}: expected shape")
    refused(model, good | {key: np.ones(shape, int)}, DTypeError, rf"{key}: expected floating")
    refused(model, good | {key: np.ones(shape, complex)}, DTypeError, rf"{key}: .*got complex128")
    bad = good[key].copy()
    bad[0, 0] = np.nan
    refused(model, good | {key: bad}, NonFiniteError, rf"{key}: expected finite")
    refused(model, {}, ShapeError, "state_dict: expected")


# Errors


@MAIN
@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (np.array([1, 2]), ShapeError, r"tokens: expected shape \(B, T\); got \(2,\)"),
        (np.zeros((0, 3), int), ShapeError, "tokens: expected a batch of at least 1"),
        (np.array([[1, V]]), IndexError, r"tokens: expected ids from 0 to 6; got 7 at index"),
        (np.array([[-1]]), IndexError, r"tokens: expected ids from 0 to 6; got -1 at index"),
        (np.array([[1.0]]), DTypeError, "tokens: expected an array of integers; got float64"),
    ],
)
def test_bad_tokens(name: str, tokens: Any, error: type[Exception], message: str) -> None:
    model = build(name)
    for call in (model.forward, model):
        with pytest.raises(error, match=message):
            call(tokens)


@MAIN
def test_bad_states(name: str) -> None:
    model = build(name)
    tokens, state = draw_tokens(), model.init_state(B)
    part = state[0].mlstm if hasattr(state[0], "mlstm") else state[0]

    def with_C(C: Any) -> Any:
        memory = part._replace(C=C)
        first = state[0]._replace(mlstm=memory) if hasattr(state[0], "mlstm") else memory
        return (first, *state[1:])

    where = r"state\.0\.(mlstm\.)?C"
    bad: list[tuple[Any, type[Exception], str]] = [
        (state[:1], ShapeError, r"state: expected a tuple \(0, 1.*\); got 1 entries"),
        (model.init_state(B + 1), ShapeError, r"state\.0\..*: expected shape \(2, .*got \(3, "),
        (with_C(part.C[:, :1]), ShapeError, rf"{where}: expected shape"),
        (with_C(None), DTypeError, rf"{where}: expected a NumPy array; got NoneType"),
        (with_C(part.C.astype(np.float32)), DTypeError, rf"{where}: .*got float32"),
        (3, ShapeError, "state: expected a tuple .*; got int"),
    ]
    for wrong, error, message in bad:
        for call in (model.forward, model):
            with pytest.raises(error, match=message):
                call(tokens, wrong)
    _, _, cache = model.forward(tokens)
    dlogits = np.ones((B, T, V))
    with pytest.raises(ShapeError, match="dstate: expected a tuple"):
        model.backward(dlogits, cache, state[:1])


@MAIN
def test_bad_cotangents(name: str) -> None:
    model = build(name)
    _, _, cache = model.forward(draw_tokens())
    with pytest.raises(ShapeError, match=r"dy: expected shape \(2, 5, 7\); got \(2, 5, 6\)"):
        model.backward(np.ones((B, T, V - 1)), cache)
    with pytest.raises(NonFiniteError, match="dy"):
        model.backward(np.full((B, T, V), np.nan), cache)
    with pytest.raises(DTypeError, match="dy: expected float64"):
        model.backward(np.ones((B, T, V), np.float32), cache)


@MAIN
@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_bad_batch_sizes(name: str, batch_size: Any) -> None:
    with pytest.raises(OptionError, match=f"batch_size: .*got {batch_size}"):
        build(name).init_state(batch_size)


# What a model is given


@MAIN
def test_a_configuration_that_changes_later_changes_no_model(name: str) -> None:
    config = CONFIGS[name]()
    kind: Any = xLSTMLarge if hasattr(config, "gate_soft_cap") else xLSTMLMModel
    model = kind(config, rng=np.random.default_rng(30))
    expected = model(draw_tokens())[0]
    described = model.config.to_dict()
    config.vocab_size = 3
    config.num_blocks = 1
    if hasattr(config, "gate_soft_cap"):
        config.gate_soft_cap = 0.1
    np.testing.assert_array_equal(model(draw_tokens())[0], expected)
    assert model.config.to_dict() == described


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (xLSTMLMModel, "config: expected a xLSTMLMModelConfig; got dict"),
        (xLSTMLarge, "config: expected a xLSTMLargeConfig; got dict"),
    ],
)
def test_a_configuration_of_another_kind(kind: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        kind({"vocab_size": 3})


@MAIN
def test_a_state_that_is_not_finite(name: str) -> None:
    model = build(name)
    logits, after, cache = model.forward(draw_tokens())
    for leaf in flat(after):
        state = random_state(model.init_state(B), np.random.default_rng(31))
        flat(state)[leaf][...] = np.nan
        with pytest.raises(NonFiniteError, match="expected finite numbers; got nan"):
            model.forward(draw_tokens(), state)
        with pytest.raises(NonFiniteError, match="dstate"):
            model.backward(np.zeros_like(logits), cache, state)
    with pytest.raises(NonFiniteError, match=r"dstate.*\.m: expected finite numbers; got -inf"):
        model.backward(np.zeros_like(logits), cache, model.init_state(B))


@pytest.mark.parametrize("name", ["slstm-only", "mixed", "tied"])
@pytest.mark.parametrize(("n", "c"), [(-1.0, 0.0), (0.0, 1.0)])
def test_a_state_that_no_sequence_leads_to(name: str, n: float, c: float) -> None:
    model = build(name)
    state = random_state(model.init_state(B), np.random.default_rng(32))
    memory = next(part.slstm for part in state if hasattr(part, "slstm"))
    memory.n[0, 1], memory.c[0, 1] = n, c
    for call in (model.forward, model):
        with pytest.raises(StateError):
            call(draw_tokens(), state)
