"""Models: combinations of layers with the same interface as a layer."""

from numpy_xlstm.models.blocks import (
    BlockStack,
    ResidualBlock,
    mLSTMBlock,
    sLSTMBlock,
    xLSTMBlockStack,
)
from numpy_xlstm.models.language_model import LanguageModel, SpecialTokens
from numpy_xlstm.models.large_block import xLSTMLargeBlock, xLSTMLargeLayer
from numpy_xlstm.models.large_config import xLSTMLargeConfig
from numpy_xlstm.models.layer_configs import (
    FeedForwardConfig,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
)
from numpy_xlstm.models.mlstm_layer import mLSTMBlockState, mLSTMLayer
from numpy_xlstm.models.official import xLSTMLarge, xLSTMLMModel
from numpy_xlstm.models.paper_configs import xLSTMBlockStackConfig, xLSTMLMModelConfig
from numpy_xlstm.models.skeleton import MetaInitialisation
from numpy_xlstm.models.slstm_layer import sLSTMBlockState, sLSTMLayer
from numpy_xlstm.models.weight_modes import with_weight_mode

__all__ = [
    "BlockStack",
    "FeedForwardConfig",
    "LanguageModel",
    "MetaInitialisation",
    "ResidualBlock",
    "SpecialTokens",
    "mLSTMBlock",
    "mLSTMBlockConfig",
    "mLSTMBlockState",
    "mLSTMLayer",
    "mLSTMLayerConfig",
    "sLSTMBlock",
    "sLSTMBlockConfig",
    "sLSTMBlockState",
    "sLSTMLayer",
    "sLSTMLayerConfig",
    "with_weight_mode",
    "xLSTMBlockStack",
    "xLSTMBlockStackConfig",
    "xLSTMLMModel",
    "xLSTMLMModelConfig",
    "xLSTMLarge",
    "xLSTMLargeBlock",
    "xLSTMLargeConfig",
    "xLSTMLargeLayer",
]
