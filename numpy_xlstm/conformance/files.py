"""Writing and reading of a set of vectors as a folder, which is rejected if any file is damaged.

``manifest.json``, whose JSON Schema is ``manifest.schema.json``, lists all cases. ``inputs/``,
``results/`` and ``bounds/`` contain a file of tensors for each case. The header of an input file
contains everything that a program needs to know about its case.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm._version import __version__
from numpy_xlstm.checkpoints.safetensors import write_safetensors
from numpy_xlstm.checkpoints.tensors import open_tensors, read_stored
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.case import cases as every_case
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.flags import FLAGS
from numpy_xlstm.disk import checked_path, read_regular
from numpy_xlstm.documents import MAX_BYTES, parse_json
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.gradcheck.axes import Axes
from numpy_xlstm.numerics import Array, Arrays

VERSION = "2026.11"
"""Version of the format and of the cases: the month of their last change."""
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
    options = {n: json.dumps(v) if isinstance(v, bool) else str(v) for n, v in case.options.items()}
    return known | options


def write_vectors(
    folder: str | os.PathLike[str], cases: Iterable[Case], *, seed: int = 0
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
    flags = {flag for entry in described for flag in entry["flags"]}
    content = {
        "version": VERSION,
        "made_by": f"numpy-xlstm {__version__}",
        "seed": seed,
        "flags": {name: text for name, text in FLAGS.items() if name in flags},
        "cases": described,
    }
    text = _lines({"sha256": digest(content), **content})
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without this entry; it detects accidental changes."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def describe(case: Case, files: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a case in the manifest; ``files`` contain its tensors."""
    results = {}
    for name, array in case.expected.items():
        bound = case.bounds[name].astype(float)
        least, most = float(bound.min(initial=np.inf)), float(bound.max(initial=0))
        results[name] = _tensor(case, name, array) | {"bound": [min(least, most), most]}
    return {
        "id": case.id,
        "subject": case.subject.name,
        "dtype": case.dtype,
        "options": dict(case.options),
        "flags": list(case.flags),
        "files": files,
        "inputs": {name: _tensor(case, name, array) for name, array in case.inputs.items()},
        "results": results,
    }


def _tensor(case: Case, name: str, array: Array) -> dict[str, Any]:
    """Return shape, dtype and layout of a tensor, and the formula for the index of an entry."""
    pattern, index = case.pattern(name), ""
    for part, values in Axes(name, array.shape, pattern).parts:
        slower = f"({index})" if " " in index else index
        index = f"{slower}*{len(values)} + {part}" if index else part
    shape = list(array.shape)
    return {"shape": shape, "dtype": array.dtype.name, "layout": pattern, "index": index}


def _lines(content: dict[str, Any]) -> str:
    """Format JSON with one line for each key and each case."""
    text = partial(json.dumps, ensure_ascii=False)
    lines = {name: text(value) for name, value in content.items()}
    lines["cases"] = "[\n" + ",\n".join(map(text, content["cases"])) + "\n]"
    return "{\n" + ",\n".join(f'"{name}": {line}' for name, line in lines.items()) + "\n}\n"


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
        If the manifest is missing, edited, damaged or of another version, or a file is missing or
        does not have the checksum in the manifest.
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
        return [_read_case(folder, entry, case_of(entry)) for entry in content["cases"]]
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # of other JSON
        raise CheckpointError(
            f"{path}: expected a complete manifest of 'numpy-xlstm {command}'; got another "
            f"({error}); write the folder again with this command"
        ) from error


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
    paths = {kind: folder / kind / f"{case.id}.safetensors" for kind in CASE_FOLDERS}
    for kind, path in paths.items():
        if not path.is_file() or _digest(path) != entry["files"][kind]["sha256"]:
            got = "another" if path.is_file() else "none"
            raise CheckpointError(
                f"{kind}/{path.name}: expected the file that the manifest describes; got {got}"
            )
    return replace(case, content=lambda: Content(*(read_tensors(p)[0] for p in paths.values())))


def read_tensors(path: Path) -> tuple[Arrays, Mapping[str, str]]:
    """Read the tensors and the metadata of a file."""
    stored, metadata = open_tensors(path)
    return read_stored(path.name, stored), metadata


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular("vectors", path, MOST_BYTES)).hexdigest()
