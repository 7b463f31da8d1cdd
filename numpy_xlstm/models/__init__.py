"""Models: layers put together, under the same protocols as the layers themselves."""

from numpy_xlstm.models.language_model import LanguageModel, LanguageModelCache
from numpy_xlstm.models.protocols import RecurrentCell, RecurrentModel

__all__ = ["LanguageModel", "LanguageModelCache", "RecurrentCell", "RecurrentModel"]
