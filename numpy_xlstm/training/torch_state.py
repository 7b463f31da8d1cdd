"""Conversion of AdamW's state from and to the form of PyTorch's optimisers, and its file format.

``{"state": {index: {"step", "exp_avg", "exp_avg_sq"}}, "param_groups": [...]}``, where indices
count the parameters of all groups in order. Groups may contain ``param_names``. Groups
without them need the order of ``named_parameters()``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.errors import CheckpointError, OptionError, ShapeError
from numpy_xlstm.models.layouts import in_layout
from numpy_xlstm.models.names import from_transformers_names, unwrapped
from numpy_xlstm.models.state_dict import official_arrays
from numpy_xlstm.module import some
from numpy_xlstm.numerics import Array, check_kind, plain_array

if TYPE_CHECKING:
    from numpy_xlstm.training.adamw import AdamW

MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v"}
"""PyTorch's names of the moments, and the names in this package."""

SHARED = "lr", "betas", "eps"
"""Options with the same value in all groups."""

FIXED = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True}
"""Options of PyTorch of which only one value is supported."""


class Place(NamedTuple):
    """Index of a parameter in PyTorch's state, and the options of its group."""

    number: int
    group: Mapping[str, Any]


def to_torch(optimizer: "AdamW", order: Sequence[str] | None, layout: str) -> dict[str, Any]:
    """Return the state of an optimiser in PyTorch's form, see :meth:`AdamW.state_dict`."""
    moments = {key: in_layout(getattr(optimizer, kind), layout) for key, kind in MOMENTS.items()}
    shared = {option: getattr(optimizer, option) for option in SHARED}
    state: dict[int, dict[str, Array]] = {}
    param_groups = []
    for decay, group in _groups(optimizer, order):
        indices = [*range(len(state), len(state) + len(group))]
        for index, name in zip(indices, group.values(), strict=True):
            of_name = {key: arrays[name] for key, arrays in moments.items()}
            state[index] = {"step": np.array(optimizer.t, np.float32), **of_name}
        names = {"params": indices, "param_names": [*group]}
        param_groups.append({**names, **shared, "weight_decay": decay, **FIXED})
    return {"state": state if optimizer.t else {}, "param_groups": param_groups}


def from_torch(
    optimizer: "AdamW", state: Mapping[str, Any], order: Sequence[str] | None, layout: str | None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Convert PyTorch's state to the arrays of ``AdamW.state_dict()`` and to options."""
    entries, groups = _checked(state)
    places = [Place(index, group) for group in groups for index in group["params"]]
    named = dict(zip(_names(optimizer, groups, order), places, strict=True))
    options = _options(optimizer, named)
    if not entries:
        return {n: np.zeros_like(array) for n, array in optimizer.state_dict().items()}, options
    steps = [_entry(entries, name, place, "step").ravel() for name, place in named.items()]
    arrays = {"t": np.array(_same_step(np.concatenate(steps)))}
    for key, kind in MOMENTS.items():
        theirs = {name: _entry(entries, name, place, key) for name, place in named.items()}
        moments = official_arrays(theirs, getattr(optimizer, kind), None, layout)
        arrays |= {f"{kind}.{name}": array for name, array in moments.items()}
    return arrays, options


def _groups(optimizer: "AdamW", order: Sequence[str] | None) -> list[tuple[float, dict[str, str]]]:
    """Return, for each group, its decay and a mapping from names in ``order`` to ours."""
    named = _our_names(optimizer, [*optimizer.m] if order is None else order)
    groups: dict[bool, dict[str, str]] = {True: {}, False: {}}
    for theirs, ours in named.items():
        groups[ours in optimizer.decays][theirs] = ours
    return [(optimizer.weight_decay * decays, group) for decays, group in groups.items() if group]


def _our_names(optimizer: "AdamW", names: Sequence[str]) -> dict[str, str]:
    """Map the names of all parameters, as in wrappers or in transformers, to ours."""
    ours = from_transformers_names(unwrapped({name: name for name in names}))
    wrong = [*Counter([*names]) - Counter(ours.values())]  # duplicates
    wrong += ours.keys() - optimizer.m.keys()
    if wrong or len(ours) != len(optimizer.m):
        missing = optimizer.m.keys() - ours.keys()
        raise ShapeError(
            f"names: expected each parameter once; missing: {some(missing)}; unknown or repeated: "
            f"{some(wrong)}"
        )
    return {theirs: name for name, theirs in ours.items()}


def _checked(state: Mapping[str, Any]) -> tuple[Mapping[int, Any], list[Mapping[str, Any]]]:
    """Return the two parts of a state, or raise :class:`OptionError` if they are invalid."""
    check_kind("state", state, Mapping)
    entries, groups = state.get("state"), state.get("param_groups")
    if not isinstance(entries, Mapping) or not isinstance(groups, list) or not groups:
        raise OptionError(
            "state: expected state and param_groups, as in torch.optim.AdamW; "
            f"got {some({str(name) for name in state})}"
        )
    for n, group in enumerate(groups):
        indices = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(indices, list) or not all(type(index) is int for index in indices):
            raise OptionError(f"param_groups[{n}]: expected params by index; got {indices!r}")
        names = group.get("param_names", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise OptionError(f"param_groups[{n}]: expected param_names as strings; got {names!r}")
        for option, value in FIXED.items():
            if (got := group.get(option, value)) != value:
                raise OptionError(f"param_groups[{n}]: {option}: expected {value}; got {got!r}")
    found = Counter(index for group in groups for index in group["params"])
    if max(found.values(), default=1) > 1 or (entries and entries.keys() != found.keys()):
        raise ShapeError(
            f"state: expected an entry for each of params, {some({*map(str, found)})}; "
            f"got {some({*map(str, entries)})}"
        )
    return entries, groups


def _names(
    optimizer: "AdamW", groups: Sequence[Mapping[str, Any]], order: Sequence[str] | None
) -> list[str]:
    """Return our names of the parameters, group by group."""
    if all("param_names" in group for group in groups):
        named = [list(group["param_names"]) for group in groups]
    elif order is None:
        raise OptionError(
            "order: expected the names of named_parameters(), as param_groups has none; got None"
        )
    else:
        named = [[*order]] if len(groups) == 1 else [[*g] for _, g in _groups(optimizer, order)]
    sizes = [len(names) for names in named], [len(group["params"]) for group in groups]
    if sizes[0] != sizes[1]:
        raise ShapeError(
            "param_groups: expected as many parameters with and without decay as there are names, "
            f"{sizes[0]}; got {sizes[1]}"
        )
    return [*_our_names(optimizer, [name for names in named for name in names]).values()]


def _options(optimizer: "AdamW", named: Mapping[str, Place]) -> dict[str, Any]:
    """Return the options of all groups; the decay is that of the parameters that decay here."""
    decaying = [name for name in named if name in optimizer.decays]
    options = {option: _option(next(iter(named.values())), option) for option in SHARED}
    options["weight_decay"] = optimizer.weight_decay
    if decaying:
        options["weight_decay"] = _option(named[decaying[0]], "weight_decay")
    for name, place in named.items():
        for option, value in options.items():
            expected = 0 if option == "weight_decay" and name not in decaying else value
            if (got := _option(place, option)) != expected:
                raise OptionError(f"{option}: expected {expected} for {name}; got {got!r}")
    return options


def _option(place: Place, option: str) -> Any:
    """Return an option of PyTorch; the learning rate is that before the schedule."""
    found = place.group.get(option)
    if option == "lr":
        return place.group.get("initial_lr", found)
    return tuple(found) if isinstance(found, list) else found


def _same_step(steps: Array) -> int:
    found = np.unique(steps)
    if len(found) != 1 or found.dtype.kind not in "iuf" or not float(found[0]).is_integer():
        raise OptionError(f"step: expected one whole number for all parameters; got {found}")
    return int(found[0])


def _entry(entries: Mapping[int, Any], name: str, place: Place, key: str) -> Array:
    entry = entries.get(place.number)
    if not isinstance(entry, Mapping) or key not in entry:
        raise ShapeError(f"state[{place.number}]: expected {key} of {name}; got none")
    return plain_array(key, entry[key])


def write_torch_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state in PyTorch's form to a ``.safetensors`` file.

    The names of the arrays are ``0.step``, ``0.exp_avg``, ``0.exp_avg_sq``, ``1.step``, …, and
    ``param_groups`` are in the metadata, in the JSON under the key ``numpy_xlstm``. A program with
    PyTorch but without this package can read and write the file in a few lines, see
    ``docs/cluster.md``.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` file.
    state : Mapping
        From ``AdamW.state_dict(format="torch")`` or the ``state_dict()`` of ``torch.optim.AdamW``.

    Raises
    ------
    OptionError, ShapeError
        If the state is invalid.
    CheckpointError
        If the suffix is not ``.safetensors``, or the file cannot hold the state.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import LSTM, AdamW, LanguageModel
    >>> optimizer = AdamW(LanguageModel(10, 4, LSTM(4, 8)).params, weight_decay=0.3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_torch_state(f"{folder}/a.safetensors", optimizer.state_dict(format="torch"))
    ...     state = read_torch_state(f"{folder}/a.safetensors")
    >>> [group["weight_decay"] for group in state["param_groups"]]
    [0.3, 0.0]
    """
    entries, groups = _checked(state)
    arrays = {
        f"{n}.{key}": np.asarray(a) for n, entry in entries.items() for key, a in entry.items()
    }
    write_arrays(path, arrays, {"param_groups": groups})


def read_torch_state(path: str | Path) -> dict[str, Any]:
    """Read a state that :func:`write_torch_state`, or a PyTorch program, has written.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` file.

    Returns
    -------
    dict
        ``state``, with NumPy arrays, and ``param_groups``, for ``load_state_dict`` of this package.
        PyTorch needs the arrays as tensors.

    Raises
    ------
    CheckpointError
        If the file is damaged, or contains something else.
    OSError
        If there is no such file, or it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import LSTM, AdamW
    >>> optimizer = AdamW(LSTM(3, 4).params)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_torch_state(f"{folder}/a.safetensors", optimizer.state_dict(format="torch"))
    ...     optimizer.load_state_dict(read_torch_state(f"{folder}/a.safetensors"))
    """
    arrays, metadata = read_arrays(path)
    state: dict[int, dict[str, Array]] = {}
    for name, array in arrays.items():
        index, _, key = name.partition(".")
        if not index.isdecimal():
            raise CheckpointError(f"{Path(path).name}: expected names such as 0.step; got {name}")
        state.setdefault(int(index), {})[key] = array
    found = {"state": state, "param_groups": metadata.get("param_groups")}
    try:
        _checked(found)
    except (OptionError, ShapeError) as error:
        raise CheckpointError(f"{Path(path).name}: {error}") from error
    return found
