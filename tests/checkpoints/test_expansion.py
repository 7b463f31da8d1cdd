"""Files that expand to far more than their size: an error, with little memory and time."""

import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    from_pretrained,
    load_checkpoint,
    open_pretrained,
    save_pretrained,
)
from numpy_xlstm.checkpoints import read_arrays, save_checkpoint, write_arrays
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.models import xLSTMLMModelConfig
from tests.checkpoints.build import (
    large,
    lstm,
    seal_npz,
    write,
    write_npz,
    write_safetensors,
)

MEMORY = 100 * 2**20


def refused(path: Path, message: str, **options: Any) -> None:
    """Check that memory is at most twice the file plus 100 MiB, and time at most a second."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(CheckpointError, match=message):
            from_pretrained(path, **options)
        assert tracemalloc.get_traced_memory()[1] < MEMORY + 2 * path.stat().st_size
        assert time.process_time() - started < 10
    finally:
        tracemalloc.stop()


# Compressed files


def packed(folder: Path, zeros: int) -> Path:
    path = folder / "a.npz"
    save_checkpoint(path, lstm(), training={"step": 3})
    arrays = read_arrays(path)[0] | {"more": np.zeros(zeros, np.uint8)}
    with np.load(path) as stored:
        arrays["__metadata__"] = stored["__metadata__"]
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    seal_npz(path)
    return path


def test_what_unpacks_to_far_more_than_its_file(tmp_path: Path) -> None:
    path = packed(tmp_path, 200_000_000)
    assert path.stat().st_size < 300_000
    message = (
        r"a\.npz: expected arrays of at most [\d,]+ bytes \(the default of max_bytes\); got 200,"
    )
    refused(path, message)
    with pytest.raises(CheckpointError, match="the default of max_bytes"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="the default of max_bytes"):
        read_arrays(path)


def test_the_total_can_be_set(tmp_path: Path) -> None:
    path = packed(tmp_path, 1_000_000)
    assert from_pretrained(path).num_parameters == lstm().num_parameters
    assert load_checkpoint(path, max_bytes=1_100_000).arrays["more"].size == 1_000_000
    readers: list[Any] = [from_pretrained, open_pretrained, load_checkpoint, read_arrays]
    message = r"at most 1,000,000 bytes \(max_bytes\); got 1,00"
    for read in readers:
        with pytest.raises(CheckpointError, match=message):
            read(path, max_bytes=1_000_000)
        with pytest.raises(OptionError, match="max_bytes: expected a whole number"):
            read(path, max_bytes="1 GB")
    folder = tmp_path / "model"
    save_pretrained(large(), folder, max_shard_size="4KB")
    assert from_pretrained(folder, max_bytes=50_000).num_parameters == large().num_parameters
    with pytest.raises(CheckpointError, match="model: expected arrays of at most 5,000 bytes"):
        from_pretrained(folder, max_bytes=5_000)


def test_arrays_in_one_place_with_one_another(tmp_path: Path) -> None:
    """A thousand arrays refer to the bytes of one, in a consistent directory."""
    path, count = tmp_path / "a.npz", 1000
    np.savez(path, x=np.zeros(300_000, np.uint8))
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    start = data.rindex(b"PK\1\2", 0, end)
    entry = data[start:end]
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, count * len(entry), start, 0)
    path.write_bytes(data[:start] + entry * count + tail)
    refused(path, "a.npz: expected a whole .npz file")


def test_what_is_packed_is_checked_to_its_end(tmp_path: Path) -> None:
    path = packed(tmp_path, 1000)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("more.npy").header_offset
    data = bytearray(path.read_bytes())
    found = data.index(b"PK\1\2", place)
    while data[found + 46 : found + 54] != b"more.npy":
        found = data.index(b"PK\1\2", found + 1)
    data[found + 16] ^= 1  # its CRC-32
    path.write_bytes(data)
    seal_npz(path)
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        load_checkpoint(path)


def test_members_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for name, content, message in (
        ("x.npy", b"no array, but some text", "the magic string is not correct"),
        ("x.txt", b"text", "'x.txt', expected names that end in .npy"),
        ("x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", 65535), "a header of 65,535 bytes"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
        refused(path, f"a.npz: expected a whole .npz file; .*{message}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive, archive.open("x.npy", "w") as f:
        np.lib.format.write_array(f, np.ones(3))
    refused(path, "x: unsupported compression method 14")


@pytest.mark.parametrize("dtype", ["(1000,)f4", "M8[s]", "V3", "U5", "O"])
def test_dtypes_that_are_no_numbers(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = f"{{'descr': '|{dtype}', 'fortran_order': False, 'shape': (1,), }}".encode()
    size = np.dtype(dtype).itemsize
    with zipfile.ZipFile(path, "w") as archive:
        magic = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
        archive.writestr("x.npy", magic + bytes(size))
    refused(path, "a.npz: expected a whole .npz file")


def test_more_arrays_than_anybody_has(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(10_001):
            archive.writestr(f"{n}.npy", b"")
    refused(path, "expected at most 10,000 arrays; got 10,001")
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(3_000):
            archive.writestr(f"{n}{'x' * 2000}.npy", b"")
    refused(path, "a list of arrays of 6")
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path = path.with_suffix(".safetensors")
    write_safetensors(path, {str(n): entry for n in range(11_000)}, b"")
    refused(path, "expected at most 10,000 arrays; got 11,000")
    with pytest.raises(CheckpointError, match="arrays: expected fewer than 10,000"):
        write_arrays(path, {str(n): np.zeros(0) for n in range(11_000)}, {})


# JSON and YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 3000 + b"]" * 3000, "nested more than 32 deep"),
        (b"[" * 100 + b"]" * 100, "nested more than 32 deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested more than 32 deep"),
        (b"[" + b"{}," * 3_000_000 + b"{}]", "at most 500,000 values; got 6,000,00"),
        (b'["' + b'\\"' * 5_000_000, "Unterminated string"),
        (b'"' + b"x" * 26_000_000 + b'"', "at most 25,000,000 bytes"),
        ('"é'.encode() + b"x" * 11_000_000 + b'"', "at most 10,000,000 bytes"),
        (b'{"a": 1e999}', "a: expected a finite number; got inf"),
        (b'{"a": NaN}', "a: expected a finite number; got nan"),
        (b'{"a": ' + b"1" * 5000 + b"}", "Exceeds the limit"),
        (b'{"a": ' + b"1" * 100 + b"}", "a: expected a number of at most 256 bits"),
        (b'{"a": 1, "a": 2}', "a: expected one entry; got two"),
        ('{"a": 1}'.encode("utf-16"), "codec can't decode"),
    ],
    ids=lambda text: str(text)[:20],
)
def test_json_that_stands_for_too_much(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    refused(path, message if len(text) <= 25_000_000 else "a header of 26")
    write_npz(path.with_suffix(".npz"), {"__metadata__": np.frombuffer(text, np.uint8)})
    refused(path.with_suffix(".npz"), message if len(text) <= 25_000_000 else "expected a text")
    folder = tmp_path / "model"
    save_pretrained(large(), folder, format="transformers")
    (folder / "config.json").write_bytes(text)
    message = "config.json: expected " if "bytes" in message else f"config.json: .*{message}"
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1,1,1]\nb: &b [*a,*a,*a]\nmlstm_block: [*b,*b]", "a reference to an anchor"),
        ("mlstm_block: {a: 1}\n" * 2, "mlstm_block: expected one entry; got two"),
        ("num_blocks: .inf", "num_blocks: expected a finite number; got inf"),
        ("num_blocks: 0x" + "f" * 1000, "num_blocks: expected a number of at most 256 bits"),
        ("a: " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested more than 32 deep"),
        ("a: 1\n" * 30_000, "at most 100,000 bytes"),
        ("[a]: 1", "YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_yaml_that_stands_for_too_much(text: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    folder = write("xlstm", tmp_path)
    (folder / "config.yaml").write_text(text)
    refused(folder, rf"config\.yaml: expected .*{message}")
    with pytest.raises(OptionError, match=message):
        xLSTMLMModelConfig.load(folder / "config.yaml")


LONG = 'x" é 𝄞 \\ ' * 10


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_texts_and_names_that_are_hard_to_write(suffix: str, tmp_path: Path) -> None:
    path, metadata = tmp_path / f"a{suffix}", {LONG: [LONG, {"\x1b": "\ud800"}]}
    write_arrays(path, {LONG: np.ones(2), '"numpy_xlstm_crc32":"00000000': np.ones(1)}, metadata)
    arrays, found = read_arrays(path)
    assert found == metadata
    assert arrays[LONG].tolist() == [1, 1]
    for name in ("a\nb", "\x1b[2J", "a\0b", "x" * 1001):
        with pytest.raises(CheckpointError, match="printable characters, other than __metadata__"):
            write_arrays(path, {name: np.ones(1)}, {})
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="metadata: expected JSON values"):
        write_arrays(path, {}, {"deep": deep})
    assert read_arrays(path)[1] == metadata
