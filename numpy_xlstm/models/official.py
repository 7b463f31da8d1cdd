"""The official language models of the xLSTM paper and of xLSTM Large ("xLSTM 7B")."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.cells.mlstm import mLSTMState
from numpy_xlstm.models.blocks import BlockStack, PaperState, xLSTMBlockStack
from numpy_xlstm.models.language_model import LanguageModel
from numpy_xlstm.models.large import rms_norm, xLSTMLargeBlock, xLSTMLargeConfig
from numpy_xlstm.models.paper_configs import xLSTMLMModelConfig
from numpy_xlstm.numerics import check_kind, checked_choice, generator_or_new
from numpy_xlstm.numerics.initial import ShapesOnly, small_init
from numpy_xlstm.numerics.memory import check_fits


class xLSTMLMModel(LanguageModel[tuple[PaperState, ...]]):
    """xLSTM[a:b] as a language model: embedding, :class:`~numpy_xlstm.xLSTMBlockStack`, head.

    Parameters
    ----------
    config : xLSTMLMModelConfig
        The model's configuration.
    dtype : dtype, default float64
        Dtype of the parameters, and of all states and logits: float32, float64 or longdouble; for
        a complex step, complex128 or clongdouble.
    rng : np.random.Generator or int, optional
        Generator for the initial parameters, or its seed; a new, unseeded one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        Parameters with the official names and shapes, shown by ``print(model)``. A tied head has no
        separate entry.

    Notes
    -----
    Initial parameters are as after the official ``reset_parameters()``, with "small init" for
    embedding and head. Without that call, the official embedding and head have PyTorch's
    initialisation.

    The empty state has m = −inf, as in the official ``forward``. The official ``step`` starts from
    C = n = m = 0; pass such a state to reproduce its numbers.

    Examples
    --------
    xLSTM[1:1] with two blocks:

    >>> import numpy as np
    >>> from numpy_xlstm import mLSTMBlockConfig, sLSTMBlockConfig
    >>> config = xLSTMLMModelConfig(
    ...     mlstm_block=mLSTMBlockConfig(), slstm_block=sLSTMBlockConfig(),
    ...     num_blocks=2, embedding_dim=16, slstm_at=[1], vocab_size=10)
    >>> model = xLSTMLMModel(config, rng=np.random.default_rng(0))
    >>> logits, state, cache = model.forward(np.array([[1, 2, 3, 4]]))
    >>> _, dstate0, grads = model.backward(np.ones_like(logits), cache)
    >>> logits.shape, grads.keys() == model.params.keys()
    ((1, 4, 10), True)
    """

    names = ("token_embedding", "xlstm_block_stack", "lm_head")
    body: xLSTMBlockStack

    def __init__(
        self,
        config: xLSTMLMModelConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_kind("config", config, xLSTMLMModelConfig)
        rng = generator_or_new(rng)
        stack = xLSTMBlockStack(config, dtype=dtype, rng=rng)
        self.config: Any = stack.config
        super().__init__(
            config.vocab_size,
            config.embedding_dim,
            stack,
            tied=config.tie_weights,
            head_bias=False,
            embedding_dropout=config.dropout if config.add_embedding_dropout else 0.0,
            deviation=small_init(config.embedding_dim),
            rng=rng,
        )


class xLSTMLarge(LanguageModel[tuple[mLSTMState, ...]]):
    """The language model of "xLSTM 7B", whose blocks have an mLSTM and a SwiGLU layer.

    Parameters
    ----------
    config : xLSTMLargeConfig
        The model's configuration. Logits are a tanh(h Wᵀ / a) with the matrix W of the head and
        a = ``output_logit_soft_cap``.
    dtype, rng
        As in :class:`~numpy_xlstm.xLSTMLMModel`. The names in ``params`` are official names here,
        too.

    Notes
    -----
    The official package uses PyTorch's initialisation, because its models are only loaded. Here the
    gates are initialised as in the paper: weights 0, input bias −10, forget bias from 3 to 6 over
    the heads. Maps into the residual stream have "Wang init", and all other matrices "small init".

    Examples
    --------
    >>> import numpy as np
    >>> config = xLSTMLargeConfig(embedding_dim=16, num_heads=2, num_blocks=2, vocab_size=9)
    >>> model = xLSTMLarge(config, rng=np.random.default_rng(0))
    >>> logits, state, cache = model.forward(np.array([[1, 2, 3]]))
    >>> logits.shape, len(state), state[0].C.shape
    ((1, 3, 9), 2, (1, 2, 4, 8))
    """

    names = ("embedding", "backbone", "lm_head")
    body: BlockStack[mLSTMState]

    def __init__(
        self,
        config: xLSTMLargeConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        check_kind("config", config, xLSTMLargeConfig)
        self.config, rng, D = config, generator_or_new(rng), config.embedding_dim
        blocks = [xLSTMLargeBlock(config, dtype=dtype, rng=rng)]
        check_fits([(blocks[0].num_parameters,)], dtype, rng, times=config.num_blocks)
        more = range(1, config.num_blocks)
        blocks += [xLSTMLargeBlock(config, dtype=dtype, rng=rng) for _ in more]
        norm = rms_norm(config, dtype) if config.add_out_norm else None
        super().__init__(
            config.vocab_size,
            D,
            BlockStack(list(blocks), norm, "out_norm"),
            head_bias=False,
            cap=config.output_logit_soft_cap,
            deviation=small_init(D),
            rng=rng,
        )


FUSED = {
    "mlstm_layer.qkv_opreact": [f"mlstm_layer.{name}" for name in ("q", "k", "v", "ogate_preact")],
    "mlstm_layer.ifgate_preact": ["mlstm_layer.igate_preact", "mlstm_layer.fgate_preact"],
    "ffn.proj_up_gate_z": ["ffn.proj_up_gate", "ffn.proj_up"],
}
"""The maps of a block whose rows each fused matrix contains, in order."""


def with_weight_mode(model: xLSTMLarge, weight_mode: str) -> xLSTMLarge:
    """Return an equal xLSTM Large whose maps are stored separately or fused.

    Parameters
    ----------
    model : xLSTMLarge
        The model, which is not modified. Arrays that are unchanged or split are not copied.
    weight_mode : {"single", "fused"}
        Storage of the maps in the result.

    Returns
    -------
    xLSTMLarge
        A model that computes the same function, or ``model`` itself if it has this weight mode.

    Examples
    --------
    >>> from numpy_xlstm import xLSTMLargeConfig
    >>> config = xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9)
    >>> fused = with_weight_mode(xLSTMLarge(config), "fused")
    >>> fused.params["backbone.blocks.0.mlstm_layer.qkv_opreact.weight"].shape
    (48, 16)
    """
    check_kind("model", model, xLSTMLarge)
    checked_choice("weight_mode", weight_mode, ("single", "fused"))
    if model.config.weight_mode == weight_mode:
        return model
    config = replace(model.config, weight_mode=weight_mode)  # type: ignore[arg-type]
    other, params = xLSTMLarge(config, rng=ShapesOnly()), dict(model.params)
    other.body.recompute = model.body.recompute
    for number, (fused, parts) in product(range(config.num_blocks), FUSED.items()):
        for kind in ("weight", "bias"):
            whole, *rows = (f"backbone.blocks.{number}.{name}.{kind}" for name in (fused, *parts))
            if whole in other.params:
                params[whole] = np.concatenate([params.pop(name) for name in rows])
            elif whole in params:
                stops = np.cumsum([len(other.params[name]) for name in rows])[:-1]
                params |= dict(zip(rows, np.split(params.pop(whole), stops), strict=True))
    other = other.over(params)
    other.special_tokens = model.special_tokens
    return other
