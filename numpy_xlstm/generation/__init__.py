"""Generation of text: tokenizers, sampling, and generation as a stream or in a batch."""

from numpy_xlstm.generation.config import GenerationConfig, config_of
from numpy_xlstm.generation.generate import TokenModel, generate, new_tokens, start
from numpy_xlstm.generation.pieces import StopFilter, StreamDecoder
from numpy_xlstm.generation.sampling import draw, probabilities
from numpy_xlstm.generation.text import check_prompt, generate_text, stream
from numpy_xlstm.generation.tokenizers import (
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
    tokenizer_from_dict,
)
from numpy_xlstm.trees import join_states

__all__ = [
    "ByteTokenizer",
    "CharacterTokenizer",
    "GenerationConfig",
    "HuggingFaceTokenizer",
    "StopFilter",
    "StreamDecoder",
    "TokenModel",
    "Tokenizer",
    "check_prompt",
    "config_of",
    "draw",
    "generate",
    "generate_text",
    "join_states",
    "new_tokens",
    "probabilities",
    "start",
    "stream",
    "tokenizer_from_dict",
]
