"""The time of every reader is linear in the size of its file, also for a hostile one.

Eight times as much input may take at most 24 times as much processor time, where a quadratic
algorithm takes 64 times as much. Both times are the least of several, so that other processes on
the machine do not matter, and times below :data:`LEAST` are not compared.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from numpy_xlstm import open_pretrained, xLSTMLargeConfig
from numpy_xlstm.checkpoints import read_arrays
from numpy_xlstm.documents import parse_json, parse_yaml, read_values
from numpy_xlstm.errors import CheckpointError, OptionError
from numpy_xlstm.training import read_log
from tests.checkpoints.build import write, write_safetensors

LEAST = 0.004
"""Seconds of processor time that count as no time."""

Write = Callable[[int], bytes]


def names(n: int, last: str = "") -> bytes:
    """Return JSON with n names and a further one."""
    return ("{" + "".join(f'"k{k}": 0, ' for k in range(n)) + f'"{last}": 1}}').encode()


JSON: dict[str, Write] = {
    "names": names,
    "a name again at the end": lambda n: names(n, f"k{n - 1}"),
    "one name again and again": lambda n: b"{" + b'"a": 0, ' * n + b'"a": 1}',
    "mappings": lambda n: b"[" + b'{"a": 1}, ' * n + b"{}]",
    "brackets": lambda n: b"[" * n,
    "escapes": lambda n: b'["' + b'\\"' * n,
    "a text": lambda n: b'"' + b"x" * n + b'"',
    "code points": lambda n: b'"' + b"\\u00e9" * n + b'"',
    "digits": lambda n: b"1" * n,
}
YAML: dict[str, Write] = {
    "names": lambda n: b"".join(b"k%d: 0\n" % k for k in range(n)),
    "a name again at the end": lambda n: b"".join(b"k%d: 0\n" % k for k in [*range(n), n - 1]),
    "dashes": lambda n: b"- " * n,
    "brackets": lambda n: b"[" * n,
    "anchors": lambda n: b"[" + b"".join(b"&a%d 1, " % k for k in range(n)) + b"1]",
    "merged": lambda n: b"<<: [" + b"{a: 1}, " * n + b"{a: 2}]",
    "numbers in base 60": lambda n: b"1:" * 5 * n + b"1",
    "documents": lambda n: b"--- 1\n" * n,
    "tags": lambda n: b"".join(b"%%TAG !a%d! tag:a\n" % k for k in range(n)) + b"---\n1",
}


def processor_time(read: Callable[[], Any], enough: float) -> float:
    """Return the least of up to five reading times; stop after one below ``enough``."""
    times: list[float] = []
    while len(times) < 5 and min(times, default=enough) >= enough:
        begin = time.process_time()
        with suppress(CheckpointError, OptionError, ValueError):
            read()
        times.append(time.process_time() - begin)
    return min(times)


def check_linear(reader: Callable[[int], Callable[[], Any]], n: int) -> None:
    """Check that reading 8 n values takes at most 24 times the time of n values."""
    least = max(processor_time(reader(n), 0), LEAST)
    assert processor_time(reader(8 * n), 24 * least) < 24 * least


@pytest.mark.parametrize(
    ("parse", "write"),
    [
        *(pytest.param(parse_json, write, id=f"JSON-{name}") for name, write in JSON.items()),
        *(pytest.param(parse_yaml, write, id=f"YAML-{name}") for name, write in YAML.items()),
    ],
)
def test_texts(parse: Callable[[bytes], Any], write: Write) -> None:
    if parse is parse_yaml:
        pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")
    check_linear(lambda n: partial(parse, write(n)), 300 if parse is parse_yaml else 4000)


def arrays(n: int, name: str = "a{}") -> dict[str, Any]:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return {name.format(k): entry for k in range(n)}


def header(path: Path, n: int) -> None:
    write_safetensors(path / "model.safetensors", json.dumps(arrays(n)).encode(), b"")


def layer(path: Path, n: int) -> None:
    """Write an LSTM with too many layers."""
    entries = arrays(n, "weight_ih_l{}") | arrays(n, "weight_hh_l{}")
    write_safetensors(path / "model.safetensors", json.dumps(entries).encode(), b"")


def index(path: Path, n: int) -> None:
    file = write("shards", path) / "model.safetensors.index.json"
    values = json.loads(file.read_text())
    values["weight_map"] |= {f"a{k}": f"{k}.safetensors" for k in range(n)}
    file.write_text(json.dumps(values))


def fields(path: Path, n: int, last: str = "") -> None:
    (path / "config.json").write_bytes(names(n, last))


def large_from(path: Path) -> Any:
    return xLSTMLargeConfig.from_dict(read_values(path))


def log(path: Path, n: int) -> None:
    (path / "log.jsonl").write_text('{"step": 1, "bits": 2.0}\n' * n)


READERS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], Any], int]] = {
    "arrays": (header, lambda path: open_pretrained(path / "model.safetensors"), 1200),
    "arrays of our own": (header, lambda path: read_arrays(path / "model.safetensors"), 1200),
    "layers": (layer, lambda path: open_pretrained(path / "model.safetensors"), 250),
    "files": (index, lambda path: open_pretrained(path / "model"), 1000),
    "fields": (partial(fields, last="k0"), lambda path: large_from(path / "config.json"), 4000),
    "unknown fields": (fields, lambda path: large_from(path / "config.json"), 4000),
    "steps": (log, lambda path: read_log(path / "log.jsonl"), 1000),
}
"""Function that writes files, function that reads them, and the count of values in the smaller."""


@pytest.mark.parametrize("name", READERS)
def test_files(name: str, tmp_path: Path) -> None:
    write, read, count = READERS[name]

    def reader(n: int) -> Callable[[], Any]:
        folder = tmp_path / str(n)
        folder.mkdir()
        write(folder, n)
        return lambda: read(folder)

    check_linear(reader, count)
