"""Validation of the metadata of checkpoints of this package."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from numpy_xlstm.checkpoints.safetensors import FLOATS
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.generation.tokenizers import TokenizerDescription

Check = Callable[[str, Any], None]
"""Function of a place and a value that raises :class:`CheckpointError` if the value is invalid."""

LARGEST = 3e38
"""Largest number that is valid also in float32."""

FORMAT = 1
"""Version of the format."""


def wrong(place: str, expected: str, value: Any) -> CheckpointError:
    """Return the error for an invalid field."""
    return CheckpointError(f"{place}: expected {expected}; got {value!r:.80}")


def whole(below: int = 2**63) -> Check:
    """Make a check for a whole number ≥ 0."""
    expected = f"a whole number, at least 0 and below {below}"

    def check(place: str, value: Any) -> None:
        if type(value) is not int or not 0 <= value < below:
            raise wrong(place, expected, value)

    return check


def number(least: float = -math.inf) -> Check:
    """Make a check for a number that is finite also in float32."""

    def check(place: str, value: Any) -> None:
        if type(value) not in (int, float) or not max(least, -LARGEST) <= value <= LARGEST:
            above = f", at least {least:g}" if least > -math.inf else ""
            raise wrong(place, f"a finite number{above}", value)

    return check


def of_kind(kind: type, name: str) -> Check:
    """Make a check for a value of a type."""

    def check(place: str, value: Any) -> None:
        if not isinstance(value, kind):
            raise wrong(place, name, value)

    return check


def choice(values: Iterable[str]) -> Check:
    """Make a check for one of several texts."""
    known = tuple(values)

    def check(place: str, value: Any) -> None:
        if value not in known:
            raise wrong(place, f"one of {', '.join(known)}", value)

    return check


def optional(inner: Check) -> Check:
    """Make a check for None or a value that another check accepts."""

    def check(place: str, value: Any) -> None:
        if value is not None:
            inner(place, value)

    return check


def each(inner: Check) -> Check:
    """Make a check for a list whose entries another check accepts."""

    def check(place: str, value: Any) -> None:
        SEQUENCE(place, value)
        for n, entry in enumerate(value):
            inner(f"{place}[{n}]", entry)

    return check


def row(*inner: Check) -> Check:
    """Make a check for a list with one check for each entry."""

    def check(place: str, value: Any) -> None:
        if not isinstance(value, list | tuple) or len(value) != len(inner):
            raise wrong(place, f"a list of {len(inner)} entries", value)
        for n, (entry, one) in enumerate(zip(value, inner, strict=True)):
            one(f"{place}[{n}]", entry)

    return check


def record(
    needed: Mapping[str, Check], others: Mapping[str, Check] | None = None, *, closed: bool = True
) -> Check:
    """Make a check for a mapping with the fields ``needed`` and the optional fields ``others``.

    Unknown fields are refused if it is ``closed``.
    """
    known = {**needed, **(others or {})}

    def check(place: str, value: Any) -> None:
        MAPPING(place, value)
        before = place and f"{place}."
        for name, inner in known.items():
            if name in value:
                inner(f"{before}{name}", value[name])
            elif name in needed:
                raise CheckpointError(f"{before}{name}: expected a value; got none")
        if closed and (unknown := [name for name in value if name not in known]):
            raise wrong(place or "metadata", f"the fields {', '.join(known)}", unknown[0])

    return check


def _tokenizer(place: str, value: Any) -> None:
    try:
        TokenizerDescription.from_dict(value)
    except OptionError as error:
        raise CheckpointError(str(error)) from error


def _anything(place: str, value: Any) -> None:
    """Accept any JSON value."""


MAPPING, SEQUENCE = of_kind(Mapping, "a mapping of values"), of_kind(list | tuple, "a list")  # type: ignore[arg-type]
TEXT, FLAG = of_kind(str, "a string"), of_kind(bool, "true or false")
TOKEN, COUNT, SECONDS = optional(whole()), whole(), number(0)
VALIDATIONS = each(row(COUNT, number()))

PROGRESS = {"step": COUNT, "tokens": COUNT, "validations": VALIDATIONS}
"""Fields of any training."""

CHECKPOINT_METADATA = record(
    {
        "format": whole(),
        "kind": _anything,
        "config": _anything,
        "dtype": choice(FLOATS),
        "tokenizer": optional(_tokenizer),
        "training": record({}, PROGRESS, closed=False),
    },
    {"special_tokens": row(TOKEN, each(COUNT), TOKEN, FLAG)},
)
"""Metadata of a checkpoint. ``kind`` and ``config`` are checked by the kinds of models."""

LANGUAGE_MODEL = record(
    {
        "vocab_size": COUNT,
        "embedding_size": COUNT,
        "cell": record({"kind": _anything, "options": MAPPING}),
        "options": record(
            {
                "tied": FLAG,
                "head_bias": FLAG,
                "cap": optional(number()),
                "embedding_dropout": number(),
            }
        ),
    }
)

GENERATOR = record(
    {
        "bit_generator": choice(("PCG64", "PCG64DXSM")),
        "state": record({"state": whole(2**128), "inc": whole(2**128)}),
        "has_uint32": whole(2),
        "uinteger": whole(2**32),
    }
)
"""State of the generator of ``np.random.default_rng``, or of its successor."""

TRAINING = record(
    {
        **PROGRESS,
        "elapsed": SECONDS,
        "busy": SECONDS,
        "rng": GENERATOR,
        "optimizer": MAPPING,
        "carried": TOKEN,
    },
    closed=False,
)
"""A training that can be resumed. The optimiser checks its options.

``carried`` is the number of rows of the carried state.
"""

RUN = record({"notes": MAPPING, "log_size": COUNT}, closed=False)
"""Additional fields of a run."""

LOG_LINE = record(
    {"step": COUNT, "loss": number(), "bits": number()}, {"validation": number()}, closed=False
)
"""Fields that are read from each line of a log."""


def options(names: tuple[str, ...]) -> Check:
    """Make a check for the options of a layer. The layer checks their values."""
    return record(dict.fromkeys(names, _anything))
