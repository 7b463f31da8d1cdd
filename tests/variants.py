"""All cells in all variants, at random points that hide no mistake."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from numpy_xlstm import (
    LSTMCell,
    LSTMPCell,
    SequenceLayer,
    mLSTM,
    mLSTMCell,
    sLSTM,
    sLSTMCell,
)
from numpy_xlstm.conformance.catalogue import FAMILIES, Family
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves
from tests.samples import draw_like, mostly, random_state


@dataclass(frozen=True)
class Variant:
    step: type[Any]
    sequence: Callable[..., Any]
    options: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.sequence.__name__, *map(str, self.options.values())])

    @property
    def has_heads(self) -> bool:
        return self.sequence in (sLSTM, mLSTM)

    @property
    def is_mlstm(self) -> bool:
        return self.sequence is mLSTM

    @property
    def stabilised(self) -> bool:
        return self.has_heads and self.options.get("input_gate") != "sigmoid"


def sequence(family: Family) -> Callable[..., Any]:
    """Return the class of the layer of a family, or a function that makes one of its cell."""

    def make(*sizes: int, **options: Any) -> Any:
        return SequenceLayer(family.cell(*sizes, **options))

    make.__name__ = family.cell.__name__
    return family.layer or make


EVERY_VARIANT = [
    Variant(
        family.cell,
        sequence(family),
        {n: o for n, o in options.items() if n.endswith("_gate") or n == "nonlinearity"},
    )
    for family in FAMILIES.values()
    for options in family.variants.values()
]
VARIANTS = [v for v in EVERY_VARIANT if v.step in (LSTMCell, sLSTMCell, mLSTMCell)]
"""Those of LSTM, sLSTM and mLSTM."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a random case, and the seed of its numbers."""

    B: int
    T: int
    D: int
    NH: int
    DH: int
    DK: int
    with_state: bool
    eps: float
    seed: int


sizes = st.builds(
    Sizes,
    B=mostly(3, "batch"),
    T=st.integers(0, 9),
    D=mostly(4, "inputs"),
    NH=mostly(3, "heads"),
    DH=mostly(3, "head"),
    DK=mostly(3, "head"),
    with_state=st.booleans(),
    eps=st.sampled_from([0.0, 1e-6, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
variants = st.sampled_from(EVERY_VARIANT)


@dataclass
class Case:
    """A layer with random parameters, an input, a state, and cotangents of the outputs."""

    layer: Any
    x: Array
    state: Any
    rng: np.random.Generator

    @property
    def inputs(self) -> tuple[Any, ...]:
        return (self.x,) if self.state is None else (self.x, self.state)

    def cotangents(self) -> tuple[Array, Any]:
        """Random cotangents of the outputs and of the final state."""
        y, state, _ = self.layer.forward(self.x, self.state)
        dy = self.rng.standard_normal(y.shape).astype(y.dtype)
        return dy, self.like(state)

    def like(self, tree: Any) -> Any:
        """Draw a tree of normal numbers in the shapes of ``tree``."""
        return draw_like(tree, self.rng)


def make(
    variant: Variant, s: Sizes, *, step: bool = False, dtype: Any = np.float64, scale: float = 1.0
) -> Case:
    """Build a case with random states and parameters, including biases."""
    rng = np.random.default_rng(s.seed)
    options = dict(variant.options)
    if variant.has_heads:
        options["num_heads"] = s.NH
    if variant.is_mlstm:
        options |= {"qk_dim": s.NH * s.DK, "eps": s.eps}
    if variant.step is LSTMPCell:
        options["proj_size"] = s.DK
    cls = variant.step if step else variant.sequence
    H = s.NH * s.DH
    scale *= min(1, (9 / H) ** 0.5)  # pre-activations of order 1 for any H
    layer = cls(s.D, H, **options, dtype=dtype, rng=rng)
    for array in layer.params.values():
        array[...] = scale * rng.standard_normal(array.shape)
    x = rng.standard_normal((s.B, s.D) if step else (s.B, s.T, s.D)).astype(dtype)
    case = Case(layer, x, None, rng)
    if s.with_state:
        case.state = random_state(case.layer.init_state(s.B), rng)
    return case


def largest(tree: Any) -> float:
    """Return the largest modulus in a tree of arrays."""
    return max((float(np.abs(a).max(initial=0)) for _, a in leaves("", tree)), default=0.0)


def assert_close(got: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    """Compare trees of arrays: max |a − b| ≤ rtol·max |b| + atol in each; −inf equals −inf."""
    pairs = zip(leaves("", got), leaves("", expected), strict=True)
    for (name, a), (_, b) in pairs:
        assert a.shape == b.shape, name
        same_inf = np.isneginf(a) & np.isneginf(b)
        a, b = np.where(same_inf, 0, a), np.where(same_inf, 0, b)
        assert np.isfinite(a).all(), name
        distance, scale = np.abs(a - b).max(initial=0), np.abs(b).max(initial=0)
        assert distance <= rtol * scale + atol, f"{name}: {distance:.2e} of {scale:.2e}"
