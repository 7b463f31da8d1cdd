"""Training: a step, a resumable loop, and runs on a text in a directory.

Invalid arguments are refused before any work is done, with :class:`ShapeError`, :class:`DTypeError`
or :class:`OptionError`, and with :class:`TextError` for a text.
"""

from numpy_xlstm.training.adamw import AdamW as AdamW
from numpy_xlstm.training.clipping import clip_grad_norm as clip_grad_norm
from numpy_xlstm.training.clipping import global_norm as global_norm
from numpy_xlstm.training.loop import Budget as Budget
from numpy_xlstm.training.loop import Evaluation as Evaluation
from numpy_xlstm.training.loop import Progress as Progress
from numpy_xlstm.training.loop import evaluate as evaluate
from numpy_xlstm.training.loop import learn as learn
from numpy_xlstm.training.loop import train as train
from numpy_xlstm.training.loop import validation_bits as validation_bits
from numpy_xlstm.training.optimizer import DecayRule as DecayRule
from numpy_xlstm.training.optimizer import Optimizer as Optimizer
from numpy_xlstm.training.optimizer import Schedule as Schedule
from numpy_xlstm.training.optimizer import constant as constant
from numpy_xlstm.training.optimizer import decay_rule as decay_rule
from numpy_xlstm.training.optimizer import is_matrix as is_matrix
from numpy_xlstm.training.optimizer import official_decay as official_decay
from numpy_xlstm.training.optimizer import warmup_cosine as warmup_cosine
from numpy_xlstm.training.run import Run as Run
from numpy_xlstm.training.run import read_log as read_log
from numpy_xlstm.training.state import OPTIMIZERS as OPTIMIZERS
from numpy_xlstm.training.state import TrainingState as TrainingState
from numpy_xlstm.training.step import Batch as Batch
from numpy_xlstm.training.step import StepOptions as StepOptions
from numpy_xlstm.training.step import StepResult as StepResult
from numpy_xlstm.training.step import train_step as train_step
from numpy_xlstm.training.text import TextSplit as TextSplit
from numpy_xlstm.training.text import bigram_entropy as bigram_entropy
from numpy_xlstm.training.text import consecutive_windows as consecutive_windows
from numpy_xlstm.training.text import default_text as default_text
from numpy_xlstm.training.text import random_windows as random_windows
from numpy_xlstm.training.text import read_text as read_text
from numpy_xlstm.training.text import read_texts as read_texts
from numpy_xlstm.training.text import split_text as split_text
from numpy_xlstm.training.text import unigram_entropy as unigram_entropy
