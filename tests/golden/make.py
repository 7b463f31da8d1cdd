"""Record what the package computes: ``python -m tests.golden.make``.

Parameters, inputs, states and cotangents are random, and stored with the results.
"""

from typing import Any

import numpy as np

from tests.golden.cases import CELLS, GENERATION, MODELS, SEQUENCES, Case, Trees, V, adamw, greedy
from tests.golden.store import Named, named, save
from tests.samples import draw_like, random_state

SEED = 2
"""Seed with which no result cancels: all agree with longdouble to 1e-13."""
SCALE = 0.7
"""Standard deviation of the parameters; with 1, exponential forget gates soon reach 1e9."""


def parameters(rng: np.random.Generator, params: Any) -> Named:
    """Draw random parameters, including biases and weights of norms."""
    return {name: SCALE * rng.standard_normal(a.shape) for name, a in params.items()}


def record(case: Case, rng: np.random.Generator) -> Trees:
    layer = case.build()
    given: Trees = {"params": parameters(rng, layer.params)}
    x = rng.integers(0, V, case.shape) if case.tokens else rng.standard_normal(case.shape)
    given["x"] = {"": x.astype(float)}
    y, after, _ = layer.forward(x)
    if case.with_state:
        given["state"] = named(random_state(after, rng))
    given["dy"], given["dstate"] = named(draw_like(y, rng)), named(draw_like(after, rng))
    return given | case.run(given)


def generation(rng: np.random.Generator) -> dict[str, Trees]:
    """Record tokens of models with parameters for which all four tokens occur."""
    tables = {}
    for name in GENERATION:
        while True:
            params = parameters(rng, MODELS[name].build().params)
            ids = greedy(name, params)
            if len(np.unique(ids["ids"][""])) == 4:
                break
        tables[name] = {"params": params, **ids}
    return tables


def optimizer(rng: np.random.Generator) -> dict[str, Trees]:
    """Record three steps of AdamW with a matrix, a vector and a tensor."""
    shapes = {"W": (3, 4), "b": (5,), "R": (2, 3, 2)}
    keys = ("params", "grads0", "grads1", "grads2")
    given = {k: {name: rng.standard_normal(s) for name, s in shapes.items()} for k in keys}
    return {"AdamW": given | adamw(given)}


def main() -> None:
    rng = np.random.default_rng(SEED)
    for file, cases in {"cells": CELLS, "sequences": SEQUENCES, "models": MODELS}.items():
        save(f"{file}.npz", {name: record(case, rng) for name, case in cases.items()})
    save("generation.npz", generation(rng))
    save("adamw.npz", optimizer(rng))


if __name__ == "__main__":
    main()
