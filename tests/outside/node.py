"""Programs of Node: brain.js and TensorFlow.js. Arrays are nested lists in JSON."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np

from tests.outside.shared import NODE, Arrays, Case, gradients, outside, weights


def run_node(*arguments: str, given: str = "") -> str:
    """Run Node with the packages of this environment, and return what it prints."""
    environment, command = os.environ | {"NODE_PATH": str(NODE)}, ["node", *arguments]
    run = subprocess.run(command, input=given, env=environment, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr[-300:])
    return run.stdout


def program(name: str, given: Arrays, *arguments: str) -> Arrays:
    """Return the results of a program of this folder."""
    text = json.dumps({n: array.tolist() for n, array in given.items()})
    printed = run_node(str(Path(__file__).parent / name), *arguments, given=text)
    return {n: np.array(array, "f") for n, array in json.loads(printed).items()}


def brain(_: str, case: Case) -> Arrays:
    found = program("brain.js", case.inputs)
    grads = (found.pop(n).sum(0).reshape(case.inputs[f"params.{n}"].shape) for n in "WRb")
    return found | gradients("ifzo", *grads)


def tfjs(name: str, case: Case) -> Arrays:
    order = {"lstm": "ifzo", "gru": "zrn", "simpleRNN": "h"}[name]
    given = case.given | dict(zip("WRb", weights(case, order), strict=True))
    options = str(case.options["hidden_size"]), str(case.options.get("nonlinearity", "tanh"))
    found = program("tfjs.js", given, name, *options)
    return found | gradients(order, *(found.pop(f"d{n}") for n in "WRb"))


STATELESS = "lengths, no step, initial state"
TFJS = "@tensorflow/tfjs-layers@4 @tensorflow/tfjs-core@4 @tensorflow/tfjs-backend-cpu@4"
LAYERS = "lstm lstm, gru original-gru, simpleRNN elman"
IMPLEMENTATIONS = [
    *outside("brain.js@1.6.1", brain, "recurrent.lstm lstm", STATELESS, dtype="float32"),
    *outside(TFJS, tfjs, LAYERS, dtype="float32"),
]
