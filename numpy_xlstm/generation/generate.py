"""Continue a prompt with a language model: as a stream, as one text, or many prompts at once."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.generation.pieces import StreamDecoder
from numpy_xlstm.generation.sampling import Sampling, draw
from numpy_xlstm.generation.tokenizers import CharacterTokenizer, Tokenizer
from numpy_xlstm.layers.indices import IndexArray
from numpy_xlstm.numerics import (
    Array,
    check_callable,
    check_generator,
    check_has,
    check_kind,
    check_whole,
)
from numpy_xlstm.trees import join_states

PLAIN = Sampling()
"""What the model believes, unchanged."""

TokenModel = Callable[..., tuple[Array, Any]]
"""All that generation needs of a model: from tokens (B, T) and a state, None at first, to logits
(B, T, V) and the state after them."""


def stream(
    model: TokenModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    length: int,
    sampling: Sampling = PLAIN,
    stop: Sequence[str] = (),
    banned: Collection[int] | None = None,
    rng: np.random.Generator,
) -> Iterator[str]:
    """Continue a prompt and yield pieces of the text as soon as they are certain.

    The model reads the prompt in one call, and then every drawn token in a step of
    :meth:`LanguageModel.prepared`, which is as if it were called, to rounding. No piece holds a
    part of a character, or any of what turns out to be a stop string.

    Parameters
    ----------
    model : TokenModel
        Maps tokens (1, T) and a state to logits (1, T, V) and a state; one without ``prepared`` is
        called for each token. Logits beyond ``tokenizer.size`` are ignored.
    tokenizer : Tokenizer
        Of the model.
    prompt : str
        What to continue: at least one token, and no character that is foreign to the tokenizer.
    length : int
        How many tokens to draw, at most.
    sampling : Sampling
        How to draw them.
    stop : Sequence[str]
        The text ends before the first of these that occurs in it.
    banned : Collection[int], optional
        Ids that are never drawn; the unknown id, if the tokenizer is a ``CharacterTokenizer``, if
        omitted.
    rng : np.random.Generator
        Gives one number per token.

    Returns
    -------
    Iterator[str]
        The text without the prompt, in pieces, none of them empty.

    Raises
    ------
    OptionError
        If an option is out of its range, the prompt has no token or a foreign character, or no id
        is left to draw; at once, not at the first piece.
    ShapeError
        If the model has fewer logits than the tokenizer has ids.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, CharacterTokenizer, LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> tokenizer = CharacterTokenizer.of("abc")
    >>> model = LanguageModel(tokenizer.size, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> pieces = list(stream(model, tokenizer, "ab", length=20, rng=rng))
    >>> len(pieces), set("".join(pieces)) <= set("abc")
    (20, True)
    """
    ids = [check_prompt(prompt, tokenizer)]
    pieces = _pieces(model, tokenizer, ids, length, sampling, stop, banned, rng)
    return (piece for (piece,) in pieces if piece)


def generate(
    model: TokenModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    length: int,
    sampling: Sampling = PLAIN,
    stop: Sequence[str] = (),
    banned: Collection[int] | None = None,
    rng: np.random.Generator,
) -> str:
    """Continue a prompt and return the text without it: :func:`stream`, joined.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, ByteTokenizer, LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(256, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> ascii_only = range(128, 256)
    >>> len(generate(model, ByteTokenizer(), "né", length=9, banned=ascii_only, rng=rng))
    9
    """
    ids = [check_prompt(prompt, tokenizer)]
    pieces = _pieces(model, tokenizer, ids, length, sampling, stop, banned, rng)
    return "".join(piece for (piece,) in pieces)


def generate_batch(
    model: TokenModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    length: int,
    sampling: Sampling = PLAIN,
    stop: Sequence[str] = (),
    banned: Collection[int] | None = None,
    rng: np.random.Generator,
) -> list[str]:
    """Continue several prompts together and return the text of each, without the prompt.

    The model reads each prompt by itself, as they differ in length. Then the states are joined and
    every step is one call for all rows. A row that has met a stop string is computed on, and what
    it gives is dropped, until all have. With temperature 0 each text is that of :func:`generate`,
    as far as the model's rounding does not depend on the number of rows.

    Parameters
    ----------
    model, tokenizer, prompts, length, sampling, stop, banned, rng
        As in :func:`stream`, and so are the errors; ``rng`` gives one number per row and step. The
        state of the model must be one that :func:`join_states` can join.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, CharacterTokenizer, LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> tokenizer = CharacterTokenizer.of("abc")
    >>> model = LanguageModel(tokenizer.size, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> [len(t) for t in generate_batch(model, tokenizer, ["a", "bca"], length=7, rng=rng)]
    [7, 7]
    """
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        got = f"the string {prompts!r}" if isinstance(prompts, str) else repr(prompts)
        raise OptionError(f"prompts: expected a sequence of strings; got {got}")
    prompts = list(prompts)
    ids = [check_prompt(p, tokenizer, f"prompts[{row}]") for row, p in enumerate(prompts)]
    pieces = _pieces(model, tokenizer, ids, length, sampling, stop, banned, rng)
    return ["".join(row) for row in zip(*pieces, strict=True)]


def check_prompt(prompt: str, tokenizer: Tokenizer, name: str = "prompt") -> IndexArray:
    """Return the ids of a prompt, or raise :class:`OptionError` if it cannot be continued."""
    check_has("tokenizer", tokenizer, "encode", "decode")
    if not isinstance(prompt, str):
        raise OptionError(f"{name}: expected a string; got {prompt!r}")
    known = tokenizer.symbols if isinstance(tokenizer, CharacterTokenizer) else prompt
    if foreign := sorted(set(prompt) - set(known)):
        got = ", ".join(map(repr, foreign))
        raise OptionError(f"{name}: expected characters of the training text; got {got}")
    ids = np.asarray(tokenizer.encode(prompt), np.int64)
    if not len(ids):
        expected, got = ("token", repr(prompt)) if prompt else ("character", "an empty string")
        raise OptionError(f"{name}: expected at least one {expected}; got {got}")
    return ids


def _pieces(
    model: TokenModel,
    tokenizer: Tokenizer,
    prompts: Sequence[IndexArray],
    length: int,
    sampling: Sampling,
    stop: Sequence[str],
    banned: Collection[int] | None,
    rng: np.random.Generator,
) -> Iterator[list[str]]:
    """Check the options now and return the new text of every row, step by step."""
    check_whole("length", length)
    check_callable("model", model)
    check_kind("sampling", sampling, Sampling)
    check_generator("rng", rng, required=True)
    _check_width(getattr(model, "vocab_size", None), tokenizer)
    allowed = _allowed(tokenizer, banned)
    decoders = [StreamDecoder(tokenizer, stop) for _ in prompts]

    def choose(logits: Array, history: Sequence[list[int]]) -> IndexArray:
        _check_width(logits.shape[-1], tokenizer)
        last = np.where(allowed, logits[:, : tokenizer.size], -np.inf)
        return draw(last, history, sampling, rng)

    def pieces() -> Iterator[list[str]]:
        for tokens in _tokens(model, prompts, length if prompts else 0, choose):
            yield [d.push(int(token)) for d, token in zip(decoders, tokens, strict=True)]
            if all(decoder.stopped for decoder in decoders):
                break
        yield [decoder.flush() for decoder in decoders]

    return pieces()


def _tokens(
    model: Any, prompts: Sequence[IndexArray], length: int, choose: Callable[..., IndexArray]
) -> Iterator[IndexArray]:
    """The next token of every row, shape (B,), chosen from the logits and all tokens so far."""
    if not length:
        return
    read = [model(ids[None], None) for ids in prompts]
    logits = np.concatenate([logits[:, -1] for logits, _ in read])
    state = join_states([state for _, state in read])
    history = [ids.tolist() for ids in prompts]
    prepared = model.prepared() if hasattr(model, "prepared") else None
    for left in reversed(range(length)):
        drawn = choose(logits, history)
        for ids, token in zip(history, drawn, strict=True):
            ids.append(int(token))
        yield drawn
        if left and prepared is not None:
            logits, state = prepared.step(drawn, state)
        elif left:
            logits, state = model(drawn[:, None], state)
            logits = logits[:, -1]


def _check_width(width: int | None, tokenizer: Tokenizer) -> None:
    if width is not None and width < tokenizer.size:
        raise ShapeError(
            f"model: expected a logit for each of the {tokenizer.size} ids of the tokenizer; "
            f"got {width}"
        )


def _allowed(tokenizer: Tokenizer, banned: Any) -> np.ndarray[Any, Any]:
    """Which ids may be drawn, shape (tokenizer.size,)."""
    if banned is None:
        banned = [tokenizer.unknown] if isinstance(tokenizer, CharacterTokenizer) else []
    several = isinstance(banned, Iterable) and not isinstance(banned, str)
    ids: list[Any] = list(banned) if several else [None]
    if not all(isinstance(k, int | np.integer) and not isinstance(k, bool) for k in ids):
        raise OptionError(f"banned: expected whole numbers, the ids; got {banned!r}")
    if outside := sorted(int(k) for k in ids if not 0 <= k < tokenizer.size):
        raise OptionError(f"banned: expected ids from 0 to {tokenizer.size - 1}; got {outside}")
    allowed = np.ones(tokenizer.size, bool)
    allowed[ids] = False
    if not allowed.any():
        raise OptionError(f"banned: expected to leave one of {tokenizer.size} ids; got all of them")
    return allowed
