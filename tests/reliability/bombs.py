"""Paths that are not files, and small files that expand to large ones."""

import io
import json
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.checkpoints import read_arrays, write_arrays
from tests.checkpoints.build import read_npz, read_safetensors, seal_npz
from tests.checkpoints.damage_folders import read_config, write_config

INDEX, SHARD = "model.safetensors.index.json", "model-00002-of-00003.safetensors"
"""Files of a model in several files."""

Bomb = Callable[[Path], None]
"""Function that replaces a file."""

UNPACKED = 400_000_000
"""Size of a compressed array after decompression."""


def pipe(file: Path) -> None:
    os.mkfifo(file)


def zeros(file: Path) -> None:
    file.symlink_to("/dev/zero")


def loop(file: Path) -> None:
    other = file.with_name("other")
    other.symlink_to(file)
    file.symlink_to(other)


def itself(file: Path) -> None:
    file.symlink_to(file)


def folder(file: Path) -> None:
    file.mkdir()
    (file / "a").touch()


def plug(file: Path) -> None:
    where = Path.cwd()
    os.chdir(file.parent)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(file.name)
    os.chdir(where)


def nothing(file: Path) -> None:
    """Remove the file."""


def sparse(file: Path) -> None:
    with file.open("wb") as made:
        made.truncate(1 << 40)


NO_FILES: list[Bomb] = [pipe, zeros, loop, itself, folder, plug, nothing, sparse]


def packed(file: Path, members: dict[str, Any], *, seal: bool) -> None:
    """Add compressed arrays to an .npz file."""
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)
    if seal:
        seal_npz(file)


def unknown_array(file: Path) -> None:
    packed(file, {"more": np.zeros(UNPACKED, np.uint8)}, seal=True)


def unsealed_array(file: Path) -> None:
    packed(file, {"model.more": np.zeros(UNPACKED // 4, np.float32)}, seal=False)


def packed_metadata(file: Path) -> None:
    """Write compressed JSON that consists almost only of spaces."""
    arrays = read_npz(file)
    text = arrays.pop("__metadata__").tobytes().ljust(UNPACKED)
    file.unlink()
    packed(file, {"__metadata__": np.frombuffer(text, np.uint8), **arrays}, seal=True)


def packed_model(file: Path) -> None:
    """Write a large model of zeros that matches its configuration."""
    arrays = read_npz(file)
    metadata = json.loads(arrays.pop("__metadata__").tobytes())
    width = 4000
    metadata["config"]["cell"]["options"]["hidden_size"] = width
    for name, array in arrays.items():
        wider = {8: width, 32: 4 * width}
        shape = [wider.get(int(n), int(n)) for n in array.shape]
        arrays[name] = np.zeros(shape, array.dtype)
    file.unlink()
    text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    packed(file, {"__metadata__": text, **arrays}, seal=True)


def many_members(file: Path) -> None:
    with zipfile.ZipFile(file, "a") as archive:
        for n in range(60_000):
            archive.writestr(f"{n}.npy", b"")


def long_header(file: Path) -> None:
    """Write a compressed member with an NPY header of 300 MB."""
    header = b"\x93NUMPY\x02\x00" + (300_000_000).to_bytes(4, "little") + b" " * 300_000_000
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("more.npy", header)
    seal_npz(file)


def overlapping(file: Path) -> None:
    """Let all entries of the directory refer to one large member."""
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        stream = io.BytesIO()
        np.save(stream, np.zeros(2_000_000, np.uint8))
        archive.writestr("m0.npy", stream.getvalue())
        first = archive.getinfo("m0.npy")
        for n in range(1, 3000):
            info = zipfile.ZipInfo(f"m{n}.npy")
            for name in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(info, name, getattr(first, name))
            archive.filelist.append(info)
            archive.NameToInfo[info.filename] = info


def crafted_model(file: Path) -> None:
    """Write twelve kilobytes that expand to gigabytes."""
    arrays, metadata = read_arrays(file)
    metadata["config"]["cell"]["options"]["hidden_size"] = 10_000
    write_arrays(file, arrays, metadata)


NPZ_BOMBS: list[Bomb] = [
    unknown_array,
    unsealed_array,
    packed_metadata,
    packed_model,
    many_members,
    long_header,
    overlapping,
    crafted_model,
]


def header_of_blanks(file: Path) -> None:
    header, data = read_safetensors(file)
    text = json.dumps(header).encode().ljust(90_000_000)
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def header_of_arrays(file: Path) -> None:
    header, data = read_safetensors(file)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header |= {f"{n}": empty for n in range(200_000)}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def header_of_lists(file: Path) -> None:
    _, data = read_safetensors(file)
    text = b'{"a":' + b"[" * 30_000_000
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def long_shape(file: Path) -> None:
    header, data = read_safetensors(file)
    entry = next(entry for name, entry in header.items() if name != "__metadata__")
    entry["shape"] = entry["shape"] + [10**9] * 100_000
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


SAFETENSORS_BOMBS: list[Bomb] = [header_of_blanks, header_of_arrays, header_of_lists, long_shape]


def text(name: str, *parts: bytes) -> Bomb:
    """Make a bomb that writes this text as configuration or index."""

    def bomb(file: Path) -> None:
        file.write_bytes(b"".join(parts))

    bomb.__name__ = name
    return bomb


def laughs(file: Path) -> None:
    """Return YAML with nested references, each to ten of the one before, for 10¹² entries."""
    lines = ["a0: &a0 [1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    file.write_text("\n".join([*lines, "num_blocks: *a11", "embedding_dim: *a11"]), "utf-8")


def with_field(name: str, value: Any) -> Bomb:
    def bomb(file: Path) -> None:
        write_config(file, read_config(file) | {name: value})

    bomb.__name__ = f"{name}_{str(value)[:9]}"
    return bomb


FIELDS: list[Bomb] = [
    with_field("num_blocks", 10**8),
    with_field("num_hidden_layers", 10**8),
    with_field("slstm_at", list(range(20_000))),
    with_field("vocab_size", 10**12),
    with_field("embedding_dim", 10**12),
    with_field("hidden_size", 2**64),
    with_field("context_length", 10**12),
]
CONFIG_BOMBS: list[Bomb] = [
    text("lists", b"[" * 5_000_000),
    text("mappings", b'{"a":' * 1_000_000),
    text("digits", b'{"num_blocks": ', b"9" * 5_000_000, b"}"),
    text("sexagesimal", b"num_blocks: ", b"1:" * 1_000_000, b"1"),
    text("hexadecimal", b"num_blocks: 0x", b"f" * 5_000_000),
    text("itself_merged", b"a: &a\n  <<: *a\n"),
    text("dashes", b"a: ", b"- " * 100_000),
    text("questions", b"? " * 100_000),
    text(
        "code", b"%TAG ! tag:yaml.org,2002:python/\n---\n!object/apply:os.system ['touch hacked']"
    ),
    laughs,
    *FIELDS,
]
