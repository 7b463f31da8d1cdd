"""Gated feed-forward layer, such as GeGLU and SwiGLU. Derived in ``docs/derivations/blocks.md``."""

from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.activations import ACTIVATIONS
from numpy_xlstm.layers.base import Layer, Map
from numpy_xlstm.layers.linear import Linear, LinearGroup
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_kind,
    checked_choice,
    checked_positive,
    generator_or_new,
)


class GatedFeedForward(Layer):
    r"""Two maps to a larger width, one gated by the other, and one map back.

    .. math:: y = W_d \big( φ(W_g x) ∘ W_u x \big)

    with biases if ``bias``.

    Parameters
    ----------
    embedding_dim : int
        Width D of x and y.
    proj_up_dim : int
        Width U between the maps.
    act_fn : str
        φ: "gelu" gives GeGLU, "swish" SwiGLU; or "gelu_tanh", "relu", "relu^2", "sigmoid", "selu".
    bias : bool
        Whether the three maps have biases.
    fused : str, optional
        Name of a single matrix (2U, D): the rows of W_g, then the rows of W_u. If None, there are
        two matrices, ``proj_up_gate`` and ``proj_up``, each (U, D).
    deviations : tuple of float, optional
        Standard deviations of the initial W_g and W_u, and of W_d; as in
        :class:`~numpy_xlstm.Linear` if omitted.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        The weights above, ``proj_down.weight`` (D, U), and biases.

    Examples
    --------
    >>> import numpy as np
    >>> ffn = GatedFeedForward(4, 6, rng=np.random.default_rng(0))
    >>> y, cache = ffn.forward(np.ones((2, 4)))
    >>> dx, grads = ffn.backward(np.ones_like(y), cache)
    >>> sorted(grads)
    ['proj_down.weight', 'proj_up.weight']
    """

    def __init__(
        self,
        embedding_dim: int,
        proj_up_dim: int,
        act_fn: str = "gelu",
        bias: bool = False,
        *,
        fused: str | None = "proj_up",
        deviations: tuple[float | None, float | None] = (None, None),
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.in_features = self.out_features = checked_positive("embedding_dim", embedding_dim)
        self.proj_up_dim = U = checked_positive("proj_up_dim", proj_up_dim)
        self.act_fn = checked_choice("act_fn", act_fn, ACTIVATIONS)
        if fused is not None:
            check_kind("fused", fused, str)
        options: dict[str, Any] = {"dtype": dtype, "rng": generator_or_new(rng)}
        up, down = deviations
        widths = {"proj_up_gate": U, "proj_up": U} if fused is None else {fused: 2 * U}
        self.up = LinearGroup(embedding_dim, widths, bias, deviation=up, **options)
        self.proj_down = Linear(U, embedding_dim, bias, deviation=down, **options)
        self.submodules = {"up": "", "proj_down": "proj_down"}

    def compute(self, x: Array) -> tuple[Array, Any]:
        both, up = self.up.compute(x)
        # Copies, so that the cache keeps only what the backward needs.
        pre, value = (half.copy() for half in np.split(both, 2, axis=-1))
        gate, kept = ACTIVATIONS[self.act_fn].forward(pre)
        y, down = self.proj_down.compute(gate * value)  # [ffn.1]
        return y, (up, gate, kept, value, down)

    def decode_step(self) -> Map:
        up, down, U = self.up.decode_step(), self.proj_down.decode_step(), self.proj_up_dim
        activation = ACTIVATIONS[self.act_fn].forward

        def step(x: Array) -> Array:
            both = up(x)
            return down(activation(both[..., :U])[0] * both[..., U:])

        return step

    def compute_backward(self, dy: Array, cache: Any) -> tuple[Array, Grads]:
        up, gate, kept, value, down = cache
        dproduct, ddown = self.proj_down.compute_backward(dy, down)
        dpre = ACTIVATIONS[self.act_fn].backward(dproduct * value, kept)  # [ffn.2]
        dvalue = dproduct * gate  # [ffn.3]
        dx, dup = self.up.compute_backward(np.concatenate((dpre, dvalue), axis=-1), up)
        return dx, self.named_grads(up=dup, proj_down=ddown)
