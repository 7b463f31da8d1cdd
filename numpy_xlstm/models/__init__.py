"""Models: layers put together, under the same protocols as the layers themselves."""

from numpy_xlstm.models.configs import (
    FeedForwardConfig,
    mLSTMBlockConfig,
    mLSTMLayerConfig,
    sLSTMBlockConfig,
    sLSTMLayerConfig,
    xLSTMBlockStackConfig,
    xLSTMLMModelConfig,
)
from numpy_xlstm.models.language_model import LanguageModel, LanguageModelCache
from numpy_xlstm.models.large_block import xLSTMLargeBlock, xLSTMLargeConfig, xLSTMLargeLayer
from numpy_xlstm.models.mlstm_layer import mLSTMLayer
from numpy_xlstm.models.protocols import RecurrentModel
from numpy_xlstm.models.slstm_layer import sLSTMLayer
from numpy_xlstm.models.stack import BlockStack, xLSTMBlockStack
from numpy_xlstm.models.states import mLSTMBlockState, sLSTMBlockState
from numpy_xlstm.models.xlstm_block import ResidualBlock, mLSTMBlock, sLSTMBlock
from numpy_xlstm.models.xlstm_large import xLSTMLarge
from numpy_xlstm.models.xlstm_lm_model import xLSTMLMModel

__all__ = [
    "BlockStack",
    "FeedForwardConfig",
    "LanguageModel",
    "LanguageModelCache",
    "RecurrentModel",
    "ResidualBlock",
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
    "xLSTMBlockStack",
    "xLSTMBlockStackConfig",
    "xLSTMLMModel",
    "xLSTMLMModelConfig",
    "xLSTMLarge",
    "xLSTMLargeBlock",
    "xLSTMLargeConfig",
    "xLSTMLargeLayer",
]
