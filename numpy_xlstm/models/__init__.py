"""Models: combinations of layers with the same interface as a layer."""

from numpy_xlstm.models.blocks import BlockStack as BlockStack
from numpy_xlstm.models.blocks import ResidualBlock as ResidualBlock
from numpy_xlstm.models.blocks import mLSTMBlock as mLSTMBlock
from numpy_xlstm.models.blocks import sLSTMBlock as sLSTMBlock
from numpy_xlstm.models.blocks import xLSTMBlockStack as xLSTMBlockStack
from numpy_xlstm.models.language_model import LanguageModel as LanguageModel
from numpy_xlstm.models.language_model import SpecialTokens as SpecialTokens
from numpy_xlstm.models.large import xLSTMLargeBlock as xLSTMLargeBlock
from numpy_xlstm.models.large import xLSTMLargeConfig as xLSTMLargeConfig
from numpy_xlstm.models.large import xLSTMLargeLayer as xLSTMLargeLayer
from numpy_xlstm.models.layer_configs import FeedForwardConfig as FeedForwardConfig
from numpy_xlstm.models.layer_configs import mLSTMBlockConfig as mLSTMBlockConfig
from numpy_xlstm.models.layer_configs import mLSTMLayerConfig as mLSTMLayerConfig
from numpy_xlstm.models.layer_configs import sLSTMBlockConfig as sLSTMBlockConfig
from numpy_xlstm.models.layer_configs import sLSTMLayerConfig as sLSTMLayerConfig
from numpy_xlstm.models.mlstm_layer import mLSTMBlockState as mLSTMBlockState
from numpy_xlstm.models.mlstm_layer import mLSTMLayer as mLSTMLayer
from numpy_xlstm.models.official import with_weight_mode as with_weight_mode
from numpy_xlstm.models.official import xLSTMLarge as xLSTMLarge
from numpy_xlstm.models.official import xLSTMLMModel as xLSTMLMModel
from numpy_xlstm.models.paper_configs import xLSTMBlockStackConfig as xLSTMBlockStackConfig
from numpy_xlstm.models.paper_configs import xLSTMLMModelConfig as xLSTMLMModelConfig
from numpy_xlstm.models.slstm_layer import sLSTMBlockState as sLSTMBlockState
from numpy_xlstm.models.slstm_layer import sLSTMLayer as sLSTMLayer
