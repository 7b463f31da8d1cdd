"""The configuration of xLSTM Large, with the official field names and defaults."""

from dataclasses import dataclass
from typing import Literal

from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.soft_cap import check_cap
from numpy_xlstm.models.config import Config, check_range
from numpy_xlstm.numerics import check_positive


@dataclass
class xLSTMLargeConfig(Config):
    """The architecture of "xLSTM 7B" (arXiv 2503.13427).

    Attributes
    ----------
    embedding_dim, num_heads, num_blocks, vocab_size : int
        Width D, number of heads, of blocks and of tokens.
    use_bias : bool
        Whether linear maps and norms have biases; the gates of the mLSTM always do.
    norm_eps : float
        ε of all norms.
    add_out_norm : bool
        Whether there is a norm after the last block.
    qk_dim_factor, v_dim_factor : float
        Width of all queries, and of all values, as a part of D.
    chunk_size : int
        Steps per chunk of the chunkwise form.
    eps : float
        ε of the mLSTM's denominator.
    ffn_proj_factor, ffn_round_up_to_multiple_of
        Inner width of the feed-forward layer: a multiple of D, rounded up.
    gate_soft_cap, output_logit_soft_cap : float
        Soft caps of the gates' pre-activations and of the logits.
    weight_mode : {"single", "fused"}
        Whether q, k, v and output gate, input and forget gate, and the two maps up of the
        feed-forward layer are stored as one matrix each.

    Notes
    -----
    The other fields choose kernels and number formats of the official package. They are taken so
    that its files can be read, and have no meaning here: training, prefill and generation are one
    ``forward`` in the dtype of the model.

    Examples
    --------
    >>> config = xLSTMLargeConfig(
    ...     embedding_dim=4096, num_heads=8, num_blocks=32, vocab_size=50304)
    >>> config.qk_dim, config.v_dim, config.ffn_dim
    (2048, 4096, 10944)
    """

    embedding_dim: int
    num_heads: int
    num_blocks: int
    vocab_size: int
    use_bias: bool = False
    norm_eps: float = 1e-6
    norm_reduction_force_float32: bool = True
    add_out_norm: bool = True
    qk_dim_factor: float = 0.5
    v_dim_factor: float = 1.0
    chunkwise_kernel: str = "chunkwise--triton_limit_chunk"
    sequence_kernel: str = "native_sequence__triton"
    step_kernel: str = "triton"
    mode: Literal["train", "train_with_padding", "inference"] = "train"
    chunk_size: int = 64
    return_last_states: bool = False
    autocast_kernel_dtype: str = "bfloat16"
    eps: float = 1e-6
    inference_state_dtype: str = "float32"
    ffn_proj_factor: float = 2.6667
    ffn_round_up_to_multiple_of: int = 64
    gate_soft_cap: float | None = 15.0
    output_logit_soft_cap: float | None = 30.0
    weight_mode: Literal["single", "fused"] = "single"

    def __post_init__(self) -> None:
        """Check the values, also beside each other."""
        super().__post_init__()
        sizes = ("embedding_dim", "num_heads", "num_blocks", "vocab_size", "chunk_size")
        for name in (*sizes, "ffn_round_up_to_multiple_of"):
            check_positive(name, getattr(self, name))
        for name in ("norm_eps", "eps", "qk_dim_factor", "v_dim_factor", "ffn_proj_factor"):
            check_range(name, getattr(self, name), 0)
        check_cap("gate_soft_cap", self.gate_soft_cap)
        check_cap("output_logit_soft_cap", self.output_logit_soft_cap)
        for name in ("qk_dim", "v_dim"):
            if getattr(self, name) % self.num_heads or getattr(self, name) == 0:
                raise OptionError(
                    f"{name}_factor: expected a width that num_heads = {self.num_heads} divides; "
                    f"got {getattr(self, name)}"
                )
        check_positive("ffn_proj_factor", self.ffn_dim)

    @property
    def qk_dim(self) -> int:
        """Width of all queries together."""
        return int(self.embedding_dim * self.qk_dim_factor)

    @property
    def v_dim(self) -> int:
        """Width of all values together."""
        return int(self.embedding_dim * self.v_dim_factor)

    @property
    def ffn_dim(self) -> int:
        """Inner width of the feed-forward layer."""
        multiple = self.ffn_round_up_to_multiple_of
        return (
            int((self.embedding_dim * self.ffn_proj_factor + multiple - 1) // multiple) * multiple
        )
