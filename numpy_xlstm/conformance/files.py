"""Writing and reading of a set of vectors as a folder, which is rejected if any file is damaged.

``manifest.json`` lists all cases. ``inputs/``, ``results/`` and ``bounds/`` contain a file of
tensors for each case. The header of an input file contains everything that a program needs to know
about its case.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy_xlstm.checkpoints.safetensors import write_safetensors
from numpy_xlstm.checkpoints.tensors import check_memory, open_tensors
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.case import cases as every_case
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.manifest import VERSION, describe, digest, facts, manifest
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
        write_safetensors(file, arrays, dtypes, metadata)


def header(case: Case) -> dict[str, str]:
    """Return everything that a program needs to know about a case, as names and texts."""
    known = {"version": VERSION, "case": case.id, "subject": case.subject.name, "dtype": case.dtype}
    return known | {name: _text(value) for name, value in case.options.items()}


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def write_vectors(
    folder: str | os.PathLike[str],
    cases: Iterable[Case],
    *,
    seed: int = 0,
) -> Iterator[Case]:
    """Write cases into a folder and yield each one; the manifest is written last.

    Parameters
    ----------
    folder : str or Path
        Folder, which is created if it does not exist.
    cases : Iterable[Case]
        Cases from :func:`cases`, all with the same seed, or those of a :func:`trace`.
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


def _lines(content: dict[str, Any]) -> str:
    """Format JSON with one line for each key and each case."""
    lines = []
    for key, value in content.items():
        name = json.dumps(key)
        if isinstance(value, list):
            entries = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in value)
            lines.append(f"{name}: [\n{entries}\n]")
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
    known = {case.id: case for dtype in (None, *SIXTEEN_BITS) for case in every_case(dtype=dtype)}
    return read_cases(folder, lambda entry: known.get(entry["id"]), "vectors")


def read_cases(
    folder: str | os.PathLike[str], case_of: Callable[[Any], Case | None], command: str
) -> list[Case]:
    """Read the cases of a folder, each made by ``case_of`` from its entry in the manifest.

    ``command`` is the name of the command that writes such folders.
    """
    folder = checked_path("folder", folder)
    check_written("folder", folder, command)
    path = folder / "manifest.json"
    try:
        content = parse_json(read_regular("manifest", path, MAX_BYTES))
        if (version := content["version"]) != VERSION:
            raise CheckpointError(f"expected vectors of version {VERSION}; got {version!r}")
        if content["sha256"] != digest(content):
            raise CheckpointError(
                "expected an unchanged manifest; got one that does not match its checksum"
            )
        read = [_read_case(folder, entry, case_of(entry)) for entry in content["cases"]]
        _check_complete(folder, read)
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # of other JSON
        raise CheckpointError(
            f"{path}: expected a complete manifest of 'numpy-xlstm {command}'; got another "
            f"({error}); write the folder again with this command"
        ) from error
    return read


def _check_complete(folder: Path, cases: Sequence[Case]) -> None:
    """Raise an error if the file of a case is in no entry of the manifest, or in two."""
    listed = Counter(case.id for case in cases)
    for path in sorted(folder.glob("*/*.safetensors")):
        if listed[path.stem] != 1:
            got = listed[path.stem] or "none"
            name = f"{path.parent.name}/{path.name}"
            raise CheckpointError(f"{name}: expected one entry in the manifest; got {got}")


def check_written(name: str, folder: Path, command: str) -> None:
    """Raise :class:`CheckpointError` unless the folder contains a manifest."""
    if not (folder / "manifest.json").is_file():
        raise CheckpointError(
            f"{name}: expected a folder written by 'numpy-xlstm {command}'; got {folder}, which "
            "has no manifest.json"
        )


def _read_case(folder: Path, entry: Any, case: Case | None) -> Case:
    """Return the case of an entry of the manifest, whose tensors are read at first use."""
    if case is None:
        raise CheckpointError(f"expected ids of cases; got {entry['id']!r:.80}")
    if differ := [name for name, fact in facts(case).items() if entry.get(name) != fact]:
        got = f"{entry.get(differ[0])!r:.80}"
        raise CheckpointError(f"{case.id}: expected the {differ[0]} of this case; got {got}")
    paths = {kind: folder / kind / f"{case.id}.safetensors" for kind in CASE_FOLDERS}
    for kind, path in paths.items():
        file, name = entry["files"][kind], f"{kind}/{path.name}"
        if file["path"] != name:
            got = f"{file['path']!r:.80}"
            raise CheckpointError(f"{case.id}: expected the path of a file in {kind}/; got {got}")
        if not path.is_file() or _digest(path) != file["sha256"]:
            got = "another" if path.is_file() else "none"
            raise CheckpointError(
                f"{name}: expected the file that the manifest describes; got {got}"
            )

    def content() -> Content:
        return Content(*(read_tensors(paths[kind])[0] for kind in CASE_FOLDERS))

    return replace(case, content=content)


def read_tensors(path: Path) -> tuple[Arrays, Mapping[str, str]]:
    """Read the tensors and the metadata of a file."""
    tensors = open_tensors(path)
    check_memory(path.name, sum(array.nbytes for array in tensors.arrays.values()))
    arrays = {name: stored.read() for name, stored in tensors.arrays.items()}
    return arrays, tensors.metadata


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular("vectors", path, MOST_BYTES)).hexdigest()
