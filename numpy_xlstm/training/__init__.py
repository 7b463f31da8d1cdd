"""Training: a step, a resumable loop, and runs on a text in a directory.

Invalid arguments are refused before any work is done, with :class:`ShapeError`, :class:`DTypeError`
or :class:`OptionError`, and with :class:`TextError` for a text.
"""

from numpy_xlstm.training.adamw import AdamW
from numpy_xlstm.training.clipping import clip_grad_norm, global_norm
from numpy_xlstm.training.decay import DecayRule, decay_rule, is_matrix, official_decay
from numpy_xlstm.training.loop import Budget, Progress, learn, train, validation_bits
from numpy_xlstm.training.optimizers import OPTIMIZERS
from numpy_xlstm.training.protocol import Optimizer
from numpy_xlstm.training.run import Run, read_log
from numpy_xlstm.training.schedules import Schedule, constant, warmup_cosine
from numpy_xlstm.training.state import TrainingState
from numpy_xlstm.training.step import Batch, StepOptions, StepResult, train_step
from numpy_xlstm.training.text import (
    TextSplit,
    bigram_entropy,
    consecutive_windows,
    default_text,
    parallel_rows,
    random_windows,
    read_text,
    split_text,
    unigram_entropy,
)
from numpy_xlstm.training.torch_state import read_torch_state, write_torch_state

__all__ = [
    "OPTIMIZERS",
    "AdamW",
    "Batch",
    "Budget",
    "DecayRule",
    "Optimizer",
    "Progress",
    "Run",
    "Schedule",
    "StepOptions",
    "StepResult",
    "TextSplit",
    "TrainingState",
    "bigram_entropy",
    "clip_grad_norm",
    "consecutive_windows",
    "constant",
    "decay_rule",
    "default_text",
    "global_norm",
    "is_matrix",
    "learn",
    "official_decay",
    "parallel_rows",
    "random_windows",
    "read_log",
    "read_text",
    "read_torch_state",
    "split_text",
    "train",
    "train_step",
    "unigram_entropy",
    "validation_bits",
    "warmup_cosine",
    "write_torch_state",
]
