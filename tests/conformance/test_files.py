"""Vectors as files: round trips, and rejection of damaged sets."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from numpy_xlstm.conformance import SMALL, cases, read_vectors, write_vectors
from numpy_xlstm.conformance.files import digest, read_tensors
from numpy_xlstm.errors import CheckpointError, OptionError

CASES = [case for case in cases("slstm.sequence", "float32") if "sigmoid" in case.id][:4]


def test_there_and_back(tmp_path: Path) -> None:
    assert list(write_vectors(str(tmp_path), CASES, seed=0)) == CASES
    read = read_vectors(str(tmp_path))
    for case, back in zip(CASES, read, strict=True):
        assert (back.id, back.flags, back.options) == (case.id, case.flags, case.options)
        for kind in ("inputs", "expected", "bounds"):
            ours, theirs = getattr(case, kind), getattr(back, kind)
            assert list(ours) == list(theirs)
            for name, array in ours.items():
                np.testing.assert_array_equal(theirs[name], array, strict=True)


def test_the_package_of_the_format_reads_it() -> None:
    case = read_vectors(SMALL)[0]
    found = load_file(SMALL / "inputs" / f"{case.id}.safetensors")
    assert found.keys() == case.inputs.keys()
    with safe_open(SMALL / "inputs" / f"{case.id}.safetensors", "np") as file:
        said = file.metadata()
    assert said["case"] == case.id
    assert said["hidden_size"] == str(case.options["hidden_size"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for _ in write_vectors(tmp_path / "set", CASES[:2]):
        pass
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("kind", "damage", "got"),
    [
        ("results", lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "another"),
        ("bounds", lambda data: None, "none"),
    ],
)
def test_a_damaged_or_missing_file(
    folder: Path, kind: str, damage: Callable[[bytes], bytes | None], got: str
) -> None:
    path = folder / kind / f"{CASES[1].id}.safetensors"
    data = damage(path.read_bytes())
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{CASES[1].id}.*got {got}"):
        read_vectors(folder)


def first(manifest: Any) -> Any:
    return manifest["cases"][0]


def change_manifest(folder: Path, change: Callable[[Any], Any], *, sealed: bool) -> None:
    """Change the manifest, with a checksum that matches again if it is sealed."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    change(manifest)
    if sealed:
        manifest["sha256"] = digest(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


NOT_CASES: list[Any] = [None, [1], [{}], "x", [{"id": "x", "files": {"inputs": {"path": "y"}}}]]
OTHER_IDS: list[Any] = ["../gone", "/gone", "", "a/b", "a\n", 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda manifest: manifest.update(version="2019.01"),
            r"expected vectors of version .*; got '2019.01'",
        ),
        *(
            (lambda manifest, cases=cases: manifest.update(cases=cases), "a complete manifest")
            for cases in NOT_CASES
        ),
        *(
            (lambda manifest, name=name: first(manifest).update(id=name), "a complete manifest")
            for name in OTHER_IDS
        ),
    ],
)
def test_a_manifest_with_a_matching_checksum_is_refused(
    folder: Path, change: Callable[[Any], Any], message: str
) -> None:
    change_manifest(folder, change, sealed=True)
    with pytest.raises(CheckpointError, match=message):
        read_vectors(folder)


@pytest.mark.parametrize(
    "edit",
    [
        *(lambda m, key=key: m.update({key: 1}) for key in ("seed", "made_by", "flags")),
        lambda manifest: manifest["cases"].insert(0, first(manifest)),
        lambda manifest: manifest["cases"].pop(0),
        lambda manifest: first(manifest).update(flags=["chunks"]),
        lambda manifest: first(manifest)["results"]["y"].update(shape=[1, 2]),
        lambda manifest: first(manifest)["results"]["y"].update(bound=[1, 2]),
    ],
)
def test_a_manifest_that_is_edited(folder: Path, edit: Callable[[Any], None]) -> None:
    change_manifest(folder, edit, sealed=False)
    with pytest.raises(CheckpointError, match="unchanged manifest; got one that does not match"):
        read_vectors(folder)


def test_a_header_with_a_name_twice(tmp_path: Path) -> None:
    path, text = (
        tmp_path / "twice.safetensors",
        b'{"__metadata__": {"version": "1", "version": "2"}}',
    )
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="expected one entry; got two"):
        read_tensors(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", "[" * 100_000, '{"a": 1, "a": 2}'])
def test_a_manifest_that_is_none(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match="expected a complete manifest"):
        read_vectors(folder)


def test_no_folder(tmp_path: Path) -> None:
    got = re.escape(f"got {tmp_path / 'nowhere'}, which has no manifest.json")
    with pytest.raises(CheckpointError, match=f"folder: expected a folder written by .*; {got}"):
        read_vectors(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"subject": "hlstm"}, "subject: expected one of block, .*; got 'hlstm'"),
        ({"dtype": "int8"}, "dtype: expected one of 'float64', .*, 'float16'; got 'int8'"),
        ({"seed": -1}, "seed: expected a whole number, at least 0; got -1"),
    ],
)
def test_cases_that_there_are_not(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        cases(**asked)
