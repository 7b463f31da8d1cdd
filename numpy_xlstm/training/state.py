"""The complete state of a training, as an object that can be saved and loaded."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from numpy_xlstm.checkpoints import Pretrained, open_pretrained, save_pretrained
from numpy_xlstm.checkpoints.files import as_json
from numpy_xlstm.checkpoints.tensors import check_memory
from numpy_xlstm.config import Config, Count, NotNegative, Real
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.layers import Recurrent
from numpy_xlstm.module import check_same_parameters
from numpy_xlstm.numerics import Array, check_form, check_generator, check_has, checked_choice
from numpy_xlstm.training import ranks
from numpy_xlstm.training.adamw import AdamW
from numpy_xlstm.training.optimizer import Optimizer
from numpy_xlstm.trees import join_states, leaves, rebuild, tree_map
from numpy_xlstm.validation import checked_state

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"AdamW": AdamW}
"""Optimisers by the names of their classes, which checkpoints contain."""

GENERATORS = "PCG64", "PCG64DXSM"
"""Bit generators of ``np.random.default_rng``, and of its successor."""

OPTIMIZER, CARRIED = "optimizer.", "carried"
"""Prefixes of the names of the stored moments and of the carried state."""

COUNTS = ("step", "tokens", "elapsed")
STORED = {*COUNTS, "rng", "optimizer", "validations", "carried"}


@dataclass(frozen=True)
class TrainingMetadata(Config):
    """A training that can be resumed. Generator and optimiser check ``rng`` and ``optimizer``.

    ``carried`` is the number of rows of the carried state.
    """

    step: Count
    tokens: Count
    validations: list[tuple[Count, Real]]
    elapsed: NotNegative
    rng: dict[str, Any]
    optimizer: dict[str, Any]
    carried: Count | None


@dataclass
class TrainingState:
    """Complete state of a training after some step: all that the following steps depend on.

    Attributes
    ----------
    model : Recurrent
        Model, which is trained in place.
    optimizer : Optimizer
        Optimiser made from this model's ``params``, such as :class:`AdamW`.
    rng : np.random.Generator
        Generator for batches and dropout.
    step, tokens : int
        Numbers of steps and of training tokens so far.
    elapsed : float
        Seconds since the start.
    carried : Any
        Initial model state of the next batch, unless that batch is fresh. With several ranks, the
        state of the rows of this rank.
    validations : list[tuple[int, float]]
        Steps with a validation, and its results.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, AdamW, LanguageModel
    >>> model = LanguageModel(10, 4, LSTM(4, 8))
    >>> state = TrainingState(model, AdamW(model.params), np.random.default_rng(0), step=7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     state.save(f"{folder}/state.safetensors")
    ...     loaded, _ = TrainingState.load(f"{folder}/state.safetensors")
    >>> loaded.step, loaded.rng.random() == state.rng.random()
    (7, True)
    """

    model: Recurrent
    optimizer: Optimizer
    rng: np.random.Generator
    step: int = 0
    tokens: int = 0
    elapsed: float = 0.0
    carried: Any = None
    validations: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raise an error if a part has the wrong type, or the state does not fit the model."""
        check_has("model", self.model, "forward", "backward")
        check_has("optimizer", self.optimizer, "step", "state_dict")
        check_generator("rng", self.rng, required=True)
        if self.carried is not None and hasattr(self.model, "init_state"):
            self.carried = checked_state(self.model, self.carried, _rows(self.carried) or 1)

    def advance(self, tokens: int, elapsed: float, carried: Any) -> None:
        """Count one more step, and keep a copy of the state after it.

        The copy is C-order, as after loading, because another layout could change rounding.
        """
        self.step += 1
        self.tokens += tokens
        self.elapsed = elapsed
        self.carried = tree_map(lambda array: np.array(array, order="C"), carried)

    def is_stale(self, patience: int | None) -> bool:
        """Return whether there are ``patience`` validations after the best one; never for None."""
        bits = [bits for _, bits in self.validations]
        if patience is None or len(bits) <= patience:
            return False
        return min(bits[:-patience]) <= min(bits[-patience:])

    def save(
        self,
        path: str | Path,
        *,
        tokenizer: Tokenizer | None = None,
        comm: ranks.Comm | None = None,
        **more: Any,
    ) -> None:
        """Save the state as one checkpoint, together with ``more`` values of the caller.

        With several ranks, all must call this method. Rank 0 writes, and the others wait for it.
        A state that could not be loaded again, such as one with another kind of generator, raises
        :class:`CheckpointError`; then an existing file is unchanged.
        """
        if mine := sorted(more.keys() & STORED):
            raise OptionError(f"more: expected other names than those of a state; got {mine[0]!r}")
        carried = self.carried if comm is None else join_states(comm.allgather(self.carried))
        moments = {OPTIMIZER + n: array for n, array in self.optimizer.state_dict().items()}
        training = more | {name: getattr(self, name) for name in COUNTS}
        training |= {
            "rng": self.rng.bit_generator.state,
            "optimizer": {"kind": type(self.optimizer).__name__, **self.optimizer.options},
            "validations": self.validations,
            "carried": _rows(carried),
        }
        if ranks.writes(comm):
            arrays = moments | dict(leaves(CARRIED, carried))
            known = json.loads(as_json(training))
            self._restored("training", self.model, known, arrays)
            facts: dict[str, Any] = {"tokenizer": tokenizer, "training": training, "arrays": arrays}
            save_pretrained(self.model, path, format="safetensors", **facts)
        if comm is not None:
            comm.Barrier()

    @classmethod
    def load(cls, path: str | Path, *, comm: ranks.Comm | None = None) -> tuple[Self, Pretrained]:
        """Load a state that :meth:`save` has written; return it and the opened checkpoint.

        The number of ranks may differ from that at saving. Raises :class:`CheckpointError` if the
        file is damaged or contains no training.
        """
        opened = open_pretrained(path)
        extra = sum(array.nbytes for array in opened.extra.values())
        check_memory(opened.path.name, extra + opened.num_bytes("widened"))
        place, arrays = f"{opened.path.name}: training", opened.load_arrays()
        state = cls._restored(place, opened.load(mapped=False), opened.training, arrays, comm)
        return state, opened

    @classmethod
    def _restored(
        cls,
        place: str,
        model: Any,
        training: Mapping[str, Any],
        arrays: Mapping[str, Array],
        comm: ranks.Comm | None = None,
    ) -> Self:
        """Make the state of stored values, or raise :class:`CheckpointError`."""
        TrainingMetadata.read(place, training, others=True)
        options = dict(training["optimizer"])
        try:
            kind = checked_choice("optimizer.kind", options.pop("kind", None), OPTIMIZERS)
            optimizer = OPTIMIZERS[kind](model.params, **options)
            if options.keys() != optimizer.options.keys():  # a default could be another one
                expected = ", ".join(optimizer.options)
                raise OptionError(f"optimizer: expected {expected}; got {', '.join(options)}")
            moments = [name for name in arrays if name.startswith(OPTIMIZER)]
            optimizer.load_state_dict({n.removeprefix(OPTIMIZER): arrays[n] for n in moments})
            return cls(
                model,
                optimizer,
                _generator(training["rng"]),
                carried=_carried(model, arrays, training["carried"], comm),
                validations=[(int(step), float(bits)) for step, bits in training["validations"]],
                **{name: training[name] for name in COUNTS},
            )
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"{place}: expected one that can be resumed; got one that cannot ({error})"
            ) from error


def _generator(stored: Mapping[str, Any]) -> np.random.Generator:
    """Return the generator with a stored state, or raise :class:`OptionError`."""
    kind = checked_choice("rng.bit_generator", stored.get("bit_generator"), GENERATORS)
    bits = getattr(np.random, kind)(0)
    with suppress(ArithmeticError, LookupError, TypeError, ValueError):
        bits.state = stored
    if bits.state != stored:
        raise OptionError(f"rng: expected the state of a {kind}; got {stored!s:.200}")
    return np.random.Generator(bits)


def _rows(carried: Any) -> int | None:
    """Return the number of rows of a state; None if it has no arrays with axes."""
    rows = [len(array) for _, array in leaves(CARRIED, carried) if array.ndim]
    return rows[0] if rows else None


def _carried(
    model: Recurrent, arrays: Mapping[str, Array], rows: int | None, comm: ranks.Comm | None
) -> Any:
    """Return the carried state of this rank, in the structure of the model's state."""
    stored = {n: array for n, array in arrays.items() if n.partition(".")[0] == CARRIED}
    if rows is None and not stored:
        return None
    _, like = model(np.zeros((1, 1), np.int64))
    expected = {
        name: np.broadcast_to(array[:1], (rows or 0, *array.shape[1:]))
        for name, array in leaves(CARRIED, like)
    }
    check_same_parameters(expected, stored, "carried state")
    for name, array in expected.items():
        check_form(name, stored[name], array.shape, array.dtype)
    part = ranks.rank_rows(rows or 0, comm)
    return rebuild(like, (stored[name][part] for name in expected))
