"""Small checkpoints of every format, and functions that change them."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, LanguageModel, save_pretrained
from numpy_xlstm.models import xLSTMBlockStack, xLSTMBlockStackConfig
from tests.models.build import fill, large_config, lm_config, make

yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")

CHECKSUM = "numpy_xlstm_crc32"


def large(dtype: Any = np.float32, **options: Any) -> Any:
    return make(large_config(**options), dtype=dtype)


def paper(dtype: Any = np.float32, **options: Any) -> Any:
    return make(lm_config(**options), dtype=dtype)


def stack(dtype: Any = np.float32, **options: Any) -> Any:
    values = lm_config(**options).to_dict()
    fields = xLSTMBlockStackConfig.__dataclass_fields__
    config = xLSTMBlockStackConfig.from_dict({n: v for n, v in values.items() if n in fields})
    return fill(xLSTMBlockStack(config, dtype=dtype), np.random.default_rng(1))


def lstm(dtype: Any = np.float32) -> Any:
    rng = np.random.default_rng(1)
    return LanguageModel(7, 4, LSTM(4, 8, dtype=dtype, rng=rng), rng=rng)


def place(folder: Path, kind: str) -> Path:
    return folder / (f"model.{kind}" if kind == "safetensors" else "model")


KINDS: dict[str, tuple[Callable[[], Any], str, dict[str, Any]]] = {
    "cells": (lstm, "model.safetensors", {}),
    "safetensors": (paper, "model.safetensors", {}),
    "torch": (lambda: LSTM(3, 4, 2, dtype=np.float32), "model.safetensors", {"format": "torch"}),
    "transformers": (large, "model", {"format": "transformers"}),
    "shards": (large, "model", {"format": "transformers"}),
    "xlstm": (paper, "model", {"format": "xlstm"}),
    "xlstm-large": (large, "model", {"format": "xlstm-large"}),
    "xlstm-cuda": (stack, "model", {"format": "xlstm", "layout": "cuda"}),
    "own-large": (large, "model.safetensors", {}),
}
"""Model, name of the file or folder, and options of the save function, of each kind."""


def write(kind: str, folder: Path) -> Path:
    """Write a checkpoint of a kind into a folder, and return its path."""
    make, name, options = KINDS[kind]
    save_pretrained(make(), folder / name, **options)
    if kind in ("shards", "xlstm-large"):
        split(folder / name, 3, indexed=kind == "shards")
    return folder / name


def split(folder: Path, count: int, *, indexed: bool = True) -> None:
    """Replace the file of a folder by several, with transformers' index or the names of xlstm."""
    header, data = read_safetensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    metadata, places = header.pop("__metadata__"), dict[str, str]()
    for number, names in enumerate(np.array_split(list(header), count)):
        file = f"model-{number + 1:05d}-of-{count:05d}" if indexed else f"model_{number}"
        entries = {name: dict(header[name]) for name in names.tolist()}
        offsets = [entry["data_offsets"] for entry in entries.values()]
        start, end = offsets[0][0], offsets[-1][1]
        for entry in entries.values():
            entry["data_offsets"] = [place - start for place in entry["data_offsets"]]
        part = {"__metadata__": {**metadata}, **entries}
        write_safetensors(folder / f"{file}.safetensors", part, data[start:end])
        places |= dict.fromkeys(entries, f"{file}.safetensors")
    if indexed:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def read_config(file: Path) -> dict[str, Any]:
    read = json.loads if file.suffix == ".json" else yaml.safe_load
    return dict(read(file.read_text()))


def write_config(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values) if file.suffix == ".json" else yaml.safe_dump(values))


def read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Split a file into header and bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_safetensors(path: Path, header: Any, data: bytes) -> None:
    """Write any header and bytes; if the header has checksums, write correct ones."""
    text = header if isinstance(header, bytes) else sealed(header, data)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def sealed(header: dict[str, Any], data: bytes) -> bytes:
    """Return the header with correct checksums of itself and of its arrays."""
    if CHECKSUM not in header.get("__metadata__", {}):
        return json.dumps(header).encode()
    places = [e.get("data_offsets", [0, 0]) for n, e in header.items() if n != "__metadata__"]
    crcs = "".join(f"{zlib.crc32(data[start:end]):08x}" for start, end in places)
    header["__metadata__"][CHECKSUM] = "0" * 8 + crcs
    text = json.dumps(header, separators=(",", ":"))
    own = f"{zlib.crc32(text.encode()):08x}"
    return text.replace("0" * 8 + crcs, own + crcs).encode()
