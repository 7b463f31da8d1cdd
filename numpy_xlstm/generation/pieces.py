"""Decoding of ids while they are generated: whole characters, up to a stop string."""

import codecs
from collections.abc import Sequence

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.generation.tokenizers import (
    REPLACEMENT,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
)

MAX_HELD = 16
"""Largest number of ids whose text is held back."""


class StreamDecoder:
    """Decoder of single ids into text that later ids do not change, up to a stop string.

    Bytes of an incomplete character are held back. For a tokenizer that is not of bytes or
    characters, a step decodes only the last few ids, and new text is final when it does not end in
    U+FFFD, or after :data:`MAX_HELD` more ids.

    Examples
    --------
    >>> from numpy_xlstm import ByteTokenizer
    >>> decoder = StreamDecoder(ByteTokenizer())
    >>> [decoder.push(byte) for byte in "né!".encode()], decoder.flush()
    (['n', '', 'é', '!'], '')
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._filter = tokenizer, StopFilter(stop)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._ids: list[int] = []
        self._old = self._given = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has occurred."""
        return self._filter.stopped

    def push(self, token: int) -> str:
        """Add the next id and return the text that has become final."""
        return "" if self.stopped else self._filter.push(self._decoded(token))

    def flush(self) -> str:
        """Return the rest of the text after the last id."""
        rest = self._utf8.decode(b"", final=True) or self._new(self._text())
        return self._filter.push(rest) + self._filter.flush()

    def _decoded(self, token: int) -> str:
        """Return the new text; of the ids, keep only those of the last final text.

        They are decoded again together with the next ids, whose text may depend on them.
        """
        if isinstance(self._tokenizer, ByteTokenizer):
            return self._utf8.decode(bytes([token]))
        if isinstance(self._tokenizer, CharacterTokenizer):
            return self._tokenizer.decode(np.array([token]))
        self._ids.append(token)
        text, late = self._text(), len(self._ids) - self._old > MAX_HELD
        new = self._new(text if late else text.rstrip(REPLACEMENT))
        if late or not text.endswith(REPLACEMENT):
            before, self._ids = self._ids, self._ids[self._old :]
            if late or self._text():
                self._old, self._given = len(self._ids), len(self._text())
            else:
                self._ids = before
        return new

    def _text(self) -> str:
        return self._tokenizer.decode(np.array(self._ids, np.int64)) if self._ids else ""

    def _new(self, text: str) -> str:
        new = text[self._given :]
        self._given += len(new)
        return new


class StopFilter:
    """Filter that passes the pieces of a text up to the first stop string.

    A possible beginning of a stop string is held back until more text decides. The stop string that
    ends first counts; if several end at the same place, the longest of them. The result therefore
    does not depend on how the text is split into pieces. Without stop strings, all text passes.

    Examples
    --------
    >>> filter = StopFilter(["END"])
    >>> [filter.push(piece) for piece in ("one E", "N", "T E", "NDLESS")]
    ['one ', '', 'ENT ', '']
    >>> filter.stopped
    True
    """

    def __init__(self, stop: Sequence[str]) -> None:
        strings = isinstance(stop, Sequence) and all(isinstance(s, str) and s for s in stop)
        if isinstance(stop, str) or not strings:
            raise OptionError(
                f"stop: expected a sequence of strings of at least one character; got {stop!r}"
            )
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Add text and return the text that passes; nothing passes after a stop string."""
        if self.stopped:
            return ""
        text = self._held + text
        occurring = [s for s in self._stop if s in text]
        if occurring:
            self.stopped, self._held = True, ""
            _, start = min((text.find(s) + len(s), text.find(s)) for s in occurring)
            return text[:start]
        beginnings = [s[:n] for s in self._stop for n in range(len(s)) if text.endswith(s[:n])]
        self._held = max(beginnings, key=len, default="")
        return text.removesuffix(self._held)

    def flush(self) -> str:
        """Return the text that was held back, after the last piece."""
        held, self._held = self._held, ""
        return held
