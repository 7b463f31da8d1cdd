"""Small experiments on real data: character-level language modelling."""

from numpy_xlstm.experiments.entropy import bigram_entropy, unigram_entropy
from numpy_xlstm.experiments.generation import generate
from numpy_xlstm.experiments.language_modelling import (
    CELLS,
    Record,
    build_model,
    learn,
    validation_bits,
)
from numpy_xlstm.experiments.text import (
    TextSplit,
    Vocabulary,
    default_text,
    read_text,
    split_text,
)
from numpy_xlstm.experiments.windows import parallel_rows, random_windows

__all__ = [
    "CELLS",
    "Record",
    "TextSplit",
    "Vocabulary",
    "bigram_entropy",
    "build_model",
    "default_text",
    "generate",
    "learn",
    "parallel_rows",
    "random_windows",
    "read_text",
    "split_text",
    "unigram_entropy",
    "validation_bits",
]
