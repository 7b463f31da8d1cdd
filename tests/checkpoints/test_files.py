"""Files of arrays: contents, refusals, and every changed bit is detected."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, save_pretrained
from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.checkpoints.tensors import open_tensors
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.numerics import Array
from tests.checkpoints import build
from tests.checkpoints.build import lstm, read_safetensors, write_safetensors

METADATA = {
    "text": "naïve 𝄞 \ud800",
    "big": 2**127 + 1,
    "tiny": 5e-324,
    "third": 1 / 3,
    "nothing": None,
    "nested": {"list": [1, True, "x"]},
}


def draw() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "model.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "transposed": rng.standard_normal((3, 4)).T,
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3)),
        "special": np.array([np.nan, -0.0, np.inf, -np.inf, 5e-324]),
        "flags": np.array([True, False]),
    }


def write(folder: Path) -> Path:
    path = folder / "file.safetensors"
    write_arrays(path, draw(), METADATA)
    return path


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    arrays, metadata = read_arrays(write(tmp_path))
    assert metadata == METADATA
    assert arrays.keys() == draw().keys()
    for name, array in draw().items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["file.safetensors"]


def test_numbers_and_arrays_of_numpy_in_the_metadata_become_plain(tmp_path: Path) -> None:
    found = {"n": np.int64(3), "x": np.float32(0.1), "a": np.arange(2), "f": np.float64(0.1)}
    write_arrays(tmp_path / "a.safetensors", {}, found)
    assert read_arrays(tmp_path / "a.safetensors") == (
        {},
        {"n": 3, "x": float(np.float32(0.1)), "a": [0, 1], "f": 0.1},
    )


LONG = 'x" é 𝄞 \\ ' * 10


def test_texts_and_names_that_are_hard_to_write(tmp_path: Path) -> None:
    path, metadata = tmp_path / "a.safetensors", {LONG: [LONG, {"\x1b": "\ud800"}]}
    write_arrays(path, {LONG: np.ones(2), '"numpy_xlstm_crc32":"00000000': np.ones(1)}, metadata)
    arrays, found = read_arrays(path)
    assert found == metadata
    assert arrays[LONG].tolist() == [1, 1]


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("arrays", "metadata", "message"),
    [
        ([1], {}, r"arrays: expected a mapping of arrays; got \[1\]"),
        ({3: np.ones(1)}, {}, "arrays: expected a mapping of arrays; got {3: "),
        *(
            ({name: np.ones(1)}, {}, "printable characters, other than __metadata__; got")
            for name in ("__metadata__", "", "a\nb", "\x1b[2J", "a\0b", "x" * 1001, "\ud800")
        ),
        ({"x": np.array([{}])}, {}, "x: expected an array of booleans, .*; got object"),
        ({"x": np.array([1j])}, {}, "x: expected an array of booleans, .*; got complex128"),
        ({"x": [1.0]}, {}, "x: expected an array of booleans, .*; got list"),
        ({}, {"x": float("nan")}, r"metadata: expected JSON .*; got others \(Out of range"),
        ({}, {"x": {1, 2}}, r"metadata: expected JSON values; got others \(set"),
        ({}, {"x": nested(40)}, "nested more than 32 deep"),
        ({}, {"x": nested(3000)}, "metadata: expected JSON values"),
        ({}, {"x": 2**256}, "at most 256 bits"),
        ({}, {1: "a", "1": "b"}, "1: expected one entry; got two"),
    ],
)
def test_what_cannot_be_stored(arrays: Any, metadata: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_arrays(tmp_path / "a.safetensors", arrays, metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_could_not_be_read_again(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"a \.safetensors file can hold; got another \(expected at most 25,000,000 bytes",
    ):
        write_arrays(tmp_path / "a.safetensors", {}, {"a": '"' * 8_000_000})
    with pytest.raises(CheckpointError, match="expected at most 10,000 arrays; got 11,000"):
        write_arrays(tmp_path / "a.safetensors", {str(n): np.zeros(0) for n in range(11_000)}, {})
    assert list(tmp_path.iterdir()) == []


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"ends in \.safetensors; got a\.pt"):
        write_arrays(tmp_path / "a.pt", {}, {})
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "a.safetensors")
    with pytest.raises(FileNotFoundError):
        write_arrays(tmp_path / "none" / "a.safetensors", {}, {})


@pytest.mark.parametrize("kind", ["safetensors", "shards", "torch"])
def test_every_flipped_bit_is_refused(kind: str, tmp_path: Path) -> None:
    path = build.write(kind, tmp_path)
    file = path if path.is_file() else sorted(path.glob("*.safetensors"))[0]
    data, rng = file.read_bytes(), np.random.default_rng(0)
    own = kind == "safetensors"
    header = 8 + int.from_bytes(data[:8], "little")
    places = rng.integers(0, 8 * len(data), 100).tolist()
    places += rng.integers(0, 8 * (len(data) if own else header), 100).tolist()
    named = data.find(b"numpy_xlstm_crc32")
    places += range(8 * named, 8 * (named + 17))  # another name must not turn the checks off
    for at in places:
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        file.write_bytes(changed)
        with pytest.raises(CheckpointError):
            from_pretrained(path)
    file.write_bytes(data)
    from_pretrained(path)


def test_a_checkpoint_without_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_pretrained(lstm(), path)
    header, data = read_safetensors(path)
    del header["__metadata__"]["numpy_xlstm_crc32"]
    write_safetensors(path, header, data)
    with pytest.raises(CheckpointError, match="expected the checksums of a checkpoint; got no"):
        from_pretrained(path)
    read_arrays(path)  # files of other packages can be read


def test_threads_share_an_open_file(tmp_path: Path) -> None:
    path, both = tmp_path / "a.safetensors", Barrier(2)
    write_arrays(path, {"a": np.zeros(9), "b": np.ones(9)}, {})
    stored, _ = open_tensors(path)
    file = stored["a"].file
    original: Any = file.raw

    def seek_and_wait(start: int) -> None:
        original.seek(start)
        with suppress(BrokenBarrierError):
            both.wait(0.5)  # until the other thread has moved the offset, if nothing prevents it

    raw: Any = SimpleNamespace(seek=seek_and_wait, readinto=original.readinto)
    file.raw = raw
    with ThreadPoolExecutor() as pool:
        read = dict(zip("ab", pool.map(lambda name: stored[name].read(), "ab"), strict=True))
    np.testing.assert_equal(read, {"a": np.zeros(9), "b": np.ones(9)})
