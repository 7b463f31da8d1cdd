"""Damages of the configuration and the index of a folder, and the expected errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.damage import Damage, some

yaml = pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")


def configuration(change: Callable[[dict[str, Any], np.random.Generator], str]) -> Damage:
    def damage(path: Path, rng: np.random.Generator) -> str:
        file = next(path.glob("config.*"))
        values = read_config(file)
        message = change(values, rng)
        write_config(file, values)
        return f"^{file.name}: .*{message}"

    return damage


def read_config(file: Path) -> dict[str, Any]:
    read = json.loads if file.suffix == ".json" else yaml.safe_load
    return dict(read(file.read_text()))


def write_config(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values) if file.suffix == ".json" else yaml.safe_dump(values))


def unknown(values: dict[str, Any], rng: np.random.Generator) -> str:
    name = ["num_head", "rope_theta", "norm_epsilon"][rng.integers(3)]
    values[name] = 4
    return name


def many_blocks(values: dict[str, Any], rng: np.random.Generator) -> str:
    values["num_blocks"] = [10**8, 0, -1, 1, "2", 10**30][rng.integers(6)]
    return "num_blocks: expected [23], the number of blocks with arrays"


def wide(values: dict[str, Any], rng: np.random.Generator) -> str:
    width = 10 ** int(rng.integers(6, 12))
    values["embedding_dim"] = width
    if "hidden_size" in values:
        values["hidden_size"] = width
    return r"(embedding_dim: expected a model that fits|expected \d+, as in the stack)"


def odd_type(values: dict[str, Any], rng: np.random.Generator) -> str:
    value: Any = ["four", None, 1.5, [1], {}][rng.integers(5)]
    values["embedding_dim"] = value
    values.pop("hidden_size", None)
    return "embedding_dim"


def other_sizes(path: Path, rng: np.random.Generator) -> str:
    """Describe a valid model that is not in this file."""
    file = next(path.glob("config.*"))
    values = read_config(file)
    values["embedding_dim"] *= 2
    values.pop("hidden_size", None)
    for block, layer in (("mlstm_block", "mlstm"), ("slstm_block", "slstm")):
        if block in values:
            for name in ("embedding_dim", "hidden_size"):
                values[block][layer].pop(name, None)
            values[block].get("feedforward", {}).pop("embedding_dim", None)
    write_config(file, values)
    return r"safetensors: .*: expected shape \(.*\); got \("


def no_config(path: Path, rng: np.random.Generator) -> str:
    next(path.glob("config.*")).unlink()
    return r"expected config\.json or config\.yaml"


def broken_config(path: Path, rng: np.random.Generator) -> str:
    file = next(path.glob("config.*"))
    texts = b"{", b"[1, 2]", b"\xff\xfe", b"3", b"[" * 50_000, b"a: b: c"
    file.write_bytes(texts[rng.integers(6)])
    return f"{file.name}: expected"


def config_page(path: Path, rng: np.random.Generator) -> str:
    file = next(path.glob("config.*"))
    file.write_text("<!DOCTYPE html><html>404</html>")
    return f"{file.name}: expected (JSON|YAML|a mapping of values)"


def code_in_yaml(path: Path, rng: np.random.Generator) -> str:
    file = next(path.glob("config.*"))
    file.write_text("!!python/object/apply:os.system ['touch hacked']")
    return f"{file.name}: expected (JSON|YAML)"


FOLDER = [
    *map(configuration, (unknown, many_blocks, wide, odd_type)),
    other_sizes,
    no_config,
    broken_config,
    config_page,
    code_in_yaml,
]


def gone(path: Path, rng: np.random.Generator) -> str:
    files = sorted(path.glob("*.safetensors"))
    file = files[rng.integers(len(files) - 1)]
    file.unlink()
    return f"expected the file {file.name} too"


def swapped(path: Path, rng: np.random.Generator) -> str:
    """Copy a file over another, so that some arrays are there twice and others are missing."""
    files = sorted(path.glob("*.safetensors"))
    files[1].write_bytes(files[0].read_bytes())
    return f"{files[1].name}: expected each array once"


def index(change: Callable[[dict[str, Any], str, np.random.Generator], str]) -> Damage:
    def damage(path: Path, rng: np.random.Generator) -> str:
        file = path / "model.safetensors.index.json"
        values = json.loads(file.read_text())
        message = change(values, some(values["weight_map"], rng), rng)
        file.write_text(json.dumps(values))
        return message

    return damage


def outside(values: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    places = "../secret.safetensors", "/etc/passwd", "..", "a/b.safetensors", "..\\x.safetensors"
    values["weight_map"][name] = places[rng.integers(5)]
    return f"index.json: {name}: expected the name of a file in this folder"


def elsewhere(values: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    values["weight_map"][name] = "model-00099-of-00099.safetensors"
    return r"expected the file model-00099-of-00099\.safetensors too"


def forgotten(values: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    del values["weight_map"][name]
    return f"expected only what .* names; got '{name}'"


def invented(values: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    values["weight_map"]["ghost.weight"] = values["weight_map"][name]
    return r"expected 'ghost\.weight', as .* says; got none"


def no_map(values: dict[str, Any], name: str, rng: np.random.Generator) -> str:
    values["weight_map"] = [None, [], {}, {"a": 1}][rng.integers(4)]
    return "index.json: expected weight_map"


INDEX = [gone, swapped, *map(index, (outside, elsewhere, forgotten, invented, no_map))]
