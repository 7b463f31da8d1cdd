"""Programs of Node: they read JSON from standard input, and print JSON."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import NODE


def printed(program: str, given: Mapping[str, Any], *arguments: str) -> Arrays:
    """Run a program of this folder; its input and its output are arrays in row-major order."""
    described = {n: {"shape": a.shape, "data": a.ravel().tolist()} for n, a in given.items()}
    command = ["node", str(Path(__file__).parent / program), *arguments]
    environment, text = os.environ | {"NODE_PATH": str(NODE)}, json.dumps(described)
    run = subprocess.run(command, input=text, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[-300:])
    found = json.loads(run.stdout)
    return {n: np.array(a["data"], "f").reshape(a["shape"]) for n, a in found.items()}


def port(program: str, _: str, case: Case) -> Arrays:
    """Run a program with the subject, the units and the activation as its arguments."""
    more = str(case.options.get("nonlinearity", "tanh"))
    return printed(
        program, case.inputs, case.subject.family, str(case.options["hidden_size"]), more
    )
