"""Training: an optimiser, gradient clipping, learning-rate schedules and the loop over them."""

from numpy_xlstm.training.clipping import clip_grad_norm, global_norm
from numpy_xlstm.training.loop import Batch, Budget, Progress, StepResult, train, train_step
from numpy_xlstm.training.optimizers import AdamW, is_matrix
from numpy_xlstm.training.schedules import Schedule, constant, warmup_cosine

__all__ = [
    "AdamW",
    "Batch",
    "Budget",
    "Progress",
    "Schedule",
    "StepResult",
    "clip_grad_norm",
    "constant",
    "global_norm",
    "is_matrix",
    "train",
    "train_step",
    "warmup_cosine",
]
