"""Configurations for the metadata that checkpoints, trainings and runs store with the arrays."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from numpy_xlstm.config import Config, Count, NotNegative, Real
from numpy_xlstm.generation.tokenizers import TokenizerDescription
from numpy_xlstm.numerics import check_range

FORMAT = 1
"""Version of the format."""

Bits32 = Annotated[int, partial(check_range, low=0, high=2**32)]
Bits128 = Annotated[int, partial(check_range, low=0, high=2**128)]


@dataclass(frozen=True)
class CheckpointMetadata(Config):
    """Metadata of a checkpoint. ``config`` is checked by the kind of model."""

    format: int
    kind: str
    config: dict[str, Any]
    dtype: Literal["float16", "bfloat16", "float32", "float64"]
    tokenizer: TokenizerDescription | None
    training: dict[str, Any]
    special_tokens: tuple[Count | None, list[Count], Count | None, bool] | None = None

    def __post_init__(self) -> None:
        """Check the fields, and the fields that every training has."""
        super().__post_init__()
        Progress.read("training", self.training, others=True)


@dataclass(frozen=True)
class Progress(Config):
    """Fields of any training. A validation is a step and its result in bits."""

    step: Count = 0
    tokens: Count = 0
    validations: list[tuple[Count, Real]] = field(default_factory=list)


@dataclass(frozen=True)
class GeneratorNumbers(Config):
    """Numbers of a PCG64."""

    state: Bits128
    inc: Bits128


@dataclass(frozen=True)
class Generator(Config):
    """State of the generator of ``np.random.default_rng``, or of its successor."""

    bit_generator: Literal["PCG64", "PCG64DXSM"]
    state: GeneratorNumbers
    has_uint32: Literal[0, 1]
    uinteger: Bits32


@dataclass(frozen=True)
class TrainingMetadata(Config):
    """A training that can be resumed. The optimiser checks its options.

    ``carried`` is the number of rows of the carried state.
    """

    step: Count
    tokens: Count
    validations: list[tuple[Count, Real]]
    elapsed: NotNegative
    busy: NotNegative
    rng: Generator
    optimizer: dict[str, Any]
    carried: Count | None


@dataclass(frozen=True)
class RunMetadata(Config):
    """Additional fields of a run."""

    notes: dict[str, Any]
    log_size: Count


@dataclass(frozen=True)
class LogLine(Config):
    """Fields that are read from each line of a log."""

    step: Count
    loss: Real
    bits: Real
    validation: Real | None = None
