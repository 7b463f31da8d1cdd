"""Traces of a model: a case for each of its parts, whose input is exact.

Errors therefore do not add up from block to block, and a port departs in the parts that are wrong.
"""

import os
import re
from collections.abc import Collection, Iterator
from functools import partial
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import numpy as np

from numpy_xlstm.conformance.bounds import FORMATS, SIXTEEN_BITS, bounds, in_dtype, truth
from numpy_xlstm.conformance.case import DTYPES, Case
from numpy_xlstm.conformance.case_data import Content
from numpy_xlstm.conformance.catalogue import FAMILIES, SUBJECTS
from numpy_xlstm.conformance.evidence import hidden_in
from numpy_xlstm.conformance.files import read_cases
from numpy_xlstm.conformance.inside import AXES
from numpy_xlstm.conformance.module_subjects import BLOCK_AXES, MODEL_AXES
from numpy_xlstm.conformance.subjects import Options, Part, of_class
from numpy_xlstm.errors import NonFiniteError, OptionError
from numpy_xlstm.layers import SoftCap
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.layers.rnn import RNNBase
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.models.blocks import BlockStack, ResidualBlock
from numpy_xlstm.numerics import (
    Array,
    Arrays,
    check_kind,
    checked_bool,
    checked_choice,
    checked_positive,
    did_you_mean,
)
from numpy_xlstm.trees import leaves

NAMES = re.compile(r"embedding|block\.\d+|norm|body|head|cap|model")
"""Names of parts."""
WHOLE = 2**24
"""Largest number of parameters, and of logits, of a model that is itself a case."""


def trace(
    model: LanguageModel[Any],
    ids: IndexArray,
    dtype: str | None = None,
    *,
    gradients: bool = False,
    inside: bool = False,
    parts: Collection[str] | None = None,
    last_logits: int | None = None,
    rng: np.random.Generator | int = 0,
) -> Iterator[Case]:
    """Yield a case for each part of a model: embedding, blocks, norm, head and cap, and the whole.

    The input of each part is the output of the part before it, computed in float64 (a model in
    float64 with a 64-bit mantissa) and rounded to the dtype. The model itself is the last case,
    ``model``, if it has no more than 2²⁴ parameters, and no more logits.

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
    inside : bool
        Whether results of blocks have their intermediate tensors, ``inside.norm``, ``inside.q``, …,
        which a port need not return.
    parts : collection of str, optional
        Names of the parts that get a case; all if omitted.
    last_logits : int, optional
        Number of tokens, the last ones, that have logits in the cases of head, cap and model; all
        if omitted.
    rng : np.random.Generator or int
        Generator for cotangents and for the measurement of bounds, or its seed.

    Yields
    ------
    Case
        ``embedding``, ``block.0``, …, ``norm``, ``head``, ``cap`` (the soft cap of the logits, if
        there is one), ``model``; ``body`` in place of the blocks if the model has one recurrent
        layer. In their options, ``checkpoint`` is a digest of all parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import conformance, xLSTMLarge, xLSTMLargeConfig
    >>> model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9), rng=0)
    >>> cases = list(conformance.trace(model, np.array([[3, 1, 4]])))
    >>> [case.id for case in cases]
    ['embedding', 'block.0', 'norm', 'head', 'cap', 'model']
    >>> conformance.verify(cases, lambda case: case.results()).passed
    True
    """
    check_kind("model", model, LanguageModel)
    model.check_input(ids)
    checked_bool("gradients", gradients)
    checked_bool("inside", inside)
    own = str(model.dtype)
    dtype = checked_choice(
        "dtype", dtype or own, (own, *(SIXTEEN_BITS if own == "float32" else ()))
    )
    check_parts(model, ids.size, parts)
    modules, code = parts_of(model, ids.size), digest(model)
    if last_logits is not None:
        checked_positive("last_logits", last_logits)
    rng, x, left = np.random.default_rng(rng), ids, {*(modules if parts is None else parts)}
    for name, module in modules.items():
        if not left:
            return
        ask: dict[str, Any] = {"checkpoint": code}
        if name == "model":
            x, ask = ids, ask | ({"last_logits": last_logits} if last_logits else {})
        if name == "head" and last_logits is not None:
            x = np.ascontiguousarray(x[:, -last_logits:])
        if not np.isfinite(x).all():
            largest = f"{FORMATS[dtype].largest:g}"
            raise NonFiniteError(
                f"{name}: expected x up to {largest} in {dtype}; got larger numbers"
            )
        is_chosen = name in left
        if inside and is_chosen and isinstance(module, ResidualBlock):
            ask["inside"] = True
        case = _case(name, module, x, dtype, ask, rng if is_chosen else None, gradients)
        if is_chosen:
            left.remove(name)
            yield case
        with np.errstate(over="ignore"):
            x = in_dtype({"y": case.expected["y"]}, dtype)["y"]


def parts_of(model: Any, tokens: int) -> dict[str, Any]:
    """Return the parts of a model in their order, and last the model itself unless it is large."""
    body = model.body
    if isinstance(body, BlockStack):
        inner = {f"block.{n}": block for n, block in enumerate(body.blocks)} | {"norm": body.norm}
    else:
        inner = {"body": body}
    whole = max(model.num_parameters, tokens * model.vocab_size) <= WHOLE
    every = {"embedding": model.embedding, **inner, "head": model.head}
    every |= {"cap": SoftCap(model.cap) if model.cap else None, "model": model if whole else None}
    return {name: module for name, module in every.items() if module is not None}


def check_parts(model: Any, tokens: int, names: Collection[str] | None) -> None:
    """Raise :class:`OptionError` unless all names are those of parts of a model."""
    known = list(parts_of(model, tokens))
    for name in names or ():
        if name not in known:
            got = f"{name!r}{did_you_mean(name, known)}"
            raise OptionError(f"parts: expected some of {', '.join(known)}; got {got}")


def digest(model: Any) -> str:
    """Return the start of the SHA-256 of all parameters, whatever file they are stored in.

    Matrices in 16 bits and the same numbers in float32 have the same digest.
    """
    sha = sha256()
    for name, array in sorted(model.params.items()):
        sha.update(f"{name} {array.shape}".encode())
        for row in array if array.ndim > 1 else [array]:
            sha.update(np.ascontiguousarray(row, model.dtype).tobytes())
    return sha.hexdigest()[:16]


def constants(model: Any) -> list[str]:
    """Return the names and values of parameters that are one number, with blocks joined.

    A port can ignore such a parameter, or transpose it, and be right.
    """
    values: dict[str, dict[str, None]] = {}
    for name, array in model.params.items():
        numbers = array.reshape(-1)
        if array.size > 1 and numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
            name = re.sub(r"\.\d+\.", ".*.", name)
            values.setdefault(name, {})[f"{float(numbers[0]):g}"] = None
    return [f"{name} = {' or '.join(numbers)}" for name, numbers in values.items()]


def _case(
    name: str, module: Any, x: Array, dtype: str, ask: Options, rng: Any, gradients: bool
) -> Case:
    """Return the case of a part, with exact results and, if there is a generator, their bounds."""
    held = "float32" if dtype in SIXTEEN_BITS else dtype
    if gradients and module.is_narrow:  # which has no backward
        module = module.astype(held)
    axes, options = _axes(name, module)
    options = {**options, **ask, **({"steps": True} if hasattr(module, "init_state") else {})}
    subject = Part(type(module).__name__, type(module), partial(of_class, module), {}, axes)
    given: Arrays = {"x": x}
    if gradients and rng is not None:  # of random cotangents of the outputs and of the final state
        shapes = {"dy": (*x.shape[:2], getattr(module, "out_features", x.shape[-1]))}
        if hasattr(module, "init_state"):
            shapes |= {n: a.shape for n, a in leaves("dstate", module.init_state(len(x)))}
        given |= in_dtype({n: rng.uniform(-1, 1, shape) for n, shape in shapes.items()}, dtype)
    params = {f"params.{n}": a.astype(held, copy=False) for n, a in module.params.items()}
    if held == "float32":  # without longdouble, because a part of a large model takes gigabytes
        exact = subject.run(options, in_dtype(params | given, np.float64))
    else:
        exact = truth(subject, options, params | given)
    if rng is None:
        return Case(
            name, subject, dtype, options, (), lambda: Content(given, in_dtype(exact, held), {})
        )
    steps = x.shape[1] if hasattr(module, "init_state") else 0
    allowed = bounds(subject, options, params | given, exact, set(), dtype, rng, steps)
    content = Content(given, in_dtype(exact, held), in_dtype(allowed, held))
    if dtype in SIXTEEN_BITS:
        kit = (s.name for s in SUBJECTS.values() if s.specification is type(module))
        part = SimpleNamespace(subject=subject, options=options, inputs=params | given)
        if count := hidden_in(part, next(kit, ""), content):
            options["hidden"] = count
    return Case(name, subject, dtype, options, (), lambda: content)


def _axes(name: str, module: Any) -> tuple[dict[str, str], Options]:
    """Return the patterns of the tensors of a part, and the option that they need."""
    body = getattr(module, "body", module)
    layer = getattr(body, "layers", [body])[0]
    block = getattr(body, "blocks", [body])[0]
    cell = getattr(layer, "cell", None)
    axes = BLOCK_AXES | AXES | next((f.axes for f in FAMILIES.values() if f.cell is type(cell)), {})
    axes |= getattr(layer, "tensor_axes", {})
    if isinstance(module, RNNBase):
        axes |= dict.fromkeys(("state", "h", "c"), "layer row unit")
    if name in ("embedding", "head"):
        axes |= {"weight": "token unit", "bias": "token"}
    of_tokens = MODEL_AXES.keys() - BLOCK_AXES.keys()
    shown = {"embedding": ["x"], "head": ["y"], "cap": ["y"], "model": of_tokens}
    axes |= {tensor: MODEL_AXES[tensor] for tensor in shown.get(name, ())}
    owner = cell or getattr(getattr(block, "layer", None), "config", None)
    return axes, {"num_heads": getattr(owner, "num_heads", 1)}


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
    return read_cases(folder, _read, "trace")


def _read(entry: Any) -> Case | None:
    """Return the case of an entry in the manifest of a trace; None if it is no part of a model."""
    if not NAMES.fullmatch(entry["id"]) or entry["dtype"] not in DTYPES:
        return None
    axes = {name: tensor["layout"] for name, tensor in (entry["inputs"] | entry["results"]).items()}
    subject = Part(str(entry["subject"]), None, None, {}, axes)
    return Case(
        entry["id"], subject, entry["dtype"], entry["options"], (), lambda: Content({}, {}, {})
    )
