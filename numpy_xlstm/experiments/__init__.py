"""Small experiments on real data: character-level language modelling."""

from numpy_xlstm.experiments.entropy import bigram_entropy, unigram_entropy
from numpy_xlstm.experiments.language_modelling import (
    CELLS,
    Record,
    build_model,
    learn,
    validation_bits,
)
from numpy_xlstm.experiments.run import Run
from numpy_xlstm.experiments.text import (
    TextSplit,
    default_text,
    read_text,
    split_text,
)
from numpy_xlstm.experiments.windows import consecutive_windows, parallel_rows, random_windows

__all__ = [
    "CELLS",
    "Record",
    "Run",
    "TextSplit",
    "bigram_entropy",
    "build_model",
    "consecutive_windows",
    "default_text",
    "learn",
    "parallel_rows",
    "random_windows",
    "read_text",
    "split_text",
    "unigram_entropy",
    "validation_bits",
]
