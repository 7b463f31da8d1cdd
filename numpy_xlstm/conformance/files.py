"""Writing and reading of a set of vectors as a folder, which is rejected if any file is damaged.

``manifest.json`` lists all cases. ``inputs/``, ``results/`` and ``bounds/`` contain a file of
tensors for each case. The header of an input file contains everything that a program needs to know
about its case.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.safetensors import write_safetensors
from numpy_xlstm.checkpoints.tensors import check_memory, open_tensors
from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.case import cases as every_case
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.manifest import VERSION, describe, digest, facts, manifest, tensors
from numpy_xlstm.conformance.subjects import Arrays
from numpy_xlstm.disk import read_regular
from numpy_xlstm.documents import MAX_BYTES, parse_json
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import checked_path

SMALL = Path(__file__).parent / "small"
"""The small set in the package: every kind of subject and every flag, in less than 1 MB."""
MOST_BYTES = 100_000_000
"""Largest accepted file of tensors; those of the kit have less than a megabyte."""
CASE_FOLDERS = ("inputs", "results", "bounds")
"""Folders, each with a file for each case."""


def write_tensors(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Write tensors to a ``.safetensors`` file."""
    dtypes = {name: array.dtype.name for name, array in arrays.items()}
    with path.open("w+b") as file:
        for _ in write_safetensors(file, arrays, dtypes, metadata):
            pass


def header(case: Case) -> dict[str, str]:
    """Return everything that a program needs to know about a case, as names and texts."""
    known = {"version": VERSION, "case": case.id, "subject": case.subject.name, "dtype": case.dtype}
    return known | {name: _text(value) for name, value in case.options.items()}


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def write_vectors(
    folder: str | os.PathLike[str],
    cases: Sequence[Case],
    *,
    seed: int = 0,
) -> Iterator[Case]:
    """Write cases into a folder and yield each one; the manifest is written last.

    Parameters
    ----------
    folder : str or Path
        Folder, which is created if it does not exist.
    cases : Sequence[Case]
        Cases from :func:`cases`, all with the same seed.
    seed : int
        The seed, for the manifest.

    Yields
    ------
    Case
        Each case after its files are written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from numpy_xlstm import conformance
    >>> cases = conformance.cases("elman.step", "float64")[:2]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = list(conformance.write_vectors(Path(folder, "vectors"), cases))
    ...     len(conformance.read_vectors(Path(folder, "vectors")))
    2
    """
    folder = checked_path("folder", folder)
    for kind in CASE_FOLDERS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    described = []
    for case in cases:
        contents = dict(zip(CASE_FOLDERS, (case.inputs, case.expected, case.bounds), strict=True))
        files = {}
        for kind, arrays in contents.items():
            path = folder / kind / f"{case.id}.safetensors"
            write_tensors(path, arrays, header(case))
            files[kind] = {"path": f"{kind}/{path.name}", "sha256": _digest(path)}
        described.append(describe(case, files))
        yield case
    (folder / "manifest.json").write_text(_lines(manifest(described, seed)), encoding="utf-8")


def _lines(said: dict[str, Any]) -> str:
    """Format JSON with one line for each key and each case."""
    lines = []
    for key, value in said.items():
        name = json.dumps(key)
        if isinstance(value, list):
            within = ",\n".join(json.dumps(each, ensure_ascii=False) for each in value)
            lines.append(f"{name}: [\n{within}\n]")
        else:
            lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_vectors(folder: str | os.PathLike[str]) -> list[Case]:
    """Read the cases of a folder after checking that all files are complete.

    Parameters
    ----------
    folder : str or Path
        Folder written by :func:`write_vectors`.

    Returns
    -------
    list[Case]
        Cases in the order of the manifest.

    Raises
    ------
    CheckpointError
        If the manifest is missing, damaged or of another version, lacks a case or has it twice, or
        a file is missing or does not have the checksum in the manifest.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> from numpy_xlstm import conformance
    >>> len(conformance.read_vectors(conformance.SMALL)) > 30
    True
    """
    folder = checked_path("folder", folder)
    check_written("folder", folder)
    path = folder / "manifest.json"
    try:
        said = parse_json(read_regular("manifest", path, MAX_BYTES))
        if said["version"] != VERSION:
            raise CheckpointError(f"expected vectors of version {VERSION}; got {said['version']!r}")
        if said["sha256"] != digest(said):
            raise CheckpointError(
                "expected an unchanged manifest; got one that does not match its checksum"
            )
        known = {case.id: case for case in every_case()}
        read = [_read_case(folder, each, known) for each in said["cases"]]
        _check_complete(folder, said["cases"])
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # of other JSON
        hint = "write the vectors again with: numpy-xlstm vectors"
        raise CheckpointError(
            f"{path}: expected a complete manifest; got another ({error}); {hint}"
        ) from error
    return read


def _check_complete(folder: Path, described: Sequence[Any]) -> None:
    """Raise an error if a file of a case is in no entry of the manifest, or in two."""
    listed = Counter(file["path"] for each in described for file in each["files"].values())
    there = {
        f"{kind}/{path.name}"
        for kind in CASE_FOLDERS
        for path in (folder / kind).glob("*.*")
        if path.suffix == ".safetensors"
    }
    if wrong := sorted(path for path in there if listed[path] != 1):
        got = listed[wrong[0]] or "none"
        raise CheckpointError(f"{wrong[0]}: expected one entry in the manifest; got {got}")


def check_written(name: str, folder: Path) -> None:
    """Raise :class:`CheckpointError` unless the folder contains a manifest."""
    if not (folder / "manifest.json").is_file():
        raise CheckpointError(
            f"{name}: expected a folder written by 'numpy-xlstm vectors'; got {folder}, "
            "which has no manifest.json"
        )


def _read_case(folder: Path, said: Any, known: Mapping[str, Case]) -> Case:
    """Return the case of an entry of the manifest, whose tensors are read at first use."""
    if (case := known.get(said["id"])) is None:
        raise CheckpointError(f"expected ids of cases; got {said['id']!r:.80}")
    if differ := [name for name, fact in facts(case).items() if said.get(name) != fact]:
        got = f"{said.get(differ[0])!r:.80}"
        raise CheckpointError(f"{case.id}: expected the {differ[0]} of this case; got {got}")
    paths = {}
    for kind in CASE_FOLDERS:
        path, name = said["files"][kind]["path"], case.id
        if path != f"{kind}/{name}.safetensors":
            raise CheckpointError(f"{name}: expected the path of a file in {kind}/; got {path!r}")
        paths[kind] = folder / path
        if not paths[kind].is_file() or _digest(paths[kind]) != said["files"][kind]["sha256"]:
            got = "another" if paths[kind].is_file() else "none"
            raise CheckpointError(
                f"{path}: expected the file that the manifest describes; got {got}"
            )

    def content() -> Content:
        found = Content(*(read_tensors(paths[kind])[0] for kind in CASE_FOLDERS))
        try:
            described = tensors(replace(case, content=lambda: found))
        except Exception as error:  # wrong tensors cause many kinds of errors
            raise CheckpointError(
                f"{case.id}: expected the tensors of this case; got others ({error!r})"
            ) from error
        if any(said.get(name) != each for name, each in described.items()):
            raise CheckpointError(f"{case.id}: expected the tensors of the manifest; got others")
        return found

    return replace(case, content=content)


def read_tensors(path: Path) -> tuple[Arrays, Mapping[str, str]]:
    """Read the tensors and the metadata of a file."""
    found = open_tensors(path)
    check_memory(path.name, found.arrays.values())
    arrays = {name: stored.read() for name, stored in found.arrays.items()}
    return arrays, found.metadata


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular("vectors", path, MOST_BYTES)).hexdigest()
