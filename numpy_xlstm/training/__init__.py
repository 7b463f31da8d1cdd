"""Training: an optimiser, clipping, learning-rate schedules, and a loop that can go on later."""

from numpy_xlstm.training.clipping import clip_grad_norm, global_norm
from numpy_xlstm.training.decay import DecayRule, decay_rule, is_matrix, official_decay
from numpy_xlstm.training.loop import Budget, Progress, train
from numpy_xlstm.training.optimizers import AdamW
from numpy_xlstm.training.schedules import Schedule, constant, warmup_cosine
from numpy_xlstm.training.state import TrainingState
from numpy_xlstm.training.step import Batch, StepResult, train_step
from numpy_xlstm.training.workers import Workers

__all__ = [
    "AdamW",
    "Batch",
    "Budget",
    "DecayRule",
    "Progress",
    "Schedule",
    "StepResult",
    "TrainingState",
    "Workers",
    "clip_grad_norm",
    "constant",
    "decay_rule",
    "global_norm",
    "is_matrix",
    "official_decay",
    "train",
    "train_step",
    "warmup_cosine",
]
