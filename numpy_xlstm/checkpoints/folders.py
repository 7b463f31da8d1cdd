"""Folders of the official packages: a configuration, and arrays in one or several files."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.tensors import PICKLED, Stored, Tensors, open_tensors
from numpy_xlstm.documents import read_values
from numpy_xlstm.errors import CheckpointError

CONFIGS = "config.json", "config.yaml", "config.yml"
TOKENIZER = "tokenizer.json"
"""File of the package ``tokenizers``, in any folder."""
INDEX = "model.safetensors.index.json"
WHOLE, BEST = "model.safetensors", "best.safetensors"
"""Files of a whole model: in the folder of a model, and in that of a run."""
SHARD = re.compile(r"model_(\d{1,6})\.safetensors")
"""File names that ``xlstm`` gives to a model stored in several files, numbered from 0."""

MAX_FILE_NAME = 255
"""Largest size of a file name in bytes on most systems."""


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON or YAML file."""
    values = read_values(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path.name}: expected a mapping of values; got {str(values)[:80]}")
    return values


def find_tensors(folder: Path) -> Tensors:
    """Read the headers of the files of a folder."""
    if (folder / WHOLE).exists():
        return open_tensors(folder / WHOLE)
    if (folder / INDEX).exists():
        return Tensors(_indexed(folder, read_mapping(folder / INDEX)))
    counts = [int(m[1]) for path in folder.iterdir() if (m := SHARD.fullmatch(path.name))]
    if counts:
        names = [f"model_{n}.safetensors" for n in range(max(counts) + 1)]
        return Tensors(_merged(folder, names))
    if (folder / BEST).exists():
        return open_tensors(folder / BEST)
    files = [p for p in folder.iterdir() if p.suffix == ".safetensors"]
    if len(files) == 1:
        return open_tensors(files[0])
    if not files and any(p.suffix in (".bin", ".pt", ".pth", ".ckpt") for p in folder.iterdir()):
        raise CheckpointError(
            f"{folder.name}: expected a safetensors file; got files of PyTorch's own format. "
            f"{PICKLED}"
        )
    raise CheckpointError(
        f"{folder.name}: expected {WHOLE}, {INDEX} or one other .safetensors file; "
        f"got {sorted(p.name for p in files) or 'none'}"
    )


def _indexed(folder: Path, index: Mapping[str, Any]) -> dict[str, Stored]:
    places = index.get("weight_map")
    texts = isinstance(places, dict) and all(isinstance(place, str) for place in places.values())
    if not texts or not places:
        raise CheckpointError(
            f"{INDEX}: expected weight_map, a mapping of file names; got {places!r:.80}"
        )
    for name, place in places.items():
        elsewhere = Path(place).name != place or "\\" in place or place in (".", "..")
        if elsewhere or len(place.encode(errors="replace")) > MAX_FILE_NAME:
            raise CheckpointError(
                f"{INDEX}: {name}: expected the name of a file in this folder; got {place!r:.80}"
            )
    arrays = _merged(folder, sorted(set(places.values())))
    for name, place in places.items():
        if name not in arrays or arrays[name].path.name != place:
            raise CheckpointError(f"{place}: expected {name!r}, as {INDEX} says; got none")
    if extra := arrays.keys() - places.keys():
        name = min(extra)
        raise CheckpointError(
            f"{arrays[name].path.name}: expected only what {INDEX} names; got {name!r} too"
        )
    return arrays


def _merged(folder: Path, files: list[str]) -> dict[str, Stored]:
    arrays: dict[str, Stored] = {}
    for file in files:
        if not (folder / file).exists():
            raise CheckpointError(f"{folder.name}: expected the file {file} too; got none")
        added = open_tensors(folder / file).arrays
        if twice := arrays.keys() & added.keys():
            name = min(twice)
            raise CheckpointError(
                f"{file}: expected each array once; got {name!r}, also in {arrays[name].path.name}"
            )
        arrays |= added
    return arrays
