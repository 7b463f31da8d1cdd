"""Text as token ids and back: bytes, characters, or a tokenizer of Hugging Face."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from numpy_xlstm.disk import read_regular
from numpy_xlstm.errors import MissingExtraError, OptionError, ShapeError, TextError
from numpy_xlstm.layers.indices import IndexArray, check_indices, check_sequence

MAX_FILE = 200_000_000
"""The most bytes that a ``tokenizer.json`` may have."""

REPLACEMENT = "\ufffd"
"""What an unknown character and bytes that are not UTF-8 are decoded to."""


class Tokenizer(Protocol):
    """Anything that maps text to ids from 0 to ``size − 1`` and ids to text."""

    @property
    def size(self) -> int:
        """Number of ids."""

    def encode(self, text: str) -> IndexArray:
        """Ids of a text, shape (N,)."""

    def decode(self, ids: IndexArray) -> str:
        """Text of the ids (N,)."""

    def to_dict(self) -> dict[str, Any]:
        """All that :func:`tokenizer_from_dict` needs, such that JSON can hold it."""


@dataclass(frozen=True)
class ByteTokenizer:
    """The bytes of the text in UTF-8: 256 ids, and no text is foreign to it.

    Examples
    --------
    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("né")
    array([110, 195, 169])
    >>> tokenizer.decode(np.array([110, 195, 169, 195]))
    'né�'
    """

    size = 256
    """Number of ids."""

    def encode(self, text: str) -> IndexArray:
        """Ids of a text: its bytes. Half of a surrogate pair, which has none, is a TextError."""
        return np.frombuffer(_utf8(text), np.uint8).astype(np.int64)

    def decode(self, ids: IndexArray) -> str:
        """Text of the bytes; what is not UTF-8 becomes U+FFFD."""
        return _checked_ids(ids, self.size).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """Return what :func:`tokenizer_from_dict` needs."""
        return {"kind": "byte"}


@dataclass(frozen=True)
class CharacterTokenizer:
    """The characters of a text and their ids, and one more id for every other character.

    Parameters
    ----------
    symbols : str
        The distinct characters in the order of their code points; the id is the position.

    Raises
    ------
    OptionError
        If the symbols are not distinct or not in that order; :meth:`of` takes any text.

    Examples
    --------
    >>> tokenizer = CharacterTokenizer.of("hello")
    >>> tokenizer.symbols, tokenizer.size
    ('ehlo', 5)
    >>> tokenizer.encode("hole!")
    array([1, 3, 2, 0, 4])
    >>> tokenizer.decode(np.array([1, 3, 2, 0]))
    'hole'
    """

    symbols: str

    def __post_init__(self) -> None:
        if not isinstance(self.symbols, str) or list(self.symbols) != sorted(set(self.symbols)):
            raise OptionError(
                "symbols: expected distinct characters in the order of their code points; "
                f"got {self.symbols!r:.80}"
            )

    @classmethod
    def of(cls, text: str) -> "CharacterTokenizer":
        """Return the tokenizer of the characters of a text."""
        check_text(text)
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
        check_text(text)
        ids = {symbol: n for n, symbol in enumerate(self.symbols)}
        return np.array([ids.get(character, self.unknown) for character in text], np.int64)

    def decode(self, ids: IndexArray) -> str:
        """Characters of the ids; the unknown id gives U+FFFD."""
        symbols = self.symbols + REPLACEMENT
        return "".join(symbols[i] for i in _checked_ids(ids, self.size))

    def to_dict(self) -> dict[str, Any]:
        """Return what :func:`tokenizer_from_dict` needs."""
        return {"kind": "character", "symbols": self.symbols}


@dataclass(frozen=True)
class HuggingFaceTokenizer:
    """A tokenizer of the library ``tokenizers``, which is the extra ``tokenizers``.

    The text is encoded as it is, whatever the file says of truncation, padding and templates. A
    special token that is written out in the text becomes its id. Decoding leaves these tokens out.

    Parameters
    ----------
    json : str
        The content of a ``tokenizer.json``; :meth:`from_file` reads one.

    Raises
    ------
    OptionError, MissingExtraError
        If it is not such a content, or the extra is not installed.
    """

    json: str = field(repr=False)

    def __post_init__(self) -> None:
        self._tokenizer  # noqa: B018  read now, so that errors come now

    @classmethod
    def from_file(cls, path: str | Path) -> "HuggingFaceTokenizer":
        """Read a ``tokenizer.json``; another file is an ``OptionError``."""
        text = read_regular("tokenizer", path, MAX_FILE)
        try:
            return cls(text.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise OptionError(f"tokenizer: expected UTF-8; {path} is not ({error})") from None

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer as Library
        except ImportError:
            raise MissingExtraError(
                "HuggingFaceTokenizer needs the tokenizers extra: "
                "pip install 'numpy-xlstm[tokenizers]'"
            ) from None
        try:
            tokenizer = Library.from_str(self.json)
        except Exception as error:  # the library raises no narrower type
            raise OptionError(
                f"tokenizer: expected the content of a tokenizer.json; got {error}"
            ) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def size(self) -> int:
        """Number of ids: one more than the largest; some below it may be unused."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str) -> IndexArray:
        """Ids of a text, shape (N,); a TextError if UTF-8 or the tokenizer cannot express it."""
        _utf8(text)
        try:
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises no narrower type
            raise TextError(
                f"text: expected one that the tokenizer can encode; got {error}"
            ) from None
        return np.array(ids, np.int64)

    def decode(self, ids: IndexArray) -> str:
        """Text of the ids, without special tokens."""
        known = _checked_ids(ids, self.size).tolist()
        return str(self._tokenizer.decode(known, skip_special_tokens=True))

    def begins_with(self, token: int | None) -> bool:
        """Whether the file says to put this special token in front of a text."""
        encoded = self._tokenizer.encode("a", add_special_tokens=True)
        return bool(encoded.special_tokens_mask[:1] == [1] and encoded.ids[0] == token)

    def to_dict(self) -> dict[str, Any]:
        """Return what :func:`tokenizer_from_dict` needs: the content of the file."""
        return {"kind": "huggingface", "json": self.json}


KINDS: dict[str, Any] = {
    "byte": ByteTokenizer,
    "character": CharacterTokenizer,
    "huggingface": HuggingFaceTokenizer,
}
"""The tokenizers by their name in a dict. All that they hold is text."""


def tokenizer_from_dict(d: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of which ``d`` is the ``to_dict()``.

    Raises
    ------
    OptionError, MissingExtraError
        If ``d`` is not such a dict, or needs an extra that is not installed.

    Examples
    --------
    >>> tokenizer_from_dict({"kind": "character", "symbols": "abc"})
    CharacterTokenizer(symbols='abc')
    """
    kind, given = checked_description(d)
    tokenizer: Tokenizer = KINDS[kind](**given)
    return tokenizer


def checked_description(d: Any) -> tuple[str, dict[str, str]]:
    """Return kind and fields of a ``to_dict()``; :class:`OptionError` if it cannot be one."""
    given = dict(d) if isinstance(d, Mapping) else {}
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise OptionError(f"tokenizer: expected a kind of {', '.join(KINDS)}; got {kind!r}")
    expected = [field.name for field in fields(KINDS[kind])]
    if [*given] != expected or not all(isinstance(text, str) for text in given.values()):
        raise OptionError(
            f"tokenizer: expected text under {expected} for the kind {kind}; "
            f"got { ({name: type(value).__name__ for name, value in given.items()}) }"
        )
    return kind, given


def code_points(text: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
    """Unicode code points of the characters, shape (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _utf8(text: str) -> bytes:
    check_text(text)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"text: expected characters that UTF-8 can express; got {text[error.start]!r} "
            f"at {error.start}"
        ) from None


def check_text(text: Any) -> None:
    """Raise :class:`TextError` unless ``text`` is a string."""
    if not isinstance(text, str):
        raise TextError(f"text: expected a string; got {type(text).__name__}")


def _checked_ids(ids: Any, size: int) -> IndexArray:
    """An array of ids, also from a list of them."""
    if isinstance(ids, list | tuple):
        try:
            ids = np.array(ids, None if ids else np.int64)
        except ValueError:  # lists of different lengths in a list
            raise ShapeError(f"ids: expected shape (N,); got {ids!r}") from None
    return check_sequence("ids", check_indices("ids", ids, size))
