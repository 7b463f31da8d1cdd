"""Generation from text to text: :mod:`numpy_xlstm.generation.generate` with a tokenizer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation.config import config_of
from numpy_xlstm.generation.generate import Ids, TokenModel, check_width, new_tokens
from numpy_xlstm.generation.pieces import StreamDecoder
from numpy_xlstm.generation.tokenizers import CharacterTokenizer, Tokenizer
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.numerics import check_callable, check_has, generator_or_new


def stream(
    model: TokenModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    stop: Sequence[str] = (),
    rng: np.random.Generator | int | None = None,
    **options: Any,
) -> Iterator[str]:
    """Continue a prompt and yield pieces of the text as soon as they are final.

    Pieces consist of whole characters, and contain no end token and no part of a stop string that
    occurs. Errors are raised by the call, not by the first piece.

    Parameters
    ----------
    model : TokenModel
        As in :func:`generate`, with at least ``tokenizer.size`` logits; those beyond are ignored.
    tokenizer : Tokenizer
        Tokenizer of the model.
    prompt : str
        Text to continue. It must contain only characters that the tokenizer knows, and at least one
        token if there is no BOS. If ``bos_token_id`` is given, or the checkpoint requires it, a BOS
        is inserted, unless the prompt already begins with it.
    stop : Sequence[str]
        Strings; the text ends before the first one that occurs.
    rng, **options
        As in :func:`generate`. The default of ``suppress_tokens`` for a ``CharacterTokenizer`` is
        the unknown id.

    Returns
    -------
    Iterator[str]
        Non-empty pieces of the text after the prompt.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, CharacterTokenizer, LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> tokenizer = CharacterTokenizer.of("abc")
    >>> model = LanguageModel(tokenizer.size, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> options = {"max_new_tokens": 20, "do_sample": True}
    >>> pieces = list(stream(model, tokenizer, "ab", **options, rng=rng))
    >>> len(pieces), set("".join(pieces)) <= set("abc")
    (20, True)
    """
    pieces = _pieces(model, tokenizer, {"prompt": prompt}, stop, rng, options)
    return (piece for (piece,) in pieces if piece)


@overload
def generate_text(model: TokenModel, tokenizer: Tokenizer, prompts: str, **options: Any) -> str: ...


@overload
def generate_text(
    model: TokenModel, tokenizer: Tokenizer, prompts: Sequence[str], **options: Any
) -> list[str]: ...


def generate_text(
    model: TokenModel,
    tokenizer: Tokenizer,
    prompts: str | Sequence[str],
    *,
    stop: Sequence[str] = (),
    rng: np.random.Generator | int | None = None,
    **options: Any,
) -> str | list[str]:
    """Continue one prompt or several, and return the text after each prompt.

    The model reads each prompt separately, because lengths differ. Then the states are joined, and
    each decode step is one call for all rows. A row that has ended at a stop string is computed
    until all rows have ended, and its further tokens are discarded. Without ``do_sample`` each text
    equals that of a single prompt, except where the model's rounding depends on the number of rows.

    Parameters
    ----------
    model, tokenizer, prompts, stop, rng, **options
        As in :func:`stream`; one number per row and step is drawn from ``rng``. The state of the
        model must consist of arrays with the batch first, in nested tuples.

    Returns
    -------
    str or list of str
        The text for one prompt, or a list of texts for several.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, ByteTokenizer, LanguageModel
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(256, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> ascii_only = {"suppress_tokens": range(128, 256), "max_new_tokens": 9}
    >>> len(generate_text(model, ByteTokenizer(), "né", **ascii_only))
    9
    >>> [len(text) for text in generate_text(model, ByteTokenizer(), ["n", "bca"], **ascii_only)]
    [9, 9]
    """
    if isinstance(prompts, str):
        return "".join(stream(model, tokenizer, prompts, stop=stop, rng=rng, **options))
    if not isinstance(prompts, Sequence):
        raise OptionError(f"prompts: expected a string or a sequence of strings; got {prompts!r}")
    named = {f"prompts[{row}]": prompt for row, prompt in enumerate(prompts)}
    pieces = _pieces(model, tokenizer, named, stop, rng, options)
    return ["".join(row) for row in zip(*pieces, strict=True)]


def check_prompt(
    prompt: str, tokenizer: Tokenizer, name: str = "prompt", bos: int | None = None
) -> IndexArray:
    """Return the ids of a prompt, or raise :class:`OptionError` if it cannot be continued.

    A BOS that is not None is inserted, unless the prompt begins with it.
    """
    check_has("tokenizer", tokenizer, "encode", "decode")
    if not isinstance(prompt, str):
        raise OptionError(f"{name}: expected a string; got {prompt!r}")
    known = tokenizer.symbols if isinstance(tokenizer, CharacterTokenizer) else prompt
    if foreign := sorted(set(prompt) - set(known)):
        got = ", ".join(map(repr, foreign))
        raise OptionError(f"{name}: expected characters that occur in the training text; got {got}")
    ids = np.asarray(tokenizer.encode(prompt), np.int64)
    if bos is not None and ids[:1].tolist() != [bos]:
        ids = np.concatenate(([bos], ids))
    if not len(ids):
        expected, got = ("token", repr(prompt)) if prompt else ("character", "an empty string")
        raise OptionError(f"{name}: expected at least one {expected}; got {got}")
    return ids


def _pieces(
    model: Any,
    tokenizer: Tokenizer,
    prompts: dict[str, str],
    stop: Sequence[str],
    rng: np.random.Generator | int | None,
    options: dict[str, Any],
) -> Iterator[list[str]]:
    """Check the options, and return an iterator of the new text of all rows after each step."""
    check_callable("model", model)
    rng = generator_or_new(rng)
    config, known = config_of(model, options), getattr(model, "special_tokens", None)
    inserted = "bos_token_id" in options or getattr(known, "insert_bos", False)
    bos = config.bos_token_id if inserted else None
    ids = [check_prompt(prompt, tokenizer, name, bos)[None] for name, prompt in prompts.items()]
    if config.suppress_tokens is None and isinstance(tokenizer, CharacterTokenizer):
        config = replace(config, suppress_tokens=[tokenizer.unknown])
    config.check_size(tokenizer.size, ("suppress_tokens",))
    width = getattr(model, "vocab_size", tokenizer.size)
    check_width(width, tokenizer.size)
    config.check_size(width)
    decoders = [StreamDecoder(tokenizer, stop) for _ in prompts]
    return _decoded(new_tokens(model, ids, config, rng, tokenizer.size), decoders, config.ends)


def _decoded(
    steps: Iterator[Ids], decoders: Sequence[StreamDecoder], ends: tuple[int, ...]
) -> Iterator[list[str]]:
    """Yield the final new text of every row after each step, and at the end the rest of it."""
    ended = [False for _ in decoders]
    for tokens in steps:
        ended = [before or token in ends for before, token in zip(ended, tokens, strict=True)]
        rows = zip(decoders, tokens, ended, strict=True)
        yield ["" if end else decoder.push(int(token)) for decoder, token, end in rows]
        if all(end or decoder.stopped for decoder, end in zip(decoders, ended, strict=True)):
            break
    yield [decoder.flush() for decoder in decoders]
