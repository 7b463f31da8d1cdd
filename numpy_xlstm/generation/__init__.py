"""Text from a language model: tokenizers, sampling, and generation as a stream or in a batch."""

from numpy_xlstm.generation.generate import (
    TokenModel,
    check_prompt,
    generate,
    generate_batch,
    stream,
)
from numpy_xlstm.generation.pieces import StopFilter, StreamDecoder
from numpy_xlstm.generation.sampling import Sampling, draw, probabilities
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
    "HuggingFaceTokenizer",
    "Sampling",
    "StopFilter",
    "StreamDecoder",
    "TokenModel",
    "Tokenizer",
    "check_prompt",
    "draw",
    "generate",
    "generate_batch",
    "join_states",
    "probabilities",
    "stream",
    "tokenizer_from_dict",
]
