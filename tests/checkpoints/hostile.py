"""Hostile files: the table ``hostile.txt`` lists changes of files, with the error of each.

A section ``[view scope ...]`` determines how its rows see a file: as bytes, as a header, and so on.
A scope is a pattern of file names, or a kind of checkpoint. A row consists of its name, the Python
statements that change the view, and after ``->`` a regular expression for the error. There, {file},
{name} and {plain} are the name of the file, of an array in it, and of this array in the model.
``one`` draws one of several values, and ``pick`` a whole number.
"""

import copy
import io
import json
import os
import re
import socket
import struct
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.checkpoints import read_arrays, write_arrays
from tests.checkpoints.build import read_config, read_safetensors, write_config, write_safetensors

Names = dict[str, Any]
FILES = {
    "transformers": ("*.safetensors", "config.json"),
    "shards": ("*.safetensors", "config.json", "*.index.json"),
    "xlstm-large": ("*.safetensors", "config.yaml"),
    "xlstm": ("*.safetensors", "config.yaml"),
    "xlstm-cuda": ("*.safetensors", "config.yaml"),
    "torch": ("*.safetensors",),
    "safetensors": ("*.safetensors",),
    "cells": ("*.safetensors",),
    "own-large": ("*.safetensors",),
}
"""Patterns of the files of each kind; those of arrays first."""


class Row(NamedTuple):
    view: str
    scopes: tuple[str, ...]
    name: str
    code: str
    message: str

    def cases(self) -> Iterator[tuple[str, str]]:
        """Yield the kinds of checkpoints to which the row applies, with patterns of their files."""
        for kind, patterns in FILES.items():
            for scope in self.scopes:
                if scope == kind:
                    yield kind, patterns[0]
                yield from ((kind, pattern) for pattern in patterns if scope == pattern)


def rows() -> Iterator[Row]:
    text = Path(__file__).with_suffix(".txt").read_text("utf-8")
    for title, rest in re.findall(r"^(\S.*)\n((?:    .*\n)*)", text, re.MULTILINE)[1:]:
        if title.startswith("["):
            view, *scopes = title.strip("[]").split()
            continue
        code, arrow, message = rest.rstrip("\n").partition("    -> ")
        assert arrow, f"{title}: expected a message after ->; got {rest}"
        yield Row(view, tuple(scopes), title, textwrap.dedent(code), message)


def read_metadata(file: Path) -> Names:
    arrays, metadata = read_arrays(file)
    return {"arrays": arrays, "metadata": metadata, "config": metadata["config"]}


def write_text(file: Path, names: Names) -> None:
    if file.suffix == ".safetensors":
        write_safetensors(file, names["text"], b"")
    else:
        file.write_bytes(names["text"])


VIEWS: dict[str, tuple[Callable[[Path], Names], Callable[[Path, Names], Any]]] = {
    "path": (lambda file: {}, lambda file, names: None),
    "bytes": (
        lambda file: {"data": file.read_bytes()},
        lambda f, names: f.write_bytes(names["data"]),
    ),
    "header": (
        lambda file: dict(zip(("header", "data"), read_safetensors(file), strict=True)),
        lambda file, names: write_safetensors(file, names["header"], names["data"]),
    ),
    "arrays": (
        lambda file: dict(zip(("arrays", "metadata"), read_arrays(file), strict=True)),
        lambda file, names: write_arrays(file, names["arrays"], names["metadata"]),
    ),
    "metadata": (
        read_metadata,
        lambda file, names: write_arrays(file, names["arrays"], names["metadata"]),
    ),
    "config": (
        lambda file: {"config": read_config(file)},
        lambda file, names: write_config(file, names["config"]),
    ),
    "index": (
        lambda file: {"index": read_config(file)},
        lambda file, names: write_config(file, names["index"]),
    ),
    "text": (lambda file: {}, write_text),
}
"""Functions that read a file as the names of a view, and write them."""


def change(path: Path, row: Row, pattern: str, seed: int) -> str:
    """Change a file of a checkpoint, and return the expected message."""
    rng = np.random.default_rng(seed)

    def one(values: Any) -> Any:
        return values[rng.integers(len(values))]

    def pick(start: int, end: int) -> int:
        return int(rng.integers(start, end))

    folder = path if path.is_dir() else path.parent
    file = one(sorted(p for p in folder.iterdir() if fnmatch(p.name, pattern)))
    read, write = VIEWS[row.view]
    names: Names = dict(
        read(file),
        file=file,
        rng=rng,
        one=one,
        pick=pick,
        Path=Path,
        copy=copy,
        io=io,
        json=json,
        np=np,
        os=os,
        socket=socket,
        struct=struct,
        zipfile=zipfile,
    )
    arrays = names.get("header") or names.get("arrays") or names.get("index", {}).get("weight_map")
    ours = [name for name in arrays or () if not name.startswith("__")]
    names["name"] = one(ours) if ours else ""
    exec(row.code, names)
    write(file, names)
    name = names["name"]
    known = {"file": names["file"].name, "name": name, "plain": name.removeprefix("model.")}
    return re.sub(r"\{(file|name|plain)\}", lambda key: re.escape(known[key[1]]), row.message)
