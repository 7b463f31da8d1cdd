"""Types of command-line options: each turns a string into a value or says what was expected."""

import argparse
import math
from collections.abc import Callable

LARGEST = 10**9


def whole(minimum: int, maximum: int = LARGEST) -> Callable[[str], int]:
    """Return the type of a whole number from ``minimum`` to ``maximum``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"expected a whole number from {minimum} to {maximum}; got {text!r}"
            )
        return value

    return parse


def real(
    minimum: float, *, exclusive: bool = False, below: float = math.inf
) -> Callable[[str], float]:
    """Return the type of a finite number, at least ``minimum`` or above it, and below ``below``."""
    bound = f"{'above' if exclusive else 'at least'} {minimum:g}"
    if below < math.inf:
        bound += f" and below {below:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        large_enough = value > minimum if exclusive else value >= minimum
        if not (large_enough and value < below):
            raise argparse.ArgumentTypeError(f"expected a number {bound}; got {text!r}")
        return value

    return parse


def places(text: str) -> list[int] | str:
    """Read block numbers: ``"1,3"`` is [1, 3], ``"none"`` is [], and ``"all"`` stays.

    Examples
    --------
    >>> places("3,1"), places("none"), places("all")
    ([1, 3], [], 'all')
    """
    if text in ("all", "none"):
        return "all" if text == "all" else []
    try:
        return sorted({whole(0)(number) for number in text.split(",")})
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"expected block numbers such as 1,3, or all, or none; got {text!r}"
        ) from None
