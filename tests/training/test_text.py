"""Texts: files, windows, rows and entropies."""

import itertools
import math
import os
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.cli.train import fingerprint
from numpy_xlstm.errors import CheckpointError, TextError
from numpy_xlstm.generation import ByteTokenizer, CharacterTokenizer
from numpy_xlstm.training import (
    bigram_entropy,
    consecutive_windows,
    default_text,
    random_windows,
    read_text,
    read_texts,
    split_text,
    unigram_entropy,
)


def test_the_default_text_is_the_same_for_every_python() -> None:
    text = read_text()
    assert text == default_text()
    assert fingerprint(text) == (  # with another text, the numbers of README and pages are wrong
        "465,126 characters, SHA-256 "
        "71f2ff5d99bdc1f9c48c5c2353ad138201c5ca1c377e0226857ef8fa89b8bcee"
    )


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("one\r\nzwölf €\n".encode())
    assert read_text(path) == read_text(str(path)) == "one\r\nzwölf €\n"
    path.write_bytes(b"\xef\xbb\xbfafter a byte order mark")
    assert read_text(path) == "after a byte order mark"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"text: expected at least one character; .* is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"abc\0def", r"text: expected a text file; .* is binary \(a NUL byte at 3\)"),
        (b"caf\xe9 latin-1", r"text: expected UTF-8; .* \(byte 0xe9 at 3\)"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(TextError, match=message):
        read_text(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and devices")
def test_paths_without_a_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, error, message in (
        (tmp_path / "nothing", FileNotFoundError, "^text: expected a file; .*ng does not exist"),
        (tmp_path, IsADirectoryError, "text: expected a file; .* is a directory"),
        (tmp_path / "pipe", CheckpointError, "pipe: expected a regular file; got a device or a"),
        (Path("/dev/zero"), CheckpointError, "zero: expected a regular file; got a device or a"),
    ):
        with pytest.raises(error, match=message):
            read_text(path)


def test_several_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {"z.txt": "1", "d/b.md": "2", "d/a": "3", "d/c/.x": "4", "d/.git/x": "5", "d/c/é": "é"}
    for name, text in (texts | {"d/empty": ""}).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, "utf-8")
    expected = [(Path("z.txt"), "1")]
    expected += [(Path("d", name), texts[f"d/{name}"]) for name in ("a", "b.md", "c/é")]
    assert [*read_texts(["z.txt", Path("d"), "d/a"]).items()] == expected
    assert [*read_texts([tmp_path / "d/.git"]).values()] == ["5"]  # named by the caller
    assert read_texts([]) == {}
    Path("d/c/é").write_bytes(b"ab\0")
    with pytest.raises(TextError, match=r"text: expected a text file; d/c/é is binary \(a NUL"):
        read_texts(["z.txt", "d"])
    Path("none").mkdir()
    with pytest.raises(TextError, match=r"text: expected a folder with text files; none has none"):
        read_texts(["none"])


def test_a_folder_that_is_very_deep(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(1200):
        folder = folder / "a"
        folder.mkdir()
    (folder / "b").write_text("text")
    try:
        assert [*read_texts([tmp_path]).values()] == ["text"]
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "a")], check=True)


def test_a_text_for_validation() -> None:
    split = split_text("ab" * 500, 5, validation="abcabc" * 20_000)
    assert (len(split.train), len(split.validation)) == (1000, 120_000)
    assert split.tokenizer == CharacterTokenizer("ab")
    with pytest.raises(TextError, match=r"a validation part of at least 6 characters .* got 3 of"):
        split_text("ab" * 500, 5, validation="abc")


def test_a_tokenizer_is_made_from_the_training_part_alone() -> None:
    seen = []

    def make(text: str) -> ByteTokenizer:
        seen.append(text)
        return ByteTokenizer()

    split = split_text("a" * 90 + "b" * 10, 5, make)
    assert seen == ["a" * 90]
    assert split.tokenizer == ByteTokenizer()


def test_the_split_is_contiguous_and_its_characters_are_of_the_training_part() -> None:
    split = split_text("ab" * 45 + "abcdefghij", window=5)
    assert split.train == "ab" * 45
    assert split.validation == "abcdefghij"
    assert split.tokenizer == CharacterTokenizer("ab")
    assert split.train_ids.tolist() == [0, 1] * 45
    assert split.validation_ids.tolist() == [0, 1] + [2] * 8


def test_the_shortest_text_there_is_and_a_long_one() -> None:
    split = split_text("x" * 1_200_000, window=5, tokenizer=ByteTokenizer())
    assert (len(split.train), len(split.validation)) == (1_100_000, 100_000)
    split = split_text("x" * 60, window=5)
    assert len(split.validation) == 6
    message = (
        r"text: expected a validation part of at least 6 characters \(one window of 5 and the "
        r"character after it\); got 5 of 59; use a longer text or a smaller window"
    )
    with pytest.raises(TextError, match=message):
        split_text("x" * 59, window=5)


def test_windows_are_contiguous_and_reach_both_ends() -> None:
    ids = 10 + np.arange(12)
    batches = random_windows(ids, 4, 5, np.random.default_rng(0))
    firsts, lasts = set(), set()
    for _ in range(100):
        inputs, targets, mask, fresh = next(batches)
        assert (mask, fresh) == (None, True)
        assert inputs.shape == targets.shape == (4, 5)
        assert (np.diff(inputs) == 1).all()
        assert (targets == inputs + 1).all()
        firsts |= set(inputs[:, 0].tolist())
        lasts |= set(targets[:, -1].tolist())
    assert firsts == set(range(10, 17))
    assert max(lasts) == 21


@given(st.integers(2, 60), st.integers(1, 8), st.integers(1, 70))
def test_consecutive_windows_cover_rows_of_the_text_without_a_gap(
    n: int, rows: int, window: int
) -> None:
    rows = min(rows, n - 1)
    length = (n - 1) // rows
    batches = consecutive_windows(np.arange(n), rows, window)
    first = next(batches)
    taken = [first]
    while not (batch := next(batches)).fresh:
        taken.append(batch)
    assert first.fresh
    np.testing.assert_array_equal(batch.inputs, first.inputs)
    inputs = np.concatenate([b.inputs for b in taken], axis=1)
    targets = np.concatenate([b.targets for b in taken], axis=1)
    np.testing.assert_array_equal(inputs, np.arange(rows * length).reshape(rows, length))
    np.testing.assert_array_equal(targets, inputs + 1)
    widths = {b.inputs.shape[1] for b in taken}
    assert 1 <= min(widths) <= max(widths) <= min(window, min(widths) + 1)
    assert len(taken) == -(-length // window)


@given(st.text("ab€😀", min_size=2, max_size=40))
def test_against_counting(text: str) -> None:
    n = len(text)
    expected = sum(c / n * math.log2(n / c) for c in Counter(text).values())
    assert unigram_entropy(text) == pytest.approx(expected, abs=1e-14)
    pairs = Counter(itertools.pairwise(text))
    firsts = Counter(text[:-1])
    expected = sum(c * math.log2(firsts[a] / c) for (a, _), c in pairs.items()) / (n - 1)
    assert bigram_entropy(text) == pytest.approx(expected, abs=1e-14)
    assert math.copysign(1, bigram_entropy(text)) == 1  # never −0
