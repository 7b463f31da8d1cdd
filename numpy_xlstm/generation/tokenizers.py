"""Conversion between text and token ids: bytes, characters, or a Hugging Face tokenizer."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from numpy_xlstm.config import Config
from numpy_xlstm.disk import read_regular
from numpy_xlstm.documents import MAX_BYTES
from numpy_xlstm.errors import MissingExtraError, OptionError, TextError
from numpy_xlstm.generation.components import checked_tokenizer
from numpy_xlstm.layers.embedding import IndexArray, check_indices
from numpy_xlstm.numerics import checked_whole, plain_array

REPLACEMENT = "\ufffd"
"""Replacement for unknown characters and for bytes that are not UTF-8."""


class Tokenizer(Protocol):
    """Interface of a map from text to ids from 0 to ``size − 1`` and back."""

    @property
    def size(self) -> int:
        """Number of ids."""

    def encode(self, text: str) -> IndexArray:
        """Return the ids of a text, shape (N,)."""

    def decode(self, ids: IndexArray) -> str:
        """Return the text of ids (N,)."""

    def to_dict(self) -> dict[str, Any]:
        """Return a description of this tokenizer for JSON."""


@dataclass(frozen=True)
class ByteTokenizer:
    """Tokenizer whose 256 ids are the UTF-8 bytes of any text.

    Raises
    ------
    TextError
        From :meth:`encode`, for half of a surrogate pair, which has no UTF-8 bytes.

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
        """Return the ids of a text, its bytes; raise TextError for half of a surrogate pair."""
        return np.frombuffer(_utf8(text), np.uint8).astype(np.int64)

    def decode(self, ids: IndexArray) -> str:
        """Return the text of the bytes; invalid UTF-8 becomes U+FFFD."""
        return _checked_ids(ids, self.size).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """Return the description of this tokenizer for a checkpoint."""
        return {"kind": "byte"}


@dataclass(frozen=True)
class CharacterTokenizer:
    """Tokenizer of the characters of a text, with one additional id for all other characters.

    Parameters
    ----------
    symbols : str
        Distinct characters in the order of their code points; the id is the position.

    Raises
    ------
    TextError
        If a text is not a string.

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
        """Make the tokenizer of the characters of a text."""
        check_text(text)
        return cls("".join(sorted(set(text))))

    @property
    def size(self) -> int:
        """Number of ids: that of the symbols plus 1 for unknown characters."""
        return len(self.symbols) + 1

    @property
    def unknown(self) -> int:
        """Id of all characters that are not in ``symbols``, the last id."""
        return len(self.symbols)

    def encode(self, text: str) -> IndexArray:
        """Return the ids of the characters of ``text``, shape (len(text),)."""
        check_text(text)
        ids = {symbol: n for n, symbol in enumerate(self.symbols)}
        return np.array([ids.get(character, self.unknown) for character in text], np.int64)

    def decode(self, ids: IndexArray) -> str:
        """Return the characters of the ids; the unknown id gives U+FFFD."""
        symbols = self.symbols + REPLACEMENT
        return "".join(symbols[i] for i in _checked_ids(ids, self.size))

    def to_dict(self) -> dict[str, Any]:
        """Return the description of this tokenizer for a checkpoint."""
        return {"kind": "character", "text": self.symbols}


@dataclass(frozen=True)
class HuggingFaceTokenizer:
    """Tokenizer of the library ``tokenizers``, which the extra ``cli`` installs.

    ``encode`` ignores truncation, padding and templates in the file. A special token that occurs in
    the text becomes its id. Decoding omits special tokens. Models BPE and WordLevel are supported,
    with the other components that ``numpy_xlstm.generation.components`` lists.

    Parameters
    ----------
    json : str
        Content of a ``tokenizer.json``; :meth:`from_file` reads one.

    Raises
    ------
    TextError
        If a text is not a string.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models
    >>> from numpy_xlstm import HuggingFaceTokenizer
    >>> library = Tokenizer(models.WordLevel({"to": 0, "be": 1}, unk_token="to"))
    >>> HuggingFaceTokenizer(library.to_str()).encode("be")
    array([1])
    """

    json: str = field(repr=False)
    size: int = field(init=False, repr=False, compare=False)
    """Number of ids: the largest id plus 1. Some ids may be unused."""
    _library: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        package = _package()
        text = json.dumps(checked_tokenizer(self.json), ensure_ascii=False)
        with _refused(OptionError, "tokenizer: expected the content of a tokenizer.json"):
            library = package.Tokenizer.from_str(text)
        ids = library.get_vocab(with_added_tokens=True).values()
        vars(self).update(_library=library, size=max(ids, default=-1) + 1)

    @classmethod
    def from_file(cls, path: str | Path) -> "HuggingFaceTokenizer":
        """Read a ``tokenizer.json``; raise ``OptionError`` for another file."""
        text = read_regular("tokenizer", path, MAX_BYTES)
        try:
            return cls(text.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise OptionError(f"tokenizer: expected UTF-8; {path} is not ({error})") from None

    @classmethod
    def learn(cls, text: str, size: int) -> "HuggingFaceTokenizer":
        """Learn byte-level BPE with at most ``size`` ids from a text. It restores every text.

        The first 256 ids are bytes; each other one is a pair of ids that is frequent within words.
        """
        _utf8(text)
        checked_whole("size", size, 257)
        library = _package()
        learnt = library.Tokenizer(library.models.BPE())
        learnt.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        learnt.decoder = library.decoders.ByteLevel()
        known = {"initial_alphabet": library.pre_tokenizers.ByteLevel.alphabet()}
        known |= {"vocab_size": size, "min_frequency": 2, "show_progress": False}
        starts = range(0, len(text), 2**16)  # parts need less memory than the whole
        parts = (text[start : start + 2**16] for start in starts)
        learnt.train_from_iterator(parts, library.trainers.BpeTrainer(**known))
        return cls(learnt.to_str())

    def encode(self, text: str) -> IndexArray:
        """Return the ids of a text, shape (N,); raise TextError if it cannot be encoded."""
        _utf8(text)
        with _refused(TextError, "text: expected a text that the tokenizer can encode"):
            return np.array(self._library.encode(text, add_special_tokens=False).ids, np.int64)

    def decode(self, ids: IndexArray) -> str:
        """Return the text of the ids, without special tokens."""
        known = _checked_ids(ids, self.size).tolist()
        with _refused(TextError, "ids: expected ids that the tokenizer can decode"):
            return str(self._library.decode(known, skip_special_tokens=True))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file for a checkpoint."""
        return {"kind": "huggingface", "text": self.json}


def _package() -> Any:
    """Return the package ``tokenizers``, or raise :class:`MissingExtraError`."""
    try:
        import tokenizers
    except ImportError:
        raise MissingExtraError(
            "HuggingFaceTokenizer needs the cli extra: pip install 'numpy-xlstm[cli]'"
        ) from None
    return tokenizers


@contextmanager
def _refused(kind: type[Exception], expected: str) -> Iterator[None]:
    """Raise an error of this package for any of the library, also for a panic of Rust."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise kind(f"{expected}; got an error of the package tokenizers: {error}") from None


@dataclass(frozen=True)
class TokenizerDescription(Config):
    """The ``to_dict()`` of a tokenizer: its kind, and the text that it is made from, if any.

    Examples
    --------
    >>> TokenizerDescription.from_dict({"kind": "character", "text": "abc"}).tokenizer()
    CharacterTokenizer(symbols='abc')
    """

    kind: Literal["byte", "character", "huggingface"]
    text: str | None = None

    def __post_init__(self) -> None:
        """Check the types, and that there is a text unless the kind is "byte"."""
        super().__post_init__()
        if (self.text is None) != (self.kind == "byte"):
            expected, got = ("one", "none") if self.text is None else ("none", repr(self.text))
            raise OptionError(f"text: expected {expected} for the kind {self.kind!r}; got {got}")

    def tokenizer(self) -> Tokenizer:
        """Make the tokenizer."""
        if self.text is None:
            return ByteTokenizer()
        kind = CharacterTokenizer if self.kind == "character" else HuggingFaceTokenizer
        return kind(self.text)


def code_points(text: str) -> np.ndarray[tuple[int], np.dtype[Any]]:
    """Return the Unicode code points of the characters, shape (len(text),)."""
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
    if isinstance(ids, list | tuple):
        ids = plain_array("ids", ids) if ids else np.zeros(0, np.int64)
    check_indices("ids", ids, size, shape=("N",))
    array: IndexArray = ids
    return array
