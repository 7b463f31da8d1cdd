"""Vectors as files: round trips, and rejection of damaged sets."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from numpy_xlstm.conformance import SMALL, cases, read_vectors, write_vectors
from numpy_xlstm.conformance.files import read_tensors
from numpy_xlstm.conformance.manifest import digest
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


def test_a_byte_that_is_another(folder: Path) -> None:
    path = folder / "results" / f"{CASES[1].id}.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{CASES[1].id}.*got another"):
        read_vectors(folder)


def test_a_file_that_is_missing(folder: Path) -> None:
    (folder / "bounds" / f"{CASES[0].id}.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"{CASES[0].id}.*got none"):
        read_vectors(folder)


def _change(folder: Path, key: str, value: Any) -> None:
    path = folder / "manifest.json"
    said = json.loads(path.read_text("utf-8"))
    said[key] = value
    said["sha256"] = digest(said)
    path.write_text(json.dumps(said), "utf-8")


@pytest.mark.parametrize(("kept", "got"), [([1], "none"), ([0, 1, 1], "2"), ([1, 0, 1], "2")])
def test_a_case_that_is_dropped_or_there_twice(folder: Path, kept: list[int], got: str) -> None:
    said = json.loads((folder / "manifest.json").read_text("utf-8"))
    _change(folder, "cases", [said["cases"][n] for n in kept])
    with pytest.raises(CheckpointError, match=f"expected one entry in the manifest; got {got}"):
        read_vectors(folder)


@pytest.mark.parametrize("key", ["seed", "made_by", "flags"])
def test_a_manifest_that_is_edited(folder: Path, key: str) -> None:
    path = folder / "manifest.json"
    said = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(said | {key: 1}), "utf-8")
    with pytest.raises(CheckpointError, match="unchanged manifest; got one that does not match"):
        read_vectors(folder)


def test_another_version(folder: Path) -> None:
    _change(folder, "version", "2019.01")
    with pytest.raises(CheckpointError, match=r"expected vectors of version .*; got '2019.01'"):
        read_vectors(folder)


@pytest.mark.parametrize(
    "found",
    [None, [1], [{}], "cases", [{"id": "x", "files": {"inputs": {"path": "manifest.json"}}}]],
)
def test_a_manifest_that_says_something_else(folder: Path, found: Any) -> None:
    _change(folder, "cases", found)
    with pytest.raises(CheckpointError, match="expected a complete manifest"):
        read_vectors(folder)


def test_a_subject_that_is_not_known(folder: Path) -> None:
    said = json.loads((folder / "manifest.json").read_text("utf-8"))
    said["cases"][0]["subject"] = "hlstm.step"
    _change(folder, "cases", said["cases"])
    with pytest.raises(CheckpointError, match=r"hlstm\.step"):
        read_vectors(folder)


@pytest.mark.parametrize("name", ["../gone", "/gone", "", "a/b", "a\n", 3])
def test_an_id_that_leads_out_of_the_folder(folder: Path, name: Any) -> None:
    said = json.loads((folder / "manifest.json").read_text("utf-8"))
    said["cases"][0]["id"] = name
    _change(folder, "cases", said["cases"])
    with pytest.raises(CheckpointError, match="expected a complete manifest"):
        read_vectors(folder)


@pytest.mark.parametrize("path", ["{}/../inputs/{}", "{}/x.safetensors", "/{}/{}"])
def test_a_path_that_is_not_of_the_case(folder: Path, path: str) -> None:
    said = json.loads((folder / "manifest.json").read_text("utf-8"))
    files = said["cases"][0]["files"]
    source = folder / files["inputs"]["path"]
    shutil.copy(source, folder / "inputs" / "x.safetensors")
    files["inputs"]["path"] = path.format("inputs", source.name)
    _change(folder, "cases", said["cases"])
    with pytest.raises(CheckpointError, match="expected the path of a file in inputs/"):
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


def test_a_moved_set_is_read(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder, tmp_path / "elsewhere")
    assert [case.id for case in read_vectors(tmp_path / "elsewhere")] == [c.id for c in CASES[:2]]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"subject": "hlstm"}, "subject: expected one of block, .*; got 'hlstm'"),
        ({"dtype": "float16"}, "dtype: expected one of 'float64', 'float32'; got 'float16'"),
        ({"seed": -1}, "seed: expected a whole number, at least 0; got -1"),
    ],
)
def test_cases_that_there_are_not(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        cases(**asked)
