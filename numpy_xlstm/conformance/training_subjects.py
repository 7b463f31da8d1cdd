"""Subjects of training: steps of AdamW, clipping, and the schedule of the learning rate."""

from typing import Any

import numpy as np

from numpy_xlstm.conformance.subjects import Arrays, Options, Subject, part
from numpy_xlstm.training.adamw import AdamW
from numpy_xlstm.training.clipping import CLIP_EPS, clip_grad_norm
from numpy_xlstm.training.schedules import warmup_cosine

SHAPES = {"W": (3, 5), "b": (4,), "R": (2, 3, 2)}
"""Shapes of a matrix and a tensor, which decay, and of a vector, which does not."""
STEPS = 3
ADAMW: dict[str, Any] = {
    "lr": 2.0**-5,
    "beta1": 0.75,
    "beta2": 0.9375,
    "eps": 2.0**-10,
    "weight_decay": 0.125,
}
"""Options that every dtype represents exactly."""


class Steps(Subject):
    """AdamW: parameters and moments after :data:`STEPS` steps, from parameters and gradients."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        params = {f"params.{name}": np.zeros(shape) for name, shape in SHAPES.items()}
        grads = {f"grads.{t}.{n}": np.zeros(s) for t in range(STEPS) for n, s in SHAPES.items()}
        return params | grads

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        params = {name: array.copy() for name, array in part(inputs, "params").items()}
        rest = {name: value for name, value in options.items() if not name.startswith("beta")}
        betas = options["beta1"], options["beta2"]
        optimizer = (specification or self.specification)(params, betas=betas, **rest)
        for t in range(STEPS):
            optimizer.step(part(inputs, f"grads.{t}"))
        found = {"params": params, "m": optimizer.m, "v": optimizer.v}
        return {f"{kind}.{name}": a for kind, arrays in found.items() for name, a in arrays.items()}


class Clipping(Subject):
    """Clipping by the global norm: clipped gradients, and the norm before clipping."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        return {f"grads.{name}": np.zeros(shape) for name, shape in SHAPES.items()}

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        grads = part(inputs, "grads")
        clipped, norm = (specification or self.specification)(grads, options["max_norm"])
        found = {f"grads.{name}": array for name, array in clipped.items()}
        return {**found, "norm": np.asarray(norm, grads["W"].dtype)}


class Schedule(Subject):
    """Factor of the learning rate as a function of the progress of training."""

    def blank(self, options: Options, B: int, T: int) -> Arrays:
        """Return all inputs of a case, filled with zeros, as a template of names and shapes."""
        return {"progress": np.zeros(16)}

    def run(self, options: Options, inputs: Arrays, specification: Any = None) -> Arrays:
        """Compute all results in the dtype of the inputs."""
        progress = inputs["progress"]
        schedule = (specification or self.specification)(**options)
        factors = [schedule(float(each)) for each in progress]
        return {"factor": np.array(factors, progress.dtype)}


def _unmade(specification: Any, options: Options) -> Any:
    """Return the function itself, which is not a module."""
    return specification


NAMES = {"W": "unit input", "R": "head unit input", "b": "unit"}
ORDINARY: Any = {"situations": ("ordinary",)}
LIMITS = {"clipped": 1.5, "unclipped": 64.0}
NORMS = {n: {"max_norm": most, "eps": CLIP_EPS} for n, most in LIMITS.items()}
WARMUP = {"": {"warmup": 0.125, "final": 0.25}}
TRAINING = [
    Steps("training.adamw", AdamW, _unmade, {"": ADAMW}, NAMES, **ORDINARY),
    Clipping("training.clipping", clip_grad_norm, _unmade, NORMS, NAMES, **ORDINARY),
    Schedule("training.schedule", warmup_cosine, _unmade, WARMUP, {}, **ORDINARY),
]
