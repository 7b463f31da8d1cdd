"""Configuration of xLSTM Large ("xLSTM 7B"), with the official field names and defaults."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from numpy_xlstm.cells.mlstm import EPS
from numpy_xlstm.config import Config, Positive
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.activations import check_cap
from numpy_xlstm.numerics import check_range

NotNegative = Annotated[float, partial(check_range, low=0, high=1e9)]
Cap = Annotated[float | None, check_cap]


@dataclass(frozen=True)
class xLSTMLargeConfig(Config):
    """Configuration of "xLSTM 7B" (arXiv 2503.13427).

    Attributes
    ----------
    embedding_dim, num_heads, num_blocks, vocab_size : int
        Width D, and numbers of heads, blocks and tokens.
    use_bias : bool
        Whether linear maps and norms of the body have biases; the gates of the mLSTM always do.
    norm_eps : float
        ε of all norms.
    add_out_norm : bool
        Whether there is a norm after the last block.
    qk_dim_factor, v_dim_factor : float
        Widths of all queries, and of all values, as fractions of D.
    chunk_size : int
        Steps per chunk of the chunkwise form.
    eps : float
        ε of the mLSTM's denominator.
    ffn_proj_factor, ffn_round_up_to_multiple_of
        Inner width of the feed-forward layer: this factor times D, rounded up.
    gate_soft_cap, output_logit_soft_cap : float
        Soft caps of the gates' pre-activations and of the logits.
    weight_mode : {"single", "fused"}
        "fused" stores three groups of maps as one matrix each: q, k, v and output gate; input and
        forget gate; the two up-projections of the feed-forward layer.
    norm_reduction_force_float32, autocast_kernel_dtype, inference_state_dtype
        Ignored, see the notes.
    chunkwise_kernel, sequence_kernel, step_kernel, mode, return_last_states
        Ignored, see the notes.

    Notes
    -----
    Ignored fields select kernels and number formats of the official package. They are accepted so
    that its files can be read: training, prefill and generation use one ``forward`` in
    the dtype of the model.

    Examples
    --------
    >>> config = xLSTMLargeConfig(
    ...     embedding_dim=4096, num_heads=8, num_blocks=32, vocab_size=50304)
    >>> config.qk_dim, config.v_dim, config.ffn_dim
    (2048, 4096, 10944)
    """

    embedding_dim: Positive
    num_heads: Positive
    num_blocks: Positive
    vocab_size: Positive
    use_bias: bool = False
    norm_eps: NotNegative = 1e-6
    norm_reduction_force_float32: bool = True
    add_out_norm: bool = True
    qk_dim_factor: NotNegative = 0.5
    v_dim_factor: NotNegative = 1.0
    chunkwise_kernel: str = "chunkwise--triton_limit_chunk"
    sequence_kernel: str = "native_sequence__triton"
    step_kernel: str = "triton"
    mode: Literal["train", "train_with_padding", "inference"] = "train"
    chunk_size: Positive = 64
    return_last_states: bool = False
    autocast_kernel_dtype: str = "bfloat16"
    eps: NotNegative = EPS
    inference_state_dtype: str = "float32"
    ffn_proj_factor: NotNegative = 2.6667
    ffn_round_up_to_multiple_of: Positive = 64
    gate_soft_cap: Cap = 15.0
    output_logit_soft_cap: Cap = 30.0
    weight_mode: Literal["single", "fused"] = "single"

    def __post_init__(self) -> None:
        """Check the values and that they do not contradict each other."""
        super().__post_init__()
        for name in ("qk_dim", "v_dim"):
            if (width := getattr(self, name)) % self.num_heads or width == 0:
                factor = getattr(self, f"{name}_factor")
                raise OptionError(
                    f"{name}_factor: expected a width that num_heads = {self.num_heads} divides; "
                    f"got {width}, which is {factor} of embedding_dim = {self.embedding_dim}"
                )
        if self.ffn_dim == 0:
            raise OptionError(
                f"ffn_proj_factor: expected a width above 0; got {self.ffn_proj_factor}, with "
                f"which embedding_dim = {self.embedding_dim} gives 0"
            )

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
        width = self.embedding_dim * self.ffn_proj_factor
        return int((width + multiple - 1) // multiple) * multiple
