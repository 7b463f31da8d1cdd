"""A text to learn from: reading it, its alphabet, and its split into training and validation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.errors import TextError
from numpy_xlstm.layers.indices import IndexArray

REPLACEMENT = "\ufffd"
"""What the unknown symbol is decoded to."""


def default_text() -> str:
    """Return the English text that every CPython ships: the language reference of ``help()``.

    Examples
    --------
    >>> len(default_text()) > 400_000
    True
    """
    from pydoc_data.topics import topics  # half a megabyte, so only when it is asked for

    return "\n\n".join(topics[name] for name in sorted(topics))


def read_text(path: str | Path | None = None) -> str:
    """Read a UTF-8 text file, or return :func:`default_text` if no path is given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TextError
        If it is a directory, empty, or binary: it holds NUL bytes or is not UTF-8.
    """
    if path is None:
        return default_text()
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"text: expected a file; {path} does not exist")
    if path.is_dir():
        raise TextError(f"text: expected a file; {path} is a directory")
    return _decode(path.read_bytes(), path)


def _decode(data: bytes, path: Path) -> str:
    if b"\0" in data:
        at = data.index(b"\0")
        raise TextError(f"text: expected a text file; {path} is binary (a NUL byte at {at})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"text: expected UTF-8; {path} is binary or in another encoding "
            f"(byte 0x{data[error.start]:02x} at {error.start})"
        ) from None
    if not text:
        raise TextError(f"text: expected characters to learn from; {path} is empty")
    return text


@dataclass(frozen=True)
class Vocabulary:
    """The characters of a text and their ids, and one more id for every other character.

    Attributes
    ----------
    symbols : str
        The distinct characters in the order of their code points; the id is the position.

    Examples
    --------
    >>> vocabulary = Vocabulary.of("hello")
    >>> vocabulary.symbols, vocabulary.size
    ('ehlo', 5)
    >>> vocabulary.encode("hole!")
    array([1, 3, 2, 0, 4])
    >>> vocabulary.decode(np.array([1, 3, 2, 0]))
    'hole'
    """

    symbols: str

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """Return the vocabulary of a text."""
        return cls("".join(sorted(set(text))))

    @property
    def size(self) -> int:
        """Number of ids: the symbols and the unknown one."""
        return len(self.symbols) + 1

    @property
    def unknown(self) -> int:
        """The id of every character that is not among the symbols: the last one."""
        return len(self.symbols)

    def encode(self, text: str) -> IndexArray:
        """Ids of the characters of ``text``, shape (len(text),)."""
        known, points = code_points(self.symbols), code_points(text)
        ids = np.searchsorted(known, points)
        found = known[np.minimum(ids, len(known) - 1)] == points
        return np.where(found, ids, self.unknown)

    def decode(self, ids: IndexArray) -> str:
        """Characters of the ids; the unknown id gives U+FFFD."""
        symbols = self.symbols + REPLACEMENT
        return "".join(symbols[i] for i in ids)


def code_points(text: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
    """Unicode code points of the characters, shape (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@dataclass(frozen=True)
class TextSplit:
    """A text cut in two, in place: the first part to learn from, the last one to validate on."""

    train: str
    validation: str
    vocabulary: Vocabulary
    """The characters of the training part."""

    @property
    def train_ids(self) -> IndexArray:
        """The training part as ids."""
        return self.vocabulary.encode(self.train)

    @property
    def validation_ids(self) -> IndexArray:
        """The validation part as ids."""
        return self.vocabulary.encode(self.validation)


def split_text(text: str, window: int, *, validation_fraction: float = 0.1) -> TextSplit:
    """Cut off the last tenth of a text for validation.

    Parameters
    ----------
    text : str
        The whole text.
    window : int
        How many characters are learned from at once; each part must hold one more than that.
    validation_fraction : float
        The part to cut off.

    Raises
    ------
    TextError
        If either part is shorter than one window and the character after it.

    Examples
    --------
    >>> split = split_text("abcd" * 10, window=3)
    >>> len(split.train), split.validation, split.vocabulary.symbols
    (36, 'abcd', 'abcd')
    """
    cut = len(text) - int(len(text) * validation_fraction)
    parts = {"training": text[:cut], "validation": text[cut:]}
    for name, part in parts.items():
        if len(part) < window + 1:
            raise TextError(
                f"text: expected a {name} part of at least {window + 1} characters (one window "
                f"of {window} and the character after it); got {len(part)} of {len(text)}; "
                "use a longer text or a smaller window"
            )
    return TextSplit(text[:cut], text[cut:], Vocabulary.of(text[:cut]))
