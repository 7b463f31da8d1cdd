from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, LanguageModel, generate, generate_text, stream
from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation import GenerationConfig
from numpy_xlstm.generation.generate import new_tokens
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.numerics import Array

TOKENS = SimpleNamespace(bos=3, eos=(7, 8), pad=9, insert_bos=False)


class Successor:
    """A model that prefers the next of ten ids in a circle, and records its calls."""

    vocab_size = 10

    def __init__(self, **more: Any) -> None:
        self.calls: list[list[list[int]]] = []
        vars(self).update(more)

    def __call__(self, tokens: IndexArray, state: Any) -> tuple[Array, Any]:
        self.calls.append(tokens.tolist())
        return 9.0 * np.eye(10)[(tokens + 1) % 10], np.zeros((len(tokens), 1))


def lively() -> LanguageModel:
    """Make a model with large parameters, whose preferred token changes at each step."""
    rng = np.random.default_rng(2)
    model = LanguageModel(10, 8, LSTM(8, 16))
    for array in model.params.values():
        array[...] = 2 * rng.standard_normal(array.shape)
    return model


def rows(*ids: list[int]) -> IndexArray:
    return np.array(ids, np.int64)


def test_prompt_and_new_ids() -> None:
    model = Successor()
    ids = generate(model, rows([1, 2], [5, 8]), max_new_tokens=3)
    assert ids.tolist() == [[1, 2, 3, 4, 5], [5, 8, 9, 0, 1]]
    assert ids.dtype == np.int64
    assert model.calls == [[[1, 2], [5, 8]], [[3], [9]], [[4], [0]]]


def test_twenty_ids_if_nothing_is_said() -> None:
    assert generate(Successor(), rows([0])).shape == (1, 21)
    assert generate(Successor(), rows([0, 1]), max_new_tokens=0).tolist() == [[0, 1]]


def test_greedy_ids_are_the_argmax_given_all_before() -> None:
    model, prompt = lively(), rows([1, 2, 3], [9, 0, 4])
    ids = generate(model, prompt, max_new_tokens=25)
    expected = prompt
    for _ in range(25):
        best = model(expected)[0][:, -1].argmax(axis=-1)
        expected = np.concatenate((expected, best[:, None]), axis=1)
    assert ids.tolist() == expected.tolist()
    assert len(set(ids[0].tolist())) > 3


def test_rows_that_have_ended_are_filled_up() -> None:
    options: dict[str, Any] = {"max_new_tokens": 6, "eos_token_id": 4}
    prompt = rows([1], [3], [9])
    padded = generate(Successor(), prompt, **options, pad_token_id=0)
    assert padded.tolist() == [[1, 2, 3, 4, 0, 0], [3, 4, 0, 0, 0, 0], [9, 0, 1, 2, 3, 4]]
    alone = generate(Successor(), prompt, **options)
    assert alone.tolist() == [[1, 2, 3, 4, 4, 4], [3, 4, 4, 4, 4, 4], [9, 0, 1, 2, 3, 4]]


def test_any_of_several_ends_and_the_work_with_it() -> None:
    model = Successor()
    ids = generate(model, rows([1], [6]), max_new_tokens=50, eos_token_id=[3, 8], pad_token_id=0)
    assert ids.tolist() == [[1, 2, 3], [6, 7, 8]]
    assert len(model.calls) == 2


def test_an_end_token_of_the_prompt_ends_nothing() -> None:
    ids = generate(Successor(), rows([4, 1]), max_new_tokens=9, eos_token_id=4)
    assert ids.tolist() == [[4, 1, 2, 3, 4]]


def test_the_tokens_of_the_checkpoint() -> None:
    model = Successor(special_tokens=TOKENS)
    assert generate(model).tolist() == [[3, 4, 5, 6, 7]]
    assert generate(model, rows([5], [7])).tolist() == [[5, 6, 7], [7, 8, 9]]
    assert generate(model, rows([5], [2]), max_new_tokens=3).tolist() == [
        [5, 6, 7, 9],
        [2, 3, 4, 5],
    ]
    assert generate(model, bos_token_id=6, eos_token_id=9).tolist() == [[6, 7, 8, 9]]
    assert generate(model, rows([5]), eos_token_id=[]).shape == (1, 21)
    assert generate(model, rows([6], [5]), pad_token_id=0).tolist() == [[6, 7, 0], [5, 6, 7]]


def test_sampling_with_a_seed() -> None:
    model, prompt = lively(), rows([1], [1])
    options: dict[str, Any] = {"max_new_tokens": 30, "do_sample": True, "temperature": 2.0}
    first, again, other = (
        generate(model, prompt, **options, rng=np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert first.tolist() == again.tolist() != other.tolist()
    assert first[0].tolist() != first[1].tolist()
    unseeded = [generate(model, prompt, **options).tolist() for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_top_k_and_suppressed_ids() -> None:
    options: dict[str, Any] = {"do_sample": True, "top_k": 2, "temperature": 1e300}
    banned = [0, 6] * 5  # as many as there are ids, but two of them
    drawn = generate(Successor(), rows([5]), max_new_tokens=200, suppress_tokens=banned, **options)
    assert not {0, 6} & set(drawn[0, 1:].tolist())
    assert generate(Successor(), rows([5]), max_new_tokens=1, suppress_tokens=[6]).tolist() == [
        [5, 0]
    ]
    config = GenerationConfig(suppress_tokens=[6, 9])
    tokens = new_tokens(Successor(), [rows([5])], config, size=8)  # 9 is beyond the 8
    assert next(tokens).tolist() == [0]


class Digits:
    size = 10

    def encode(self, text: str) -> IndexArray:
        return np.array([int(digit) for digit in text], np.int64)

    def decode(self, ids: IndexArray) -> str:
        return "".join(map(str, ids))

    def to_dict(self) -> dict[str, Any]:
        return {}


def said(tokens: Any, prompt: str, **options: Any) -> tuple[str, list[int]]:
    """The text that follows, and what the model has read as its prompt."""
    model = Successor(special_tokens=tokens)
    pieces = list(stream(model, Digits(), prompt, **options))
    text = generate_text(Successor(special_tokens=tokens), Digits(), prompt, **options)
    assert "".join(pieces) == text
    return text, model.calls[0][0]


def test_a_text_ends_before_the_end_token() -> None:
    assert said(TOKENS, "45") == ("6", [4, 5])
    assert said(TOKENS, "7", max_new_tokens=3) == ("", [7])
    assert said(TOKENS, "8", max_new_tokens=3) == ("901", [8])
    assert said(TOKENS, "45", eos_token_id=9) == ("678", [4, 5])
    texts = generate_text(Successor(special_tokens=TOKENS), Digits(), ["4", "81", "7"])
    assert texts == ["56", "23456", ""]


def test_what_is_held_back_comes_at_the_end_token() -> None:
    assert said(TOKENS, "4", stop=["678"]) == ("56", [4])
    assert said(TOKENS, "4", stop=["56"]) == ("", [4])


def test_a_text_begins_with_the_bos_where_that_is_asked_for() -> None:
    inserting = SimpleNamespace(bos=3, eos=(7,), pad=None, insert_bos=True)
    assert said(inserting, "45") == ("6", [3, 4, 5])
    assert said(inserting, "345") == ("6", [3, 4, 5])
    assert said(inserting, "") == ("456", [3])
    assert said(TOKENS, "45", bos_token_id=0) == ("6", [0, 4, 5])
    assert said(SimpleNamespace(bos=None, eos=(), pad=None, insert_bos=True), "45")[1] == [4, 5]
    with pytest.raises(OptionError, match="prompt: expected at least one character"):
        said(TOKENS, "")
