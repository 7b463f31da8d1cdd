"""Generation of text: tokenizers, sampling, and generation as a stream or in a batch."""

from numpy_xlstm.generation.config import GenerationConfig as GenerationConfig
from numpy_xlstm.generation.config import config_of as config_of
from numpy_xlstm.generation.generate import TokenModel as TokenModel
from numpy_xlstm.generation.generate import generate as generate
from numpy_xlstm.generation.generate import new_tokens as new_tokens
from numpy_xlstm.generation.generate import start as start
from numpy_xlstm.generation.sampling import draw as draw
from numpy_xlstm.generation.sampling import probabilities as probabilities
from numpy_xlstm.generation.text import StreamDecoder as StreamDecoder
from numpy_xlstm.generation.text import checked_prompt as checked_prompt
from numpy_xlstm.generation.text import generate_text as generate_text
from numpy_xlstm.generation.text import stream as stream
from numpy_xlstm.generation.tokenizers import ByteTokenizer as ByteTokenizer
from numpy_xlstm.generation.tokenizers import CharacterTokenizer as CharacterTokenizer
from numpy_xlstm.generation.tokenizers import HuggingFaceTokenizer as HuggingFaceTokenizer
from numpy_xlstm.generation.tokenizers import Tokenizer as Tokenizer
from numpy_xlstm.generation.tokenizers import TokenizerDescription as TokenizerDescription
from numpy_xlstm.trees import join_states as join_states
