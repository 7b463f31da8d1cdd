"""Continue a prompt with a language model: as a stream, as one text, or many prompts at once."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.generation.pieces import StopFilter, StreamDecoder
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


class TokenModel(Protocol):
    """All that generation needs of a model."""

    def __call__(self, tokens: IndexArray, /, state: Any = None) -> tuple[Array, Any]:
        """Map tokens (B, T) and a state to logits (B, T, V) and the state after them."""


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

    The model reads the prompt in one call, and then every drawn token in a step of the model
    prepared for that, see :meth:`LanguageModel.prepared`: what is drawn is as if it were called,
    to rounding. No piece holds a part of a character, or any of what turns out to be a stop string.

    Parameters
    ----------
    model : TokenModel
        Maps tokens (1, T) and a state to logits (1, T, V) and a state; one without ``prepared`` is
        called for each token. V may be larger than ``tokenizer.size``; the logits beyond it are
        ignored.
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
    prompts = [check_prompt(prompt, tokenizer)]
    text = _Text(tokenizer, stop)
    steps = _tokens(model, tokenizer, prompts, length, sampling, banned, rng)

    def pieces() -> Iterator[str]:
        for (token,) in steps:
            yield text.push(int(token))
            if text.stopped:
                return
        yield text.flush()

    return filter(None, pieces())


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
    text = stream(
        *(model, tokenizer, prompt),
        length=length,
        sampling=sampling,
        stop=stop,
        banned=banned,
        rng=rng,
    )
    return "".join(text)


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
    model, tokenizer, length, sampling, stop, banned
        As in :func:`stream`, and so are the errors. The state of the model must be nested tuples of
        arrays with the batch on their first axis; see :func:`join_states`.
    prompts : Sequence[str]
        What to continue.
    rng : np.random.Generator
        Gives one number per row and step.

    Returns
    -------
    list[str]
        One text per prompt.

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
    texts = [_Text(tokenizer, stop) for _ in prompts]
    steps = _tokens(model, tokenizer, ids, length, sampling, banned, rng)
    parts: list[list[str]] = [[] for _ in prompts]
    for tokens in steps:
        for part, text, token in zip(parts, texts, tokens, strict=True):
            part.append(text.push(int(token)))
        if all(text.stopped for text in texts):
            break
    return ["".join([*part, text.flush()]) for part, text in zip(parts, texts, strict=True)]


def check_prompt(prompt: str, tokenizer: Tokenizer, name: str = "prompt") -> IndexArray:
    """Return the ids of a prompt, or raise :class:`OptionError` if it cannot be continued.

    Examples
    --------
    >>> from numpy_xlstm.generation import CharacterTokenizer
    >>> check_prompt("ba", CharacterTokenizer.of("abc"))
    array([1, 0])
    """
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


class _Text:
    """The text of one row: ids to characters, up to a stop string."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._decoder, self._filter = StreamDecoder(tokenizer), StopFilter(stop)

    @property
    def stopped(self) -> bool:
        return self._filter.stopped

    def push(self, token: int) -> str:
        return "" if self.stopped else self._filter.push(self._decoder.push(token))

    def flush(self) -> str:
        return self._filter.push(self._decoder.flush()) + self._filter.flush()


def _tokens(
    model: TokenModel,
    tokenizer: Tokenizer,
    prompts: Sequence[IndexArray],
    length: int,
    sampling: Sampling,
    banned: Collection[int] | None,
    rng: np.random.Generator,
) -> Iterator[IndexArray]:
    """Check the options now and return the steps: the next token of every row, shape (B,)."""
    check_whole("length", length)
    check_callable("model", model)
    check_kind("sampling", sampling, Sampling)
    check_generator("rng", rng, required=True)
    _check_width(getattr(model, "vocab_size", None), tokenizer)
    allowed = _allowed(tokenizer, banned)
    history = [ids.tolist() for ids in prompts]

    def steps() -> Iterator[IndexArray]:
        read = [model(ids[None], None) for ids in prompts]
        logits = np.concatenate([logits[:, -1] for logits, _ in read])
        _check_width(logits.shape[-1], tokenizer)
        state = join_states([state for _, state in read])
        step = _step_of(model)
        for left in reversed(range(length)):
            last = np.where(allowed, logits[:, : tokenizer.size], -np.inf)
            drawn = draw(last, history, sampling, rng)
            for ids, token in zip(history, drawn, strict=True):
                ids.append(int(token))
            yield drawn
            if left:
                logits, state = step(drawn, state)

    return steps() if prompts and length else iter(())


def _step_of(model: Any) -> Callable[[IndexArray, Any], tuple[Array, Any]]:
    """Return the step of the prepared model; a call with T = 1 if it cannot be prepared."""
    if hasattr(model, "prepared"):
        step: Callable[[IndexArray, Any], tuple[Array, Any]] = model.prepared().step
        return step

    def call(tokens: IndexArray, state: Any) -> tuple[Array, Any]:
        logits, state = model(tokens[:, None], state)
        return logits[:, -1], state

    return call


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
