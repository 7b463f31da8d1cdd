"""Damages of a file with arrays, and the expected errors."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.checkpoints.build import read_npz, read_safetensors, write_npz, write_safetensors

Damage = Callable[[Path, np.random.Generator], str]
"""Function that changes a file or folder, and returns a pattern for the message."""


def tensors(path: Path, rng: np.random.Generator) -> Path:
    """Return the file with arrays, or one of several."""
    if path.is_file():
        return path
    files = sorted(path.glob("*.safetensors"))
    return files[rng.integers(len(files))]


def some(header: dict[str, Any], rng: np.random.Generator) -> str:
    names = [name for name in header if name != "__metadata__"]
    return names[rng.integers(len(names))]


# Any file


def cut(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    data = file.read_bytes()
    file.write_bytes(data[: rng.integers(1, len(data))])
    return f"{file.name}: expected a whole"


def emptied(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    file.write_bytes(b"")
    return f"{file.name}: expected a whole .*an empty file"


def pointer(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    oid = "".join(rng.choice(list("0123456789abcdef"), 64))
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 5012345\n"
    file.write_text(text)
    return f"{file.name}: .*got a pointer of Git LFS.*git lfs pull"


def page(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    start = ("<!DOCTYPE html>", "\n <html>", "<HTML lang=en>", '<?xml version="1.0"?>')
    file.write_text(start[rng.integers(4)] + "<body>404</body>" * 9)
    return f"{file.name}: .*got a web page"


def pickled(path: Path, rng: np.random.Generator) -> str:
    file, protocol = tensors(path, rng), rng.integers(2, 6)
    code = b"cos\nsystem\n(S'touch hacked'\ntR."
    file.write_bytes(bytes([0x80, protocol]) + code)
    return rf"{file.name}: expected a safetensors file; got a pickle\. A pickle can run any code"


def torch_file(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", b"3")
    return f"{file.name}: expected a safetensors file; got PyTorch's own format"


def noise(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    file.write_bytes(rng.bytes(int(rng.integers(20, 5000))))
    return f"{file.name}: expected a whole"


def device(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    file.unlink()
    os.mkfifo(file) if rng.integers(2) else file.symlink_to("/dev/zero")
    return f"{file.name}: expected a regular file"


# The header of a safetensors file


def header_length(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    data = bytearray(file.read_bytes())
    data[:8] = int(rng.choice([0, 1, len(data), 10**8, 2**40, 2**63])).to_bytes(8, "little")
    file.write_bytes(data)
    return f"{file.name}: expected a whole .*a header of"


def edited(change: Callable[[dict[str, Any], str, np.random.Generator], str]) -> Damage:
    """Change the entry of one array in the header."""

    def damage(path: Path, rng: np.random.Generator) -> str:
        file = tensors(path, rng)
        header, data = read_safetensors(file)
        name = some(header, rng)
        message = change(header, name, rng)
        write_safetensors(file, header, data)
        return f"(model|{file.name}): .*{message}"  # absent from several files: in no file

    return damage


def enormous(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    header[name]["shape"] = [10 ** int(rng.integers(7, 30)), 4]
    return f"{name}: expected .* bytes; got"


def beyond(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    start, end = header[name]["data_offsets"]
    shift = int(rng.choice([-4, 4, 10**15]))
    header[name]["data_offsets"] = [start + shift, end + shift]
    return "(expected its bytes from|expected a data_offsets|bytes of arrays)"


def negative(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    header[name]["shape"] = [-1, *header[name]["shape"][1:]]
    return f"{name}: expected a shape of whole numbers"


def fraction(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    header[name]["shape"][0] = [2.0, True, "8", None][rng.integers(4)]
    return f"{name}: expected a shape of whole numbers"


def another_code(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    header[name]["dtype"] = ["F8_E4M3", "object", 7, None, "C64"][rng.integers(5)]
    return f"{name}: expected a dtype of F64"


def integers(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    header[name]["dtype"] = ["I32", "U32"][rng.integers(2)]
    return f"{name}: expected .*float32.*; got u?int32"


def turned(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    header[name]["shape"] = [1, *header[name]["shape"]]
    return r"expected shape .*got \(.*"


def less(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    del header[name][["dtype", "shape", "data_offsets"][rng.integers(3)]]
    return f"{name}: expected dtype, shape and data_offsets"


def another_name(header: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    header[name + "x"] = header.pop(name)
    return f"expected '{name.removeprefix('model.')}'( too|, as .* says)"


def not_json(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    header, data = read_safetensors(file)
    text = json.dumps(header).encode()
    broken = [text[:-1], b"[" * 100_000, b"[1]", b"\xff" + text, text.replace(b":", b"=", 1)]
    write_safetensors(file, broken[rng.integers(5)], data)
    return f"{file.name}: expected a whole"


def twice(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    header, data = read_safetensors(file)
    name = some(header, rng)
    text = json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}"
    write_safetensors(file, text.encode(), data)
    return f"{file.name}: .*{name}: expected one entry; got two"


def left_over(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    file.write_bytes(file.read_bytes() + rng.bytes(int(rng.integers(1, 99))))
    return f"{file.name}: .*bytes of arrays; got"


def not_finite(path: Path, rng: np.random.Generator) -> str:
    file = tensors(path, rng)
    header, data = read_safetensors(file)
    name = some(header, rng)
    start, end = header[name]["data_offsets"]
    at = start + 4 * int(rng.integers((end - start) // 4))
    value = np.float32([np.nan, np.inf, -np.inf][rng.integers(3)]).tobytes()
    write_safetensors(file, header, data[:at] + value + data[at + 4 :])
    return f"{name}: expected finite numbers"


SAFETENSORS: list[Damage] = [
    header_length,
    *map(edited, (enormous, beyond, negative, fraction, another_code, integers, turned, less)),
    edited(another_name),
    not_json,
    twice,
    left_over,
    not_finite,
]
ANY: list[Damage] = [cut, emptied, pointer, page, pickled, torch_file, noise, device]

# An npz


def rewritten(change: Callable[[dict[str, Any], str, np.random.Generator], str]) -> Damage:
    def damage(path: Path, rng: np.random.Generator) -> str:
        arrays = read_npz(path)
        names = [name for name in arrays if name.startswith("model.")]
        message = change(arrays, names[rng.integers(len(names))], rng)
        write_npz(path, arrays)
        return f"{path.name}: .*{message}"

    return damage


def without(arrays: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    del arrays[name]
    return f"expected '{name.removeprefix('model.')}' too"


def with_more(arrays: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    arrays["model.more"] = arrays[name]
    return r"expected no 'model\.more'"


def longer(arrays: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    arrays[name] = np.concatenate([arrays[name]] * 2)
    return f"{name}: expected shape"


def of_another_dtype(arrays: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    arrays[name] = arrays[name].astype(["f8", "i4", "c16", "f2"][rng.integers(4)])
    return f"{name}: expected float32; got"


def objects(arrays: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    arrays[name] = np.array([{"a": 1}], object)
    return f"{name}: expected numbers; got object"


def infinite(arrays: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    arrays[name].reshape(-1)[rng.integers(arrays[name].size)] = [np.nan, np.inf][rng.integers(2)]
    return f"{name}: expected finite numbers"


def metadata(change: Callable[[dict[str, Any], np.random.Generator], str]) -> Damage:
    def damage(path: Path, rng: np.random.Generator) -> str:
        arrays = read_npz(path)
        values = json.loads(arrays["__metadata__"].tobytes())
        message = change(values, rng)
        arrays["__metadata__"] = np.frombuffer(json.dumps(values).encode(), np.uint8)
        write_npz(path, arrays)
        return message

    return damage


def kind(values: dict[str, Any], rng: np.random.Generator) -> str:
    values["kind"] = ["GPT", None, ["x"], 3][rng.integers(4)]
    return "kind: expected one of LanguageModel"


def huge(values: dict[str, Any], rng: np.random.Generator) -> str:
    values["config"]["vocab_size"] = 10 ** int(rng.integers(6, 30))
    return r"config\.vocab_size: expected a (model that fits|whole number, .* below)"


def huge_cell(values: dict[str, Any], rng: np.random.Generator) -> str:
    values["config"]["cell"]["options"]["hidden_size"] = 10 ** int(rng.integers(6, 30))
    return r"config\.cell\.options\.hidden_size: expected a model that fits"


def odd_cell(values: dict[str, Any], rng: np.random.Generator) -> str:
    values["config"]["cell"] = [None, 7, {"kind": "os.system"}, {}][rng.integers(4)]
    return r"config\.cell(: expected a mapping of values|\.\w+: expected a value; got none)"


def no_metadata(path: Path, rng: np.random.Generator) -> str:
    arrays = read_npz(path)
    arrays["__metadata__"] = np.frombuffer([b"", b"[1]", b"{"][rng.integers(3)], np.uint8)
    write_npz(path, arrays)
    return f"{path.name}: expected the metadata of a checkpoint"


def flipped(path: Path, rng: np.random.Generator) -> str:
    """Damage the numbers, which have a checksum there."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x93NUMPY", 600) + 128
    data[at + int(rng.integers(16))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return f"{path.name}: expected a whole .npz file"


NPZ = [
    *map(rewritten, (without, with_more, longer, of_another_dtype, objects, infinite)),
    *map(metadata, (kind, huge, huge_cell, odd_cell)),
    no_metadata,
    flipped,
]
