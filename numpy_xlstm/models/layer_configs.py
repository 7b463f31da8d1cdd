"""Configurations of the layers and blocks of the xLSTM paper's models, with the official names."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from numpy_xlstm.config import FEW, Config, Positive, Probability
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.activations import ACTIVATIONS
from numpy_xlstm.numerics import checked_above_zero, checked_choice, checked_whole

Dtype = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True)
class UpProjConfig(Config):
    """Width of an up-projection: ``proj_factor`` times the width of the embedding, rounded."""

    proj_factor: Annotated[float, checked_above_zero] = 2.0
    round_proj_up_dim_up: bool = True
    round_proj_up_to_multiple_of: Positive = 64

    def proj_up_dim(self, embedding_dim: int) -> int:
        """Return the width, or raise :class:`OptionError` if it would be 0."""
        multiple = self.round_proj_up_to_multiple_of
        rounded = math.ceil if self.round_proj_up_dim_up else math.floor
        width = rounded(self.proj_factor * embedding_dim / multiple) * multiple
        if width == 0:
            raise OptionError(
                f"proj_factor: expected a width above 0; {self.proj_factor} times {embedding_dim} "
                f"rounds to 0, a multiple of {multiple}"
            )
        return width


@dataclass(frozen=True)
class mLSTMLayerConfig(UpProjConfig):
    """Configuration of an mLSTM layer between its up- and down-projection.

    Attributes
    ----------
    conv1d_kernel_size : int
        Number of steps in the window of the causal convolution, from 1 to 1,024.
    qkv_proj_blocksize : int
        Width of a block of the maps to q, k and v; must divide the inner width.
    num_heads : int
        Number NH of heads; must divide the inner width.
    proj_factor, round_proj_up_dim_up, round_proj_up_to_multiple_of
        The inner width, see :meth:`proj_up_dim`.
    embedding_dim, bias, dropout, context_length
        Set by the stack; only a layer on its own needs ``embedding_dim``.

    Examples
    --------
    >>> from numpy_xlstm import mLSTMLayerConfig
    >>> mLSTMLayerConfig(num_heads=2, embedding_dim=64).proj_up_dim(64)
    128
    """

    conv1d_kernel_size: Annotated[Positive, FEW] = 4
    qkv_proj_blocksize: Positive = 4
    num_heads: Positive = 4
    embedding_dim: int = -1
    bias: bool = False
    dropout: Probability = 0.0
    context_length: int = -1


@dataclass(frozen=True)
class mLSTMBlockConfig(Config):
    """Configuration of an mLSTM block, which consists of the configuration of its layer.

    Attributes
    ----------
    mlstm : mLSTMLayerConfig
        The layer.

    Examples
    --------
    >>> from numpy_xlstm import mLSTMBlockConfig
    >>> mLSTMBlockConfig.from_dict({"mlstm": {"num_heads": 2}}).mlstm.num_heads
    2
    """

    mlstm: mLSTMLayerConfig = field(default_factory=mLSTMLayerConfig)


@dataclass(frozen=True)
class FeedForwardConfig(UpProjConfig):
    """Configuration of a gated feed-forward layer.

    Attributes
    ----------
    act_fn : str
        Activation of the gate.
    embedding_dim : int
        Not used, because the block gives the width; omit it.
    dropout : float
        Probability that an output is dropped in training.
    bias : bool
        Whether its maps have biases.
    ff_type : str
        "ffn_gated", the only value.
    proj_factor, round_proj_up_dim_up, round_proj_up_to_multiple_of
        The inner width, see :meth:`proj_up_dim`.

    Examples
    --------
    >>> from numpy_xlstm import FeedForwardConfig
    >>> FeedForwardConfig(proj_factor=1.3).proj_up_dim(128)
    192
    """

    proj_factor: Annotated[float, checked_above_zero] = 1.3
    act_fn: Annotated[str, partial(checked_choice, choices=ACTIVATIONS)] = "gelu"
    embedding_dim: int = -1
    dropout: Probability = 0.0
    bias: bool = False
    ff_type: Literal["ffn_gated"] = "ffn_gated"


@dataclass(frozen=True)
class sLSTMLayerConfig(Config):
    """Configuration of an sLSTM layer.

    Attributes
    ----------
    embedding_dim, dropout
        Set by the stack; only a layer on its own needs ``embedding_dim``.
    num_heads : int
        Number NH of heads; must divide the width.
    conv1d_kernel_size : int
        Number of steps in the window of the causal convolution, at most 1,024; 0 for no
        convolution.
    group_norm_weight : bool
        Whether the norm after the cell has a weight.
    bias_init : str
        Initialisation of the bias. Only "standard" affects gates other than the forget gate;
        otherwise their biases are 0.
    recurrent_weight_init : str
        Initialisation of R.
    backend : {"vanilla", "cuda"}
        Layout in which the official package stores R and the bias. It is used only to read official
        checkpoints.
    num_states, num_gates, function, initial_val
        Only the default is valid.
    gradient_recurrent_cut, gradient_recurrent_clipval, forward_clipval
        Only the default, off, is valid.
    hidden_size, constants, batch_size, input_shape, internal_input_shape, output_shape
        Ignored.
    dtype, dtype_b, dtype_r, dtype_w, dtype_g, dtype_s, dtype_a
        Ignored.
    enable_automatic_mixed_precision
        Ignored.

    Notes
    -----
    Fields that are ignored, or valid only with their default, exist so that official files can be
    read. Fields about number formats and kernels are ignored. Values that would change the
    mathematics are invalid: another ``function``, and cut or clipped gradients, because the
    gradients here are exact.

    Examples
    --------
    >>> from numpy_xlstm import sLSTMLayerConfig
    >>> sLSTMLayerConfig(function="lstm")
    Traceback (most recent call last):
    numpy_xlstm.errors.OptionError: function: expected 'slstm'; got 'lstm'
    """

    embedding_dim: int = -1
    num_heads: Positive = 4
    conv1d_kernel_size: Annotated[int, checked_whole, FEW] = 4
    group_norm_weight: bool = True
    dropout: Probability = 0.0
    hidden_size: int = -1
    num_states: Literal[4] = 4
    backend: Literal["vanilla", "cuda"] = "cuda"
    function: Literal["slstm"] = "slstm"
    bias_init: Literal["powerlaw_blockdependent", "small_init", "standard", "zeros"] = (
        "powerlaw_blockdependent"
    )
    recurrent_weight_init: Literal["zeros", "standard"] = "zeros"
    num_gates: Literal[4] = 4
    gradient_recurrent_cut: Literal[False] = False
    gradient_recurrent_clipval: None = None
    forward_clipval: None = None
    batch_size: int = 8
    input_shape: Literal["BSGNH", "SBGNH"] = "BSGNH"
    internal_input_shape: Literal["SBNGH", "SBGNH", "SBNHG"] = "SBNGH"
    output_shape: Literal["BNSH", "SBH", "BSH", "SBNH"] = "BNSH"
    constants: dict[str, Any] = field(default_factory=dict)
    dtype: Dtype = "bfloat16"
    dtype_b: Dtype | None = "float32"
    dtype_r: Dtype | None = None
    dtype_w: Dtype | None = None
    dtype_g: Dtype | None = None
    dtype_s: Dtype | None = None
    dtype_a: Dtype | None = None
    enable_automatic_mixed_precision: bool = True
    initial_val: Literal[0] = 0


@dataclass(frozen=True)
class sLSTMBlockConfig(Config):
    """Configuration of an sLSTM block: of its sLSTM layer and of its feed-forward layer.

    Attributes
    ----------
    slstm : sLSTMLayerConfig
        The layer.
    feedforward : FeedForwardConfig or None
        The feed-forward layer; None for a block without one.

    Examples
    --------
    >>> from numpy_xlstm import sLSTMBlockConfig
    >>> sLSTMBlockConfig().feedforward.act_fn
    'gelu'
    """

    slstm: sLSTMLayerConfig = field(default_factory=sLSTMLayerConfig)
    feedforward: FeedForwardConfig | None = field(default_factory=FeedForwardConfig)
