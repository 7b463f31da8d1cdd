"""Malicious files raise an error that names the field or the file."""

import json
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    AdamW,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    conformance,
    from_pretrained,
    open_pretrained,
    save_pretrained,
)
from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.checkpoints.files import as_library_json
from numpy_xlstm.checkpoints.tensors import read_mapping
from numpy_xlstm.cli import main
from numpy_xlstm.errors import CheckpointError, OptionError, TextError, printable
from numpy_xlstm.training import TrainingState, read_log, read_text
from tests.checkpoints.build import large, lstm, paper, write_safetensors

MODELS: dict[str, Any] = {"lstm": lstm, "paper": paper, "large": large}


def trained(model: Any) -> TrainingState:
    """Return the state of a model after a step that carries a state."""
    state = TrainingState(model, AdamW(model.params), np.random.default_rng(0))
    state.advance(3, 1.0, model(np.zeros((2, 3), np.int64))[1])
    return state


def test_a_carried_state_of_more_rows_than_there_are(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    trained(lstm()).save(path)
    arrays, metadata = read_arrays(path)
    many = {n: np.zeros((10**9, 0), np.float32) for n in arrays if n.startswith("carried")}
    assert many
    for rows in (2, 10**9):
        metadata["training"]["carried"] = rows
        write_arrays(path, arrays | many, metadata)
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError, match=r"carried\.0\..: expected "):
                TrainingState.load(path)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()


# Wrong types in every field of the metadata

WRONG: tuple[Any, ...] = (None, True, -1, 1.5, "x", [], {}, [1, "x"], {"a": [None]}, 2**70)


def fields(value: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[Any, Any, tuple[str, ...]]]:
    """Yield all fields as containers and keys, with the names that lead to them."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        inner = (*names, key) if isinstance(key, str) else names
        yield value, key, inner
        if isinstance(value[key], dict | list):
            yield from fields(value[key], inner)


def error_of(path: Path) -> str:
    """Return the error for a file; empty if it can be loaded."""
    try:
        TrainingState.load(path)
        open_pretrained(path).load_tokenizer()
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", MODELS)
def test_wrong_types_in_every_field(kind: str, tmp_path: Path, trials: int) -> None:
    """One wrong value a trial in each field."""
    path, state = tmp_path / "a.safetensors", trained(MODELS[kind]())
    state.validations.append((1, 2.5))
    state.save(path, tokenizer=CharacterTokenizer.of("ab"), notes={"a": 1}, log_size=7)
    arrays, metadata = read_arrays(path)
    metadata["special_tokens"] = [1, [2, 3], None, True]
    tried, refused_, rng = 0, 0, np.random.default_rng(0)
    for container, key, names in fields(metadata):
        if names[:2] == ("training", "notes"):
            continue
        before = container[key]
        for wrong in rng.permutation(np.array(WRONG, object))[:trials]:
            container[key] = wrong
            write_arrays(path, arrays, metadata)
            tried += 1
            message = error_of(path)
            arrays_of_another = r"a\.safetensors: .*(expected (no )?'.*'|expected shape)"
            expected = "|".join([*map(re.escape, names), arrays_of_another])
            assert not message or re.search(expected, message), (names, wrong, message)
            refused_ += bool(message)
        container[key] = before
    assert tried > 30 * min(trials, len(WRONG))
    assert refused_ > 0.6 * tried  # others can be meant, such as another learning rate


# Other kinds of files


def vectors(path: Path) -> list[str]:
    return [case.id for case in conformance.read_vectors(path.parent)]


READERS: dict[str, Callable[[Path], Any]] = {
    "config.json": read_mapping,
    "config.yaml": read_mapping,
    "model.safetensors": read_arrays,
    "tokenizer.json": HuggingFaceTokenizer.from_file,
    "log.jsonl": lambda path: list(read_log(path)),
    "text.txt": read_text,
    "manifest.json": vectors,
    "inputs/elman.step.safetensors": lambda path: vectors(path.parent / "manifest.json"),
}
"""Files, and the functions that read them."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", READERS)
def test_files_that_could_be_endless(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipes and devices are refused; of a file no more is read than its size at the beginning."""
    file = tmp_path / name
    [*conformance.write_vectors(tmp_path, conformance.cases("elman.step", "float64")[:1])]
    if file.parent != tmp_path:
        (file,) = file.parent.iterdir()
    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "config.yaml").write_text("a: 1")
    write_arrays(tmp_path / "model.safetensors", {"a": np.ones(3)}, {})
    (tmp_path / "tokenizer.json").write_text(as_library_json(CharacterTokenizer("ab")))
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0, "bits": 3.0}\n')
    (tmp_path / "text.txt").write_text("text")
    fstat = os.fstat

    def growing(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        with file.open("ab") as more:
            more.write(b"PK\x03\x04")
        return status

    def outcome() -> Any:
        try:
            return READERS[name](file)
        except (CheckpointError, OptionError, TextError) as error:
            return str(error)

    for content in (file.read_bytes(), b""):
        file.write_bytes(content)
        expected = outcome()
        with monkeypatch.context() as m:
            m.setattr(os, "fstat", growing)
            np.testing.assert_equal(outcome(), expected)
    file.unlink()
    file.symlink_to("/proc/self/status")  # its size is said to be 0
    assert outcome() == expected
    for make in (os.mkfifo, partial(os.symlink, "/dev/zero")):
        file.unlink()
        make(file)
        with pytest.raises(CheckpointError, match=r"expected a (regular file|folder)|got none"):
            READERS[name](file)


# Characters that control a terminal

CONTROL = "\x1b[2J\x9b31m\u202eevil\r"


def test_errors_control_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(CONTROL) == r"\x1b[2J\x9b31m\u202eevil\r"
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    path = tmp_path / "a.safetensors"
    metadata = json.dumps({"kind": CONTROL, "format": 1, "config": {CONTROL: 1}})
    for header in (
        {CONTROL: entry},
        {CONTROL: {"shape": 3}},
        {CONTROL: entry, "b": entry},
        {"a": entry, "__metadata__": {"numpy_xlstm": CONTROL}},
        {"a": entry, "__metadata__": {"numpy_xlstm": metadata, "numpy_xlstm_crc32": ""}},
    ):
        write_safetensors(path, header, bytes(4))
        with pytest.raises(CheckpointError) as error:
            from_pretrained(path)
        assert str(error.value).isprintable()
        assert error.value.__cause__ is None or str(error.value.__cause__).isprintable()
        assert main(["info", str(path)]) == 2
        assert capsys.readouterr().err.rstrip("\n").isprintable()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / f"{CONTROL}.safetensors").write_bytes(b"x" * 100)
    assert main(["info", str(folder)]) == 2
    assert capsys.readouterr().err.rstrip("\n").isprintable()


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_model_writes_controls_no_terminal(
    terminal: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = lstm()
    tokenizer = CharacterTokenizer.of("\x1b\x9b\t\nab")
    assert tokenizer.size == model.vocab_size
    save_pretrained(model, tmp_path / "a.safetensors", tokenizer=tokenizer)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert open_pretrained(tmp_path / "a.safetensors").load_tokenizer() == tokenizer
    command = ["generate", str(tmp_path / "a.safetensors"), "--prompt=ab", "--max-new-tokens=99"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert {"\t", "\n"} <= {*out}
    assert ("\x1b" in out, "\x9b" in out) == (not terminal, not terminal)
    assert (r"\x1b" in out) == terminal
