"""Generation from text to text: :mod:`numpy_xlstm.generation.generate` with a tokenizer."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation.config import config_of
from numpy_xlstm.generation.generate import Ids, TokenModel, check_width, new_tokens
from numpy_xlstm.generation.tokenizers import (
    REPLACEMENT,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
)
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.numerics import check_callable, check_has, generator_or_new

MAX_HELD = 16
"""Largest number of ids whose text is held back."""


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


def checked_prompt(
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


class StreamDecoder:
    """Decoder of single ids into text that later ids do not change, up to a stop string.

    Bytes of an incomplete character are held back. For a tokenizer that is not of bytes or
    characters, a step decodes only the last few ids, and new text is final when it does not end in
    U+FFFD, or after :data:`MAX_HELD` more ids.

    A possible beginning of a stop string is held back until more text decides. The stop string that
    ends first counts; if several end at the same place, the longest of them. The result therefore
    does not depend on how the ids divide the text.

    Examples
    --------
    >>> from numpy_xlstm import ByteTokenizer
    >>> decoder = StreamDecoder(ByteTokenizer(), ["END"])
    >>> [decoder.push(byte) for byte in "né E!".encode()], decoder.flush()
    (['n', '', 'é', ' ', '', 'E!'], '')
    >>> [decoder.push(byte) for byte in b"xEND!"], decoder.stopped
    (['x', '', '', '', ''], True)
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        strings = isinstance(stop, Sequence) and all(isinstance(s, str) and s for s in stop)
        if isinstance(stop, str) or not strings:
            raise OptionError(
                f"stop: expected a sequence of strings of at least one character; got {stop!r}"
            )
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        # The text of ``_context`` is final, and that of the later ids, ``_pending``, is not yet.
        # The first ``_given`` characters of their joint text have been returned.
        self._context: list[int] = []
        self._pending: list[int] = []
        self._given = 0
        self._held = ""
        self.stopped = False
        """Whether a stop string has occurred."""

    def push(self, token: int) -> str:
        """Add the next id and return the text that has become final."""
        return "" if self.stopped else self._before_stop(self._decoded(token))

    def flush(self) -> str:
        """Return the rest of the text after the last id."""
        text = self._text(self._context + self._pending)
        rest = self._utf8.decode(b"", final=True) or self._new(text)  # one of them is not in use
        text = "" if self.stopped else self._before_stop(rest) + self._held
        self._held = ""
        return text

    def _before_stop(self, text: str) -> str:
        """Return the text that cannot belong to a stop string, and hold back the rest."""
        text = self._held + text
        occurring = [s for s in self._stop if s in text]
        if occurring:
            self.stopped, self._held = True, ""
            _, start = min((text.find(s) + len(s), text.find(s)) for s in occurring)
            return text[:start]
        beginnings = [s[:n] for s in self._stop for n in range(len(s)) if text.endswith(s[:n])]
        self._held = max(beginnings, key=len, default="")
        return text.removesuffix(self._held)

    def _decoded(self, token: int) -> str:
        """Return the text that has become final; it may still contain a stop string.

        The text of an id may depend on the ids before it, so the last final ids are decoded again
        with the next ones. They are replaced by ``_pending`` as soon as that has a final text.
        """
        if isinstance(self._tokenizer, ByteTokenizer):
            return self._utf8.decode(bytes([token]))
        if isinstance(self._tokenizer, CharacterTokenizer):
            return self._tokenizer.decode(np.array([token]))
        self._pending.append(token)
        text, overdue = self._text(self._context + self._pending), len(self._pending) > MAX_HELD
        new = self._new(text if overdue else text.rstrip(REPLACEMENT))
        is_final = overdue or not text.endswith(REPLACEMENT)
        without_context = self._text(self._pending) if is_final else ""
        if overdue or without_context:
            self._context, self._pending = self._pending, []
            self._given = len(without_context)
        return new

    def _text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(np.array(ids, np.int64)) if ids else ""

    def _new(self, text: str) -> str:
        new = text[self._given :]
        self._given += len(new)
        return new


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
    ids = [checked_prompt(prompt, tokenizer, name, bos)[None] for name, prompt in prompts.items()]
    if config.suppress_tokens is None and isinstance(tokenizer, CharacterTokenizer):
        config = replace(config, suppress_tokens=[tokenizer.unknown])
    config.check_size(tokenizer.size, ("suppress_tokens",))  # no other ids are drawn
    width = getattr(model, "vocab_size", tokenizer.size)
    check_width(width, tokenizer.size)
    config.check_size(width)
    decoders = [StreamDecoder(tokenizer, stop) for _ in prompts]
    steps = new_tokens(model, ids, config, rng, tokenizer.size)
    return _texts(steps, decoders, config.ends)


def _texts(
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
