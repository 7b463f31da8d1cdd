"""Manifest of a set of vectors; ``manifest.schema.json`` is its JSON Schema."""

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from numpy_xlstm._version import __version__
from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.flags import FLAGS
from numpy_xlstm.gradcheck.report import Places
from numpy_xlstm.numerics import Array

VERSION = "2026.11"
"""Version of the format and of the cases: the month of their last change."""

PACKAGE = "numpy_xlstm."


def manifest(described: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return the manifest of cases that :func:`describe` has described."""
    flags = {flag for entry in described for flag in entry["flags"]}
    content = {
        "version": VERSION,
        "made_by": f"numpy-xlstm {__version__}",
        "seed": seed,
        "flags": {name: flag._asdict() for name, flag in FLAGS.items() if name in flags},
        "cases": list(described),
    }
    return {"sha256": digest(content), **content}


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without this entry; it detects accidental changes."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def describe(case: Case, files: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a case in the manifest; ``files`` contain its tensors."""
    results = {}
    for name, array in case.expected.items():
        bound = case.bounds[name].astype(float)
        least, most = float(bound.min(initial=np.inf)), float(bound.max(initial=0))
        results[name] = tensor(case, name, array) | {"bound": [min(least, most), most]}
    return {
        **facts(case),
        "equations": equations(case.subject.specification),
        "files": files,
        "inputs": {name: tensor(case, name, array) for name, array in case.inputs.items()},
        "results": results,
    }


def facts(case: Case) -> dict[str, Any]:
    """Return what the id of a case determines."""
    return {
        "id": case.id,
        "subject": case.subject.name,
        "dtype": case.dtype,
        "options": dict(case.options),
        "flags": list(case.flags),
    }


def tensor(case: Case, name: str, array: Array) -> dict[str, Any]:
    """Return shape, dtype and layout of a tensor, and the formula for the index of an entry."""
    pattern, index = case.pattern(name), ""
    for part, values in Places(name, array.shape, pattern).parts:
        slower = f"({index})" if " " in index else index
        index = f"{slower}*{len(values)} + {part}" if index else part
    shape = list(array.shape)
    return {"shape": shape, "dtype": array.dtype.name, "layout": pattern, "index": index}


def equations(specification: Any) -> list[str]:
    """Return the equation tags in a specification, and in the package's functions that it calls."""
    found: set[str] = set()
    for each in specification if isinstance(specification, tuple) else (specification,):
        source = inspect.getsource(each)
        scope = vars(sys.modules[each.__module__])
        called = [scope.get(word) for word in sorted(set(re.findall(r"\w+", source)))]
        helpers = [f for f in called if inspect.isfunction(f) and f.__module__.startswith(PACKAGE)]
        for text in (source, *map(inspect.getsource, helpers)):
            found |= set(re.findall(r"\[([a-z]+\.[0-9]+)\]", text))
    return sorted(found, key=lambda tag: (tag.split(".")[0], int(tag.split(".")[1])))
