"""The options of generation, under the names that transformers has for them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import check_bool, check_positive, check_whole, did_you_mean, is_number

SAMPLED = "temperature", "top_k", "top_p"
"""What has a meaning only where tokens are drawn."""

TOKENS = "bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens"
"""What holds ids."""


@dataclass(frozen=True)
class GenerationConfig:
    """How a model generates; its equations are (sample.1) to (sample.6).

    The names are those of ``transformers.GenerationConfig``, and so are the meanings, but for what
    is said here.

    Attributes
    ----------
    max_new_tokens : int
        How many tokens to generate, at most; the prompt does not count.
    do_sample : bool
        Whether tokens are drawn; else the likeliest is taken, of equal ones that of the lower id.
    temperature : float
        τ, from 0 up: 1 samples what the model believes, less keeps closer to the likeliest, 0
        takes it, which transformers refuses.
    top_k : int, optional
        Draw only from the k likeliest tokens, of equal ones from exactly k; from all if omitted,
        where transformers has 50.
    top_p : float, optional
        Draw only from the likeliest tokens that have at least this probability together, above 0
        and up to 1.
    repetition_penalty : float
        θ, from 1 up: makes tokens that have occurred less likely, with and without ``do_sample``.
    suppress_tokens : Collection[int], optional
        Ids that are never generated.
    bos_token_id : int, optional
        What is begun with where there is no prompt.
    eos_token_id : int or Collection[int], optional
        Any of these ids ends its row, of which it is the last.
    pad_token_id : int, optional
        What fills up a row that has ended before others; the first ``eos_token_id`` if omitted.

    Raises
    ------
    OptionError
        If a value is not in its range; or if ``temperature``, ``top_k`` or ``top_p`` is given
        without ``do_sample``, where transformers warns that it has no effect.

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
        """Return the ids of an option, as many as there are; raise an error for anything else."""
        value: Any = getattr(self, name)
        one, many = name != "suppress_tokens", name not in ("bos_token_id", "pad_token_id")
        several = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
        several &= not isinstance(value, np.ndarray) or value.ndim == 1
        if value is None or (one and not (many and several)):
            return () if value is None else (check_whole(name, value),)
        if not several:
            raise OptionError(f"{name}: expected whole numbers, the ids; got {value!r}")
        return tuple(check_whole(name, each) for each in value)

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end a row."""
        return self.ids("eos_token_id")

    @property
    def padding(self) -> int:
        """What fills up a row that has ended."""
        return (*self.ids("pad_token_id"), *self.ends, 0)[0]

    def check_size(self, size: int, names: Sequence[str] = TOKENS) -> None:
        """Raise :class:`OptionError` unless all ids are below a size, and some can be generated."""
        for name in names:
            if outside := sorted(each for each in self.ids(name) if each >= size):
                raise OptionError(f"{name}: expected ids from 0 to {size - 1}; got {outside}")
        if len(set(self.ids("suppress_tokens"))) == size:
            raise OptionError(
                f"suppress_tokens: expected to leave one of {size} ids; got all of them"
            )


def config_of(model: Any, options: Mapping[str, Any]) -> GenerationConfig:
    """Return the options as given, and those that are not from the model's special tokens."""
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
