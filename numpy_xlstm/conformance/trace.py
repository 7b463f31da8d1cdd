"""Traces of a model: a case for each of its parts, whose input is exact.

Errors therefore do not add up from block to block, and a port departs in the parts that are wrong.
"""

import os
import re
from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np

from numpy_xlstm.conformance.block_subjects import AXES
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS, bounds, in_dtype, is_gradient, truth
from numpy_xlstm.conformance.case import DTYPES, Case
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.compare import Row
from numpy_xlstm.conformance.files import read_cases
from numpy_xlstm.conformance.subjects import Arrays, Options, Subject
from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.blocks import BlockStack
from numpy_xlstm.numerics import Array, check_choice
from numpy_xlstm.trees import leaves

NAMES = re.compile(r"embedding|block\.\d+|norm|body|head|model")
"""Names of parts."""
WHOLE = 2**24
"""Largest number of parameters of a model that is itself a case, from ids to logits."""


class Part(Subject):
    """A part of a model, such as a block. Its parameters are not among the inputs of its case."""

    def module(self, options: Options, specification: Any = None) -> Any:
        """Return the part itself, or raise an error if its trace was read from a folder."""
        if self.make is None:
            raise OptionError("results: expected a part of a model; a folder has only its results")
        return self.make(specification or self.specification, options)

    def pattern(self, name: str, ndim: int) -> str:
        """Return the pattern of the entries of a tensor, or its axes if they have no names."""
        known = self.axes.get(name) or super().pattern(name, ndim)
        groups = re.sub(r"\([^)]*\)", "joined", known).split()
        return known if len(groups) == ndim else " ".join(f"axis{n}" for n in range(ndim))


def trace(
    model: LanguageModel[Any],
    ids: IndexArray,
    dtype: str | None = None,
    *,
    gradients: bool = False,
    rng: np.random.Generator | int = 0,
) -> Iterator[Case]:
    """Yield a case for each part of a model: embedding, blocks, norm and head, and the whole.

    The input of each part is the exact output of the part before it, rounded to the dtype. The
    model itself is the last case, ``model``, if it has no more than 2²⁴ parameters.

    Parameters
    ----------
    model : LanguageModel
        The model, such as ``from_pretrained(path, weights="stored")``.
    ids : np.ndarray
        Tokens, integers of shape (B, T).
    dtype : str, optional
        Dtype of the results of a port: that of the model if omitted, or ``"bfloat16"`` or
        ``"float16"`` for a port that stores what it computes in 16 bits, of a model in float32.
    gradients : bool
        Whether there are cotangents, which are random, and all gradients.
    rng : np.random.Generator or int
        Generator for cotangents and for the measurement of bounds, or its seed.

    Yields
    ------
    Case
        ``embedding``, ``block.0``, …, ``norm``, ``head``, ``model``; ``body`` in place of the
        blocks if the model has one recurrent layer.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import conformance, xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9), rng=0)
    >>> cases = list(conformance.trace(model, np.array([[3, 1, 4]])))
    >>> [case.id for case in cases]
    ['embedding', 'block.0', 'norm', 'head', 'model']
    >>> conformance.verify(cases, lambda case: case.results()).passed
    True
    """
    model.check_input(ids)
    own = str(model.dtype)
    dtype = check_choice("dtype", dtype or own, (own, *(SIXTEEN_BITS if own == "float32" else ())))
    rng, x = np.random.default_rng(rng), ids
    for name, module in _parts(model):
        case = _case(name, module, x, dtype, gradients, rng)
        yield case
        x = in_dtype({"y": case.expected["y"]}, dtype)["y"]
    if model.num_parameters <= WHOLE:
        yield _case("model", model, ids, dtype, gradients, rng)


def _parts(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a model in their order."""
    yield "embedding", model.embedding
    if isinstance(model.body, BlockStack):
        yield from ((f"block.{n}", block) for n, block in enumerate(model.body.blocks))
        if model.body.norm is not None:
            yield "norm", model.body.norm
    else:
        yield "body", model.body
    yield "head", model.head


def _case(
    name: str, module: Any, x: Array, dtype: str, gradients: bool, rng: np.random.Generator
) -> Case:
    """Return the case of a part, with exact results and their bounds."""
    held = "float32" if dtype in SIXTEEN_BITS else dtype
    config = getattr(getattr(module, "layer", None), "config", None)
    options: Options = {"num_heads": getattr(config, "num_heads", 1)}
    tokens = {"x": "row step"} if x.ndim == 2 else {}
    tokens |= {"y": "row step token"} if name in ("head", "model") else {}
    axes = AXES | tokens
    subject = Part(type(module).__name__, type(module), partial(_of_class, module), {}, axes)
    given: Arrays = {"x": x}
    if gradients:
        given |= in_dtype(_cotangents(module, x, rng), dtype)
    params = {f"params.{n}": array.astype(held) for n, array in module.params.items()}
    if held == "float32":  # without longdouble, because a part of a large model takes gigabytes
        exact = subject.run(options, in_dtype(params | given, np.float64))
    else:
        exact = truth(subject, options, params | given)
    allowed = bounds(subject, options, params | given, exact, set(), dtype, rng)
    content = Content(given, in_dtype(exact, held), in_dtype(allowed, held))
    return Case(name, subject, dtype, options, (), lambda: content)


def _of_class(module: Any, specification: Any, options: Options) -> Any:
    """Return a copy of a part as an instance of its class or of a subclass without attributes."""
    part = copy(module)
    object.__setattr__(part, "__class__", specification)
    return part


def _cotangents(module: Any, x: Array, rng: np.random.Generator) -> Arrays:
    """Return random cotangents of the outputs and of the final state."""
    shapes = {"dy": (*x.shape[:2], module.out_features)}
    if hasattr(module, "init_state"):
        shapes |= {n: a.shape for n, a in leaves("dstate", module.init_state(len(x)))}
    return {name: rng.uniform(-1, 1, shape) for name, shape in shapes.items()}


def read_trace(folder: str | os.PathLike[str]) -> list[Case]:
    """Read a trace that ``write_vectors`` or ``numpy-xlstm trace`` has written.

    Parameters
    ----------
    folder : str or Path
        The folder.

    Returns
    -------
    list[Case]
        The cases. Their ``results()`` cannot be computed, because the folder has no parameters.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM, LanguageModel, conformance
    >>> model, tokens = LanguageModel(9, 4, LSTM(4, 4), rng=0), np.array([[3, 1]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cases = list(conformance.write_vectors(folder, conformance.trace(model, tokens)))
    ...     [case.id for case in read_trace(folder)]
    ['embedding', 'body', 'head', 'model']
    """
    return read_cases(folder, _read)


def _read(entry: Any) -> Case | None:
    """Return the case of an entry in the manifest of a trace; None if it is no part of a model."""
    if not NAMES.fullmatch(entry["id"]) or entry["dtype"] not in DTYPES:
        return None
    axes = {name: tensor["layout"] for name, tensor in (entry["inputs"] | entry["results"]).items()}
    subject = Part(str(entry["subject"]), None, None, {}, axes)
    return Case(
        entry["id"], subject, entry["dtype"], entry["options"], (), lambda: Content({}, {}, {})
    )


def departures(wrong: Sequence[tuple[Case, Sequence[Row]]]) -> list[str]:
    """Return in which part a port departs first, and in which tensors, first those of a state.

    A part has its own exact input, so that an error in it is no consequence of another part.
    """
    if not wrong:
        return []
    case, rows = wrong[0]
    names = sorted((row.tensor for row in rows), key=lambda n: (is_gradient(n), n == "y"))
    if case.id == "model" and any(names):
        joined = "if its parts are right, they are joined in another way, as without a soft cap"
        return [f"the port departs only in the model: {', '.join(names)}; {joined}"]
    others = [other.id for other, _ in wrong[1:] if other.id != "model"]
    also = f"; {', '.join(others)} {'have' if others[1:] else 'has'} errors too" if others else ""
    part = f"{case.id} ({case.subject.name})"
    if not any(names):
        return [f"the port has no results for {part}{also}"]
    return [f"the port departs first in {part}: {', '.join(names)}{also}"]
