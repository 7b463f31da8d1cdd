"""xLSTM Large: initial values, parts, and equality of its two weight layouts."""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTMState, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.numerics import Array
from tests.models.build import assert_close, build, draw_tokens, flat, large_config, make
from tests.models.test_xlstm_lm_model import assert_deviation

D, BLOCKS = 64, 3
SMALL = np.sqrt(2 / (5 * D))
WANG = 2 / (BLOCKS * np.sqrt(D))


def fresh(mode: Any, **options: Any) -> xLSTMLarge:
    sizes = {"embedding_dim": D, "num_blocks": BLOCKS, "num_heads": 4, "vocab_size": 200}
    config = large_config(weight_mode=mode, use_bias=True, **(sizes | options))
    return xLSTMLarge(config, rng=np.random.default_rng(1))


@pytest.mark.parametrize("mode", ["single", "fused"])
def test_how_it_starts(mode: str) -> None:
    """Maps have small init, those into the residual stream Wang init; biases of maps are 0."""
    params = fresh(mode).params
    for name, array in params.items():
        map_name, kind = name.rsplit(".", 2)[-2:]
        if map_name in ("igate_preact", "fgate_preact", "ifgate_preact"):
            starts = {"igate_preact": [-10] * 4, "fgate_preact": [3, 4, 5, 6]}
            gates = starts.get(map_name, [-10] * 4 + [3, 4, 5, 6])
            np.testing.assert_array_equal(array, gates if kind == "bias" else 0 * array)
        elif kind == "bias" or "norm" in name:
            assert (array == (0 if kind == "bias" else 1)).all(), name
        else:
            assert_deviation(array, WANG if map_name in ("out_proj", "proj_down") else SMALL)


def test_the_deviation_is_that_of_each_map() -> None:
    """In a fused matrix, q and v each have this init."""
    params = fresh("fused").params
    rows = params["backbone.blocks.0.mlstm_layer.qkv_opreact.weight"]
    assert rows.shape == (32 + 32 + 64 + 64, D)
    for part in np.split(rows, [32, 64, 128]):
        assert_deviation(part, SMALL)


@pytest.mark.parametrize("bias", [True, False])
def test_names_and_shapes_are_the_official_ones(bias: bool) -> None:
    options = {"use_bias": bias, "num_blocks": 1}
    single, fused = (make(large_config(weight_mode=m, **options)) for m in ("single", "fused"))
    weights = {
        "mlstm_layer.q": (6, 12),
        "mlstm_layer.k": (6, 12),
        "mlstm_layer.v": (12, 12),
        "mlstm_layer.ogate_preact": (12, 12),
        "mlstm_layer.igate_preact": (2, 12),
        "mlstm_layer.fgate_preact": (2, 12),
        "mlstm_layer.out_proj": (12, 12),
        "ffn.proj_up_gate": (20, 12),
        "ffn.proj_up": (20, 12),
        "ffn.proj_down": (12, 20),
        "norm_mlstm": (12,),
        "norm_ffn": (12,),
        "mlstm_layer.multihead_norm": (12,),
    }
    together = {
        "mlstm_layer.qkv_opreact": ("q", "k", "v", "ogate_preact"),
        "mlstm_layer.ifgate_preact": ("igate_preact", "fgate_preact"),
        "ffn.proj_up_gate_z": ("proj_up_gate", "proj_up"),
    }
    assert _shapes(single) == _expected(weights, bias)
    for name, parts in together.items():
        layer = name.split(".")[0]
        weights[name] = (sum(weights.pop(f"{layer}.{part}")[0] for part in parts), 12)
    assert _shapes(fused) == _expected(weights, bias)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in model.params.items()}


def _expected(weights: dict[str, tuple[int, ...]], bias: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (7, 12), "lm_head.weight": (7, 12)}
    blocks = {f"blocks.0.{name}": shape for name, shape in weights.items()}
    for name, shape in (blocks | {"out_norm": (12,)}).items():
        shapes[f"backbone.{name}.weight"] = shape
        if bias or ("gate_preact" in name and "ogate" not in name):
            shapes[f"backbone.{name}.bias"] = shape[:1]
    return shapes


def fuse(arrays: dict[str, Array]) -> dict[str, Array]:
    """Convert weights of the single layout to the fused one."""
    groups = {
        "qkv_opreact": ("q", "k", "v", "ogate_preact"),
        "ifgate_preact": ("igate_preact", "fgate_preact"),
        "proj_up_gate_z": ("proj_up_gate", "proj_up"),
    }
    found: dict[str, list[Array]] = {}
    for name, array in arrays.items():
        *path, part, kind = name.split(".")
        target = next((g for g, parts in groups.items() if part in parts), part)
        found.setdefault(".".join((*path, target, kind)), []).append(array)
    return {name: np.concatenate(parts) for name, parts in found.items()}


@pytest.mark.parametrize("bias", [True, False])
def test_both_layouts_are_one_model(bias: bool) -> None:
    single, fused = (
        make(large_config(weight_mode=mode, use_bias=bias)) for mode in ("single", "fused")
    )
    fused.load_state_dict(fuse(single.state_dict()))
    assert fused.num_parameters == single.num_parameters
    results = []
    for model in (single, fused):
        logits, after, cache = model.forward(draw_tokens())
        _, dstate0, grads = model.backward(np.cos(logits), cache)
        if model is single:
            grads = fuse(grads)
        results.append((flat(after, {"logits": logits}), flat(dstate0, grads)))
    assert_close(results[1][0], results[0][0], 1e-13)
    assert_close(results[1][1], results[0][1], 1e-12)


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 64])
def test_the_chunk_size_changes_nothing(chunk_size: int) -> None:
    tokens, model = draw_tokens(23), build("large-single")
    other = make(large_config(chunk_size=chunk_size))
    logits, after, _ = model.forward(tokens)
    got, got_after, _ = other.forward(tokens)
    assert_close(flat(got_after, {"logits": got}), flat(after, {"logits": logits}), 1e-11)


def test_logits_stay_below_the_cap() -> None:
    model = make(large_config(output_logit_soft_cap=2.0), scale=3.0)
    plain = make(large_config(output_logit_soft_cap=None), scale=3.0)
    capped, logits = model(draw_tokens())[0], plain(draw_tokens())[0]
    assert np.abs(logits).max() > 2
    np.testing.assert_allclose(capped, 2 * np.tanh(logits / 2), rtol=1e-12)


def test_the_gates_are_capped() -> None:
    """A bias of 1000 is capped: the model is the same with a bias of the cap."""
    model = make(large_config(gate_soft_cap=3.0))
    gate = "backbone.blocks.0.mlstm_layer.igate_preact"
    results = []
    for bias in (1e3, 1e6):
        model.params[f"{gate}.bias"][...] = bias
        logits, state = model(draw_tokens(1))
        results.append(logits)
        np.testing.assert_allclose(state[0].m, 3.0)
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)


def test_the_state_of_a_block_is_a_memory() -> None:
    state = build("large-single").init_state(3)
    assert [type(part) for part in state] == [mLSTMState, mLSTMState]
    C, n, m = state[0]
    assert n is not None
    assert m is not None
    assert (C.shape, n.shape, m.shape) == ((3, 2, 3, 6), (3, 2, 3), (3, 2))


def test_the_size_of_the_7b_model() -> None:
    """The count is 6,865,424,896, computed from the sizes and from one block that is built.

    The weights of a tiny model have the shapes that the formula below assumes.
    """

    def count(c: xLSTMLargeConfig) -> int:
        D, QK, W, U, NH = c.embedding_dim, c.qk_dim, c.v_dim, c.ffn_dim, c.num_heads
        layer = 2 * QK * D + 2 * W * D + 2 * NH * (D + 1) + W + W * D
        return c.num_blocks * (layer + 3 * U * D + 2 * D) + D + 2 * c.vocab_size * D

    tiny = large_config()
    assert make(tiny).num_parameters == count(tiny)
    big = xLSTMLargeConfig(embedding_dim=4096, num_heads=8, num_blocks=32, vocab_size=50304)
    assert count(big) == 6_865_424_896
