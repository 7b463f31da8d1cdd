"""Sampling text from a model, one character at a time."""

from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.experiments.text import Vocabulary
from numpy_xlstm.models.protocols import RecurrentModel
from numpy_xlstm.numerics import Array


def generate(
    model: RecurrentModel,
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    rng: np.random.Generator,
) -> str:
    r"""Continue a prompt, by ``forward`` with T = 1 and the state of the step before.

    .. math:: P(k) ∝ e^{x_k / τ}

    Parameters
    ----------
    model : RecurrentModel
        Maps tokens (1, T) and a state to logits (1, T, V) and a state.
    vocabulary : Vocabulary
        The model's characters. The unknown symbol is never drawn.
    prompt : str
        What to continue: at least one character, all of them in the vocabulary.
    length : int
        How many characters to draw.
    temperature : float
        τ; 1 samples what the model believes, less is bolder, 0 always takes the likeliest.
    rng : np.random.Generator
        Draws the characters.

    Returns
    -------
    str
        The characters drawn, without the prompt.

    Raises
    ------
    OptionError
        If the prompt is empty or holds a character that is not in the vocabulary, or the
        temperature is negative or not finite.

    Examples
    --------
    >>> from numpy_xlstm.cells import LSTM
    >>> from numpy_xlstm.models import LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> vocabulary = Vocabulary.of("abc")
    >>> model = LanguageModel(vocabulary.size, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> len(generate(model, vocabulary, "ab", 20, rng=rng))
    20
    """
    check_prompt(prompt, vocabulary)
    if not 0 <= temperature < float("inf"):
        raise OptionError(f"temperature: expected a number from 0 up; got {temperature!r}")
    state: Any = None
    for token in vocabulary.encode(prompt):
        logits, state, _ = model.forward(np.array([[token]]), state)
    drawn = []
    for _ in range(length):
        drawn.append(_draw(logits[0, -1, : vocabulary.unknown], temperature, rng))
        logits, state, _ = model.forward(np.array([[drawn[-1]]]), state)
    return vocabulary.decode(np.array(drawn, int))


def check_prompt(prompt: str, vocabulary: Vocabulary) -> None:
    """Raise :class:`OptionError` unless a model with this vocabulary can continue ``prompt``."""
    if not prompt:
        raise OptionError("prompt: expected at least one character; got an empty string")
    if foreign := sorted(set(prompt) - set(vocabulary.symbols)):
        raise OptionError(
            f"prompt: expected characters of the training text; got {', '.join(map(repr, foreign))}"
        )


def _draw(logits: Array, temperature: float, rng: np.random.Generator) -> int:
    shifted = (logits - logits.max()).astype(np.float64)
    if temperature == 0:
        return int(shifted.argmax())
    with np.errstate(over="ignore"):  # −inf gives probability 0, which is its rounded value
        cumulative = np.exp(shifted / temperature).cumsum()  # [sample.1]
    drawn = np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")
    return int(min(drawn, len(cumulative) - 1))
