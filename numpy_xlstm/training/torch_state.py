"""Conversion of AdamW's state from and to the form of PyTorch's optimisers, and its file format.

``{"state": {index: {"step", "exp_avg", "exp_avg_sq"}}, "param_groups": [...]}``, where indices
count the parameters of all groups in order. Groups may contain ``param_names``. Groups
without them need the order of ``named_parameters()``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.errors import CheckpointError, OptionError, ShapeError
from numpy_xlstm.models.layouts import in_layout
from numpy_xlstm.models.names import from_transformers_names, unwrapped
from numpy_xlstm.models.state_dict import official_arrays
from numpy_xlstm.module import some
from numpy_xlstm.numerics import Array, check_kind, plain_array

MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v"}
"""PyTorch's names of the moments, and the names in this package."""

SHARED = "lr", "betas", "eps"
"""Options with the same value in all groups."""

FIXED = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True}
"""Options of PyTorch of which only one value is supported."""

Names = Sequence[str]
Groups = list[Mapping[str, Any]]


class Moments(Protocol):
    """The attributes of an :class:`AdamW` that are converted."""

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decays: list[str]
    m: dict[str, Array]
    v: dict[str, Array]
    t: int


class Place(NamedTuple):
    """Number of a parameter in PyTorch's state, and the options of its group."""

    number: int
    group: Mapping[str, Any]

    def option(self, name: str) -> Any:
        """Return an option of the group; the learning rate is that before the schedule."""
        value = self.group.get(name)
        if name == "lr":
            value = self.group.get("initial_lr", value)
        return tuple(value) if isinstance(value, list) else value


def to_torch(optimizer: Moments, order: Names | None, layout: str) -> dict[str, Any]:
    """Return the state of an optimiser in PyTorch's form, see :meth:`AdamW.state_dict`."""
    moments = {key: in_layout(getattr(optimizer, kind), layout) for key, kind in MOMENTS.items()}
    shared = {option: getattr(optimizer, option) for option in SHARED}
    state: dict[int, dict[str, Array]] = {}
    param_groups = []
    for decay, group in _groups(optimizer, order):
        indices = [*range(len(state), len(state) + len(group))]
        for index, name in zip(indices, group.values(), strict=True):
            step = np.array(optimizer.t, np.float32)
            state[index] = {"step": step, **{key: moments[key][name] for key in moments}}
        names = {"params": indices, "param_names": [*group]}
        param_groups.append({**names, **shared, "weight_decay": decay, **FIXED})
    return {"state": state if optimizer.t else {}, "param_groups": param_groups}


def from_torch(
    optimizer: Moments, state: Mapping[str, Any], order: Names | None, layout: str | None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Convert PyTorch's state to the arrays of ``AdamW.state_dict()`` and to options."""
    entries, groups = _checked(state)
    in_order = [Place(index, group) for group in groups for index in group["params"]]
    places = dict(zip(_names(optimizer, groups, order), in_order, strict=True))
    options = _options(optimizer, places)
    arrays = {"t": np.array(_step(entries, places))}
    for key, kind in MOMENTS.items():
        moments: dict[str, Array] = getattr(optimizer, kind)
        if entries:
            theirs = {name: _entry(entries, name, place, key) for name, place in places.items()}
            moments = official_arrays(theirs, moments, None, layout)
        else:  # before the first step
            moments = {name: np.zeros_like(array) for name, array in moments.items()}
        arrays |= {f"{kind}.{name}": array for name, array in moments.items()}
    return arrays, options


def _groups(optimizer: Moments, order: Names | None) -> list[tuple[float, dict[str, str]]]:
    """Return, for each group, its decay and a mapping from names in ``order`` to ours."""
    ours = _our_names(optimizer, [*optimizer.m] if order is None else order)
    decaying = {theirs: name for theirs, name in ours.items() if name in optimizer.decays}
    others = {theirs: name for theirs, name in ours.items() if theirs not in decaying}
    groups = (optimizer.weight_decay, decaying), (0.0, others)
    return [(decay, group) for decay, group in groups if group]


def _our_names(optimizer: Moments, names: Names) -> dict[str, str]:
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


def _checked(state: Mapping[str, Any]) -> tuple[Mapping[int, Any], Groups]:
    """Return the two parts of a state, or raise an error if they are invalid."""
    check_kind("state", state, Mapping)
    entries, groups = state.get("state"), state.get("param_groups")
    if not isinstance(entries, Mapping) or not isinstance(groups, list) or not groups:
        raise OptionError(
            "state: expected state and param_groups, as in torch.optim.AdamW; "
            f"got {some({str(name) for name in state})}"
        )
    for n, group in enumerate(groups):
        _check_group(f"param_groups[{n}]", group)
    counts = Counter(index for group in groups for index in group["params"])
    if max(counts.values(), default=1) > 1 or (entries and entries.keys() != counts.keys()):
        raise ShapeError(
            f"state: expected an entry for each of params, {some({*map(str, counts)})}; "
            f"got {some({*map(str, entries)})}"
        )
    return entries, groups


def _check_group(place: str, group: Any) -> None:
    indices = group.get("params") if isinstance(group, Mapping) else None
    if not isinstance(indices, list) or not all(type(index) is int for index in indices):
        raise OptionError(f"{place}: expected params by index; got {indices!r}")
    names = group.get("param_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise OptionError(f"{place}: expected param_names as strings; got {names!r}")
    for option, value in FIXED.items():
        if (got := group.get(option, value)) != value:
            raise OptionError(f"{place}: {option}: expected {value}; got {got!r}")


def _names(optimizer: Moments, groups: Groups, order: Names | None) -> list[str]:
    """Return our names of the parameters, group by group."""
    if all("param_names" in group for group in groups):
        named = [list(group["param_names"]) for group in groups]
    elif order is None:
        raise OptionError(
            "order: expected the names of named_parameters(), as param_groups has none; got None"
        )
    else:
        named = [[*order]] if len(groups) == 1 else [[*g] for _, g in _groups(optimizer, order)]
    expected, sizes = [len(names) for names in named], [len(group["params"]) for group in groups]
    if expected != sizes:
        raise ShapeError(
            "param_groups: expected as many parameters with and without decay as there are names, "
            f"{expected}; got {sizes}"
        )
    return [*_our_names(optimizer, [name for names in named for name in names]).values()]


def _options(optimizer: Moments, places: Mapping[str, Place]) -> dict[str, Any]:
    """Return the options of all groups; the decay is that of the parameters that decay here."""
    first = next(iter(places.values()))
    options = {option: first.option(option) for option in SHARED}
    options["weight_decay"] = optimizer.weight_decay
    if decaying := [name for name in places if name in optimizer.decays]:
        options["weight_decay"] = places[decaying[0]].option("weight_decay")
    for name, place in places.items():
        for option, value in options.items():
            expected = 0 if option == "weight_decay" and name not in decaying else value
            if (got := place.option(option)) != expected:
                raise OptionError(f"{option}: expected {expected} for {name}; got {got!r}")
    return options


def _step(entries: Mapping[int, Any], places: Mapping[str, Place]) -> int:
    """Return the number of steps of all parameters; 0 if there are no entries."""
    if not entries:
        return 0
    steps = [_entry(entries, name, place, "step").ravel() for name, place in places.items()]
    values = np.unique(np.concatenate(steps))
    if len(values) != 1 or values.dtype.kind not in "iuf" or not float(values[0]).is_integer():
        raise OptionError(f"step: expected one whole number for all parameters; got {values}")
    return int(values[0])


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
    CheckpointError, OSError
        If the suffix is not ``.safetensors``, or the file cannot hold the state or be written.

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
    CheckpointError, OSError
        If the file is damaged, contains something else, or cannot be read.

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
    entries: dict[int, dict[str, Array]] = {}
    for name, array in arrays.items():
        index, _, key = name.partition(".")
        if not index.isdecimal():
            raise CheckpointError(f"{Path(path).name}: expected names such as 0.step; got {name}")
        entries.setdefault(int(index), {})[key] = array
    state = {"state": entries, "param_groups": metadata.get("param_groups")}
    try:
        _checked(state)
    except (OptionError, ShapeError) as error:
        raise CheckpointError(f"{Path(path).name}: {error}") from error
    return state
