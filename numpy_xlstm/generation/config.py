"""Options of generation, with the names of transformers."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import check_bool, check_positive, check_whole, did_you_mean, is_number

SAMPLED = "temperature", "top_k", "top_p"
"""Options that have an effect only with ``do_sample``."""

TOKENS = "bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens"
"""Options that are ids."""


@dataclass(frozen=True)
class GenerationConfig:
    """Options of generation, used in the equations (sample.1) to (sample.6).

    Names and meanings are those of ``transformers.GenerationConfig``, with the exceptions noted
    below.

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
    suppress_tokens : Collection[int], optional
        Ids that are never generated.
    bos_token_id : int, optional
        First id if there is no prompt.
    eos_token_id : int or Collection[int], optional
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

    max_new_tokens: int = 20
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    suppress_tokens: Collection[int] | None = None
    bos_token_id: int | None = None
    eos_token_id: int | Collection[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        check_whole("max_new_tokens", self.max_new_tokens)
        check_bool("do_sample", self.do_sample)
        _check_number("temperature", self.temperature, 0, "from 0 up")
        if self.top_k is not None:
            check_positive("top_k", self.top_k)
        if self.top_p is not None:
            _check_number("top_p", self.top_p, math.ulp(0.0), "above 0, up to 1", 1)
        _check_number("repetition_penalty", self.repetition_penalty, 1, "from 1 up")
        for name in TOKENS:
            self.ids(name)
        defaults = {field.name: field.default for field in fields(self)}
        idle = [name for name in SAMPLED if getattr(self, name) != defaults[name]]
        if idle and not self.do_sample:
            raise OptionError(f"do_sample: expected True, as {idle[0]} is given; got False")

    def ids(self, name: str) -> tuple[int, ...]:
        """Return the ids of an option as a tuple, or raise an error for other values."""
        value: Any = getattr(self, name)
        one, many = name != "suppress_tokens", name not in ("bos_token_id", "pad_token_id")
        several = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
        several &= not isinstance(value, np.ndarray) or value.ndim == 1
        if value is None or (one and not (many and several)):
            return () if value is None else (check_whole(name, value),)
        if not several:
            raise OptionError(f"{name}: expected a collection of ids; got {value!r}")
        return tuple(check_whole(name, each) for each in value)

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
            if outside := sorted(each for each in self.ids(name) if each >= size):
                raise OptionError(f"{name}: expected ids from 0 to {size - 1}; got {outside}")
        if len(set(self.ids("suppress_tokens"))) == size:
            raise OptionError(
                f"suppress_tokens: expected fewer than all {size} ids; got all of them"
            )


def config_of(model: Any, options: Mapping[str, Any]) -> GenerationConfig:
    """Make a configuration from given options, with the model's special tokens as defaults."""
    names = [field.name for field in fields(GenerationConfig)]
    for name in options:
        if name not in names:
            hint = did_you_mean(str(name), names)
            raise OptionError(f"options: expected {', '.join(names)}; got {name!r}{hint}")
    config, known = GenerationConfig(**options), getattr(model, "special_tokens", None)
    if known is None:
        return config
    found = {"bos_token_id": known.bos, "eos_token_id": known.eos, "pad_token_id": known.pad}
    return replace(config, **{n: v for n, v in found.items() if getattr(config, n) is None})


def _check_number(
    name: str, value: Any, least: float, expected: str, most: float = np.finfo(float).max
) -> None:
    if not is_number(value) or not least <= value <= most:
        raise OptionError(f"{name}: expected a number {expected}; got {value!r}")
