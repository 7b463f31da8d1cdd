from typing import Any

import numpy as np
import pytest

from numpy_xlstm.cells import LSTM
from numpy_xlstm.errors import OptionError
from numpy_xlstm.experiments import Vocabulary, generate
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import Array

VOCABULARY = Vocabulary.of("abcd")
PREFERENCE = np.array([1.0, 2.0, 0.5, -1.0, 50.0])  # the unknown symbol most of all


class Successor:
    """A model that remembers the last token and prefers the next one in the alphabet."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[int, ...], Any]] = []

    def forward(self, tokens: Array, state: Any = None) -> tuple[Array, Any, None]:
        self.calls.append((tokens.shape, state))
        return np.roll(PREFERENCE[:4], int(tokens[0, 0]))[None, None], int(tokens[0, 0]), None


class Fixed(Successor):
    """A model that always prefers the same."""

    def forward(self, tokens: Array, state: Any = None) -> tuple[Array, Any, None]:
        return PREFERENCE[None, None], None, None


def draw(model: Any, prompt: str, length: int, temperature: float = 1.0, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    return generate(model, VOCABULARY, prompt, length, temperature=temperature, rng=rng)


def test_one_character_at_a_time_with_the_state_of_the_one_before() -> None:
    model = Successor()
    assert draw(model, "ca", 5, temperature=0) == "bcdab"
    assert [shape for shape, _ in model.calls] == [(1, 1)] * 7
    assert [state for _, state in model.calls] == [None, 2, 0, 1, 2, 3, 0]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_frequencies_are_the_softmax_without_the_unknown_symbol(temperature: float) -> None:
    sample = draw(Fixed(), "a", 20_000, temperature)
    p = np.exp(PREFERENCE[:4] / temperature)
    p /= p.sum()
    counts = np.array([sample.count(c) for c in VOCABULARY.symbols])
    assert counts.sum() == 20_000
    assert (np.abs(counts - 20_000 * p) < 5 * np.sqrt(20_000 * p * (1 - p)) + 1).all()


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e-3])
def test_no_temperature_takes_the_likeliest(temperature: float) -> None:
    assert draw(Fixed(), "a", 5, temperature) == "bbbbb"


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(1)
    model = LanguageModel(VOCABULARY.size, 4, LSTM(4, 8, rng=rng), rng=rng)
    assert draw(model, "ab", 40, seed=3) == draw(model, "ab", 40, seed=3)
    assert draw(model, "ab", 40, seed=3) != draw(model, "ab", 40, seed=4)
    assert draw(model, "ab", 0) == ""


@pytest.mark.parametrize(
    ("prompt", "temperature", "message"),
    [
        ("", 1.0, "prompt: expected at least one character; got an empty string"),
        ("abxy", 1.0, "prompt: expected characters of the training text; got 'x', 'y'"),
        ("a", -1.0, "temperature: expected a number from 0 up; got -1.0"),
        ("a", float("nan"), "temperature: .*got nan"),
    ],
)
def test_bad_input(prompt: str, temperature: float, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        draw(Fixed(), prompt, 3, temperature)
