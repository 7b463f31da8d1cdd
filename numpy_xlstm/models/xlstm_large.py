"""xLSTM Large, the architecture of "xLSTM 7B"."""

import numpy as np
import numpy.typing as npt

from numpy_xlstm.models.config import own_config
from numpy_xlstm.models.initialisation import small_init
from numpy_xlstm.models.language_model import LanguageModel
from numpy_xlstm.models.large_block import rms_norm, xLSTMLargeBlock, xLSTMLargeConfig
from numpy_xlstm.models.stack import BlockStack
from numpy_xlstm.numerics import generator_or_new


class xLSTMLarge(LanguageModel):
    """The language model of "xLSTM 7B": every block an mLSTM and a SwiGLU layer.

    Parameters
    ----------
    config : xLSTMLargeConfig
        The model's configuration.
    dtype : dtype
        The dtype of the parameters, of the states and of the logits.
    rng : np.random.Generator, optional
        Draws the parameters; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        Under the official names.

    Notes
    -----
    The official package starts from PyTorch's defaults, since its models are loaded. Here the gates
    start as the paper says, weights at 0, input bias −10, forget bias from 3 to 6 over the heads;
    what adds to the residual starts with "Wang init", and all other matrices with "small init".

    Logits are a tanh(x W / a), a = ``output_logit_soft_cap``.

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

    def __init__(
        self,
        config: xLSTMLargeConfig,
        *,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.config = config = own_config(config, xLSTMLargeConfig)
        rng, D = generator_or_new(rng), config.embedding_dim
        blocks = [xLSTMLargeBlock(config, dtype=dtype, rng=rng) for _ in range(config.num_blocks)]
        norm = rms_norm(config, dtype) if config.add_out_norm else None
        stack, cap = BlockStack(list(blocks), norm, "out_norm"), config.output_logit_soft_cap
        super().__init__(config.vocab_size, D, stack, head_bias=False, cap=cap, rng=rng)
        for part in (self.embedding, self.head):
            small_init(part, D, rng)
