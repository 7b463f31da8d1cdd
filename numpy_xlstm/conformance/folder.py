"""Results of a port in a folder of files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.files import read_tensors
from numpy_xlstm.conformance.manifest import VERSION
from numpy_xlstm.conformance.verify import Port, PortError
from numpy_xlstm.numerics import checked_path

MORE = 10_000_000
"""A file of results may have this many bytes more than ten times the expected results."""


def from_folder(folder: str | os.PathLike[str]) -> Port:
    """Make a port from a folder with a file of results for each case.

    Parameters
    ----------
    folder : str or Path
        Folder with ``ID.safetensors`` for each case.

    Returns
    -------
    callable
        Port for :func:`verify`.

    Raises
    ------
    PortError
        From the port, if a file is missing, damaged or of another version.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import conformance
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     port = conformance.from_folder(folder)
    ...     report = conformance.verify(conformance.cases("elman.step", "float64")[:1], port)
    >>> report.passed, report.verdicts[0].rows[0].note
    (False, 'expected elman.step.tanh.ordinary.float64.safetensors; got no such file')
    """
    folder = checked_path("folder", folder)

    def port(case: Case) -> Mapping[str, Any]:
        path = folder / f"{case.id}.safetensors"
        if not path.exists():
            raise PortError(f"expected {path.name}; got no such file")
        return checked_results(path, case)

    return port


def checked_results(path: Path, case: Case) -> Mapping[str, Any]:
    """Read a file of results, and check its size and version."""
    most = 10 * sum(array.nbytes for array in case.expected.values()) + MORE
    try:
        if (size := path.stat().st_size) > most:
            raise ValueError(f"expected at most {most:,} bytes; got {size:,}")
        arrays, metadata = read_tensors(path)
    except (ValueError, OSError, ImportError) as error:
        raise PortError(f"no results: {error}") from error
    if metadata.get("version", VERSION) != VERSION:
        raise PortError(f"expected results of version {VERSION}; got {metadata['version']!r}")
    return arrays


def unmatched(folder: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the unmatched files in a folder: files of tensors for none of these cases."""
    known = {case.id for case in cases}
    files = sorted(p for p in folder.iterdir() if p.suffix == ".safetensors")
    return tuple(path.name for path in files if path.stem not in known)
