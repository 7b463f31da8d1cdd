"""Cases of the small set, their results as files, and a program that is a port."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy_xlstm.conformance import SMALL, Case, read_vectors
from numpy_xlstm.conformance.files import write_tensors
from numpy_xlstm.numerics import Arrays

CASES = read_vectors(SMALL)
CASE = next(case for case in CASES if case.id == "slstm.sequence.sigmoid.ordinary.float32")

PROGRAM = f"""
import os, pathlib, shutil, sys, time
into, out, how = sys.argv[1:]
name = pathlib.Path(into).name.removesuffix(".in.safetensors")
if how == "fail":
    sys.exit("a word of farewell")
if how == "lack":
    sys.exit(77)
if how == "hang":
    time.sleep(600)
if how == "crash":
    os.kill(os.getpid(), 9)
if how == "copy":
    shutil.copy(into, out)
elif how != "nothing":
    shutil.copy(pathlib.Path({str(SMALL)!r}, "results", name + ".safetensors"), out)
if how == "half":
    os.truncate(out, os.path.getsize(out) // 2)
"""
"""A port that copies the right results, and then ends as its last argument says."""


def write(folder: Path, case: Case, change: Callable[[Arrays], Any] = lambda results: None) -> Path:
    folder.mkdir(exist_ok=True)
    results = dict(case.expected)
    change(results)
    path = folder / f"{case.id}.safetensors"
    write_tensors(path, results, {})
    return path
