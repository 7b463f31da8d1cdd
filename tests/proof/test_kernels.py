"""Kernels, forms, time and layers, proved with residues.

The NumPy source of each kernel computes what the unrolled cell does, and every backward is the
derivative of its forward.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.special

import numpy_xlstm as nx
from numpy_xlstm.cells.gates import log_gate
from numpy_xlstm.kernels.adamw import updated
from numpy_xlstm.layers import activations, loss
from numpy_xlstm.numerics import Array
from numpy_xlstm.validation import unchecked
from tests.proof.cases import Run, layer_of, mapped, run
from tests.proof.numbers import calculate_with
from tests.proof.residues import Modular, backward_is_exact, tops
from tests.samples import draw_like, random_state
from tests.variants import EVERY_VARIANT, Variant

FORMS = [("recurrent", 64), ("parallel", 64), *(("chunkwise", size) for size in (1, 2, 3))]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    calculate_with(Modular, monkeypatch)
    of_float = scipy.special.ndtr
    of_array = np.frompyfunc(lambda x: x.apply("ndtr", of_float), 1, 1)
    monkeypatch.setattr(scipy.special, "ndtr", of_array)
    for name in ("SLOPE", "CUBIC", "SCALE", "ALPHA"):  # their products are not rounded
        monkeypatch.setattr(activations, name, Modular.of(getattr(activations, name)))


@pytest.mark.parametrize("lengths", [None, np.array([2, 0, 3])], ids=["full", "lengths"])
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("heads", [pytest.param(1, marks=pytest.mark.long), 2])
@pytest.mark.parametrize("variant", EVERY_VARIANT, ids=str)
def test_kernels_and_forms(variant: Variant, heads: int, empty: bool, lengths: Any) -> None:
    """At the same random point, all forms of a layer give the residues of the unrolled cell."""
    forms = [{"form": form, "chunk_size": size} for form, size in FORMS if variant.is_mlstm]
    variants = [replace(variant, options=variant.options | form) for form in forms or [{}]]
    H = 2 * heads if variant.has_heads else 1 + heads
    layers = [layer_of(v, H, heads, keys=4) for v in variants]
    layers.append(layers[0].specification or layers[0])
    for T in (1, 2, 3) if lengths is None else (3,):
        runs = [run(form, Modular, T, T=T, empty=empty, lengths=lengths) for form in layers]
        assert all(tops(taken.outputs) == tops(runs[0].outputs) for taken in runs)
        assert all(map(backward_is_exact, runs))


@pytest.mark.parametrize("variant", [v for v in EVERY_VARIANT if v.stabilised], ids=str)
def test_the_stabiliser_cancels(variant: Variant) -> None:
    """h, c e^m and n e^m are those of the paper's step without m, whatever m was before.

    So (c, n, m) and (c e^a, n e^a, m − a) give the same outputs for every a.
    """
    cell = layer_of(variant, 2, 2, keys=2, eps=0.0).cell
    for seed in range(20):
        rng, empty = np.random.default_rng(seed), cell.init_state(1)
        point = random_state(empty, rng), draw_like(dict(cell.params), rng), rng.normal(size=(1, 1))
        state, params, x = mapped(Modular.variable, point)
        cell = cell.over(params)
        h, after, cache = unchecked(cell.forward)(x, state)
        (*_, c, n, m), (*_, c_after, n_after, m_after) = state, after
        c, n = times_exp(c, m), times_exp(n, m)
        i, f = cache.pre[0], log_gate(cache.pre[1], cell.forget_gate)
        if variant.is_mlstm:
            q, k, v = cache.q, cache.k, cache.v
            c = times_exp(c, f) + times_exp(k[..., None] * v[..., None, :], i)
            n = times_exp(n, f) + times_exp(k, i)
            den = np.maximum(np.abs((n * q).sum(axis=-1)), 1)
            expected = cache.o * (c[..., 0] * q).sum(axis=-1) / den
        else:
            c, n = times_exp(c, f) + times_exp(cache.z, i), times_exp(n, f) + np.exp(i)
            expected = cache.o * c / n
        assert tops(h) == tops(expected)
        assert tops(times_exp(c_after, m_after)) == tops(c)
        assert tops(times_exp(n_after, m_after)) == tops(n)


def times_exp(array: Array, exponent: Array) -> Array:
    """Return array · e^exponent, where the exponent lacks the last axes."""
    missing = (1,) * (array.ndim - exponent.ndim)
    product: Array = array * np.exp(exponent).reshape(exponent.shape + missing)
    return product


LAYERS: dict[str, Callable[[], Any]] = {
    "layer norm": lambda: nx.LayerNorm(3, bias=True),
    "norm of heads": lambda: nx.MultiHeadLayerNorm(2, 2, bias=True, residual_weight=True),
    "RMS norm": lambda: nx.RMSNorm(3, bias=True),
    "RMS norm of heads": lambda: nx.MultiHeadRMSNorm(2, 2),
    "convolution": lambda: nx.CausalConv1d(2, 3, rng=0),
    "soft cap": lambda: nx.SoftCap(15.0),
    "linear": lambda: nx.Linear(2, 3, bias=True, rng=0),
    "linear by heads": lambda: nx.HeadwiseLinear(4, 2, bias=True, rng=0),
    **{name: partial(nx.GatedFeedForward, 2, 3, name, rng=0) for name in activations.ACTIVATIONS},
}
"""Layers whose backward is by hand; the activations are those of gated feed-forward layers."""


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers(layer: Callable[[], Any]) -> None:
    proved = []
    for seed in range(30):
        with suppress(ArithmeticError):  # a point without the square roots
            proved.append(backward_is_exact(run(layer(), Modular, seed, T=2)))
    assert proved
    assert all(proved)


def test_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "check_array", lambda *_: None)
    monkeypatch.setattr(loss, "_cotangent", lambda dloss, _: dloss)
    x = mapped(Modular.variable, np.random.default_rng(0).normal(size=(3, 4)))
    y, cache = nx.softmax_cross_entropy(x, np.array([1, -1, 3]), ignore_index=-1)
    backward = partial(nx.softmax_cross_entropy_backward, cache=cache)
    assert backward_is_exact(Run(x, y, lambda dy: backward(dy[()])))


@pytest.mark.parametrize("beta1", [0.3, 0.9])
def test_a_step_of_adamw(beta1: float) -> None:
    """The kernel computes the step of the page, in both of its forms."""
    names = ("p", "g", "m", "v", "shrink", "lr", "power1", "root", "beta2", "eps")
    values = (0.5, -1.2, 0.3, 0.8, 0.9, 0.1, beta1**3, 0.6, 0.99, 1e-8)
    drawn = (np.array([Modular.variable(*pair)]) for pair in zip(names, values, strict=True))
    p, g, m, v, shrink, lr, power1, root, beta2, eps = drawn
    b1 = np.array([Modular.variable("beta1", beta1)])
    m_after = b1 * m + (1 - b1) * g
    v_after = beta2 * v + (1 - beta2) * g * g
    p_after = shrink * p - lr * (m_after / (1 - power1)) / (np.sqrt(v_after) / root + eps)
    factors = (shrink, lr / (1 - power1), root, b1, 1 - b1, beta2, 1 - beta2, eps)
    got = updated(p.copy(), g, m.copy(), v.copy(), factors)
    assert list(map(tops, got)) == list(map(tops, (p_after, m_after, v_after)))
