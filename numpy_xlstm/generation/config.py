"""Options of generation, with the names of transformers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from numpy_xlstm.config import Config
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import checked_positive, checked_range, checked_whole

TOKENS = "bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens"
"""Options that are ids."""


def check_ids(name: str, value: int | list[int]) -> None:
    """Raise :class:`OptionError` unless an id, or all ids of a list, are at least 0."""
    for token in value if isinstance(value, list) else [value]:
        checked_whole(name, token)


def check_share(name: str, value: float) -> None:
    """Raise :class:`OptionError` unless a probability is above 0."""
    if not 0 < value <= 1:
        raise OptionError(f"{name}: expected a number above 0, up to 1; got {value!r}")


@dataclass(frozen=True)
class GenerationConfig(Config):
    """Options of generation, used in the equations (sample.1) to (sample.6).

    Names and meanings are those of ``transformers.GenerationConfig``, with the exceptions noted
    below. Ids may also be given as an array, a tuple, a range or a set.

    Attributes
    ----------
    max_new_tokens : int
        Largest number of tokens to generate, without the prompt.
    do_sample : bool
        Whether tokens are drawn at random. Otherwise the likeliest token is taken, and the lowest
        id among equally likely ones; ``temperature``, ``top_k`` and ``top_p`` must then be omitted,
        where transformers only warns that they have no effect.
    temperature : float
        τ ≥ 0. With 1, tokens are drawn from the model's probabilities; smaller values prefer
        likelier tokens, and 0, which transformers refuses, takes the likeliest.
    top_k : int, optional
        Draw only from the k likeliest tokens, exactly k even among equally likely ones. All tokens
        if omitted, in contrast to 50 in transformers.
    top_p : float, optional
        Draw only from the smallest set of the likeliest tokens that together have at least this
        probability, in (0, 1].
    repetition_penalty : float
        θ ≥ 1, which makes tokens that have occurred less likely, with and without ``do_sample``.
    suppress_tokens : list of int, optional
        Ids that are never generated.
    bos_token_id : int, optional
        First id if there is no prompt.
    eos_token_id : int or list of int, optional
        Ids that end a row. The id itself is the last one of the row.
    pad_token_id : int, optional
        Padding of rows that end before others; the first ``eos_token_id`` if omitted.

    Examples
    --------
    >>> config = GenerationConfig(do_sample=True, temperature=0.8, eos_token_id=[0, 2])
    >>> config.top_k is None, config.ends
    (True, (0, 2))
    >>> GenerationConfig(temperature=0.8)
    Traceback (most recent call last):
    numpy_xlstm.errors.OptionError: do_sample: expected True, as temperature is given; got False
    """

    max_new_tokens: Annotated[int, checked_whole] = 20
    do_sample: bool = False
    temperature: Annotated[float, partial(checked_range, low=0)] = 1.0
    top_k: Annotated[int | None, checked_positive] = None
    top_p: Annotated[float | None, check_share] = None
    repetition_penalty: Annotated[float, partial(checked_range, low=1)] = 1.0
    suppress_tokens: Annotated[list[int] | None, check_ids] = None
    bos_token_id: Annotated[int | None, checked_whole] = None
    eos_token_id: Annotated[int | list[int] | None, check_ids] = None
    pad_token_id: Annotated[int | None, checked_whole] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "top_k", "top_p"):
            if getattr(self, name) != getattr(type(self), name) and not self.do_sample:
                raise OptionError(f"do_sample: expected True, as {name} is given; got False")

    def ids(self, name: str) -> tuple[int, ...]:
        """Return the ids of an option as a tuple."""
        value: Any = getattr(self, name)
        if isinstance(value, list):
            return tuple(value)
        return () if value is None else (value,)

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a row."""
        return self.ids("eos_token_id")

    @property
    def padding(self) -> int:
        """Id that pads a row that has ended."""
        return (*self.ids("pad_token_id"), *self.ends, 0)[0]

    def check_size(self, size: int, names: Sequence[str] = TOKENS) -> None:
        """Raise :class:`OptionError` unless all ids are below a size and not all are suppressed."""
        for name in names:
            if outside := sorted(token for token in self.ids(name) if token >= size):
                raise OptionError(f"{name}: expected ids from 0 to {size - 1}; got {outside}")
        if len(set(self.ids("suppress_tokens"))) == size:
            raise OptionError(
                f"suppress_tokens: expected fewer than all {size} ids; got all of them"
            )


def config_of(model: Any, options: Mapping[str, Any]) -> GenerationConfig:
    """Make a configuration from given options, with the model's special tokens as defaults."""
    config = GenerationConfig.from_dict(options)
    known = getattr(model, "special_tokens", None)
    if known is None:
        return config
    tokens = {"bos_token_id": known.bos, "eos_token_id": known.eos, "pad_token_id": known.pad}
    return replace(config, **{n: t for n, t in tokens.items() if getattr(config, n) is None})
