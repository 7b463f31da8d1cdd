"""Training texts: reading, split, windows and entropies."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import cast

import numpy as np

from numpy_xlstm.disk import checked_path, files_in, read_regular
from numpy_xlstm.errors import ShapeError, TextError
from numpy_xlstm.generation import CharacterTokenizer, Tokenizer
from numpy_xlstm.generation.tokenizers import check_text, code_points
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.numerics import (
    check_form,
    check_generator,
    check_has,
    checked_positive,
    checked_whole,
)
from numpy_xlstm.training.step import Batch

MAX_TEXT = 2**31
"""Largest size of a text in bytes. Its ids take eight times as much memory."""

HELD_OUT = 100_000
"""Largest number of characters that are split off. More would only make validations slower."""


def default_text() -> str:
    """Return the English text of Python 3.11's ``help()``, half a megabyte."""
    return gzip.decompress(Path(__file__).with_name("help.txt.gz").read_bytes()).decode()


def read_text(path: str | Path | None = None) -> str:
    """Read a UTF-8 text file, or return :func:`default_text` if no path is given.

    Raises :class:`TextError` if the file is empty or binary, that is, contains NUL bytes or is not
    UTF-8, and :class:`CheckpointError` if it is a device or a pipe, or larger than 2 GiB.
    """
    if path is None:
        return default_text()
    data = read_regular("text", path, MAX_TEXT)
    if b"\0" in data:
        where = data.index(b"\0")
        raise TextError(f"text: expected a text file; {path} is binary (a NUL byte at {where})")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"text: expected UTF-8; {path} is binary or in another encoding "
            f"(byte 0x{data[error.start]:02x} at {error.start})"
        ) from None
    if not text:
        raise TextError(f"text: expected at least one character; {path} is empty")
    return text


def read_texts(paths: Iterable[str | Path]) -> dict[Path, str]:
    """Read UTF-8 text files with :func:`read_text`; return their texts by path, in this order.

    A folder is read with its subfolders, in the order of the names, without empty files and without
    files and folders whose names begin with a dot.
    """
    files: list[Path] = []
    for path in (checked_path("text", path) for path in paths):
        inside = files_in(path) if path.is_dir() else []
        texts = [file for file in inside if file.is_file() and file.stat().st_size]
        if path.is_dir() and not texts:
            raise TextError(f"text: expected a folder with text files; {path} has none")
        files += texts or [path]
    return {file: read_text(file) for file in files}


@dataclass(frozen=True)
class TextSplit:
    """A text split into a first part for training and a last part for validation."""

    train: str
    validation: str
    tokenizer: Tokenizer

    @cached_property
    def train_ids(self) -> IndexArray:
        """The training part as ids."""
        return self.tokenizer.encode(self.train)

    @cached_property
    def validation_ids(self) -> IndexArray:
        """The validation part as ids."""
        return self.tokenizer.encode(self.validation)


def split_text(
    text: str,
    window: int,
    tokenizer: Tokenizer | Callable[[str], Tokenizer] | None = None,
    *,
    validation: str | None = None,
) -> TextSplit:
    """Split off the last tenth of a text, but at most 100,000 characters, for validation.

    With a text for ``validation``, nothing is split off. Each part must contain more tokens than
    ``window``, the number of steps of a batch. A tokenizer may also be a function that makes one
    from the training part; if omitted, its tokens are the characters of this part.

    Examples
    --------
    >>> split = split_text("abcd" * 10, window=3)
    >>> len(split.train), split.validation, split.tokenizer
    (36, 'abcd', CharacterTokenizer(symbols='abcd'))
    """
    check_text(text)
    checked_positive("window", window)
    train = text
    if validation is None:
        cut = len(text) - min(int(len(text) * 0.1), HELD_OUT)
        train, validation = text[:cut], text[cut:]
    check_text(validation)
    tokenizer = CharacterTokenizer.of if tokenizer is None else tokenizer
    if callable(tokenizer) and not hasattr(tokenizer, "encode"):
        tokenizer = tokenizer(train)
    check_has("tokenizer", tokenizer, "encode", "decode")
    split = TextSplit(train, validation, cast(Tokenizer, tokenizer))
    unit = "character" if isinstance(split.tokenizer, CharacterTokenizer) else "token"
    sizes = {"training": len(split.train_ids), "validation": len(split.validation_ids)}
    for name, size in sizes.items():
        if size < window + 1:
            raise TextError(
                f"text: expected a {name} part of at least {window + 1} {unit}s (one window "
                f"of {window} and the {unit} after it); got {size} of {sum(sizes.values())}; "
                "use a longer text or a smaller window"
            )
    return split


def random_windows(
    ids: IndexArray, batch_size: int, window: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Yield endless batches (B, T) of windows of ids (N,), N > T, with uniformly random starts.

    Targets are shifted by one. The batches depend on ``rng`` only.

    Examples
    --------
    >>> batch = next(random_windows(np.arange(100), 2, 5, np.random.default_rng(0)))
    >>> batch.inputs.shape, (batch.targets == batch.inputs + 1).all()
    ((2, 5), np.True_)
    """
    check_form("ids", ids, ("N",), "integers")
    checked_positive("batch_size", batch_size)
    checked_positive("window", window)
    check_generator("rng", rng, required=True)
    if len(ids) < window + 1:
        raise ShapeError(f"ids: expected at least {window + 1}, a window plus 1; got {len(ids)}")

    def batch(_: int) -> Batch:
        starts = rng.integers(0, len(ids) - window, size=(batch_size, 1))
        windows = ids[starts + np.arange(window + 1)]
        return Batch(windows[:, :-1], windows[:, 1:])

    return map(batch, count())


def consecutive_windows(
    ids: IndexArray, batch_size: int, window: int, start: int = 0
) -> Iterator[Batch]:
    """Yield endless batches of windows, each of which continues the previous one.

    Ids of shape (N,), with N > B, are split into B contiguous rows, which the windows traverse in
    parallel, again and again. The first window of each pass is ``fresh``. Up to B − 1 of the last
    ids are omitted, and some windows are a little shorter, to fill rows of equal length. ``start``
    is the number of windows to skip.

    Examples
    --------
    >>> windows = consecutive_windows(np.arange(11), 2, 3)
    >>> for _ in range(3):
    ...     inputs, targets, _, fresh = next(windows)
    ...     print(inputs.tolist(), targets.tolist(), fresh)
    [[0, 1], [5, 6]] [[1, 2], [6, 7]] True
    [[2, 3, 4], [7, 8, 9]] [[3, 4, 5], [8, 9, 10]] False
    [[0, 1], [5, 6]] [[1, 2], [6, 7]] True
    """
    check_form("ids", ids, ("N",), "integers")
    checked_positive("batch_size", batch_size)
    checked_positive("window", window)
    checked_whole("start", start)
    length = (len(ids) - 1) // batch_size
    if length < 1:
        raise ShapeError(
            f"ids: expected at least {batch_size + 1}, one per row plus 1; got {len(ids)}"
        )
    windows = -(-length // window)
    inputs = ids[: batch_size * length].reshape(batch_size, length)
    targets = ids[1 : batch_size * length + 1].reshape(batch_size, length)

    def batch(index: int) -> Batch:
        part = index % windows
        steps = slice(length * part // windows, length * (part + 1) // windows)
        return Batch(inputs[:, steps], targets[:, steps], fresh=part == 0)

    return map(batch, count(start))


def unigram_entropy(text: str) -> float:
    r"""Return the entropy of a character, in bits.

    .. math:: H(X) = -\sum_a \frac{n_a}{n} \log_2 \frac{n_a}{n}

    No prediction without context is better on this text, even one fitted to it. An empty text
    raises :class:`TextError`.

    Examples
    --------
    >>> unigram_entropy("aabc")
    1.5
    """
    check_text(text)
    if not text:
        raise TextError("text: expected at least 1 character; got 0")
    _, n = np.unique(code_points(text), return_counts=True)
    p = n / len(text)
    return float(-(p * np.log2(p)).sum() + 0.0)  # [entropy.1]


def bigram_entropy(text: str) -> float:
    r"""Return the entropy of a character given the previous one, in bits.

    .. math::
        H(X_t \mid X_{t-1}) = -\sum_{a,b} \frac{n_{ab}}{n - 1} \log_2 \frac{n_{ab}}{n_{a·}}

    No prediction from the last character only is better on this text, even one fitted to it. A text
    of fewer than two characters raises :class:`TextError`.

    Examples
    --------
    >>> bigram_entropy("abab")  # the next character is certain
    0.0
    >>> bigram_entropy("aabba")  # after a: a or b; after b: b or a
    1.0
    """
    check_text(text)
    if len(text) < 2:
        raise TextError(f"text: expected at least 2 characters; got {len(text)}")
    points = code_points(text)
    pairs, n_ab = np.unique(np.stack((points[:-1], points[1:])), axis=1, return_counts=True)
    firsts, n_a = np.unique(points[:-1], return_counts=True)
    n_a_of_pair = n_a[np.searchsorted(firsts, pairs[0])]
    return float(-(n_ab * np.log2(n_ab / n_a_of_pair)).sum() / (len(text) - 1) + 0.0)  # [entropy.2]
